import random
import statistics
import sys
from argparse import Namespace
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamtrans.core import BadConfig, Caption, SpeechEnded, SpeechStarted
from streamtrans.metrics import (
    LatencyScores,
    ReferenceSegment,
    TimedWord,
    commit_lag_ms,
    corpus_latency,
    latency,
    settled,
)

SCORES = ("al_ms", "laal_ms", "dal_ms", "stream_laal_ms", "long_yaal_ms")


def caption(text, *, segment=0, language="de", committed="", final=False, start=0, end=1600):
    return Caption(segment, 1, language, committed, text, final, start, end, end)


def words(*pairs, segment=0):
    return [TimedWord(text, ms, segment) for text, ms in pairs]


def test_a_word_settles_when_it_and_all_before_it_stop_changing():
    shown = [
        (16_000, caption("mach das")),
        (32_000, caption("mach das licht")),
        (48_000, caption("mach es licht")),
        (64_000, caption("mach das\nlicht aus")),
        (80_000, caption("", committed="mach das licht aus", final=True)),
    ]
    assert settled(shown) == tuple(words(("mach", 1000), ("das", 4000), ("licht", 4000), ("aus", 4000)))


def test_segments_follow_each_other_whenever_their_captions_came():
    shown = [
        (0, SpeechStarted(0, 0)),
        (16_000, caption("打开", language="zh")),
        (32_000, caption("好", segment=1, language="zh")),
        (48_000, caption("打开 灯", language="zh")),
        (48_000, SpeechEnded(0, 1)),
    ]
    assert [(word.text, word.at_ms, word.segment) for word in settled(shown)] == [
        ("打", 1000, 0),
        ("开", 1000, 0),
        ("灯", 3000, 0),
        ("好", 2000, 1),
    ]
    assert settled([]) == ()
    assert settled([(5, caption("weg")), (6, caption(""))]) == ()


@settings(max_examples=50, deadline=None)
@given(texts=st.lists(st.lists(st.sampled_from("abc"), max_size=5), min_size=1, max_size=6))
def test_settling_is_the_end_of_the_last_change(texts):
    shown = [(16 * at, caption(" ".join(text))) for at, text in enumerate(texts)]
    final = texts[-1]
    for index, word in enumerate(settled(shown)):
        wrong = [at for at, text in enumerate(texts) if text[: index + 1] != final[: index + 1]]
        assert word.text == final[index]
        assert word.at_ms == max(wrong, default=-1) + 1


def test_several_languages_are_refused():
    with pytest.raises(BadConfig, match="de and fr"):
        settled([(0, caption("eins")), (1, caption("un", language="fr"))])


def test_commitment_is_timed_against_an_even_spread_over_the_segment():
    where = {"start": 16_000, "end": 48_000}
    shown = [
        (24_000, caption("mach das licht", start=16_000, end=24_000)),
        (32_000, caption("licht", committed="mach ", start=16_000, end=32_000)),
        (56_000, caption("", committed="mach das licht aus", final=True, **where)),
        (60_000, caption("offen", segment=1, committed="noch ", start=50_000)),
    ]
    # the four words end at 1.5, 2, 2.5 and 3 s; the open segment has no known end
    assert commit_lag_ms(shown) == (500, 1500, 1000, 500)
    assert commit_lag_ms([(1, caption("", final=True))]) == ()


def wait_k(k, count, step=500.0, start=0.0):
    times = [start + step * min(count, k + index) for index in range(count)]
    return [TimedWord(f"w{index}", ms, 0) for index, ms in enumerate(times)]


@pytest.mark.parametrize("k", [1, 3, 6])
def test_a_wait_k_policy_lags_by_k_words(k):
    pytest.importorskip("omnisteval", reason="the eval extra")
    text = " ".join(f"w{index}" for index in range(6))
    for start in (0.0, 9000.0):
        scores = latency(wait_k(k, 6, start=start), [ReferenceSegment(start, 3000, text)], "de")
        # Ma et al. 2019, section 4: AL of wait-k is k; Cherry and Foster 2019: so is DAL
        assert [scores.al_ms, scores.laal_ms, scores.dal_ms, scores.stream_laal_ms] == pytest.approx([500 * k] * 4)
        assert scores.sentences == 1
        assert scores.long_yaal_ms == (None if k == 6 else pytest.approx(500 * k))


def test_words_too_many_are_no_head_start():
    pytest.importorskip("omnisteval", reason="the eval extra")
    said = words(("a", 1000), ("b", 1000), ("c", 2000), ("d", 2000))
    scores = latency(said, [ReferenceSegment(0, 2000, "a b")], "de")
    assert scores.al_ms == pytest.approx((1000 + 0 + 0) / 3)  # a word per 1000 ms, to the first at the end
    assert scores.laal_ms == pytest.approx((1000 + 500 + 1000) / 3)  # a word per 500 ms
    assert scores.dal_ms == pytest.approx((1000 + 1000 + 1000 + 1000) / 4)
    assert scores.long_yaal_ms == pytest.approx((1000 + 500) / 2)


def lagging(times, span, per_word):
    if times[0] > span:
        return times[0]
    used = next((index for index, at in enumerate(times, 1) if at >= span), len(times))
    return sum(at - index * per_word for index, at in enumerate(times[:used])) / used


@settings(max_examples=30, deadline=None)
@given(
    times=st.lists(st.integers(0, 5000).map(float), min_size=1, max_size=8).map(sorted),
    count=st.integers(1, 8),
    span=st.integers(500, 4000).map(float),
)
def test_one_sentence_scores_as_the_papers_say(times, count, span):
    pytest.importorskip("omnisteval", reason="the eval extra")
    said = [TimedWord("wort", at, 0) for at in times]
    scores = latency(said, [ReferenceSegment(0, span, " ".join(["wort"] * count))], "de")
    assert scores.al_ms == pytest.approx(lagging(times, span, span / count))
    adaptive = lagging(times, span, span / max(count, len(times)))
    assert scores.laal_ms == scores.stream_laal_ms == pytest.approx(adaptive)
    last, total = -1e9, 0.0
    for index, at in enumerate(times):
        last = max(at, last + span / len(times)) if index else at
        total += last - index * span / len(times)
    assert scores.dal_ms == pytest.approx(total / len(times))
    within = [at - index * span / max(count, len(times)) for index, at in enumerate(times) if at < span]
    assert scores.long_yaal_ms == (pytest.approx(statistics.mean(within)) if within else None)


def a_talk(seed, language="de", sentences=6):
    """A talk with errors: words missing, doubled, wrong; each settles some time after it was said."""
    draw = random.Random(seed)
    letters = "的一是不了在人有我他这" if language == "zh" else [f"wort{number}" for number in range(40)]
    references, said, at = [], [], 0.0
    for index in range(sentences):
        text = [draw.choice(letters) for _ in range(draw.randint(3, 10))]
        span = 350.0 * len(text)
        references.append(ReferenceSegment(at, span, ("" if language == "zh" else " ").join(text)))
        ready = at
        for number, word in enumerate(text, 1):
            ready = max(ready, at + 350.0 * number + draw.choice([200.0, 900.0, 1600.0]))
            heard = draw.choice(letters) if draw.random() < 0.15 else word
            said += [TimedWord(heard, ready, index)] * draw.choice([0, 1, 1, 1, 1, 1, 2])
        at += span + draw.choice([0.0, 800.0])
    return said, references


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 99), later=st.integers(0, 5))
def test_what_comes_later_lags_more_and_a_later_talk_does_not(seed, later):
    pytest.importorskip("omnisteval", reason="the eval extra")
    said, references = a_talk(seed)
    scores = latency(said, references, "de")
    moved = [TimedWord(word.text, word.at_ms + 1000 * later, word.segment) for word in said]
    shifted = [ReferenceSegment(line.start_ms + 1000 * later, line.duration_ms, line.text) for line in references]
    slow, same = latency(moved, references, "de"), latency(moved, shifted, "de")
    for name in SCORES:
        assert getattr(same, name) == pytest.approx(getattr(scores, name))
    assert slow.dal_ms == pytest.approx(scores.dal_ms + 1000 * later)
    assert slow.stream_laal_ms >= scores.stream_laal_ms


def test_sentences_of_all_talks_weigh_alike():
    pytest.importorskip("omnisteval", reason="the eval extra")
    one, other = a_talk(1), a_talk(2, sentences=2)
    together, first, second = corpus_latency([one, other], "de"), latency(*one, "de"), latency(*other, "de")
    assert together.sentences == first.sentences + second.sentences
    for name in ("al_ms", "laal_ms", "dal_ms"):
        parts = getattr(first, name) * first.sentences + getattr(second, name) * second.sentences
        assert getattr(together, name) == pytest.approx(parts / together.sentences)


@pytest.mark.parametrize(
    ("said", "references", "told"),
    [
        ([], [], "no reference to measure 0 words against"),
        (words(("a", 1)), [], "no reference to measure 1 words against"),
        (words(("a", 1)), [ReferenceSegment(0, 5, " \n")], "1 of 1 references have no words"),
        (words(("a", 1)), [ReferenceSegment(0, 0, "a")], "1 of 1 references have no words or no audio"),
        ([], [ReferenceSegment(0, 5, "a")], "no words for 1 references"),
    ],
)
def test_what_cannot_be_measured_is_told(said, references, told):
    pytest.importorskip("omnisteval", reason="the eval extra")
    scores = latency(said, references, "de")
    assert any(told in problem for problem in scores.problems)
    assert [getattr(scores, name) for name in SCORES] == [None] * 5
    assert scores.sentences == 0


def test_one_empty_talk_does_not_spoil_the_others():
    pytest.importorskip("omnisteval", reason="the eval extra")
    said, references = a_talk(3)
    alone = latency(said, references, "de")
    scores = corpus_latency([(said, [*references, ReferenceSegment(1e6, 10, "")]), ([], [references[0]])], "de")
    assert scores.stream_laal_ms == alone.stream_laal_ms
    assert scores.empty == alone.empty + 1
    assert len(scores.problems) == 2
    assert corpus_latency([], "de") == LatencyScores(problems=("there are no talks",))


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "omnisteval", None)
    with pytest.raises(BadConfig, match=r"pip install omnisteval"):
        latency([], [], "de")


@pytest.mark.parametrize("language", ["de", "zh"])
def test_stream_laal_is_that_of_simulstream(language):
    pytest.importorskip("omnisteval", reason="the eval extra")
    pytest.importorskip("mweralign", reason="simulstream's segmenter")
    readers = pytest.importorskip("simulstream.metrics.readers", reason="not a dependency: it needs librosa")
    latencies = pytest.importorskip("simulstream.metrics.scorers.latency")
    theirs = pytest.importorskip("simulstream.metrics.scorers.latency.stream_laal")
    unit = "char" if language == "zh" else "word"
    for seed in range(5):
        said, references = a_talk(seed, language)
        text = ("" if language == "zh" else " ").join(word.text for word in said)
        seconds = [word.at_ms / 1000 for word in said]
        sample = latencies.LatencyScoringSample(
            "talk",
            readers.OutputWithDelays(text, seconds, seconds),
            [
                readers.ReferenceSentenceDefinition(line.text, line.start_ms / 1000, line.duration_ms / 1000)
                for line in references
            ],
        )
        score = theirs.StreamLaal(Namespace(latency_unit=unit)).score([sample])
        assert latency(said, references, language).stream_laal_ms == pytest.approx(1000 * score.ideal_latency)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # pydub's, where there is no ffmpeg
def test_formulas_are_those_of_simuleval():
    pytest.importorskip("omnisteval", reason="the eval extra")
    simuleval = pytest.importorskip(
        "simuleval.evaluator.scorers.latency_scorer", reason="not a dependency: it pins old versions of others"
    )
    for seed in range(5):
        said, [reference] = a_talk(seed, sentences=1)
        instance = SimpleNamespace(
            delays=[word.at_ms for word in said],
            reference=reference.text,
            reference_length=len(reference.text.split()),
            source_length=reference.duration_ms,
        )
        scores = latency(said, [reference], "de")
        assert scores.al_ms == pytest.approx(simuleval.ALScorer().compute(instance))
        assert scores.laal_ms == pytest.approx(simuleval.LAALScorer().compute(instance))
        assert scores.dal_ms == pytest.approx(simuleval.DALScorer().compute(instance))
