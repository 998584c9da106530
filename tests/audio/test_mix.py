import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamtrans.audio import Downmix

RATE = 16_000
RANDOM = np.random.default_rng(0)
SPEECH = np.concatenate(
    [RANDOM.normal(0, 0.1 * (each % 2), RATE // 2) for each in range(6)]
).astype(np.float32)  # fmt: skip
NOISE = RANDOM.normal(0, 0.002, (len(SPEECH), 2)).astype(np.float32)


def mixed(frames, cuts=()):
    downmix = Downmix(RATE, frames.shape[1])
    pieces = [downmix.feed(piece) for piece in np.split(frames, list(cuts))]
    return np.concatenate([*pieces, downmix.flush()]), downmix.cancelled


def loss(audio):
    """How much of the speech is missing, as a share of its energy."""
    return 1 - np.square(audio).sum() / np.square(SPEECH).sum()


@pytest.mark.parametrize("other", [-1.0, -0.9, -1.1])
def test_channels_in_opposite_phase_are_heard(other):
    audio, cancelled = mixed(np.stack([SPEECH, other * SPEECH], axis=1) + NOISE)
    assert cancelled
    assert loss(audio) < 0.03


def test_three_channels_that_cancel_each_other():
    audio, cancelled = mixed(np.stack([SPEECH, SPEECH, -2 * SPEECH], axis=1))
    assert cancelled
    assert np.square(audio).sum() > np.square(SPEECH).sum()


@pytest.mark.parametrize("other", [1.0, 0.5, 0.0])
def test_other_channels_are_averaged_as_ever(other):
    frames = np.stack([SPEECH, other * SPEECH], axis=1) + NOISE
    audio, cancelled = mixed(frames)
    assert not cancelled
    assert np.array_equal(audio, frames.mean(axis=1, dtype=np.float32))


def test_channels_that_cancel_for_a_while_only():
    half = len(SPEECH) // 2
    frames = np.stack([SPEECH, np.concatenate([SPEECH[:half], -SPEECH[half:]])], axis=1)
    audio, cancelled = mixed(frames)
    assert cancelled
    assert loss(audio) < 0.1


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(0, len(SPEECH)), max_size=6))
def test_law_any_chunking_gives_the_same_samples(cuts):
    frames = np.stack([SPEECH, np.roll(-SPEECH, RATE)], axis=1)
    frames[RATE:, 1] = -frames[RATE:, 0]
    assert np.array_equal(mixed(frames, sorted(cuts))[0], mixed(frames)[0])
