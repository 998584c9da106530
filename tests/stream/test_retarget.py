"""Languages come and go while somebody speaks: lines are told apart by language, and every line keeps the promises."""

import io
import random
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamtrans.core import (
    BadConfig,
    Caption,
    Hypothesis,
    Job,
    Reading,
    SpeechEnded,
    SpeechStarted,
    UnsupportedLanguage,
)
from streamtrans.segment import EndpointRules
from streamtrans.stream import Origin, Recorder, Recording, Session, SessionConfig, Stages, rerun, settle
from streamtrans.testing.engine import InstantEngine, hypothesis
from streamtrans.testing.vad import ScriptedVad
from tests.fakes import Words

RULES = EndpointRules(
    min_speech_ms=64,
    min_silence_ms=200,
    pre_roll_ms=64,
    head_ms=0,
    padding_ms=64,
    max_segment_ms=3_000,
    cut_search_ms=600,
)
LANGUAGES = ("de", "fr", "zh")
LENGTH = 8 * 16_000
AUDIO = np.random.default_rng(1).normal(0, 0.1, LENGTH).astype(np.float32)
SPOKEN = [(8_000, 40_000), (48_000, 110_000)]
WORD = 4_000


def say(job, target):
    """Say the numbered words that were heard, each language beginning at its own thousand, and guess one more."""
    thousand = 1_000 * (1 + LANGUAGES.index(target.language))
    heard = [thousand + at // WORD for at in range(-(-job.start // WORD) * WORD, job.end, WORD)]
    tokens = (*target.prefix, *heard[len(target.prefix) :], *([] if job.last else [thousand + 900 + job.end % 97]))
    return hypothesis(tokens, 0.5)


def begin(targets=("de",), **changes):
    config = SessionConfig(targets, endpoints=RULES, **({"policy": "hold", "policy_n": 2} | changes))
    return Session(config, Words(), window=512)


def hear(session, engine, until, at=0):
    for start in range(at, until, 1_600):
        session.hear(AUDIO[start : min(start + 1_600, until)])
        settle(session, engine)


def lines(events):
    found = {}
    for event in events:
        if isinstance(event, Caption):
            found.setdefault((event.segment, event.language), []).append(event)
    return found


def check(events):
    """Every line is revised step by step, grows, and closes exactly once."""
    for captions in lines(events).values():
        assert [caption.revision for caption in captions] == list(range(1, len(captions) + 1))
        assert [caption.final for caption in captions] == [False] * (len(captions) - 1) + [True]
        assert captions[-1].tentative == ""
        assert all(after.committed.startswith(before.committed) for before, after in pairwise(captions))
        assert all(caption.start < caption.end == caption.heard for caption in captions)


def test_a_language_that_comes_is_read_from_the_beginning_of_the_segment():
    session, engine = begin(), InstantEngine(say, ScriptedVad(SPOKEN))
    hear(session, engine, 24_000)
    before = session.events()
    assert session.retarget(("de", "fr")) == 24_000
    assert session.events() == []
    hear(session, engine, LENGTH, 24_000)
    session.end()
    settle(session, engine)
    events = before + session.events()
    check(events)
    found = lines(events)
    assert {language for _, language in found} == {"de", "fr"}
    for segment in {segment for segment, _ in found}:
        said = [found[segment, language][-1].text.split() for language in ("de", "fr")]
        assert [int(word[1:]) - 1_000 for word in said[0]] == [int(word[1:]) - 2_000 for word in said[1]]
        assert said[0]
    assert found[0, "fr"][0].heard > 24_000 - 8_000


def test_a_language_that_goes_gets_its_final_first():
    session, engine = begin(("de", "fr")), InstantEngine(say, ScriptedVad(SPOKEN))
    hear(session, engine, 30_000)
    before = session.events()
    session.retarget(("fr",))
    [final] = session.events()
    shown = lines(before)[0, "de"][-1]
    assert (final.language, final.final, final.text, final.heard) == ("de", True, shown.text, shown.heard)
    hear(session, engine, LENGTH, 30_000)
    session.end()
    settle(session, engine)
    rest = session.events()
    assert {language for _, language in lines(rest)} == {"fr"}
    check([*before, final, *rest])
    assert [job.targets[0].language for job in engine.jobs if job.end > 32_000] == ["fr"] * sum(
        job.end > 32_000 for job in engine.jobs
    )


def test_a_reading_under_way_is_matched_by_language():
    session, engine = begin(("de", "fr")), InstantEngine(say, ScriptedVad(SPOKEN))
    hear(session, engine, 14_000)
    session.hear(AUDIO[14_000:24_000])
    under_way = None
    while under_way is None:
        for request in session.requests():
            if isinstance(request, Job):
                under_way = request
            else:
                session.answer(request, engine.submit(request).result())
    session.events()
    session.retarget(("zh", "fr"))
    session.events()
    session.answer(under_way, engine.submit(under_way).result())
    [caption] = session.events()
    assert (caption.language, caption.text.split()[0]) == ("fr", "w2002")


def test_a_language_may_go_before_anything_was_read():
    session, engine = begin(min_first_reading_ms=2_000), InstantEngine(say, ScriptedVad(SPOKEN))
    hear(session, engine, 16_000)
    session.retarget(("fr",))
    final = session.events()[-1]
    assert (final.language, final.final, final.text) == ("de", True, "")
    assert final.start < final.end == final.heard


def test_a_language_does_not_come_back_in_the_same_segment():
    session, engine = begin(), InstantEngine(say, ScriptedVad(SPOKEN))
    hear(session, engine, 24_000)
    session.retarget(("fr",))
    session.retarget(("de",))
    hear(session, engine, LENGTH, 24_000)
    session.end()
    settle(session, engine)
    assert session.finished
    events = session.events()
    check(events)
    assert [segment for segment, language in lines(events) if language == "de"] == list(range(session.stats.segments))
    assert [segment for segment, language in lines(events) if language == "fr"] == [0]
    assert session.cursors.final == session.cursors.received == LENGTH


@pytest.mark.parametrize(
    ("targets", "error"), [((), BadConfig), (("de", "de"), BadConfig), (("xx",), UnsupportedLanguage)]
)
def test_wrong_languages_change_nothing(targets, error):
    session, engine = begin(), InstantEngine(say, ScriptedVad(SPOKEN))
    hear(session, engine, 24_000)
    session.events()
    with pytest.raises(error):
        session.retarget(targets)
    assert session.config.targets == ("de",)
    assert session.events() == []


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from(["live", "stable", "final"]))
def test_promises_are_kept_whatever_comes_and_goes(seed, mode):
    """At any pace of the engine, which fails now and then; and the recording replays."""
    dice = random.Random(seed)
    file = io.BytesIO()
    recorder = Recorder(begin(mode=mode), Unclosed(file), Origin())
    engine = InstantEngine(say, ScriptedVad(SPOKEN))
    at, under_way, events = 0, [], []
    for _ in range(5_000):
        if recorder.finished:
            break
        step = dice.choice(["hear", "answer", "answer", "retarget"])
        if step == "hear" and at < LENGTH:
            recorder.hear(AUDIO[at : at + 3_000])
            at += 3_000
            if at >= LENGTH:
                recorder.end()
        elif step == "retarget" and dice.random() < 0.3:
            targets = tuple(dice.sample(LANGUAGES, dice.randrange(1, 4)))
            events += recorder.events()
            recorder.retarget(targets)
            assert recorder.config.targets == targets
        elif under_way:
            request = under_way.pop(dice.randrange(len(under_way)))
            if dice.random() < 0.1:
                recorder.fail(request, TimeoutError("late"))
            else:
                recorder.answer(request, engine.submit(request).result())
        for request in recorder.requests():
            under_way.append(request)
            if isinstance(request, Job):
                assert request.targets
        events += recorder.events()
    assert recorder.finished
    recorder.close()
    check(events)
    opened = [event.segment for event in events if isinstance(event, SpeechStarted)]
    assert sorted(opened) == sorted(event.segment for event in events if isinstance(event, SpeechEnded))
    assert {segment for segment, _ in lines(events)} == set(opened)
    recording = Recording(io.BytesIO(file.getvalue()))
    again = [
        event
        for _, now in rerun(recording, Session(recording.config, Words(), window=recording.window))
        for event in now
    ]
    assert again == events
    assert recording.problem is None


class Unclosed:
    """A sink whose bytes outlive it."""

    def __init__(self, file):
        self.write, self.flush = file.write, file.flush

    def close(self):
        pass


class Backwards(Words):
    def decode(self, tokens):
        return " ".join(f"{token}w" for token in tokens)


def test_each_line_is_spelled_by_the_model_that_writes_it():
    config = SessionConfig(("de", "fr"), source="de", endpoints=RULES)
    session = Session(config, Stages(Words(), Backwards()), window=512)
    engine = InstantEngine(say, ScriptedVad(SPOKEN))
    hear(session, engine, LENGTH)
    session.end()
    settle(session, engine)
    for (_, language), captions in lines(session.events()).items():
        words = captions[-1].text.split()
        assert words
        assert all(word.startswith("w") == (language == "de") for word in words)


def test_a_reading_with_too_few_texts_is_refused():
    session, engine = begin(("de", "fr")), InstantEngine(say, ScriptedVad(SPOKEN))
    session.hear(AUDIO[:24_000])
    for request in session.requests():
        session.answer(request, engine.submit(request).result())
    [job] = [request for request in session.requests() if isinstance(request, Job)]
    with pytest.raises(ValueError, match="1 hypotheses for 2 targets"):
        session.answer(job, Reading((Hypothesis((), ()),)))
