from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamtrans.bench.cuts import MARK, Errors, KnownReader, check_cuts, compare, spread_words
from streamtrans.core import BadConfig, Caption, Job, SpeechEnded, SpeechStarted, Target
from streamtrans.corpus.talks import Sentence
from streamtrans.evaluate.replay import Replay
from streamtrans.stream import SessionConfig, SessionStats
from streamtrans.testing.vad import ScriptedVad

TEXTS = [
    ("turn on the light", "把灯打开"),
    ("what will the weather be like", "天气怎么样"),
    ("play something quiet please", "放点安静的音乐"),
]


def sentences(count, *, gap=800, length=32_000):
    """Two seconds each, with a gap of 50 ms."""
    return tuple(
        Sentence(start, start + length, {"en": TEXTS[number % 3][0], "zh": TEXTS[number % 3][1]})
        for number in range(count)
        for start in [8_000 + number * (length + gap)]
    )


def reader(said=None, *, errors=None, languages=("en",)):
    return KnownReader(sentences(4) if said is None else said, languages, ScriptedVad(), errors or Errors())


def job(start, end, *, language="en", prefix=(), last=False):
    return Job(0, start, end, last, np.zeros(end - start, np.float32), (Target(language, prefix),))


def read(known, *args, **options):
    return known.submit(job(*args, **options)).result().hypotheses[0]


def test_words_share_the_time_of_their_sentence():
    words = spread_words(sentences(2), "en")
    assert [word.text for word in words[:4]] == ["turn", "on", "the", "light"]
    assert words[0].start == 8_000
    assert words[3].end == 40_000
    assert words[0].end - words[0].start == pytest.approx(32_000 * 5 / 18, abs=1)
    assert all(before.end <= after.start for before, after in pairwise(words))
    assert [word.text for word in spread_words(sentences(1), "zh")] == list("把灯打开")


def test_a_known_reader_says_what_it_hears_sentence_by_sentence():
    known = reader(languages=("en", "zh"))
    assert known.speller.decode(read(known, 0, 40_000).tokens) == "turn/0 on/1 the/2 light/3"
    both = read(known, 0, 60_000)
    assert known.speller.decode(both.tokens).split("\n")[1].startswith("what/4 will/5")
    assert known.speller.sentence_end(both.tokens) == (4, 5)
    assert both.tokens[4] == MARK
    assert list(both.ends) == sorted(both.ends)
    assert both.ends[-1] <= 60_000
    assert known.speller.decode(read(known, 0, 20_000, language="zh").tokens)[0] == "把"
    assert read(known, 0, 4_000).tokens == ()


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, 150_000), min_size=3, max_size=3), st.integers(0, 30), st.booleans())
def test_a_reading_keeps_its_prefix_and_errs_in_its_tail_only(times, promised, last):
    start, middle, end = sorted(times)
    erring, true = reader(errors=Errors(0.7, 2, drift_ms=300)), reader()
    before = read(erring, start, middle).tokens[:promised]
    found = read(erring, start, end, prefix=before, last=last)
    assert found.tokens[: len(before)] == before
    assert len(found.ends) == len(found.logprobs) == len(found.tokens)
    assert all(start <= at <= end for at in found.ends)
    fresh, exact = read(erring, start, end, last=last).tokens, read(true, start, end).tokens
    assert len(fresh) == len(exact)
    words = [at for at, token in enumerate(exact) if token != MARK]
    different = [at for at in words if fresh[at] != exact[at]]
    assert set(different) <= (set() if last else set(words[-2:]))
    assert all(fresh[at] > len(erring.speller.words) for at in different)


def captions(known, *texts, bounds):
    timed = []
    for segment, (numbers, (start, end)) in enumerate(zip(texts, bounds, strict=True)):
        text = known.speller.decode([known.speller.token(number, variant) for number, variant in numbers])
        timed += [
            (end, SpeechStarted(segment, start)),
            (end, SpeechEnded(segment, end)),
            (end, Caption(segment, 1, "en", text, "", True, start, end, end)),
        ]
    return Replay(tuple(timed), SessionStats())


def test_lost_and_double_words_are_counted_where_they_are():
    known = reader(sentences(4, gap=80_000))  # at 0.5, 7.5, 14.5, 21.5 s
    count = len(known.speller.words)
    right = [(number, 0) for number in range(count)]
    bounds = [(0, 40_000), (40_000, 232_000), (240_000, 400_000)]
    clean = compare(captions(known, right[:4], right[4:10], right[10:], bounds=bounds), known)
    assert clean.clean
    assert (clean.segments, clean.cuts, clean.words) == (3, 1, count)
    assert (clean.lost_elsewhere, clean.doubled_elsewhere, clean.wrong) == (0, 0, 0)

    # the cut at 2.5 s loses word 3 and doubles word 2; word 7 is lost far away from it; word 12 is misread
    spoilt = [right[:3], [right[2], *right[4:7], *right[8:10]], [*right[10:12], (12, 5), *right[13:]]]
    found = compare(captions(known, *spoilt, bounds=bounds), known)
    assert (found.lost_at_cuts, found.doubled_at_cuts, found.lost_elsewhere, found.wrong) == (1, 1, 1, 1)
    assert not found.clean
    assert any("'light' at" in example and "lost, at_cuts" in example for example in found.examples)
    assert compare(captions(known, right[4:10], right[:4], right[10:], bounds=bounds), known).disordered == 1


def noise(count):
    return np.random.default_rng(0).uniform(-0.5, 0.5, count).astype(np.float32)


@pytest.mark.parametrize("mode", ["final", "stable", "live"])
def test_pauses_lose_nothing(mode):
    said = sentences(6, gap=16_000)
    spans = [(sentence.start, sentence.end) for sentence in said]
    config = SessionConfig(("en", "zh"), "en", mode=mode)
    found = check_cuts(config, said, noise(said[-1].end + 16_000), lambda _: ScriptedVad(spans))
    assert (found.segments, found.cuts) == (6, 0)
    assert found.clean
    assert found.lost_elsewhere == found.doubled_elsewhere == found.wrong == 0


def test_whole_segments_cut_at_their_length_share_out_the_words():
    said = sentences(20)
    span = (said[0].start, said[-1].end)
    config = SessionConfig(("en", "zh"), "en", mode="final")
    found = check_cuts(config, said, noise(span[1] + 16_000), lambda _: ScriptedVad([span]))
    assert found.cuts >= 3
    assert found.clean
    assert found.lost_elsewhere == found.doubled_elsewhere == 0


def test_what_cannot_be_known_is_refused():
    with pytest.raises(BadConfig, match="no word in 'fr'"):
        reader(languages=("en", "fr"))
    with pytest.raises(BadConfig, match="rate of 2"):
        Errors(2)
    with pytest.raises(BadConfig, match="drift of -1"):
        replace(Errors(), drift_ms=-1)
