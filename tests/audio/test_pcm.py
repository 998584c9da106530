import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamtrans.audio import ENCODINGS, Decoder
from streamtrans.core import BadAudio

WIDTH = {"pcm_s16le": 2, "pcm_f32le": 4, "mulaw": 1, "alaw": 1}


def tone(seconds: float, rate: int, hz: float = 440.0, gain: float = 0.5) -> np.ndarray:
    return gain * np.sin(2 * np.pi * hz * np.arange(round(seconds * rate)) / rate)


def noise_bytes(encoding: str, frames: int, channels: int, seed: int) -> bytes:
    rng = np.random.default_rng(seed)
    if encoding == "pcm_f32le":
        return rng.uniform(-1.5, 1.5, frames * channels).astype("<f4").tobytes()
    return rng.bytes(frames * channels * WIDTH[encoding])


@settings(max_examples=60, deadline=None)
@given(
    encoding=st.sampled_from(ENCODINGS),
    rate=st.sampled_from([8000, 11025, 16000, 22050, 44100, 48000, 192000]),
    channels=st.integers(1, 8),
    cuts=st.lists(st.integers(0, 3000), max_size=12),
    seed=st.integers(0, 99),
)
def test_law_any_chunking_gives_the_same_mono_samples_within_full_scale(
    encoding: str, rate: int, channels: int, cuts: list[int], seed: int
) -> None:
    data = noise_bytes(encoding, 3000, channels, seed)
    whole = Decoder(encoding, rate, channels)
    expected = np.concatenate([whole.decode(data), whole.flush()])

    frame = WIDTH[encoding] * channels
    chunked = Decoder(encoding, rate, channels)
    edges = [0, *sorted(cuts), 3000]
    pieces = [chunked.decode(data[a * frame : b * frame]) for a, b in pairwise(edges)]
    result = np.concatenate([*pieces, chunked.flush()])

    assert np.array_equal(result, expected)
    assert result.dtype == np.float32
    assert result.ndim == 1
    assert abs(len(result) - 3000 * 16000 / rate) <= 1
    assert np.abs(result).max() <= 1


@pytest.mark.parametrize("rate", [8000, 44100, 48000])
def test_resampling_keeps_a_tone_in_its_place(rate: int) -> None:
    decoder = Decoder("pcm_f32le", rate, 1)
    result = np.concatenate([decoder.decode(tone(0.5, rate).astype("<f4").tobytes()), decoder.flush()])
    inner = slice(800, 7200)
    assert np.abs(result - tone(0.5, 16000))[inner].max() < 1e-3


def test_a_telephone_brings_nothing_above_its_band() -> None:
    values = Decoder("mulaw", 16000, 1).decode(bytes(range(256)))
    data = np.abs(values[None] - tone(1.0, 8000, hz=3000)[:, None]).argmin(1).astype(np.uint8).tobytes()
    decoder = Decoder("mulaw", 8000, 1)
    heard = np.concatenate([decoder.decode(data), decoder.flush()])[1600:-1600]
    power = np.abs(np.fft.rfft(heard * np.hanning(len(heard)))) ** 2
    hertz = np.fft.rfftfreq(len(heard), 1 / 16000)
    assert hertz[power.argmax()] == pytest.approx(3000, abs=2)
    # the mirror of the tone, at 5 kHz, is what a resampler that repeats samples would bring
    assert power[hertz > 4200].sum() < 1e-7 * power.sum()


def test_channels_are_averaged() -> None:
    left, right = tone(0.01, 16000), tone(0.01, 16000, hz=100)
    data = np.stack([left, right], axis=1).astype("<f4").tobytes()
    assert np.allclose(Decoder("pcm_f32le", 16000, 2).decode(data), (left + right) / 2, atol=1e-6)


def test_int16_is_scaled_to_one() -> None:
    data = np.array([-32768, 0, 16384, 32767], "<i2").tobytes()
    assert Decoder("pcm_s16le", 16000, 1).decode(data).tolist() == [-1.0, 0.0, 0.5, 32767 / 32768]


def test_floats_beyond_full_scale_are_clipped() -> None:
    data = np.array([-7.5, 0.25, 1.5], "<f4").tobytes()
    assert Decoder("pcm_f32le", 16000, 1).decode(data).tolist() == [-1.0, 0.25, 1.0]


def test_telephone_codes_have_the_values_of_g711() -> None:
    mulaw = Decoder("mulaw", 16000, 1).decode(bytes([0x00, 0x80, 0xFF, 0x7F, 0xFE, 0x7E, 0xEF, 0x70]))
    assert (mulaw * 32768).tolist() == [-32124, 32124, 0, 0, 8, -8, 132, -120]
    alaw = Decoder("alaw", 16000, 1).decode(bytes([0x55, 0xD5, 0x2A, 0xAA, 0x54, 0xD4, 0xC5, 0x45]))
    assert (alaw * 32768).tolist() == [-8, 8, -32256, 32256, -24, 24, 264, -264]


@pytest.mark.parametrize("encoding", ["mulaw", "alaw"])
def test_telephone_codes_are_symmetric_and_grow_in_doubling_steps(encoding: str) -> None:
    values = Decoder(encoding, 16000, 1).decode(bytes(range(256))) * 32768
    assert sorted(values) == sorted(-values)
    steps = np.diff(np.unique(values[values > 0]))
    # Between two segments one step straddles both: 1, then 1.5, then 2.
    ratios = {round(float(after / before), 6) for before, after in pairwise(steps)}
    assert ratios == {1.0, 1.5, 1.333333}


@pytest.mark.parametrize(
    ("encoding", "channels", "size", "message"),
    [
        ("pcm_s16le", 1, 7, "pcm_s16le with 1 channel comes in frames of 2 bytes; 7 bytes end 1 bytes into"),
        ("pcm_s16le", 2, 6, "pcm_s16le with 2 channels comes in frames of 4 bytes; 6 bytes end 2 bytes into"),
        ("pcm_f32le", 1, 6, "frames of 4 bytes; 6 bytes"),
        ("mulaw", 2, 3, "frames of 2 bytes; 3 bytes"),
    ],
)
def test_incomplete_frames_are_refused(encoding: str, channels: int, size: int, message: str) -> None:
    decoder = Decoder(encoding, 16000, channels)
    with pytest.raises(BadAudio, match=message):
        decoder.decode(bytes(size))


@pytest.mark.parametrize(("value", "name"), [(math.nan, "NaN"), (math.inf, "infinite"), (-math.inf, "infinite")])
def test_floats_that_are_no_numbers_are_refused_with_their_position(value: float, name: str) -> None:
    decoder = Decoder("pcm_f32le", 48000, 2)
    decoder.decode(np.zeros((100, 2), "<f4").tobytes())
    frames = np.zeros((50, 2), "<f4")
    frames[23, 1] = value
    with pytest.raises(BadAudio, match=f"sample 123 in channel 2 is {name}"):
        decoder.decode(frames.tobytes())


def test_a_refused_chunk_leaves_the_stream_as_it_was() -> None:
    good = noise_bytes("pcm_f32le", 400, 1, seed=1)
    expected, tried = Decoder("pcm_f32le", 8000, 1), Decoder("pcm_f32le", 8000, 1)
    with pytest.raises(BadAudio):
        tried.decode(np.full(10, math.nan, "<f4").tobytes())
    with pytest.raises(BadAudio):
        tried.decode(b"123")
    assert np.array_equal(tried.decode(good), expected.decode(good))


def test_after_a_flush_a_new_stream_begins() -> None:
    data = noise_bytes("pcm_s16le", 500, 1, seed=2)
    decoder = Decoder("pcm_s16le", 44100, 1)
    first = np.concatenate([decoder.decode(data), decoder.flush()])
    second = np.concatenate([decoder.decode(data), decoder.flush()])
    assert np.array_equal(first, second)


def test_no_bytes_give_no_samples() -> None:
    decoder = Decoder("mulaw", 8000, 3)
    assert decoder.decode(b"").shape == (0,)
    assert decoder.flush().shape == (0,)


@pytest.mark.parametrize(
    ("encoding", "rate", "channels", "message"),
    [
        ("mp3", 16000, 1, "unknown encoding 'mp3'; known are pcm_s16le"),
        ("alaw", 7999, 1, "sample rate 7999 Hz is outside of 8000 to 192000"),
        ("alaw", 192001, 1, "sample rate 192001"),
        ("alaw", 8000, 0, "0 channels; 1 to 8"),
        ("alaw", 8000, 9, "9 channels; 1 to 8"),
    ],
)
def test_unsupported_formats_are_refused(encoding: str, rate: int, channels: int, message: str) -> None:
    with pytest.raises(BadAudio, match=message):
        Decoder(encoding, rate, channels)


@pytest.mark.parametrize(
    ("audio", "told"),
    [
        (np.random.default_rng(0).normal(0, 3_000, 4_000), True),  # on the scale of int16
        (np.random.default_rng(0).normal(0, 3_000, 1_000), False),  # too few to say so
        (np.random.default_rng(0).normal(0, 2, 4_000), False),  # an overdriven mix
        (np.where(np.arange(4_000) % 1_000, 0.1, 9_000), False),  # clicks
    ],
)
def test_floats_on_the_scale_of_integers_are_noticed_however_they_are_cut(audio, told):
    data = audio.astype("<f4").tobytes()
    whole, cut = (Decoder("pcm_f32le", 16_000, 1) for _ in range(2))
    whole.decode(data)
    for at in range(0, len(data), 400):
        cut.decode(data[at : at + 400])
    assert whole.problem == cut.problem
    assert (whole.problem is not None) == told
    if told:
        assert "within -1 and 1" in whole.problem
