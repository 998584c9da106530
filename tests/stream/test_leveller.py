"""Speech is brought to a level: what is heard of a stream doesn't depend on how loud all of it is."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamtrans.core import BadConfig, Caption, Job, SpeechEnded, SpeechStarted
from streamtrans.stream import Session, SessionConfig, settle
from streamtrans.stream.leveller import MOST_DB, SILENCE, Leveller, raised
from streamtrans.testing.engine import InstantEngine
from tests.fakes import Loud, Words
from tests.server.conftest import RULES, grow, speech

LEVEL_DB = -24.0
CONFIG = SessionConfig(("de",), vad="energy", endpoints=RULES, level_db=LEVEL_DB)


class Listening(InstantEngine):
    """Keeps what it was given to hear."""

    def __init__(self):
        super().__init__(grow, Loud())
        self.heard = []

    def submit(self, request):
        if isinstance(request, Job):
            self.heard.append((request.start, request.end, request.audio))
        return super().submit(request)


def played(audio, config=CONFIG, cuts=()):
    session, engine, told = Session(config, Words(), window=512), Listening(), []
    for chunk in np.split(audio, sorted(cuts)):
        session.hear(chunk)
        settle(session, engine)
        told += session.events()
    session.end()
    settle(session, engine)
    return engine.heard, told + session.events()


def levels(windows, level_db=LEVEL_DB):
    leveller, out = Leveller(level_db, windows.shape[1]), []
    for window in windows:
        loudest = leveller.hear(float(np.square(window, dtype=np.float64).mean()))
        out.append(leveller.raised(window, loudest))
    return np.stack(out)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 1_000), st.integers(1, 3))
def test_what_is_quieter_throughout_is_raised_to_the_same_samples(seed, halvings):
    rng = np.random.default_rng(seed)
    loud = rng.uniform(0.02, 0.3, 40)[:, None] * rng.standard_normal((40, 512))
    loud = np.clip(loud, -1, 1).astype(np.float32)
    assert np.allclose(levels(loud), levels(loud * np.float32(0.5**halvings)), rtol=1e-5, atol=0)


def test_loud_speech_is_lowered_and_quiet_speech_raised_to_the_level():
    rng = np.random.default_rng(0)
    for gain in (0.3, 0.03, 0.003):
        windows = (gain * rng.standard_normal((60, 512))).astype(np.float32)
        got = 10 * np.log10(np.square(levels(windows)[20:], dtype=np.float64).mean())
        assert got == pytest.approx(LEVEL_DB, abs=1.0)


def test_a_click_says_nothing_of_how_loud_somebody_speaks():
    rng = np.random.default_rng(0)
    windows = (0.02 * rng.standard_normal((60, 512))).astype(np.float32)
    clicked = windows.copy()
    clicked[9, -20:] = clicked[10, :20] = 0.95
    quiet, beside = levels(windows), levels(clicked)
    assert np.allclose(quiet[11:], beside[11:], rtol=0.15)


def test_nothing_is_raised_beyond_full_scale_nor_without_end():
    windows = np.full((4, 512), 1e-6, np.float32)
    assert np.abs(levels(windows)).max() <= 1e-6 * 10 ** (MOST_DB / 20) * 1.01
    windows[2] = 0.9
    assert np.abs(levels(windows)).max() <= 1
    assert np.abs(raised(windows[2], 40.0)).max() == 1
    assert Leveller(LEVEL_DB, 512, SILENCE).raised(np.zeros(512, np.float32), SILENCE).max() == 0


def test_pauses_let_a_quieter_speaker_come_up():
    leveller = Leveller(LEVEL_DB, 512)
    for _ in range(10):
        loud = leveller.hear(0.1)
    for _ in range(10 * 16_000 // 512):
        later = leveller.hear(0.0)
    assert 20 * np.log10(leveller.gain(later) / leveller.gain(loud)) == pytest.approx(10, abs=0.1)


@pytest.mark.parametrize("carry", [False, True])
@settings(max_examples=25, deadline=None)
@given(
    pieces=st.lists(st.floats(0.1, 7.0), min_size=2, max_size=5),
    cuts=st.lists(st.floats(0, 1), max_size=20),
    seed=st.integers(0, 99),
)
def test_any_chunking_is_raised_alike(carry, pieces, cuts, seed):
    config, audio = replace(CONFIG, carry_state=carry), speech(*pieces, seed=seed)
    heard, told = played(audio, config)
    again, twice = played(audio, config, [round(each * len(audio)) for each in cuts])
    finals = {start: end for start, end, _ in heard}
    assert [(a, b) for a, b, _ in again if finals[a] == b] == [(a, b) for a, b, _ in heard if finals[a] == b]
    for kind in (SpeechStarted, SpeechEnded):
        assert [each for each in twice if isinstance(each, kind)] == [each for each in told if isinstance(each, kind)]
    assert [e for e in twice if isinstance(e, Caption) and e.final] == [
        e for e in told if isinstance(e, Caption) and e.final
    ]


def test_the_model_hears_a_quiet_stream_as_it_hears_a_loud_one_and_the_gain_is_told():
    audio = speech(0.5, 1.5, 0.7, 2.0, 0.6)
    heard, told = played(audio)
    quiet, whispered = played(audio * np.float32(0.125))
    assert len(heard) > 4
    assert len(quiet) == len(heard)
    for (start, end, loud), (first, last, soft) in zip(heard, quiet, strict=True):
        assert (start, end) == (first, last)
        assert np.allclose(loud, soft, atol=1e-6)
    loudest, (_, end, as_heard) = audio.max(), heard[-1]
    assert 0 < as_heard.max() < 0.9 * loudest
    assert end <= len(audio)
    gains = [[each.gain for each in events if isinstance(each, SpeechStarted)] for events in (told, whispered)]
    assert np.allclose(8 * np.array(gains[0]), gains[1])
    assert [e for e in told if isinstance(e, Caption)] == [e for e in whispered if isinstance(e, Caption)]


def test_without_a_level_all_is_heard_as_it_came():
    audio = speech(0.5, 1.5, 0.7)
    heard, told = played(audio, replace(CONFIG, level_db=None))
    assert heard
    for _, end, sound in heard:
        assert np.array_equal(sound, audio[end - len(sound) : end])
    assert {each.gain for each in told if isinstance(each, SpeechStarted)} == {1.0}


@pytest.mark.parametrize("level", [0.0, -80.0, float("nan")])
def test_a_level_that_is_none_of_speech_is_refused(level):
    with pytest.raises(BadConfig, match="level_db"):
        replace(CONFIG, level_db=level)
