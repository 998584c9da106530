"""The engine hears on where the last reading stopped: states go out with readings and come back with jobs."""

from concurrent.futures import wait
from dataclasses import replace

import numpy as np
import pytest

from streamtrans.core import BadConfig, Job, Reading, Target
from streamtrans.engine import Engine, EngineConfig
from streamtrans.model.api import Hearing
from streamtrans.model.hearing import EncoderState
from streamtrans.model.loading import load_model
from streamtrans.model.speech import TorchSpeechModel
from streamtrans.testing.toy import ToyModel, toy_audio
from tests.checkpoints import make_whisper_m2m

PATIENCE_S = 20
STEP = 4_800


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> TorchSpeechModel:
    folder = tmp_path_factory.mktemp("blocks")
    make_whisper_m2m(folder, encoder_rotary=True, encoder_block=8, encoder_left=20)
    return load_model(folder, device="cpu", dtype="float64")


def no_vad(name):
    raise AssertionError(name)


def read(engine, *jobs):
    futures = [engine.submit(job) for job in jobs]
    assert not wait(futures, PATIENCE_S).not_done
    return [future.exception() or future.result() for future in futures]


def job(audio, start, end, state=None, *, sent=0, last=False):
    """Read ``[start, end)``, of which the engine has got what comes before ``sent``."""
    new = audio[max(start, sent) : end]
    return Job(0, start, end, last, new, (Target("de"), Target("en")), None, state, keep=True)


def kept(engine, reading):
    """Return what the model remembers after a reading."""
    return engine._states._kept[reading.state.number].state


def run(engine, audio, cuts):
    """Read a growing run, cut at ``cuts``; return the last reading of each segment."""
    finals, state, start = [], None, 0
    for end in range(STEP, len(audio) + 1, STEP):
        last = end in cuts
        [reading] = read(engine, job(audio, start, end, state, sent=end - STEP, last=last))
        assert isinstance(reading, Reading)
        state = reading.state
        if last:
            finals.append(reading)
            start = end
    return finals


def texts(reading):
    return [hypothesis.tokens for hypothesis in reading.hypotheses]


def test_new_audio_alone_is_encoded(model):
    audio, settings = toy_audio(1.8), EngineConfig(slots=4)
    with Engine(model, no_vad, settings) as engine:
        [final] = run(engine, audio, {len(audio)})
        state = kept(engine, final)
        assert isinstance(state, EncoderState)
        assert (state.origin, state.heard) == (0, len(audio))
        # Each of the six readings heard its own third of a second, and at most an unfinished block again.
        block = 8 * model.frame_samples
        assert len(audio) <= engine.stats.samples <= len(audio) + 6 * block
        [anew] = read(engine, job(audio, 0, len(audio), None))
        assert texts(anew) == texts(final)


def test_a_cut_in_the_middle_hears_what_came_before(model):
    audio, settings = toy_audio(2.4), EngineConfig(slots=4)
    with Engine(model, no_vad, settings) as engine:
        _, second = run(engine, audio, {4 * STEP, 8 * STEP})
        state = kept(engine, second)
    [wanted] = model.listen([Hearing(audio[4 * STEP :], 4 * STEP, model.listen([Hearing(audio[: 4 * STEP])])[0].state)])
    assert wanted.begin == 4 * STEP
    assert isinstance(state, EncoderState)
    assert state.origin == 0
    assert state.kept == 4 * STEP // model.frame_samples
    assert isinstance(wanted.state, EncoderState)
    np.testing.assert_allclose(state.keys, wanted.state.keys, atol=1e-9)
    ends = second.hypotheses[0].ends
    assert all(4 * STEP < end <= 8 * STEP for end in ends)


def test_streams_at_different_places_get_what_each_gets_alone(model):
    audios = [toy_audio(1.5, seed) for seed in range(3)]
    settings = EngineConfig(slots=8)
    broken = job(np.zeros(33 * 16_000, np.float32), 0, 33 * 16_000, None)
    with Engine(model, no_vad, settings) as engine:
        alone = [run(engine, audio, {len(audio)})[0] for audio in audios]
        states = [None, *(read(engine, job(audio, 0, STEP * 2, None))[0].state for audio in audios[1:])]
        asked = [
            job(audio, 0, len(audio), state, sent=0 if state is None else 2 * STEP)
            for audio, state in zip(audios, states, strict=True)
        ]
        *together, failure = read(engine, *asked, broken)
    assert [texts(reading) for reading in together] == [texts(reading) for reading in alone]
    assert "max_segment_ms" in str(failure)


def test_final_readings_may_hear_the_whole_segment_anew(model):
    audio = toy_audio(1.5)
    asked = []

    class Listening:
        def __getattr__(self, name):
            return getattr(model, name)

        def listen(self, hearings):
            asked.extend(hearing.whole for hearing in hearings)
            return model.listen(hearings)

    for final_hearing, whole in (("blocks", False), ("whole", True)):
        asked.clear()
        with Engine(Listening(), no_vad, EngineConfig(slots=4, final_hearing=final_hearing)) as engine:
            [final] = run(engine, audio, {len(audio)})
            assert kept(engine, final).heard == len(audio)
        assert asked == [False] * 4 + [whole]
    with pytest.raises(BadConfig, match="final_hearing is 'all': give 'blocks' or 'whole'"):
        EngineConfig(final_hearing="all")


def test_a_toy_hears_on_too_and_takes_a_state_for_what_it_is():
    audio, toy = toy_audio(2.4), ToyModel()
    with Engine(toy, no_vad, EngineConfig(slots=4)) as engine:
        finals = run(engine, audio, {3 * STEP, 8 * STEP})
        for reading, (start, end) in zip(finals, ((0, 3 * STEP), (3 * STEP, 8 * STEP)), strict=True):
            assert texts(reading) == texts(read(engine, job(audio, start, end, None))[0])
        counted = engine.stats.samples
        growing = job(audio, 0, STEP, None)
        [first] = read(engine, growing)
        read(engine, job(audio, 0, 2 * STEP, first.state, sent=STEP))
        assert engine.stats.samples == counted + 2 * STEP
        other = toy_audio(2.4, 5)
        [stranger, first] = read(engine, job(other, 0, STEP), job(audio, 0, STEP))
        states = stranger.state, first.state
        [mixed, right] = read(engine, *(job(audio, 0, len(audio), each, sent=STEP) for each in states))
        assert texts(mixed) != texts(right)
        [empty] = read(engine, replace(growing, targets=()))
        assert empty == Reading(())
