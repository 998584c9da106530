"""Real speech joined with gaps of known length, and noise over it: recordings whose truth is known to the sample.

Law: equal seeds join and spoil equally. Outside of the stretches that ``truth`` names there is no speech.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from streamtrans.audio import Samples, read_audio
from streamtrans.core import BadConfig, milliseconds, samples
from streamtrans.corpus.augment import noise

Span = tuple[int, int]
"""Samples ``[start, end)``."""

LEVEL_DB = -26.0
"""Mean power of every stretch, relative to full scale: the level that telephony tests speech at (ITU-T P.56)."""

_HEADER = "file\tstart_ms\tend_ms"
_FADE = samples(4)
"""Samples over which a cut fades in and out: a step would be a click, and shorter than any sound of speech."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """Where somebody speaks without a pause: milliseconds ``[start_ms, end_ms)`` of ``file``."""

    file: str
    start_ms: int
    end_ms: int


@dataclass(frozen=True, slots=True)
class Mixture:
    """``audio``: ``(samples,)``. ``truth``: the stretches of speech in it, in order and disjoint."""

    audio: Samples
    truth: tuple[Span, ...]


def read_bounds(path: Path) -> tuple[Bounds, ...]:
    """Read a table of stretches: ``file``, ``start_ms``, ``end_ms``; lines that begin with ``#`` are remarks.

    Raises:
        BadConfig: the file is missing, has another header, or a line that is no stretch.
    """
    if not path.is_file():
        raise BadConfig(f"{path}: there is no such table of stretches")
    lines = list(enumerate(path.read_text(encoding="utf-8").splitlines(), start=1))
    lines = [(number, line) for number, line in lines if line.strip() and not line.startswith("#")]
    if not lines or lines[0][1] != _HEADER:
        raise BadConfig(f"{path}: the first line that is no remark must be {_HEADER!r}")
    found = []
    for number, line in lines[1:]:
        cells = line.split("\t")
        if len(cells) != 3 or not (cells[1].isdigit() and cells[2].isdigit() and int(cells[1]) < int(cells[2])):
            raise BadConfig(f"{path}:{number}: {line!r} is no stretch; write file, start and end in milliseconds")
        found.append(Bounds(cells[0], int(cells[1]), int(cells[2])))
    if not found:
        raise BadConfig(f"{path}: the table has no stretches")
    return tuple(found)


def cut(folder: Path, bounds: Sequence[Bounds]) -> list[Samples]:
    """Return the stretches of the recordings in ``folder``, each ``(n,)``, all equally loud.

    Raises:
        BadAudio: a recording is missing or can't be read.
        BadConfig: a stretch lies beyond the end of its recording.
    """
    recordings = {file: read_audio(folder / file) for file in dict.fromkeys(each.file for each in bounds)}
    stretches = []
    for each in bounds:
        recording = recordings[each.file]
        start, end = samples(each.start_ms), samples(each.end_ms)
        if end > len(recording):
            length = milliseconds(len(recording))
            raise BadConfig(f"{each.file} has {length} ms; the stretch up to {each.end_ms} ms isn't in it")
        stretches.append(_levelled(recording[start:end]))
    return stretches


def join(stretches: Sequence[Samples], seed: int, *, gap_ms: tuple[int, int] = (700, 3000)) -> Mixture:
    """Join ``stretches`` in a drawn order, digital silence of a drawn length before, between and behind them."""
    rng = np.random.default_rng(seed)
    parts: list[Samples] = []
    truth: list[Span] = []
    at = 0
    for index in rng.permutation(len(stretches)):
        gap = samples(float(rng.uniform(*gap_ms)))
        start, end = at + gap, at + gap + len(stretches[index])
        parts += [np.zeros(gap, np.float32), stretches[index]]
        truth.append((start, end))
        at = end
    parts.append(np.zeros(samples(gap_ms[1]), np.float32))
    return Mixture(np.concatenate(parts), tuple(truth))


def spoil(mixture: Mixture, sound: Samples, snr_db: float) -> Mixture:
    """Add ``sound``, repeated to the length of the mixture, ``snr_db`` below the mean power of the speech in it."""
    speech = np.concatenate([mixture.audio[start:end] for start, end in mixture.truth])
    level = _rms(speech) / max(_rms(sound), 1e-9) * 10 ** (-snr_db / 20)
    noisy = mixture.audio + np.resize(sound, len(mixture.audio)) * np.float32(level)
    return Mixture(np.clip(noisy, -1.0, 1.0).astype(np.float32), mixture.truth)


def made_noise(kind: str, count: int, seed: int) -> Samples:
    """Return ``(count,)`` samples of ``white``, ``pink``, ``hum`` or ``music``, of unit power."""
    made: Samples = noise(count, np.random.default_rng(seed), kinds=(kind,))
    return made


def _levelled(stretch: Samples) -> Samples:
    fade = np.minimum(1.0, (np.arange(len(stretch)) + 0.5) / _FADE)
    shaped = stretch * (fade * fade[::-1]) * (10 ** (LEVEL_DB / 20) / max(_rms(stretch), 1e-9))
    levelled: Samples = np.clip(shaped, -1.0, 1.0).astype(np.float32)
    return levelled


def _rms(audio: Samples) -> float:
    return float(np.sqrt(np.mean(np.square(audio, dtype=np.float64))))
