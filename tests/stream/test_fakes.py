import asyncio

import numpy as np
import pytest

from streamtrans.core import AudioTooLong, Detect, EngineClosed, Job, Target
from streamtrans.testing.clock import ManualClock
from streamtrans.testing.engine import InstantEngine, hypothesis
from streamtrans.testing.vad import ScriptedVad


async def test_the_clock_stands_until_it_is_moved():
    clock, woken = ManualClock(5.0), []

    async def sleeper(seconds):
        await clock.sleep(seconds)
        woken.append(seconds)

    tasks = [asyncio.create_task(sleeper(seconds)) for seconds in (3, 1, 0)]
    await asyncio.sleep(0.001)
    assert woken == [0]
    clock.advance(1.5)
    await asyncio.sleep(0.001)
    assert (clock(), woken) == (6.5, [0, 1])
    clock.advance(1.5)
    await asyncio.gather(*tasks)
    assert woken == [0, 1, 3]
    with pytest.raises(ValueError, match="backwards"):
        clock.advance(-1)


def test_the_scripted_detector_keeps_its_place_in_the_state():
    vad = ScriptedVad([(1_024, 2_048)])
    windows = np.zeros((6, 512), np.float32)
    [(whole, state), (empty, none)] = vad.detect([(windows, None), (windows[:0], None)])
    assert (whole > 0.5).tolist() == [False, False, True, True, False, False]
    assert (state, none, len(empty)) == (6, 0, 0)
    [(first, state)] = vad.detect([(windows[:3], None)])
    [(second, _)] = vad.detect([(windows[3:], state)])
    assert np.concatenate([first, second]).tolist() == whole.tolist()
    with pytest.raises(ValueError, match=r"\(count, 512\)"):
        vad.detect([(np.zeros((2, 480), np.float32), None)])


def test_the_instant_engine_answers_in_submit():
    def model(job, target):
        if target.language == "fr":
            raise AudioTooLong("too long")
        return hypothesis((1, 2), 0.5)

    engine = InstantEngine(model, ScriptedVad([(0, 512)]))
    detection = engine.submit(Detect("any", np.zeros((2, 512), np.float32), None)).result(0)
    assert detection.probabilities == pytest.approx((0.95, 0.05))
    audio = np.zeros(10, np.float32)
    reading = engine.submit(Job(0, 0, 10, True, audio, (Target("de"), Target("en")))).result(0)
    assert [h.tokens for h in reading.hypotheses] == [(1, 2), (1, 2)]
    assert reading.hypotheses[0].logprobs == pytest.approx((-0.693, -0.693), abs=1e-3)
    assert isinstance(engine.submit(Job(0, 0, 10, True, audio, (Target("fr"),))).exception(0), AudioTooLong)
    engine.close()
    assert isinstance(engine.submit(engine.requests[0]).exception(0), EngineClosed)
    assert [job.targets[0].language for job in engine.jobs] == ["de", "fr"]
