import itertools
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamtrans.text.subtitles import (
    CUE_LINES,
    GAP_MS,
    LINE_WIDTH,
    MAX_MS,
    MIN_MS,
    READING_SPEED,
    Cue,
    Timed,
    split,
    srt,
    tsv,
    txt,
    vtt,
    wrap,
)

ENGLISH = "please add the meeting with my sister to the calendar for tomorrow at six"
CHINESE = "请在我的日历上添加明天下午三点和老板的会议，然后关掉厨房里的灯。谢谢你的帮助！"

times = st.tuples(st.integers(0, 10**7), st.integers(0, 60_000)).map(lambda pair: (pair[0], pair[0] + pair[1]))
texts = st.text(st.sampled_from("ab ,.灯，。é<&>-\n\x07"), max_size=200)


def columns(line):
    return sum(2 if ord(character) > 0x2E80 else 1 for character in line)


def test_srt_numbers_cues_from_one_and_writes_commas():
    assert srt([Cue(0, 1_500, "hello"), Cue(3_723_004, 3_724_000, "there")]) == (
        "1\n00:00:00,000 --> 00:00:01,500\nhello\n\n2\n01:02:03,004 --> 01:02:04,000\nthere\n\n"
    )


def test_vtt_has_a_header_and_points():
    assert vtt([Cue(61_001, 62_000, "hello")]) == "WEBVTT\n\n00:01:01.001 --> 00:01:02.000\nhello\n\n"


def test_no_captions_make_an_empty_but_valid_file():
    assert srt([]) == ""
    assert vtt([]) == "WEBVTT\n\n"


def test_vtt_escapes_markup_and_srt_has_no_arrows():
    cue = Cue(0, 1_000, "a <b> & c --> d")
    assert "a &lt;b&gt; &amp; c --&gt; d" in vtt([cue])
    assert srt([cue]).count("-->") == 1


def test_empty_captions_are_left_out():
    assert srt([Cue(0, 1_000, "  \n"), Cue(1_000, 2_000, "x")]).startswith("1\n00:00:01,000")


def test_long_lines_break_between_words():
    lines = wrap(ENGLISH)
    assert " ".join(lines) == ENGLISH
    assert len(lines) == 2
    assert all(len(line) <= LINE_WIDTH for line in lines)


def test_chinese_breaks_between_characters_never_before_punctuation():
    lines = wrap(CHINESE)
    assert "".join(lines) == CHINESE
    assert len(lines) == 2
    assert all(columns(line) <= LINE_WIDTH + 2 for line in lines)
    assert not any(line[0] in "，。！" for line in lines)


def test_a_word_longer_than_a_line_stays_whole():
    word = "x" * 60
    assert wrap(f"a {word} b") == ["a", word, "b"]


def test_a_long_caption_becomes_cues_that_share_its_time():
    cues = list(split([Cue(1_000, 11_000, " ".join([ENGLISH] * 3))]))
    assert len(cues) == 3
    assert cues[0].start_ms == 1_000
    assert cues[-1].end_ms >= 11_000
    assert all(after.start_ms - before.end_ms == GAP_MS for before, after in itertools.pairwise(cues))
    assert all(2_500 < cue.end_ms - cue.start_ms < 4_300 for cue in cues)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(times, texts), max_size=4))
def test_law_every_word_in_order_in_lines_that_fit(captions):
    given_cues = [Cue(start, end, text) for (start, end), text in captions]
    cues = list(split(given_cues))
    words = [re.sub(r"[\s\x07]", "", cue.text) for cue in given_cues]
    assert "".join(words) == "".join(re.sub(r"\s", "", cue.text) for cue in cues)
    for cue in cues:
        lines = cue.text.split("\n")
        assert cue.end_ms > cue.start_ms
        assert 1 <= len(lines) <= CUE_LINES
        assert all(line.strip() == line != "" for line in lines)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 9_000), st.integers(0, 3_000), texts), max_size=6))
def test_law_cues_stay_until_they_are_read_and_never_overlap(pieces):
    captions, now = [], 0
    for length, pause, text in pieces:
        captions.append(Cue(now, now + length, text))
        now += length + pause
    cues = split(captions)
    for cue, after in itertools.zip_longest(cues, cues[1:]):
        reading = max(MIN_MS, columns(cue.text.replace("\n", "")) * 1000 // READING_SPEED)
        lasts, room = cue.end_ms - cue.start_ms, (after.start_ms - cue.start_ms if after else 10**6)
        assert lasts >= min(reading, room - GAP_MS, room // 2)
        assert lasts <= max(reading, MAX_MS)
        assert lasts <= room or lasts == 1


def test_sentences_that_the_model_marks_stay_apart():
    [cue] = split([Cue(0, 3_000, " Good morning.\n How are you?")])
    assert cue.text == "Good morning.\nHow are you?"
    marked = split([Cue(0, 9_000, f" {ENGLISH}\n {ENGLISH}\n so long")])
    assert [cue.text.replace("\n", " ") for cue in marked] == [ENGLISH, ENGLISH, "so long"]


def test_cues_end_with_sentences_and_clauses_rather_than_within():
    text = "and then we went home, because the weather was getting worse and worse and nobody wanted to stay outside."
    first, *_ = split([Cue(0, 8_000, text)])
    assert first.text.replace("\n", " ") == "and then we went home,"
    sentences = "The first of them was rather short. The second one, which followed it, took much longer than that."
    assert split([Cue(0, 8_000, sentences)])[0].text.endswith("short.")


def test_one_word_of_four_tenths_of_a_second_joins_its_neighbour():
    cues = split([Cue(0, 3_000, "we went home because the weather was"), Cue(3_000, 3_400, "worse.")])
    assert len(cues) == 1
    assert cues[0].text == "we went home because\nthe weather was worse."
    assert cues[0].end_ms >= 3_400


def test_a_short_cue_stays_until_it_is_read_where_there_is_room():
    yes, other = split([Cue(0, 400, "Yes."), Cue(5_000, 7_000, ENGLISH)])
    assert yes.end_ms == MIN_MS
    assert other.end_ms - other.start_ms == (len(ENGLISH) - 1) * 1000 // READING_SPEED
    long_one, next_one = split([Cue(0, 1_000, ENGLISH), Cue(2_000, 3_000, ENGLISH)])
    assert long_one.end_ms == next_one.start_ms - GAP_MS


def test_a_cue_does_not_stay_for_ever():
    [cue] = split([Cue(0, 12_000, "so")])
    assert cue.end_ms == MAX_MS


def test_words_say_when_cues_change():
    words = [Timed(word, 500 * at, 500 * at + 500) for at, word in enumerate(ENGLISH.split())]
    late = [Timed(word.text, word.start_ms + 4_000, word.end_ms + 4_000) for word in words]
    first, second = split([Cue(0, 12_000, f"{ENGLISH}\n{ENGLISH}", (*words, *late))])
    assert first.text == second.text
    assert second.start_ms == words[-1].end_ms
    assert split([Cue(0, 12_000, f"{ENGLISH}\n{ENGLISH}", tuple(words))])[1].start_ms == 6_000


def test_marks_above_and_below_letters_take_no_column():
    hindi = "मुझे यह किताब बहुत पसंद आई और मैं इसे फिर पढ़ूँगा"
    assert wrap(hindi) == [hindi]


def test_a_table_has_a_line_per_caption_and_no_other_tabs():
    assert (
        tsv([Cue(0, 1_500, " a\tb\n c"), Cue(2_000, 3_000, "d")]) == "start\tend\ttext\n0\t1500\ta b c\n2000\t3000\td\n"
    )


def test_plain_text_has_a_line_per_sentence():
    assert txt([Cue(0, 1_500, " One.\n Two."), Cue(2_000, 3_000, "三。")]) == "One.\nTwo.\n三。\n"


@pytest.mark.parametrize("write", [srt, vtt])
def test_a_file_has_one_line_of_times_per_cue(write):
    cues = [Cue(0, 9_000, " ".join([ENGLISH] * 4)), Cue(9_000, 12_000, CHINESE)]
    text = write(cues)
    assert len(re.findall(r"^\d\d:\d\d:\d\d[.,]\d{3} --> \d\d:\d\d:\d\d[.,]\d{3}$", text, re.M)) == 5


def test_texts_of_two_speakers_share_a_cue_but_no_line():
    cues = split([Cue(0, 500, "Anna: Ja", speaker="Anna"), Cue(600, 900, "Bob: Nein", speaker="Bob")])
    assert [cue.text for cue in cues] == ["Anna: Ja\nBob: Nein"]
    assert [cue.text for cue in split([Cue(0, 500, "Ja"), Cue(600, 900, "gut")])] == ["Ja gut"]
