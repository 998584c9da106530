import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamtrans.core import BadAudio, BadConfig
from streamtrans.vad import EnergyConfig, EnergyVad
from streamtrans.vad.energy import EDGES_HZ


def noise(seconds: float, level_db: float, seed: int = 0) -> np.ndarray:
    """Windows of white noise at a level relative to full scale."""
    count = round(seconds / 0.03)
    normal = np.random.default_rng(seed).standard_normal((count, 480))
    return (normal * 10 ** (level_db / 20)).astype(np.float32)


@settings(max_examples=50, deadline=None)
@given(
    counts=st.lists(st.integers(0, 12), min_size=1, max_size=6),
    cuts=st.lists(st.integers(0, 12), max_size=4),
    floor=st.floats(-65, -10),
)
def test_law_a_row_equals_the_row_alone_exactly(counts: list[int], cuts: list[int], floor: float) -> None:
    vad = EnergyVad()
    floors = (floor, floor + 1, floor - 3, floor)
    parts = [noise(0.03 * n, -30 - 5 * i, seed=i) for i, n in enumerate(counts)]
    together = vad.detect([(part, floors) for part in parts])
    for part, (probabilities, state) in zip(parts, together, strict=True):
        here: object | None = floors
        pieces = [np.zeros(0, np.float32)]
        for piece in np.split(part, sorted(min(cut, len(part)) for cut in cuts)):
            [(answer, here)] = vad.detect([(piece, here)])
            pieces.append(answer)
        assert np.array_equal(np.concatenate(pieces), probabilities)
        assert here == state


def test_bursts_above_the_noise_are_speech() -> None:
    vad = EnergyVad()
    [(before, state)] = vad.detect([(noise(5, -45), None)])
    [(burst, state)] = vad.detect([(noise(1, -20), state)])
    [(after, _)] = vad.detect([(noise(1, -45), state)])
    assert before[-30:].max() < 0.3
    assert burst.min() > 0.9
    assert after.max() < 0.3


def test_speech_at_the_very_beginning_is_found() -> None:
    [(probabilities, _)] = EnergyVad().detect([(noise(1, -25), None)])
    assert probabilities.min() > 0.9


def test_steady_noise_becomes_the_floor() -> None:
    [(probabilities, floors)] = EnergyVad().detect([(noise(20, -30), None)])
    assert probabilities[:10].min() > 0.5
    assert probabilities[-100:].max() < 0.5
    shares = np.diff(EDGES_HZ) / 8000  # of white noise, per band
    assert np.array(floors) == pytest.approx(-30 + 10 * np.log10(shares), abs=2.5)


def test_a_voice_under_louder_noise_of_other_bands_is_found() -> None:
    time = np.arange(480 * 520) / 16000
    rumble = 0.1 * np.sin(2 * np.pi * 200 * time)
    vowel = 0.02 * np.sin(2 * np.pi * 800 * time) * (time >= 15)
    vad = EnergyVad()
    [(probabilities, _)] = vad.detect([((rumble + vowel).reshape(-1, 480).astype(np.float32), None)])
    assert probabilities[450:499].max() < 0.1  # the rumble has become the floor
    assert probabilities[501:508].min() > 0.9


def test_steady_hum_becomes_the_floor() -> None:
    time = np.arange(480 * 600) / 16000
    hum = sum(0.1 / k * np.sin(2 * np.pi * 50 * k * time + k) for k in (1, 2, 3, 5))
    [(probabilities, _)] = EnergyVad().detect([(hum.reshape(-1, 480).astype(np.float32), None)])
    assert probabilities[-100:].max() < 0.5


def test_the_floor_has_a_floor() -> None:
    [(_, floors)] = EnergyVad().detect([(np.zeros((100, 480), np.float32), None)])
    assert floors == pytest.approx((EnergyConfig().lowest_floor_db,) * 4, abs=0.01)


def test_probability_is_one_half_at_the_margin() -> None:
    config = EnergyConfig(margin_db=6)
    tone = np.sqrt(2) * 10 ** (-44 / 20) * np.sin(2 * np.pi * 800 * np.arange(480) / 16000)
    [(probabilities, _)] = EnergyVad(config).detect([(tone[None].astype(np.float32), (-50.0,) * 4)])
    assert probabilities[0] == pytest.approx(0.5, abs=0.01)


def test_floors_of_another_shape_are_refused() -> None:
    with pytest.raises(BadAudio, match=r"state is a tuple of 4 floors; got -50\.0"):
        EnergyVad().detect([(noise(1, -30), -50.0)])


@pytest.mark.parametrize(
    ("settings_", "message"),
    [
        ({"margin_db": 0.0}, "margin_db must be positive; got 0"),
        ({"slope_db": -1.0}, "slope_db must be positive"),
        ({"rise_db_per_s": math.nan}, "rise_db_per_s must be positive; got nan"),
        ({"fall_share": 1.5}, r"fall_share must be in \(0, 1\]; got 1.5"),
        ({"lowest_floor_db": -20.0}, "must not exceed"),
    ],
)
def test_bad_settings_are_refused(settings_: dict[str, float], message: str) -> None:
    with pytest.raises(BadConfig, match=message):
        EnergyConfig(**settings_)
