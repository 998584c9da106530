"""Readings of what is open come less often, not at all, and again, while the stream runs; promises hold throughout."""

import io
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamtrans.core import Caption
from streamtrans.segment import EndpointRules
from streamtrans.stream import Origin, Recorder, Recording, Session, SessionConfig, rerun, settle
from streamtrans.stream.calls import Kind, Pace, read, written
from streamtrans.stream.records import Record
from streamtrans.testing.engine import InstantEngine, hypothesis
from streamtrans.testing.vad import ScriptedVad
from tests.fakes import Words

RULES = EndpointRules(
    min_speech_ms=64, min_silence_ms=200, pre_roll_ms=0, padding_ms=0, max_segment_ms=6_000, cut_search_ms=600
)
LENGTH = 8 * 16_000
AUDIO = np.random.default_rng(1).normal(0, 0.1, LENGTH).astype(np.float32)
SPOKEN = [(0, 64_000), (76_800, 120_000)]


def say(job, target):
    """One word per quarter of a second, and a wrong one at the end of what is open."""
    heard = range(job.start // 4_000, job.end // 4_000)
    return hypothesis((*target.prefix, *heard[len(target.prefix) :], *([] if job.last else [900])), 0.5)


def play(paces, session=None, **changes):
    """Hear all of ``AUDIO``; ``paces`` maps a chunk's number to the pace from there on. Return events and jobs."""
    session = session or begin(**changes)
    engine, events = InstantEngine(say, ScriptedVad(SPOKEN)), []
    for number, start in enumerate(range(0, LENGTH, 1_600)):
        if number in paces:
            session.pace(paces[number])
        session.hear(AUDIO[start : start + 1_600])
        settle(session, engine)
        events += session.events()
    session.end()
    settle(session, engine)
    return [*events, *session.events()], engine.jobs


def begin(**changes):
    return Session(SessionConfig(("de",), endpoints=RULES, **changes), Words(), window=512)


def steps(jobs, segment=0):
    return [(job.end - job.start) // 16 for job in jobs if job.segment == segment and not job.last]


def finals(events):
    return [event.text for event in events if isinstance(event, Caption) and event.final]


def test_longer_steps_are_counted_from_the_beginning_of_the_segment():
    whole, jobs = play({})
    assert steps(jobs) == list(range(480, 4_100, 480))
    calmer, jobs = play({15: 720, 30: 480})
    assert steps(jobs) == [480, 960, 1_440, 2_160, 2_880, 3_360, 3_840]
    assert finals(calmer) == finals(whole)


def test_without_readings_of_what_is_open_the_finals_are_the_same():
    whole, _ = play({})
    events, jobs = play({0: None})
    assert steps(jobs) == steps(jobs, 1) == []
    assert finals(events) == finals(whole)


def test_they_stop_at_once_and_come_again():
    _, jobs = play({15: None, 30: 480})
    assert steps(jobs) == [480, 960, 1_440, 2_880, 3_360, 3_840]


def test_who_asked_for_finals_gets_nothing_else_at_any_pace():
    _, jobs = play({0: 480}, mode="final")
    assert steps(jobs) == []


@settings(max_examples=40, deadline=None)
@given(paces=st.dictionaries(st.integers(0, 80), st.sampled_from([None, 100, 480, 720, 2_000]), max_size=8))
def test_whatever_the_pace_committed_text_grows_and_recordings_replay(paces):
    class Sink(io.BytesIO):
        def close(self):
            self.data = self.getvalue()

    sink = Sink()
    recorder = Recorder(begin(), sink, Origin("toy"), window=512)
    events, _ = play(paces, recorder)
    recorder.close()
    told = {}
    for event in events:
        if isinstance(event, Caption):
            told.setdefault(event.segment, []).append(event)
    for captions in told.values():
        assert [caption.final for caption in captions] == [False] * (len(captions) - 1) + [True]
        assert all(after.committed.startswith(before.committed) for before, after in pairwise(captions))
    recording = Recording(io.BytesIO(sink.data))
    again = [event for _, now in rerun(recording, begin()) for event in now]
    assert again == events


@pytest.mark.parametrize("interval_ms", [None, 720])
def test_a_change_of_pace_comes_back_as_it_was(interval_ms):
    kind, payload = written(Pace(interval_ms))
    assert kind == Kind.PACE
    assert read(Record(kind, payload, 0)) == Pace(interval_ms)
