"""Audio is sent once: kept or asked again as a whole, a job reads the same; what isn't known is lost, by name."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamtrans.core import BadAudio, BadConfig, Job, Lost, Reading, StateHandle, Target
from streamtrans.engine import Engine, EngineConfig
from streamtrans.engine.states import States
from streamtrans.testing.toy import ToyModel, toy_audio

PATIENCE_S = 10
AUDIO = toy_audio(4)


def no_vad(name):
    raise AssertionError(name)


def job(start, end, state=None, sent=None, *, keep=True, forget=None, last=False):
    begin = start if sent is None else min(end, max(start, sent))
    return Job(0, start, end, last, AUDIO[begin:end], (Target("de"),), None, state, keep, forget)


def read(engine, asked):
    return engine.submit(asked).result(PATIENCE_S)


@pytest.fixture
def engine():
    with Engine(ToyModel(), no_vad, EngineConfig(slots=2)) as engine:
        yield engine


@settings(max_examples=40, deadline=None)
@given(steps=st.lists(st.integers(1, 9_000), min_size=1, max_size=7), cuts=st.sets(st.integers(0, 6)))
def test_what_is_sent_in_pieces_reads_as_what_is_sent_at_once(steps, cuts):
    """Segments follow each other without a gap, and one may begin before what was heard last."""
    start = sent = 0
    state = None
    with Engine(ToyModel(), no_vad) as engine:
        for number, step in enumerate(steps):
            end = sent + step
            reading = read(engine, job(start, end, state, sent))
            assert reading.hypotheses[0].tokens == read(engine, job(start, end, keep=False)).hypotheses[0].tokens
            state, sent = reading.state, end
            if number in cuts:
                start = max(start, end - 3_000)
        shorter = (start + sent) // 2
        last = read(engine, job(start, shorter, state, sent, keep=False, last=True))
        assert last.hypotheses[0].tokens == read(engine, job(start, shorter, keep=False)).hypotheses[0].tokens
        assert last.state is None
        assert len(engine._states) == 0


def test_a_handle_is_used_up_and_unknown_ones_are_lost(engine):
    first = read(engine, job(0, 16_000))
    assert isinstance(first, Reading)
    read(engine, job(0, 24_000, first.state, 16_000))
    for state in (first.state, StateHandle("another engine", 1), StateHandle(first.state.owner, 999)):
        with pytest.raises(Lost, match="ask again with all of the audio"):
            read(engine, job(0, 32_000, state, 24_000))
    assert read(engine, job(0, 32_000)).hypotheses


@pytest.mark.parametrize(("start", "sent"), [(0, 20_000), (0, 8_000), (20_000, 20_000)])
def test_audio_that_does_not_go_with_what_is_kept_is_lost(engine, start, sent):
    first = read(engine, job(0, 16_000))
    with pytest.raises(Lost, match="samples up to 16000 are kept here and those from"):
        read(engine, job(start, 32_000, first.state, sent))


def test_a_job_without_a_handle_brings_all_of_its_audio(engine):
    with pytest.raises(BadAudio, match="a job about samples 0 to 16000 brings 8000 of them"):
        read(engine, job(0, 16_000, None, 8_000))


def test_what_is_kept_goes_when_it_is_released_forgotten_used_or_failed(engine):
    states = [read(engine, job(0, 8_000)).state for _ in range(5)]
    assert len(engine._states) == 5
    engine.release(states[0])
    engine.release(states[0])
    engine.release(StateHandle("another engine", states[1].number))
    assert len(engine._states) == 4
    read(engine, job(0, 8_000, keep=False, forget=states[1]))
    read(engine, job(0, 9_000, states[2], 8_000, keep=False))
    assert len(engine._states) == 2
    too_long = Job(0, 0, 40 * 16_000, True, np.zeros(40 * 16_000 - 8_000, np.float32), (Target("de"),), None, states[3])
    assert engine.submit(too_long).exception(PATIENCE_S) is not None
    assert len(engine._states) == 1
    gone = engine.submit(job(0, 9_000, states[4], 8_000))
    if gone.cancel():
        engine.submit(job(0, 10)).result(PATIENCE_S)
        assert len(engine._states) <= 1
    with pytest.raises(BadConfig, match="state_s is 0"):
        EngineConfig(state_s=0)


def test_what_nobody_comes_back_for_is_forgotten():
    now = [0.0]
    states = States(10, lambda: now[0])
    kept = states.take(job(0, 100))
    for now[0] in (0.0, 4.0, 8.0):
        states.put(kept, None)
    now[0] = 13.0
    states.sweep()
    assert len(states) == 2


def test_an_idle_engine_forgets_too():
    with Engine(ToyModel(), no_vad, EngineConfig(state_s=0.05)) as engine:
        read(engine, job(0, 8_000))
        deadline = 200
        while len(engine._states) and deadline:
            deadline -= 1
            engine._thread.join(0.01)
        assert len(engine._states) == 0
