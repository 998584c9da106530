import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamtrans.core import BadConfig, Caption, SpeechEnded, SpeechStarted
from streamtrans.metrics import (
    Erased,
    count_erased,
    erasure,
    first_caption_after_ms,
    first_caption_ms,
    lag_percentiles,
    percentile,
    units,
)

TEXTS = st.lists(st.text(alphabet="ab ", max_size=12), min_size=1, max_size=6)


def caption(text, *, segment=0, language="de", revision=1, committed="", final=False):
    return Caption(segment, revision, language, committed, text, final, 0, 1600, 1600)


def shown(*texts, **where):
    return [caption(text, revision=n, **where) for n, text in enumerate(texts, 1)]


def test_a_changed_word_withdraws_all_that_follows_it():
    revisions = shown("mach das", "mach das licht", "mach es aus", "mach es aus bitte")
    assert erasure(revisions) == pytest.approx(2 / 4)


def test_chinese_is_counted_in_characters():
    assert erasure(shown("打开厨", "打开卧室的灯", language="zh")) == pytest.approx(1 / 6)


def test_segments_and_languages_are_kept_apart_and_summed():
    de = shown("eins", "zwei drei")
    fr = shown("un", "un deux", language="fr")
    other = shown("a b", segment=1)
    mixed = [de[0], fr[0], other[0], de[1], fr[1]]
    assert erasure(mixed) == pytest.approx(1 / 6)


def test_committed_and_tentative_are_one_text():
    first = caption("licht an", committed="mach das ")
    assert erasure([first, caption("", committed="mach das licht aus", revision=2, final=True)]) == 1 / 4


@settings(max_examples=50, deadline=None)
@given(texts=TEXTS, more=st.text(alphabet="ab", min_size=1))
def test_only_what_is_taken_back_counts(texts, more):
    grown = [" ".join("ab" for _ in range(n)) for n in range(1, len(texts) + 2)]
    assert erasure(shown(*grown)) == 0
    value = erasure(shown(*texts, more))
    assert value == sum(
        len(before.split()) - len(common(before.split(), after.split()))
        for before, after in zip(texts, [*texts[1:], more], strict=True)
    )


def common(before, after):
    kept = []
    for old, new in zip(before, after, strict=False):
        if old != new:
            break
        kept.append(old)
    return kept


@pytest.mark.parametrize("revisions", [[], shown("", ""), shown("etwas", "")])
def test_no_final_text_is_refused(revisions):
    with pytest.raises(BadConfig, match="no final text"):
        erasure(revisions)


def test_an_empty_hypothesis_is_counted_and_has_no_erasure():
    assert count_erased([]) == Erased(0, 0)
    gone = count_erased(shown("zwei wörter", ""))
    assert gone == Erased(2, 0)
    assert gone.normalised is None
    assert (gone + count_erased(shown("a b", "a c d e"))).normalised == 3 / 4


def test_line_ends_are_white_space():
    assert units("mach\nes  aus ", "de") == ("mach", "es", "aus")
    assert units("打开\n灯 ", "zh") == ("打", "开", "灯")
    assert erasure(shown("打开", "打开\n灯", language="zh")) == 0
    assert erasure(shown("mach es\naus", "mach es aus bitte")) == 0


def test_a_first_caption_is_timed_from_the_true_start():
    events = [
        (20_000, SpeechStarted(0, 14_400)),  # 100 ms before the truth: the detector's lead
        (24_000, caption(" ")),
        (32_000, caption("hallo")),
        (40_000, caption("hallo welt")),
        (170_000, SpeechStarted(1, 161_600)),
        (176_000, caption("da", segment=1)),
        (340_000, SpeechStarted(2, 330_000)),
    ]
    # the second start runs on in segment 0, the fourth never gets text, the last one is missed
    assert first_caption_after_ms(events, [1_000, 2_500, 10_000, 20_600, 30_000]) == [1_000, None, 1_000, None, None]
    assert first_caption_after_ms(events, []) == []
    assert first_caption_after_ms([], [5]) == [None]
    with pytest.raises(BadConfig, match="sort them"):
        first_caption_after_ms(events, [2_000, 1_000])


def test_a_segment_that_opens_too_early_is_not_of_this_start():
    events = [(20_000, SpeechStarted(0, 0)), (32_000, caption("hallo"))]
    assert first_caption_after_ms(events, [1_000]) == [None]
    assert first_caption_after_ms(events, [1_000], lead_ms=1_000) == [1_000]


def test_the_first_text_of_each_segment_counts():
    events = [
        (4_000, SpeechStarted(0, 1_600)),
        (9_600, caption("")),
        (17_600, caption("hallo", language="fr")),
        (24_000, caption("hallo")),
        (25_000, SpeechEnded(0, 20_000)),
        (32_000, SpeechStarted(1, 30_000)),
        (48_000, SpeechStarted(2, 40_000)),
        (56_000, caption("welt", segment=2)),
    ]
    assert first_caption_ms(events) == [1_000, 1_000]
    assert first_caption_ms([]) == []


def test_percentiles_are_values_that_occurred():
    assert lag_percentiles([4, 1, 3, 2], (50, 95)) == {50: 2, 95: 4}
    assert percentile([5.0], 0) == percentile([5.0], 100) == 5.0
    with pytest.raises(BadConfig, match="nothing was measured"):
        lag_percentiles([])
    with pytest.raises(BadConfig, match="between 0 and 100"):
        percentile([1], 101)


@settings(max_examples=50, deadline=None)
@given(values=st.lists(st.integers(0, 100), min_size=1), percent=st.integers(1, 100))
def test_percent_of_the_values_do_not_exceed_it(values, percent):
    found = percentile(values, percent)
    assert sum(value <= found for value in values) * 100 >= percent * len(values)
    assert sum(value < found for value in values) * 100 < percent * len(values)
