"""Any chunking of the same audio gives the same segments, from bytes to boundaries."""

from functools import lru_cache

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from streamtrans.audio import Decoder, Windower, energies
from streamtrans.bench.mixtures import join, made_noise, spoil
from streamtrans.bench.segments import segment
from streamtrans.core import samples
from streamtrans.segment import Boundary, Closed, EndpointRules, Opened, Segmenter
from streamtrans.vad import Vad, load_vad, vad_window

RULES = EndpointRules(max_segment_ms=2500, cut_search_ms=800, min_silence_ms=300)


def made_audio(rate: int, seed: int) -> np.ndarray:
    """Seven seconds of bursts, long and short, over soft noise; int16."""
    rng = np.random.default_rng(seed)
    audio = 0.002 * rng.standard_normal(7 * rate)
    at = rng.uniform(0.2, 0.8)
    while at < 6.5:
        length = rng.choice([0.02, 0.3, 1.0, 3.5])
        burst = slice(round(at * rate), min(round((at + length) * rate), len(audio)))
        count = burst.stop - burst.start
        swell = 0.6 + 0.4 * np.sin(2 * np.pi * 3 * np.arange(count) / rate)
        audio[burst] += 0.2 * swell * rng.standard_normal(count)
        at += length + rng.choice([0.1, 0.6])
    return (np.clip(audio, -1, 1) * 32767).astype("<i2")


def segments(vad: Vad, chunks: list[np.ndarray], rate: int) -> tuple[list[Boundary], int]:
    """Take the way of a call: bytes, samples, windows, probabilities, boundaries."""
    decoder = Decoder("pcm_s16le", rate, 1)
    windower = Windower(vad.window)
    segmenter = Segmenter(RULES, vad.window)
    state: object | None = None
    boundaries: list[Boundary] = []
    for audio in [*(decoder.decode(chunk.tobytes()) for chunk in chunks), decoder.flush()]:
        windows = windower.feed(audio)
        [(probabilities, state)] = vad.detect([(windows, state)])
        for probability, energy in zip(probabilities.tolist(), energies(windows).tolist(), strict=True):
            boundaries += segmenter.feed(probability, energy)
    return boundaries + segmenter.flush(), segmenter.heard


@settings(max_examples=50, deadline=None)
@given(
    name=st.sampled_from(["energy", "webrtc"]),
    rate=st.sampled_from([8000, 16000, 44100]),
    seed=st.integers(0, 7),
    cuts=st.lists(st.floats(0, 1), max_size=60),
)
def test_any_chunking_gives_the_same_segments(name: str, rate: int, seed: int, cuts: list[float]) -> None:
    vad = load_vad(name)
    audio = made_audio(rate, seed)
    whole, heard = segments(vad, [audio], rate)
    chunked, _ = segments(vad, np.split(audio, sorted(round(cut * len(audio)) for cut in cuts)), rate)
    assert chunked == whole
    assert heard == samples(7000) // vad_window(name) * vad_window(name)


@lru_cache
def in_noise(seed: int) -> np.ndarray:
    """Three stretches of bursts that swell like syllables, with known gaps, in pink noise 10 dB softer."""
    rng = np.random.default_rng(seed)
    bursts = []
    for _ in range(3):
        count = samples(float(rng.uniform(600, 3000)))
        swell = 0.1 + np.sin(2 * np.pi * rng.uniform(2, 5) * np.arange(count) / 16000) ** 2
        bursts.append((0.1 * swell * rng.standard_normal(count)).astype(np.float32))
    joined = join(bursts, seed)
    return spoil(joined, made_noise("pink", len(joined.audio), seed), 10.0).audio


@settings(max_examples=40, deadline=None)
@given(name=st.sampled_from(["energy", "webrtc"]), seed=st.integers(0, 5), draw=st.integers(0, 1000))
def test_any_chunking_finds_the_same_through_the_listener_of_a_session(name: str, seed: int, draw: int) -> None:
    vad, audio = load_vad(name), in_noise(seed)
    whole = segment(vad, audio, RULES, chunk_ms=60_000)
    assert segment(vad, audio, RULES, chunk_ms=None, seed=draw) == whole
    assert len(whole.segments) >= 3


def test_the_made_audio_closes_segments_for_every_reason() -> None:
    vad = load_vad("energy")
    found = [each for seed in range(8) for each in segments(vad, [made_audio(16000, seed)], 16000)[0]]
    assert {each.reason for each in found if isinstance(each, Closed)} == {"silence", "length", "forced"}
    assert sum(isinstance(each, Opened) for each in found) > 16
