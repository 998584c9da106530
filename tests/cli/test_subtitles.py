import itertools
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamtrans.cli.subtitles import CUE_LINES, LINE_WIDTH, Cue, split, srt, vtt, wrap

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
    assert cues[-1].end_ms == 11_000
    assert all(before.end_ms == after.start_ms for before, after in itertools.pairwise(cues))
    assert all(2_500 < cue.end_ms - cue.start_ms < 4_200 for cue in cues)


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


@pytest.mark.parametrize("write", [srt, vtt])
def test_a_file_has_one_line_of_times_per_cue(write):
    cues = [Cue(0, 9_000, " ".join([ENGLISH] * 4)), Cue(9_000, 12_000, CHINESE)]
    text = write(cues)
    assert len(re.findall(r"^\d\d:\d\d:\d\d[.,]\d{3} --> \d\d:\d\d:\d\d[.,]\d{3}$", text, re.M)) == 5
