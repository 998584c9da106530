import itertools
import math
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamtrans.core import BadAudio, BadConfig, samples
from streamtrans.segment import Boundary, Closed, EndpointRules, Opened, Segmenter

W = 160  # 10 ms: durations in the rules below are whole windows
RULES = EndpointRules(
    release_threshold=0.35,
    min_speech_ms=30,
    min_silence_ms=100,
    head_ms=0,
    pre_roll_ms=40,
    padding_ms=30,
    max_segment_ms=1000,
    cut_search_ms=300,
)


def run(probabilities: str, segmenter: Segmenter | None = None) -> list[Boundary]:
    """Feed one window per character: ``#`` speech, ``.`` silence, ``~`` between the thresholds, ``,`` in doubt."""
    segmenter = segmenter or Segmenter(RULES, W)
    value = {"#": 0.9, ".": 0.05, "~": 0.4, ",": 0.2}
    return [boundary for each in probabilities for boundary in segmenter.feed(value[each], 0.0)]


def test_speech_opens_with_pre_roll_and_silence_closes_with_padding() -> None:
    assert run("." * 20 + "#" * 10 + "." * 10) == [Opened(16 * W), Closed(33 * W, "silence")]


def test_the_boundary_comes_as_soon_as_it_is_certain() -> None:
    segmenter = Segmenter(RULES, W)
    assert run("." * 20 + "##", segmenter) == []
    assert run("#", segmenter) == [Opened(16 * W)]
    assert run("#####" + "." * 9, segmenter) == []
    assert run(".", segmenter) == [Closed(31 * W, "silence")]


def test_pre_roll_stops_at_the_beginning_of_the_stream() -> None:
    assert run(".###") == [Opened(0)]


def test_what_begins_soon_after_the_stream_begins_with_it() -> None:
    rules = replace(RULES, head_ms=200)
    assert run("." * 24 + "###", Segmenter(rules, W)) == [Opened(0)]
    assert run("." * 25 + "###", Segmenter(rules, W)) == [Opened(21 * W)]
    assert run("." * 24 + "###", Segmenter(replace(rules, head_ms=0), W)) == [Opened(20 * W)]


def test_a_segment_never_reaches_back_into_the_one_before_however_soon_that_was() -> None:
    rules = replace(RULES, head_ms=500, min_silence_ms=50, padding_ms=0)
    assert run("###.....##" + "###", Segmenter(rules, W)) == [Opened(0), Closed(3 * W, "silence"), Opened(3 * W)]


def test_where_segments_are_short_the_beginning_gives_way() -> None:
    rules = replace(RULES, head_ms=10_000)
    most = samples(rules.max_segment_ms)
    segmenter = Segmenter(rules, W)
    for _ in range(2_000):
        segmenter.feed(0.0, 0.0)
        assert segmenter.heard - segmenter.safe_until <= most


def test_pre_roll_stops_at_the_segment_before() -> None:
    rules = EndpointRules(release_threshold=0.35, min_speech_ms=30, min_silence_ms=100, padding_ms=100, pre_roll_ms=400)
    assert run("###" + "." * 12 + "###", Segmenter(rules, W)) == [
        Opened(0),
        Closed(13 * W, "silence"),
        Opened(13 * W),
    ]


def test_a_click_opens_nothing() -> None:
    assert run("." * 10 + "##" + "." * 20) == []


def test_one_dip_during_the_onset_is_forgiven_and_two_are_not() -> None:
    assert run("." * 10 + "#.##") == [Opened(6 * W)]
    assert run("." * 10 + "#.#.#.#.#.") == []


def test_doubtful_windows_right_before_an_onset_belong_to_it() -> None:
    assert run("." * 20 + ",,,###") == [Opened(16 * W)]
    assert run("." * 20 + ",,,.###") == [Opened(20 * W)]
    assert run("." * 20 + ",,#.##") == [Opened(16 * W)]
    assert run("." * 20 + ",,#...###") == [Opened(22 * W)]


def test_doubt_reaches_back_so_far_and_no_further() -> None:
    assert run("," * 60 + "###") == [Opened((60 - 25 - 4) * W)]
    assert run("," * 100) == []


def test_doubt_does_not_reach_into_the_segment_before() -> None:
    assert run("###" + "," * 10 + "###") == [Opened(0), Closed(6 * W, "silence"), Opened(6 * W)]


def test_between_the_thresholds_nothing_changes() -> None:
    assert run("~" * 50) == []
    assert run("." * 10 + "#~~" + "~" * 50) == [Opened(6 * W)]
    speech = "." * 10 + "###"
    assert run(speech + "." + "~" * 9) == [Opened(6 * W), Closed(16 * W, "silence")]
    assert run(speech + "." + "~" * 5 + "#" + "." * 9) == [Opened(6 * W)]


def test_a_short_pause_does_not_close() -> None:
    assert run("###" + ".........###" * 5) == [Opened(0)]


def feed_all(segmenter: Segmenter, energies: list[float]) -> list[Boundary]:
    return [boundary for energy in energies for boundary in segmenter.feed(0.9, energy)]


def test_endless_speech_is_cut_at_the_quietest_window_of_the_search_span() -> None:
    energies = [1.0] * 150
    energies[50] = 0.0  # quieter, but before the search span of windows 70 to 99
    energies[84], energies[85], energies[86] = 0.3, 0.1, 0.3
    energies[92] = 0.05  # a single quiet window is less of a gap than three
    assert feed_all(Segmenter(RULES, W), energies) == [Opened(0), Closed(86 * W, "length"), Opened(86 * W)]


def test_the_windows_after_a_cut_count_for_the_next_segment() -> None:
    segmenter = Segmenter(RULES, W)
    energies = [1.0] * 100
    energies[79] = 0.1
    assert feed_all(segmenter, energies) == [Opened(0), Closed(80 * W, "length"), Opened(80 * W)]
    assert run("#" * 79, segmenter) == []
    assert run("#", segmenter)[0].__class__ is Closed
    assert segmenter.heard == 180 * W


def test_of_equally_quiet_windows_the_latest_is_cut() -> None:
    assert feed_all(Segmenter(RULES, W), [1.0] * 100)[1:] == [Closed(99 * W, "length"), Opened(99 * W)]


def test_a_cut_that_leaves_only_silence_closes_instead() -> None:
    segmenter = Segmenter(RULES, W)
    for i in range(100):
        boundaries = segmenter.feed(0.9 if i < 95 else 0.05, 1.0 if i < 95 else 0.0)
    assert boundaries == [Closed(98 * W, "silence")]
    assert run("...###", segmenter) == [Opened(99 * W)]


def test_flush_closes_what_is_open_at_the_end_of_the_audio() -> None:
    segmenter = Segmenter(RULES, W)
    run("####..", segmenter)
    assert segmenter.flush() == [Closed(6 * W, "forced")]
    assert segmenter.flush() == []


def test_flush_takes_a_pending_onset() -> None:
    segmenter = Segmenter(RULES, W)
    run("." * 10 + "#.", segmenter)
    assert segmenter.flush() == [Opened(6 * W), Closed(12 * W, "forced")]


def test_flush_in_silence_says_nothing() -> None:
    segmenter = Segmenter(RULES, W)
    run("#" + "." * 10, segmenter)
    assert segmenter.flush() == []


def test_after_a_flush_a_new_utterance_begins() -> None:
    segmenter = Segmenter(RULES, W)
    run("####", segmenter)
    segmenter.flush()
    assert run("##", segmenter) == []
    assert run("#", segmenter) == [Opened(4 * W)]


def test_only_windows_beyond_doubt_are_voiced() -> None:
    segmenter = Segmenter(RULES, W)
    for probability in (0.6, 0.79, 0.8, 0.4, 0.95):
        segmenter.feed(probability, 0.0)
    assert segmenter.voiced == 2 * W


def test_what_is_safe_to_drop() -> None:
    segmenter = Segmenter(RULES, W)
    run("." * 20, segmenter)
    assert segmenter.safe_until == 16 * W
    run("#", segmenter)
    assert segmenter.safe_until == 16 * W
    run("##" + "#" * 10, segmenter)
    assert segmenter.safe_until == 16 * W
    run("." * 10, segmenter)
    assert segmenter.safe_until == 39 * W


@pytest.mark.parametrize("energy", [-1.0, math.nan, math.inf])
def test_energies_that_are_none_are_refused(energy: float) -> None:
    segmenter = Segmenter(RULES, W)
    segmenter.feed(0.5, 0.0)
    with pytest.raises(BadAudio, match=r"window 1: .*got 0.5 and"):
        segmenter.feed(0.5, energy)


@pytest.mark.parametrize("probability", [-0.1, 1.1, math.nan])
def test_probabilities_that_are_none_are_refused(probability: float) -> None:
    with pytest.raises(BadAudio, match=r"a probability in \[0, 1\]"):
        Segmenter(RULES, W).feed(probability, 0.0)


def test_rules_without_room_for_the_window_are_refused() -> None:
    with pytest.raises(BadConfig, match="at least three windows of 32 ms"):
        Segmenter(EndpointRules(cut_search_ms=90), 512)
    with pytest.raises(BadConfig, match=r"max_segment_ms \(400\) must have room .* at least 1032 ms"):
        Segmenter(EndpointRules(max_segment_ms=400, cut_search_ms=100, pre_roll_ms=616), 512)
    with pytest.raises(BadConfig, match="at least one sample"):
        Segmenter(RULES, 0)


@st.composite
def rules_and_windows(draw: st.DrawFn) -> tuple[EndpointRules, int, list[tuple[float, float]], set[int]]:
    window = draw(st.sampled_from([160, 480, 512]))
    ms = math.ceil(window / 16)
    search = draw(st.integers(3 * ms, 12 * ms))
    speech, roll, reach = (draw(st.integers(least, most * ms)) for least, most in ((1, 6), (0, 10), (0, 10)))
    shortest = max(2 * search, roll + reach + 2 * speech + 3 * ms)
    silence = draw(st.integers(1, 20 * ms))
    rules = EndpointRules(
        release_threshold=draw(st.sampled_from([0.2, 0.5])),
        onset_threshold=draw(st.sampled_from([0.1, 0.2])),
        onset_reach_ms=reach,
        min_speech_ms=speech,
        min_silence_ms=silence,
        pre_roll_ms=roll,
        head_ms=draw(st.sampled_from([0, 100, 500])),
        padding_ms=draw(st.integers(0, silence)),
        max_segment_ms=draw(st.integers(shortest, shortest + 60 * ms)),
        cut_search_ms=search,
    )
    runs = draw(st.lists(st.tuples(st.sampled_from([0.0, 0.15, 0.3, 0.9]), st.integers(1, 40)), max_size=14))
    probabilities = [p for p, count in runs for _ in range(count)]
    energies = draw(st.randoms(use_true_random=False))
    fed = [(p, energies.random()) for p in probabilities]
    return rules, window, fed, draw(st.sets(st.integers(0, 200), max_size=3))


@settings(max_examples=150, deadline=None)
@given(rules_and_windows())
def test_law_segments_are_ordered_disjoint_heard_and_no_longer_than_allowed(
    case: tuple[EndpointRules, int, list[tuple[float, float]], set[int]],
) -> None:
    rules, window, fed, flushes = case
    segmenter = Segmenter(rules, window)
    boundaries: list[Boundary] = []
    safe = 0
    for i, (probability, energy) in enumerate(fed):
        new = segmenter.feed(probability, energy)
        if i in flushes:
            new = new + segmenter.flush()
        for boundary in new:
            if isinstance(boundary, Opened):
                assert boundary.start >= safe
            else:
                assert boundary.end <= segmenter.heard
                assert boundary.end % window == 0
        assert safe <= segmenter.safe_until <= segmenter.heard
        safe = segmenter.safe_until
        boundaries += new
    boundaries += segmenter.flush()

    assert segmenter.heard == len(fed) * window
    assert [type(each) for each in boundaries] == [Opened, Closed] * (len(boundaries) // 2)
    places = [each.start if isinstance(each, Opened) else each.end for each in boundaries]
    assert places == sorted(places)
    for opened, closed in zip(boundaries[::2], boundaries[1::2], strict=True):
        assert isinstance(opened, Opened)
        assert isinstance(closed, Closed)
        assert 0 <= opened.start < closed.end
        assert closed.end - opened.start <= samples(rules.max_segment_ms)
        inside = range(max(0, opened.start // window), closed.end // window)
        assert any(fed[i][0] >= rules.release_threshold for i in inside)
    for before, after in itertools.pairwise(boundaries):
        if isinstance(before, Closed) and before.reason == "length":
            assert after == Opened(before.end)
