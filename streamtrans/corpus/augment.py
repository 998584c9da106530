"""Make clean speech less clean: rooms, noise, narrow lines, levels and silence around it.

Everything is drawn from one generator, so that the same seed spoils the same audio in the same way.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import soxr

from streamtrans.core import SAMPLE_RATE, BadConfig, samples

Audio = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Augmentation:
    """What may happen to an utterance. A probability of 0 turns a step off; pairs are (least, most)."""

    speed_probability: float = 0.3
    speed: tuple[float, float] = (0.92, 1.08)  # above 1 is faster and higher, like another vocal tract
    silence_ms: tuple[int, int] = (0, 500)  # before and after, drawn separately; larger trains patience
    room_probability: float = 0.25
    room_decay_ms: tuple[int, int] = (80, 600)  # time to fall by 60 dB; larger is a bigger, harder room
    room_direct_db: tuple[float, float] = (0.0, 15.0)  # direct sound over reverberation; larger is closer
    noise_probability: float = 0.5
    snr_db: tuple[float, float] = (5.0, 40.0)  # speech over noise; smaller is noisier
    band_probability: float = 0.15
    gain_db: tuple[float, float] = (-20.0, 3.0)  # peaks beyond full scale are clipped

    def __post_init__(self) -> None:
        """Refuse what can't be drawn from."""
        for name in ("speed_probability", "room_probability", "noise_probability", "band_probability"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise BadConfig(f"augmentation.{name} is {getattr(self, name)}; a probability lies in 0..1")
        for name in ("speed", "silence_ms", "room_decay_ms", "room_direct_db", "snr_db", "gain_db"):
            least, most = getattr(self, name)
            if least > most:
                raise BadConfig(f"augmentation.{name} is ({least}, {most}); write the smaller number first")
        if self.speed[0] < 0.5 or self.silence_ms[0] < 0 or self.room_decay_ms[0] < 1:
            raise BadConfig("augmentation: speed is at least 0.5, silence_ms at least 0, room_decay_ms at least 1")


CLEAN = Augmentation(
    speed_probability=0.0,
    silence_ms=(0, 0),
    room_probability=0.0,
    noise_probability=0.0,
    band_probability=0.0,
    gain_db=(0.0, 0.0),
)
"""Leave the speech as it is."""


def augment(
    audio: Audio,
    rng: np.random.Generator,
    config: Augmentation | None = None,
    babble: Sequence[Audio] = (),
) -> Audio:
    """Return a spoilt copy of ``audio``.

    Args:
        audio: ``(n,)`` mono speech, 16 kHz, in [-1, 1].
        rng: everything random is drawn from it.
        config: what may happen; the defaults are for training.
        babble: other people's speech to mix in as noise; without it noise is white, pink or hum.

    Returns:
        ``(m,)`` float32 in [-1, 1]; ``m`` differs from ``n`` by silence and speed.
    """
    config = config or Augmentation()
    level = float(np.sqrt(np.mean(np.square(audio)))) if audio.size else 0.0
    if rng.random() < config.speed_probability:
        audio = _sped(audio, float(rng.uniform(*config.speed)))
    lead, trail = rng.integers(samples(config.silence_ms[0]), samples(config.silence_ms[1]) + 1, size=2)
    audio = np.pad(audio, (int(lead), int(trail)))
    if rng.random() < config.room_probability and audio.size:
        audio = _in_room(audio, rng, config)
    if rng.random() < config.noise_probability and audio.size:
        audio = audio + noise(audio.size, rng, babble) * level * 10 ** (-rng.uniform(*config.snr_db) / 20)
    if rng.random() < config.band_probability and audio.size:
        audio = _band_limited(audio, rng)
    audio = audio * 10 ** (rng.uniform(*config.gain_db) / 20)
    return np.clip(audio, -1.0, 1.0).astype(np.float32)


def _sped(audio: Audio, factor: float) -> Audio:
    """Play ``audio`` ``factor`` times as fast; pitch and formants move with it."""
    faster: Audio = soxr.resample(audio, SAMPLE_RATE * factor, SAMPLE_RATE, quality="MQ")
    return faster


def _fft_size(least: int) -> int:
    """Return a length with small prime factors of at least ``least``."""
    base = 1 << max(0, (least - 1).bit_length() - 3)
    return -(-least // base) * base


def _in_room(audio: Audio, rng: np.random.Generator, config: Augmentation) -> Audio:
    """Convolve with a direct path and an exponentially decaying tail of noise; the length stays."""
    decay = samples(float(rng.uniform(*config.room_decay_ms)))
    gap = samples(float(rng.uniform(2.0, 12.0)))  # until the first reflection arrives
    # 60 dB are a factor of 1000 in amplitude.
    tail = rng.standard_normal(decay, dtype=np.float32) * np.exp(
        np.arange(decay, dtype=np.float32) * np.float32(-np.log(1000) / decay)
    )
    tail *= 10 ** (-rng.uniform(*config.room_direct_db) / 20) / np.sqrt(np.sum(np.square(tail)))
    response = np.zeros(gap + decay, np.float32)
    response[0] = 1.0
    response[gap:] += tail
    size = _fft_size(audio.size + response.size)
    spectrum = np.fft.rfft(audio, size) * np.fft.rfft(response, size)
    wet: Audio = np.fft.irfft(spectrum, size)[: audio.size].astype(np.float32)
    return wet


NOISES = ("white", "pink", "hum")
"""What speech is mixed with, where there are no other voices."""


def noise(
    count: int, rng: np.random.Generator, babble: Sequence[Audio] = (), *, kinds: Sequence[str] = NOISES
) -> Audio:
    """Return ``(count,)`` noise of unit power: one of ``kinds`` (``music`` is another), or other voices where given."""
    kind = rng.choice((*kinds, "babble") if babble else tuple(kinds))
    if kind == "babble":
        sound = np.zeros(count, np.float32)
        for _ in range(int(rng.integers(1, 4))):
            voice = babble[int(rng.integers(len(babble)))]
            if voice.size:
                sound += np.roll(np.resize(voice, count), int(rng.integers(count)))
    elif kind == "hum":
        sound = np.resize(_second_of_hum(rng), count)
    elif kind == "music":
        sound = _music(count, rng)
    else:
        sound = rng.standard_normal(count, dtype=np.float32)
        if kind == "pink":
            size = _fft_size(count)
            spectrum = np.fft.rfft(sound, size)
            # Power falls with frequency; below 20 Hz it stays level.
            spectrum /= np.sqrt(np.maximum(np.fft.rfftfreq(size, 1 / SAMPLE_RATE), 20.0))
            sound = np.fft.irfft(spectrum, size)[:count].astype(np.float32)
    power = float(np.sqrt(np.mean(np.square(sound))))
    return sound / np.float32(power or 1.0)


def _music(count: int, rng: np.random.Generator) -> Audio:
    """Return chords of plucked or held tones over a bass, four to a bar."""
    beat = samples(float(rng.uniform(250, 700)))
    time = np.arange(beat, dtype=np.float32) / SAMPLE_RATE
    root, decay = float(rng.uniform(40, 60)), float(rng.uniform(0.0, 8.0))
    beats, chord = [], root
    for number in range(-(-count // beat)):
        chord = root + float(rng.choice((0, 5, 7, 9))) if number % 4 == 0 else chord
        third = int(rng.choice((3, 4)))
        sound = np.zeros(beat, np.float32)
        for step in (-12, 0, third, 7, 12 + int(rng.choice((0, 2, third, 7)))):
            pitch = 440.0 * 2 ** ((chord + step - 57) / 12)
            for harmonic in (1, 2, 3, 4):
                sound += np.sin(np.float32(2 * np.pi * pitch * harmonic) * time) / np.float32(harmonic * 1.5)
        beats.append(sound * np.exp(-np.float32(decay) * time))
    return np.concatenate(beats)[:count]


def _second_of_hum(rng: np.random.Generator) -> Audio:
    """Return one second of mains hum with harmonics; it repeats without a seam."""
    time = np.arange(SAMPLE_RATE, dtype=np.float32) / SAMPLE_RATE
    mains = float(rng.choice((50.0, 60.0)))
    hum = np.zeros(SAMPLE_RATE, np.float32)
    for harmonic in (1, 2, 3, 5, 7):
        phase = np.float32(rng.uniform(0, 2 * np.pi))
        strength = np.float32(rng.random() / harmonic)
        hum += strength * np.sin(np.float32(2 * np.pi * mains * harmonic) * time + phase)
    return hum


def _band_limited(audio: Audio, rng: np.random.Generator) -> Audio:
    """Send ``audio`` through a telephone (300 to 3400 Hz) or a softly falling low-pass."""
    size = _fft_size(audio.size)
    frequency = np.fft.rfftfreq(size, 1 / SAMPLE_RATE).astype(np.float32)
    if rng.random() < 0.5:
        mask = _rise(frequency, 200.0, 350.0) * (1 - _rise(frequency, 3300.0, 3900.0))
    else:
        cut = float(rng.uniform(2500.0, 6500.0))
        mask = 1 - _rise(frequency, cut, cut * 1.3)
    limited: Audio = np.fft.irfft(np.fft.rfft(audio, size) * mask, size)[: audio.size].astype(np.float32)
    return limited


def _rise(frequency: Audio, low: float, high: float) -> Audio:
    """Return 0 below ``low``, 1 above ``high`` and half a cosine between them."""
    share = np.clip((frequency - np.float32(low)) / np.float32(high - low), 0.0, 1.0)
    smooth: Audio = (0.5 - 0.5 * np.cos(np.pi * share)).astype(np.float32)
    return smooth
