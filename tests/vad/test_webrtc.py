import numpy as np
import pytest

from streamtrans.core import BadConfig
from streamtrans.vad import WebrtcConfig, WebrtcVad


def voice(seconds: float) -> np.ndarray:
    """A buzz of 120 Hz with the formants of a vowel, swelling four times a second."""
    t = np.arange(round(seconds * 16000)) / 16000
    tones = [np.sin(2 * np.pi * 120 * k * t) / (1 + abs(120 * k - 700) / 300) for k in range(1, 30)]
    swell = 0.55 - 0.45 * np.cos(2 * np.pi * 4 * t)
    audio = sum(tones) * swell * 0.05
    return audio[: len(t) // 480 * 480].reshape(-1, 480).astype(np.float32)


def test_a_voice_is_speech_and_silence_is_not() -> None:
    vad = WebrtcVad()
    [(speech, state)] = vad.detect([(voice(2), None)])
    [(silence, _)] = vad.detect([(np.zeros((60, 480), np.float32), state)])
    assert speech.mean() > 0.8
    assert silence[-30:].max() == 0
    assert set(speech.tolist()) | set(silence.tolist()) == {0.0, 1.0}


def test_aggressiveness_lets_less_through() -> None:
    rng = np.random.default_rng(0)
    audio = voice(3) * 0.2 + 0.02 * rng.standard_normal((100, 480)).astype(np.float32)
    shares = [WebrtcVad(WebrtcConfig(level)).detect([(audio, None)])[0][0].mean() for level in range(4)]
    assert shares == sorted(shares, reverse=True)


def test_loud_samples_do_not_wrap_around() -> None:
    loud = np.full((4, 480), 5.0, np.float32)
    full = np.ones((4, 480), np.float32)
    assert np.array_equal(WebrtcVad().detect([(loud, None)])[0][0], WebrtcVad().detect([(full, None)])[0][0])


@pytest.mark.parametrize("level", [-1, 4])
def test_unknown_levels_are_refused(level: int) -> None:
    with pytest.raises(BadConfig, match=f"aggressiveness must be 0, 1, 2 or 3; got {level}"):
        WebrtcConfig(level)
