"""Sounds that hold no speech, and what is made of them: nothing of theirs may ever be committed.

Law: equal seeds make equal sounds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np

from streamtrans.audio import Samples, read_audio
from streamtrans.bench.measurement import (
    DETECTORS,
    MODE,
    NOISE,
    TO,
    Progress,
    Report,
    Table,
    decibels,
    names,
    silent,
    use_threads,
)
from streamtrans.bench.mixtures import made_noise
from streamtrans.bench.segments import segment
from streamtrans.core import SAMPLE_RATE, BadConfig, CaptionChoice, Group, Mode, Option, check_mode, samples
from streamtrans.evaluate.replay import replay
from streamtrans.foreign import Chosen
from streamtrans.runtime import ModelChoice, identity, load
from streamtrans.segment import EndpointRules
from streamtrans.stream import EngineLike, SessionConfig, Spellers
from streamtrans.vad import VADS, Vad, load_vad

SOUNDS = ("silence", "white", "pink", "hum", "music", "band")
"""``music``: chords. ``band``: a melody over chords, a bass and drums. A recording is given by its name."""

_PIECE = 20 * SAMPLE_RATE
"""Samples per piece of music."""

LEVELS_DB = (-50.0, -35.0, -20.0)
"""Mean power relative to full scale: hardly audible, a quiet room near the microphone, as loud as a speaker."""


@dataclass(frozen=True, slots=True)
class SilenceConfig:
    """What is played: ``minutes`` of each of ``sounds`` at each of ``levels_db``; digital silence has no level."""

    minutes: float = 10.0
    sounds: tuple[str, ...] = SOUNDS
    levels_db: tuple[float, ...] = LEVELS_DB
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse what makes no sound."""
        if self.minutes <= 0:
            raise BadConfig(f"minutes is {self.minutes}; use more than 0")
        if not self.sounds or not self.levels_db:
            raise BadConfig("sounds and levels_db must name one at least")
        if max(self.levels_db) > 0:
            raise BadConfig(f"levels_db has {max(self.levels_db)}; 0 is full scale")


@dataclass(frozen=True, slots=True, kw_only=True)
class Silence:
    """Play what is no speech; how much each detector takes for speech, and how many characters are committed.

    The sessions have the settings that the server gives by default.
    """

    minutes: Annotated[float, Option("Of each sound at each level.", least=0.01)] = 10.0
    sounds: Annotated[
        tuple[str, ...], Option("Of silence, white, pink, hum, music, band; by default all.", read=names)
    ] = ()
    levels: Annotated[
        tuple[float, ...],
        Option("Mean power in dB relative to full scale, joined by commas.", read=decibels),
    ] = LEVELS_DB
    noise: Annotated[tuple[Path, ...], NOISE] = ()
    vads: Annotated[tuple[str, ...], DETECTORS] = tuple(VADS)
    read: Annotated[bool, Option("Also translate what is taken for speech.")] = True
    to: Annotated[tuple[str, ...], TO] = ("en", "de")
    mode: Annotated[Mode, MODE] = "live"
    choice: Annotated[ModelChoice, Group("model", "device", "dtype", "threads")] = field(
        default_factory=lambda: ModelChoice(threads=1)
    )

    def __post_init__(self) -> None:
        check_mode(self.mode)

    def measure(self, progress: Progress = silent) -> Report:
        """Play everything to every detector, and to a session behind it."""
        recorded = {path.stem: read_audio(path) for path in self.noise}
        config = SilenceConfig(self.minutes, self.sounds or (*SOUNDS, *recorded), tuple(sorted(self.levels)))
        use_threads(self.choice.threads or 1)
        detectors = {name: load_vad(Chosen(name)) for name in self.vads}
        about: dict[str, Any] = {"minutes": self.minutes, "targets": self.to, "mode": self.mode}
        listen = dict[str, Callable[[Samples], dict[str, Any]]]()
        with ExitStack() as stack:
            if self.read:
                about["model"] = identity(self.choice.model)
                loaded = load(self.choice)
                stack.callback(loaded.engine.close)
                for name in detectors:
                    session = loaded.session_config(self.to, None, name, CaptionChoice(self.mode))
                    listen[name] = partial(committed, session, loaded.spellers, loaded.engine)
            found = measure(config, detectors, listen, recorded, progress=lambda done: progress("sounds", done, None))
        columns = [name for name in found[0] if name != "texts"]
        table = Table("sounds without speech", columns, [[line[name] for name in columns] for line in found])
        return Report({**about, "sounds": found}, [table])


def played(
    config: SilenceConfig, recordings: Mapping[str, Samples] | None = None
) -> Iterator[tuple[str, float, Samples]]:
    """Yield each sound at each level: name, level in dB, ``(samples,)``; peaks beyond full scale are clipped.

    Args:
        config: what to play.
        recordings: names beyond :data:`SOUNDS` → what is repeated under them.

    Raises:
        BadConfig: a sound is unknown.
    """
    count = round(config.minutes * 60 * SAMPLE_RATE)
    for name in config.sounds:
        if name == "silence":
            yield name, -np.inf, np.zeros(count, np.float32)
            continue
        sound = _sound(name, count, config.seed, recordings or {})
        for level in config.levels_db:
            yield name, level, np.clip(sound * np.float32(10 ** (level / 20)), -1.0, 1.0)


def alarms(vad: Vad, audio: Samples, rules: EndpointRules | None = None) -> dict[str, Any]:
    """Count what a detector takes for speech where there is none; all of ``audio`` is."""
    rules = rules or EndpointRules()
    found = segment(vad, audio, rules)
    minutes = max(len(audio) / SAMPLE_RATE / 60, 1e-9)
    likely = np.array(found.probabilities)
    return {
        "segments_per_10_min": round(10 * len(found.segments) / minutes, 1),
        "segments_s_per_10_min": round(10 * sum(end - start for start, end in found.segments) / SAMPLE_RATE / minutes),
        "windows_alarm": round(float((likely >= rules.threshold).mean()), 4),
        "windows_p99": round(float(np.quantile(likely, 0.99)), 3),
    }


def committed(config: SessionConfig, speller: Spellers, engine: EngineLike, audio: Samples) -> dict[str, Any]:
    """Play ``audio`` to a session, and count what its viewers get to read.

    ``committed`` are characters that stay, white space left out; ``shown`` the most that any revision showed besides.
    """
    found = replay(config, speller, engine, audio)
    longest: dict[tuple[int, str], int] = {}
    for caption in found.captions:
        place = caption.segment, caption.language
        longest[place] = max(longest.get(place, 0), _letters(caption.tentative))
    return {
        "segments": found.stats.segments,
        "readings": found.stats.readings,
        "committed": sum(_letters(caption.committed) for caption in found.finals),
        "shown": sum(longest.values()),
        "texts": [caption.committed for caption in found.finals if caption.committed.strip()][:5],
    }


def measure(
    config: SilenceConfig,
    vads: Mapping[str, Vad],
    listen: Mapping[str, Callable[[Samples], dict[str, Any]]],
    recordings: Mapping[str, Samples] | None = None,
    *,
    progress: Callable[[int], None] = lambda _: None,
) -> list[dict[str, Any]]:
    """Play everything to every detector: one line of figures per sound, level and detector.

    Args:
        config: what is played.
        vads: detectors by name.
        listen: detector → a session with it, as :func:`committed` counts it; none only counts segments.
        recordings: see :func:`played`.
        progress: told how many sounds are done.
    """
    lines: list[dict[str, Any]] = []
    for number, (name, level, audio) in enumerate(played(config, recordings), start=1):
        for vad_name, vad in vads.items():
            line = {"sound": name, "level_db": None if np.isinf(level) else level, "vad": vad_name}
            line |= alarms(vad, audio)
            if vad_name in listen:
                line |= listen[vad_name](audio)
            lines.append(line)
        progress(number)
    return lines


def band(count: int, seed: int) -> Samples:
    """Return ``(count,)`` samples of a small band, of unit power: a melody that slides and trembles like a voice does,
    broken chords, a bass, and drums; it modulates every four bars.
    """
    rng = np.random.default_rng(seed)
    sound = np.zeros(count + 2 * SAMPLE_RATE, np.float32)
    beat = samples(float(rng.uniform(400, 600)))
    chord = [0, 4, 7, 12]
    root, pitch = 48.0, 72.0
    for number in range(-(-count // beat)):
        at = number * beat
        if number % 4 == 0:
            root = 48.0 + float(rng.choice((0, 2, 5, 7, 9)))
            chord = [0, int(rng.choice((3, 4))), 7, 12]
        _add(sound, at, _tone(root - 12, beat, rng, decay=3.0), 0.8)
        for part in range(4):  # broken chord, in quarters of a beat
            _add(sound, at + part * beat // 4, _tone(root + chord[part], beat // 2, rng, decay=6.0), 0.3)
        if rng.random() < 0.8:
            pitch = float(np.clip(pitch + rng.choice((-4, -2, -1, 1, 2, 4)), 62, 84))
            _add(sound, at, _tone(pitch, round(beat * float(rng.uniform(0.5, 1.5))), rng, vibrato=0.3), 0.5)
        _add(sound, at, _drum(number % 2, rng), 0.7)
        _add(sound, at + beat // 2, _drum(2, rng), 0.3)
    made = sound[:count]
    return made / np.float32(max(float(np.sqrt(np.mean(np.square(made)))), 1e-9))


def _sound(name: str, count: int, seed: int, recordings: Mapping[str, Samples]) -> Samples:
    if name in recordings:
        repeated = np.resize(recordings[name], count)
        return repeated / np.float32(max(float(np.sqrt(np.mean(np.square(repeated)))), 1e-9))
    if name in ("music", "band"):
        # one piece would be one key, one tempo, one timbre
        sizes = [min(_PIECE, count - at) for at in range(0, count, _PIECE)]
        make = band if name == "band" else partial(made_noise, "music")
        return np.concatenate([make(size, seed * len(sizes) + piece) for piece, size in enumerate(sizes)])
    if name not in SOUNDS:
        known = ", ".join((*SOUNDS, *recordings))
        raise BadConfig(f"unknown sound {name!r}; use {known}")
    return made_noise(name, count, seed)


def _tone(pitch: float, count: int, rng: np.random.Generator, *, decay: float = 1.0, vibrato: float = 0.0) -> Samples:
    """Return a tone with harmonics; ``pitch`` in semitones (69 is 440 Hz), ``vibrato`` too, 5.5 times a second."""
    time = np.arange(count) / SAMPLE_RATE
    bend = vibrato * np.sin(2 * np.pi * 5.5 * time) - vibrato * 3 * np.exp(-25 * time)  # it slides up to the note
    phase = 2 * np.pi * np.cumsum(440.0 * 2 ** ((pitch + bend - 69) / 12)) / SAMPLE_RATE
    tone = np.zeros(count)
    for harmonic in range(1, 9):
        tone += np.sin(harmonic * phase + rng.uniform(0, 2 * np.pi)) / harmonic
    shape = np.exp(-decay * time) * np.minimum(1.0, time / 0.01) * np.minimum(1.0, (count / SAMPLE_RATE - time) / 0.02)
    shaped: Samples = (tone * shape).astype(np.float32)
    return shaped


def _drum(kind: int, rng: np.random.Generator) -> Samples:
    """Return a bass drum (0), a snare (1) or a cymbal (2)."""
    time = np.arange(samples(200)) / SAMPLE_RATE
    hiss = rng.standard_normal(len(time))
    if kind == 0:
        hit = np.sin(2 * np.pi * (50 * time + 4 * (1 - np.exp(-30 * time)))) * np.exp(-15 * time)
    elif kind == 1:
        hit = (hiss + np.sin(2 * np.pi * 190 * time)) * np.exp(-20 * time)
    else:
        hit = np.diff(hiss, prepend=0.0) * np.exp(-45 * time)
    made: Samples = hit.astype(np.float32)
    return made


def _add(sound: Samples, at: int, part: Samples, gain: float) -> None:
    room = sound[at : at + len(part)]
    room += np.float32(gain) * part[: len(room)]


def _letters(text: str) -> int:
    return len("".join(text.split()))
