from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamtrans.core import BadConfig
from streamtrans.corpus import Row, has_digits, normalise, own_sentences, read_table, scan_table, simplify
from streamtrans.corpus.tables import read_texts


def table(folder: Path, text: str) -> Path:
    path = folder / "pairs.tsv"
    path.write_text(text, encoding="utf-8")
    return path


def test_reads_ids_kinds_and_languages(tmp_path: Path) -> None:
    path = table(
        tmp_path,
        "id\tscenario\tentities\ten\tzh-CN\n7\tiot\tnone\tlights on\t开灯\n9\tplay\trefill\tplay abba\t播放王菲\n",
    )
    assert read_table(path) == [
        Row("7", {"en": "lights on", "zh": "开灯"}, "none"),
        Row("9", {"en": "play abba", "zh": "播放王菲"}, "refill"),
    ]
    assert [row.id for row in read_table(path, allow_kinds=["none"])] == ["7"]


def test_rows_without_an_id_are_named_by_their_line(tmp_path: Path) -> None:
    rows = read_table(table(tmp_path, "en\tde\r\nGo.\tGeh.\r\n\r\nHi.\tHallo.\r\n"))
    assert [(row.id, row.texts["de"]) for row in rows] == [("pairs:2", "Geh."), ("pairs:4", "Hallo.")]


def test_only_line_feeds_end_a_line(tmp_path: Path) -> None:
    assert read_table(table(tmp_path, "en\tde\na\u2028b\x85c\td\n"))[0].texts["en"] == "a\u2028b\x85c"


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("1\tnone\tgo", "pairs.tsv:3: 3 columns where the header names 4"),
        ("1\tnone\tgo\t ", "pairs.tsv:3: the text of de is empty"),
        ("1\tsome\tgo\tgeh", "entities is 'some', not one of none, refill, localised"),
        ("\tnone\tgo\tgeh", "the id is empty"),
    ],
)
def test_a_malformed_row_is_refused_by_line_or_skipped_and_counted(tmp_path: Path, line: str, told: str) -> None:
    path = table(tmp_path, f"id\tentities\ten\tde\n0\tnone\thi\thallo\n{line}\n2\tnone\tyes\tja\n")
    with pytest.raises(BadConfig, match=told):
        read_table(path)
    assert [row.id for row in read_table(path, on_error="skip")] == ["0", "2"]
    rows, report = scan_table(path)
    assert (report.kept, len(rows), len(report.skipped)) == (2, 2, 1)
    assert told in report.skipped[0]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "has no header"),
        ("id\tscenario\n1\tx\n", "no column is named by a language code"),
        ("en\tGerman words\nhi\thallo\n", "column 'German words'"),
        ("en\ten-GB\nhi\thello\n", "column 'en-GB'"),
    ],
)
def test_a_header_must_name_languages(tmp_path: Path, text: str, told: str) -> None:
    with pytest.raises(BadConfig, match=told):
        read_table(table(tmp_path, text))


def test_a_missing_or_undecodable_table_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadConfig, match="there is no table"):
        read_table(tmp_path / "none.tsv")
    (tmp_path / "latin.tsv").write_bytes("en\tde\nhi\tgr\xfc\xdf\n".encode("latin-1"))
    with pytest.raises(BadConfig, match=r"latin\.tsv is not UTF-8"):
        read_table(tmp_path / "latin.tsv")


@pytest.mark.parametrize(
    ("language", "text", "expected"),
    [
        ("en", 'I\u2019m happy \u2014 you\'re "here"!', "i'm happy you're here"),
        ("en", "Wake me at two p. m. or 9 a.m., Mr. X", "wake me at two pm or 9 am mr x"),
        ("en", "what 's up with R&B", "what's up with r and b"),
        ("en", "the boss' well-known car -- really", "the boss well-known car really"),
        ("de", "Gr\u00fc\u00df Gott! Wie geht\u2019s?", "gr\u00fc\u00df gott wie geht's"),
        ("es", "\u00bfQu\u00e9 hora es?", "qu\u00e9 hora es"),
        ("fr", "Va -t-il \u00e0 l' \u00e9cole aujourd'hui ?", "va-t-il \u00e0 l'\u00e9cole aujourd'hui"),
        ("it", "un po' pi\u00f9 dell' ingresso", "un po' pi\u00f9 dell'ingresso"),
        ("zh", "\u5f7c\u5f97\u00b7\u65af\uff0colly \u6253 \u5f00A\u3002", "彼得斯 olly 打开 a"),
        ("zh", "這個甚麼時候關門？", "这个什么时候关门"),
    ],
)
def test_the_normal_form_is_that_of_spoken_requests(language: str, text: str, expected: str) -> None:
    assert normalise(text, language) == expected


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=40), st.sampled_from(["en", "de", "es", "fr", "it", "zh"]))
def test_the_normal_form_is_final(text: str, language: str) -> None:
    once = normalise(text, language)
    assert normalise(once, language) == once
    assert once == " ".join(once.split())
    assert not set(once) & set('.,;:!?\u3002\uff0c\u201c\u201d"()[]\u00bf\u00a1\t\n')


def test_digits_are_seen() -> None:
    assert has_digits("at 5 pm")
    assert has_digits("٣")
    assert not has_digits("at five pm 五点")


def test_characters_of_two_readings_follow_their_neighbours() -> None:
    assert simplify("他穿著黑衣服") == "他穿着黑衣服"
    assert simplify("著名的作家") == "著名的作家"
    assert simplify("乾淨") == "干净"
    assert simplify("乾隆") == "乾隆"


def test_rows_may_lack_some_texts_where_that_is_said(tmp_path: Path) -> None:
    path = table(tmp_path, "story\tvia\ten\tde\tzh\ns\tde\tgo\tgeh\t\ns\t\tstop\t\t\ns\t\thi\thallo\t你好\n")
    assert [dict(row.texts) for row in read_table(path, least=2, on_error="skip")] == [
        {"en": "go", "de": "geh"},
        {"en": "hi", "de": "hallo", "zh": "你好"},
    ]
    with pytest.raises(BadConfig, match=r"pairs\.tsv:3: the text of de, zh is empty"):
        read_table(path, least=2)
    assert sorted(read_texts(tmp_path, ["gpl_*"])) == sorted(["go", "geh", "stop", "hi", "hallo", "你好"])
    with pytest.raises(BadConfig, match="no table in"):
        list(read_texts(tmp_path, ["pa*"]))


def test_the_sentences_of_the_package_are_whole_in_six_languages() -> None:
    rows = own_sentences()
    assert len(rows) >= 36
    for row in rows:
        assert list(row.texts) == ["en", "de", "es", "fr", "it", "zh"]
        assert all(row.texts.values())
        assert simplify(row.texts["zh"]) == row.texts["zh"]
        assert not any(has_digits(text) for text in row.texts.values())
    assert len({row.texts["en"] for row in rows}) == len(rows)
