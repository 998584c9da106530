from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamtrans.core import SAMPLE_RATE, BadConfig
from streamtrans.corpus import CLEAN, Augmentation, augment

TONE = (0.3 * np.sin(2 * np.pi * 440 * np.arange(SAMPLE_RATE) / SAMPLE_RATE)).astype(np.float32)


def only(**settings_: object) -> Augmentation:
    base = {field: getattr(CLEAN, field) for field in CLEAN.__slots__}
    return Augmentation(**{**base, **settings_})


def strength(audio: np.ndarray, low: float, high: float) -> float:
    spectrum = np.abs(np.fft.rfft(audio)) ** 2
    frequency = np.fft.rfftfreq(audio.size, 1 / SAMPLE_RATE)
    return float(spectrum[(frequency >= low) & (frequency < high)].sum())


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(0, 5000), st.booleans())
def test_whatever_happens_it_stays_audio_and_repeats_with_the_seed(seed: int, count: int, voices: bool) -> None:
    everything = Augmentation(
        speed_probability=1, room_probability=1, noise_probability=1, band_probability=1, gain_db=(-20, 20)
    )
    speech, babble = TONE[:count], (TONE[:700], TONE[:0]) if voices else ()
    first = augment(speech, np.random.default_rng(seed), everything, babble)
    assert first.dtype == np.float32
    assert first.ndim == 1
    assert np.isfinite(first).all()
    assert np.abs(first).max(initial=0) <= 1
    assert np.array_equal(first, augment(speech, np.random.default_rng(seed), everything, babble))


def test_clean_changes_nothing() -> None:
    assert np.array_equal(augment(TONE, np.random.default_rng(0), CLEAN), TONE)


def test_the_input_is_left_alone() -> None:
    before = TONE.copy()
    augment(TONE, np.random.default_rng(0), only(gain_db=(20, 20), noise_probability=1.0))
    assert np.array_equal(TONE, before)


def test_silence_goes_around_the_speech() -> None:
    padded = augment(TONE, np.random.default_rng(0), only(silence_ms=(500, 500)))
    assert padded.size == TONE.size + SAMPLE_RATE
    assert not padded[:8000].any()
    assert not padded[-8000:].any()
    assert np.array_equal(padded[8000:-8000], TONE)


def test_speed_moves_length_and_pitch() -> None:
    fast = augment(TONE, np.random.default_rng(0), only(speed_probability=1.0, speed=(1.08, 1.08)))
    assert abs(fast.size - TONE.size / 1.08) < 4
    peak = np.fft.rfftfreq(fast.size, 1 / SAMPLE_RATE)[np.abs(np.fft.rfft(fast)).argmax()]
    assert abs(peak - 440 * 1.08) < 3


@pytest.mark.parametrize("snr_db", [5.0, 20.0])
@pytest.mark.parametrize("babble", [(), (np.sin(np.arange(3000, dtype=np.float32)),)])
def test_noise_has_the_asked_power(snr_db: float, babble: tuple[np.ndarray, ...]) -> None:
    for seed in range(4):
        noisy = augment(TONE, np.random.default_rng(seed), only(noise_probability=1.0, snr_db=(snr_db, snr_db)), babble)
        measured = 10 * np.log10(np.mean(TONE**2) / np.mean((noisy - TONE) ** 2))
        assert abs(measured - snr_db) < 0.3


def test_gain_is_clipped_at_full_scale() -> None:
    loud = augment(TONE, np.random.default_rng(0), only(gain_db=(20, 20)))
    assert loud.max() == 1.0
    quiet = augment(TONE, np.random.default_rng(0), only(gain_db=(-20, -20)))
    assert np.allclose(quiet, TONE * 0.1, atol=1e-6)


def test_a_room_rings_on_and_keeps_the_direct_sound() -> None:
    click = np.zeros(SAMPLE_RATE, np.float32)
    click[100] = 0.5
    wet = augment(
        click,
        np.random.default_rng(0),
        only(room_probability=1.0, room_decay_ms=(300, 300), room_direct_db=(6, 6)),
    )
    assert wet.size == click.size
    assert abs(wet[100] - 0.5) < 1e-4
    assert not np.abs(wet[:100]).max() > 1e-4
    early, late = np.mean(wet[400:1200] ** 2), np.mean(wet[3600:4400] ** 2)
    assert early > 100 * late > 0


def test_a_narrow_line_removes_high_frequencies() -> None:
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, SAMPLE_RATE).astype(np.float32)
    for seed in range(4):
        narrow = augment(noise, np.random.default_rng(seed), only(band_probability=1.0))
        assert narrow.size == noise.size
        assert strength(narrow, 500, 2000) > 0.9 * strength(noise, 500, 2000)
        band = strength(narrow, 3900, 8000) / strength(noise, 3900, 8000)
        assert band < 0.9


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"noise_probability": 1.5}, "noise_probability is 1.5"),
        ({"snr_db": (40.0, 5.0)}, "snr_db is"),
        ({"speed": (0.1, 1.0)}, "speed is at least 0.5"),
    ],
)
def test_impossible_settings_are_refused(wrong: dict[str, object], told: str) -> None:
    with pytest.raises(BadConfig, match=told):
        Augmentation(**wrong)
