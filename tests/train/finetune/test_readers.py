import json
from pathlib import Path

import pytest

from streamtrans.core import BadConfig
from streamtrans.train.finetune.readers import READERS, Line, Problem, find_reader
from streamtrans.train.finetune.recipe import Source

LANGUAGES = ("en", "de", "zh")


def read(source: Source) -> list[Line | Problem]:
    return list(find_reader(source.reader)(source, LANGUAGES))


def good(found: Line | Problem) -> Line:
    assert isinstance(found, Line), found
    return found


def test_every_reader_of_the_table_can_be_found() -> None:
    assert all(callable(find_reader(name)) for name in READERS)
    with pytest.raises(
        BadConfig, match=r"unknown corpus reader 'covst': did you mean 'covost2'\? known are manifest, common_voice"
    ):
        find_reader("covst")
    with pytest.raises(BadConfig, match="can't be imported"):
        find_reader("streamtrans.nowhere:read")


def test_a_manifest_is_a_table_or_json_lines(tmp_path: Path) -> None:
    rows = [
        {"audio": "a.wav", "text": "hello", "language": "en", "de": "hallo", "zh-CN": "", "pseudo": "de"},
        {"audio": "b.wav", "text": 'a "quoted one', "language": "en", "de": "", "zh-CN": "你好", "pseudo": ""},
    ]
    header = list(rows[0])
    table = ["\t".join(header), *("\t".join(row.values()) for row in rows)]
    (tmp_path / "m.tsv").write_text("\r\n".join(table) + "\r\n", encoding="utf-8-sig")
    (tmp_path / "m.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    tables, objects = (read(Source("manifest", str(tmp_path / name))) for name in ("m.tsv", "m.jsonl"))
    for found in (tables, objects):
        first, second = map(good, found)
        assert first.audio == tmp_path / "a.wav"
        assert (first.language, first.text, dict(first.texts)) == ("en", "hello", {"de": "hallo", "zh-CN": ""})
        assert first.pseudo == ("de",)
        assert second.text == 'a "quoted one'
    assert [good(line).where.rsplit(":", 1)[1] for line in tables] == ["2", "3"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("audio\ttext\n", r"m.tsv:1: the header must name audio, text, language.*lacks language"),
        ("audio\ttext\tlanguage\tdee\nx\ty\tde\tz\n", "column 'dee' is neither a language code nor one of audio"),
        ("", "the file is empty"),
    ],
)
def test_a_manifest_that_is_none_is_refused(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "m.tsv").write_text(content)
    with pytest.raises(BadConfig, match=message):
        read(Source("manifest", str(tmp_path / "m.tsv")))


def test_bad_lines_of_a_manifest_keep_their_numbers(tmp_path: Path) -> None:
    (tmp_path / "m.tsv").write_text("audio\ttext\tlanguage\n\na\tb\na\tb\ten\n")
    bad, fine = read(Source("manifest", str(tmp_path / "m.tsv")))
    assert str(bad) == f"{tmp_path / 'm.tsv'}:3: columns: 2 columns where the header names 3, separated by tabs"
    assert good(fine).where.endswith(":4")
    (tmp_path / "m.jsonl").write_text('{"audio": "a"}\n[1]\nnonsense\n')
    assert [
        found.kind for found in read(Source("manifest", str(tmp_path / "m.jsonl"))) if isinstance(found, Problem)
    ] == ["columns"] * 3


def test_a_missing_table_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadConfig, match=r"there is no corpus table at .*none.tsv"):
        read(Source("manifest", str(tmp_path / "none.tsv")))


COMMON_VOICE = """client_id\tpath\tsentence\tup_votes\tdown_votes\tage\tgender\taccents\tlocale\tsegment
a1\tcv_1.mp3\tGuten Tag, "Herr\t2\t0\t\t\t\tde\t
a2\tcv_2\tAuf Wiedersehen\t2\t0\t\t\t\tde\t
"""


def test_common_voice(tmp_path: Path) -> None:
    (tmp_path / "train.tsv").write_text(COMMON_VOICE, encoding="utf-8")
    first, second = map(good, read(Source("common_voice", str(tmp_path))))
    assert (first.audio, first.language, first.text) == (tmp_path / "clips" / "cv_1.mp3", "de", 'Guten Tag, "Herr')
    assert first.texts == {}
    assert second.audio.name == "cv_2.mp3"


def test_covost2_as_downloaded_takes_sentences_from_common_voice(tmp_path: Path) -> None:
    (tmp_path / "cv").mkdir()
    (tmp_path / "cv" / "validated.tsv").write_text(COMMON_VOICE, encoding="utf-8")
    (tmp_path / "covost_v2.de_en.tsv").write_text(
        "path\ttranslation\tsplit\n"
        "cv_1.mp3\tGood day, sir\ttrain\n"
        "cv_2\tREMOVE\ttrain_covost\n"
        "cv_3.mp3\tNo sentence\tdev\n"
        "cv_1.mp3\tIn no set\tdev_covost\n"
        "cv_4.mp3\tUnheard\ttrain\n",
        encoding="utf-8",
    )
    source = Source("covost2", str(tmp_path / "covost_v2.de_en.tsv"), audio=str(tmp_path / "cv" / "clips"))
    first, second, third = map(good, read(source))
    assert (first.language, first.text, dict(first.texts)) == ("de", 'Guten Tag, "Herr', {"en": "Good day, sir"})
    assert first.audio == tmp_path / "cv" / "clips" / "cv_1.mp3"
    assert dict(second.texts) == {"en": ""}
    assert third.text == ""
    dev = Source("covost2", source.path, audio=source.audio, split="dev")
    assert [dict(good(line).texts) for line in read(dev)] == [{"en": "No sentence"}]


def test_covost2_as_split_by_its_authors(tmp_path: Path) -> None:
    path = tmp_path / "covost_v2.en_zh-CN.train.tsv"
    row = 'x.mp3\tHe said \\"hello\\" \\\\o\t你好\tc'
    path.write_text(f"path\tsentence\ttranslation\tclient_id\n{row}\n", encoding="utf-8")
    (line,) = map(good, read(Source("covost2", str(path))))
    assert (line.language, line.text, dict(line.texts)) == ("en", 'He said "hello" \\o', {"zh-CN": "你好"})
    assert line.audio == tmp_path / "clips" / "x.mp3"
    (tmp_path / "pairs.tsv").touch()
    with pytest.raises(BadConfig, match=r"named like covost_v2\.de_en\.tsv"):
        read(Source("covost2", str(tmp_path / "pairs.tsv")))


def test_fleurs_joins_languages_by_sentence(tmp_path: Path) -> None:
    texts = {
        "en_us": [
            "7\tu1.wav\tHello there.\thello there\th e l l o\t16000\tMALE",
            "8\tu2.wav\tAlone.\talone\ta\t1\tMALE",
        ],
        "de_de": ["7\tu3.wav\tHallo.\thallo\th a\t16000\tFEMALE", "7\tu4.wav\tHallo.\thallo\th a\t16000\tMALE", "9\tx"],
        "cmn_hans_cn": ["7\tu5.wav\t你好。\t你好\t你\t16000\tMALE"],
        "ja_jp": ["7\tu6.wav\tこんにちは\tこ\tこ\t1\tMALE"],
    }
    for folder, lines in texts.items():
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "dev.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    found = read(Source("fleurs", str(tmp_path), split="dev"))
    by_audio = {line.audio.name: line for line in found if isinstance(line, Line)}
    assert set(by_audio) == {"u1.wav", "u2.wav", "u3.wav", "u4.wav", "u5.wav"}
    assert dict(by_audio["u4.wav"].texts) == {"en": "Hello there.", "zh": "你好。"}
    assert dict(by_audio["u2.wav"].texts) == {}
    assert by_audio["u5.wav"].audio == tmp_path / "cmn_hans_cn" / "audio" / "dev" / "u5.wav"
    assert [found.kind for found in found if isinstance(found, Problem)] == ["columns"]
    only = read(Source("fleurs", str(tmp_path), split="dev", language="zh"))
    assert [good(line).language for line in only] == ["zh"]
    with pytest.raises(BadConfig, match="holds no language folders of FLEURS"):
        read(Source("fleurs", str(tmp_path / "en_us"), split="dev"))
