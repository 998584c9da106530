"""A device that hangs is noticed, one that is broken closes its engine, and what asks wrongly closes nothing."""

import threading
import time

import numpy as np
import pytest

from streamtrans.core import AudioTooLong, BadAnswer, Detect, EngineClosed, Health, Job, Target
from streamtrans.engine import Engine, EngineConfig
from streamtrans.engine.watch import Stopwatch, Trouble
from streamtrans.testing.toy import ToyModel, toy_audio

PATIENCE_S = 10


class Fails(ToyModel):
    """Raises ``error`` at every job, or at loud ones only, once it is told to."""

    def __init__(self, error, *, loud=False):
        super().__init__()
        self.error, self.loud, self.armed = error, loud, False

    def listen(self, hearings):
        if self.armed and (not self.loud or any(np.abs(each.audio).max(initial=0) > 0.9 for each in hearings)):
            raise self.error
        return super().listen(hearings)


class Hangs(ToyModel):
    """Its next pass takes until the gate is opened."""

    def __init__(self):
        super().__init__()
        self.gate, self.begun, self.armed = threading.Event(), threading.Event(), False

    def step(self, forwards):
        if self.armed:
            self.begun.set()
            assert self.gate.wait(PATIENCE_S)
        return super().step(forwards)


class Deaf:
    """A detector that fails; ``silence`` it may be able to judge."""

    window = 4

    def __init__(self, silence):
        self.silence = silence

    def detect(self, streams):
        if not self.silence or any(windows.any() for windows, _ in streams):
            raise RuntimeError("CUDA error")
        return [(np.zeros(len(windows)), None) for windows, _ in streams]


def job(loud=False, seconds=1.0):
    audio = toy_audio(seconds)
    if loud:
        audio[5] = 1.0
    return Job(0, 0, len(audio), True, audio, (Target("de"),))


def no_vad(name):
    raise AssertionError(name)


@pytest.mark.parametrize("error", [RuntimeError("CUDA error: device-side assert"), MemoryError(), BadAnswer("NaN")])
def test_a_device_that_fails_at_silence_too_closes_the_engine(error, caplog):
    model = Fails(error)
    with Engine(model, no_vad) as engine:
        engine.submit(job()).result(PATIENCE_S)
        assert engine.health is Health.SERVING
        model.armed = True
        errors = [engine.submit(job()).exception(PATIENCE_S) for _ in range(2)]
        assert [type(each) for each in errors] == [type(error)] * 2
        assert isinstance(engine.submit(job()).exception(PATIENCE_S), EngineClosed)
        assert engine.health is Health.CLOSED
    assert "fails at silence too" in caplog.text


def test_one_lack_of_memory_that_passes_closes_nothing():
    model = Fails(MemoryError())
    with Engine(model, no_vad) as engine:
        model.armed = True
        assert isinstance(engine.submit(job()).exception(PATIENCE_S), MemoryError)
        engine.submit(Job(0, 0, 0, True, np.zeros(0, np.float32), ())).result(PATIENCE_S)
        model.armed = False
        engine.submit(job()).result(PATIENCE_S)
        assert engine.health is Health.SERVING


@pytest.mark.parametrize("error", [RuntimeError("poison"), BadAnswer("NaN"), AudioTooLong("no")])
def test_nobody_closes_an_engine_with_what_he_asks(error):
    model = Fails(error, loud=True)
    with Engine(model, no_vad) as engine:
        model.armed = True
        for _ in range(20):
            assert engine.submit(job(loud=True)).exception(PATIENCE_S) is error
        engine.submit(job()).result(PATIENCE_S)
        assert engine.health is Health.SERVING
        assert engine.stats.free == engine.capacity
        # Silence was tried after failures 1, 2, 4, 8 and 16, and not after each.
        assert engine.stats.passes <= 5 + len(engine.submit(job()).result(PATIENCE_S).hypotheses[0].tokens) + 12


@pytest.mark.parametrize("silence", [False, True])
def test_a_detector_that_is_broken_closes_the_engine(silence):
    speech = Detect("deaf", np.ones((2, 4), np.float32), None)
    with Engine(ToyModel(), lambda _: Deaf(silence)) as engine:
        for _ in range(2):
            assert isinstance(engine.submit(speech).exception(PATIENCE_S), RuntimeError)
        engine.submit(job()).exception(PATIENCE_S)
        assert engine.health is (Health.SERVING if silence else Health.CLOSED)


def test_a_device_that_hangs_is_stalled_until_it_answers():
    model = Hangs()
    with Engine(model, no_vad, EngineConfig(stall_s=0.05)) as engine:
        engine.submit(job()).result(PATIENCE_S)
        model.armed = True
        reply = engine.submit(job())
        assert model.begun.wait(PATIENCE_S)
        until(lambda: engine.health is Health.STALLED)
        model.gate.set()
        reply.result(PATIENCE_S)
        assert engine.health is Health.SERVING


def test_closing_leaves_a_device_behind_that_hangs(caplog):
    model = Hangs()
    engine = Engine(model, no_vad)
    model.armed = True
    replies = [engine.submit(job()) for _ in range(3)]
    assert model.begun.wait(PATIENCE_S)
    began = time.monotonic()
    engine.close(0.1)
    assert time.monotonic() - began < 2
    assert all(isinstance(reply.exception(0), EngineClosed) for reply in replies)
    assert "left behind" in caplog.text
    model.gate.set()
    engine.close()
    assert engine.stats.free == engine.capacity


def test_a_reply_says_when_the_engine_began():
    model = Hangs()
    with Engine(model, no_vad, EngineConfig(slots=1)) as engine:
        model.armed = True
        first, second = engine.submit(job()), engine.submit(job())
        assert model.begun.wait(PATIENCE_S)
        assert first.begun_at is not None
        assert second.begun_at is None
        model.armed = False
        model.gate.set()
        second.result(PATIENCE_S)
        assert first.begun_at <= second.begun_at <= time.monotonic()


def test_what_counts_as_a_stall_follows_what_calls_take():
    now = [0.0]
    watch = Stopwatch(2.0, lambda: now[0])

    def take(seconds):
        with watch.call():
            now[0] += seconds
            return watch.stalled

    assert not take(100)  # the first call may compile
    for _ in range(300):
        assert not take(0.1)
    assert not take(1.9)
    for _ in range(300):
        assert not take(0.1)
    assert take(40)
    assert take(8)  # and one stall doesn't make the next one usual
    for _ in range(10):
        take(3)
    assert not take(3)  # but what is always slow is
    assert not watch.stalled


def test_success_ends_a_row_of_failures():
    trouble = Trouble()
    assert [trouble.note(RuntimeError()) for _ in range(5)] == [True, True, False, True, False]
    assert not trouble.tried(RuntimeError())
    assert not trouble.note("an answer")
    assert trouble.note(RuntimeError())
    assert [trouble.tried(each) for each in (RuntimeError(), None, RuntimeError(), RuntimeError())] == [
        False, False, False, True,
    ]  # fmt: skip
    assert not trouble.note(AudioTooLong("his own fault"))


def until(true):
    deadline = time.monotonic() + PATIENCE_S
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.005)
