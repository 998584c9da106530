"""Speech as a stream cuts it: sentences without a pause between them, begun or ended in the middle, and none at all.

A segment of live speech is rarely one whole sentence. What it *should* say is drawn along with it: whole sentences
stand in lines of their own; of one that isn't over, as much is said as has been heard of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from streamtrans.core import BadConfig, samples
from streamtrans.corpus.augment import CLEAN, NOISES, Augmentation, augment, noise
from streamtrans.corpus.mixture import Mixture
from streamtrans.corpus.tables import Row
from streamtrans.corpus.voices import ACCENTS, Speaker, random_voice

Audio = npt.NDArray[np.float32]

SEPARATOR = "\n"
"""Stands between two sentences of one segment."""

MORE = 0.6
"""How often one more sentence is joined to two or more."""
MISPLACED = 0.25
"""How often what comes before is cut off in the middle of a sentence."""


@dataclass(frozen=True, slots=True)
class StretchConfig:
    """How often what happens; all zero draws single, whole sentences."""

    joined: float = 0.0
    """Share of stretches with several sentences; of more and more of them, while they fit."""
    cut: float = 0.0
    """Share that ends in the middle of a sentence, as an open segment does."""
    carried: float = 0.0
    """Share of joined stretches of which only a later part is to be translated: what came before is context."""
    empty: float = 0.0
    """Share without any speech: silence, noise, hum and chords, to be answered with nothing."""
    longest_s: float = 9.8
    """What doesn't fit is left out."""
    gap_ms: tuple[int, int] = (0, 350)
    """Silence between two sentences; short ones are drawn more often."""
    lead_ms: tuple[int, int] = (0, 400)
    """Silence before the first word."""
    tail_ms: tuple[int, int] = (100, 450)
    """Silence after the last word, where the stretch isn't cut."""
    reaction_ms: int = 250
    """How much of what was just heard need not be translated yet: larger is calmer and later."""

    def __post_init__(self) -> None:
        for name in ("joined", "cut", "carried", "empty"):
            if not 0 <= getattr(self, name) <= 1:
                raise BadConfig(f"stretches: {name} is {getattr(self, name)}; a share lies in 0..1")


@dataclass(frozen=True, slots=True)
class Stretch:
    """Speech and what to make of it.

    ``audio`` ``(n,)`` is mono float32 at 16 kHz; ``texts`` say what to write for it, in every language that is known.
    Only what is heard from sample ``begin`` on is to be translated. ``spoken`` are the words of the whole audio,
    or ``None`` where they aren't known to the end.
    """

    language: str
    texts: Mapping[str, str]
    audio: Audio
    begin: int = 0
    spoken: str | None = None


@dataclass(slots=True)
class _Part:
    """One sentence inside of a stretch: its samples ``[start, end)``, and which shares of it to translate."""

    row: Row
    start: int
    end: int
    said: float = 0.0
    heard: float = 1.0

    def text(self, language: str) -> str:
        """Return what is to be said of it, in whole words or characters; the end of it rather too late."""
        units = _units(self.row.texts[language])
        first, last = round(len(units) * self.said), int(len(units) * max(0.0, self.heard))
        return "".join(units[first:last]).strip()


def draw_stretch(
    rng: np.random.Generator,
    mixture: Mixture,
    config: StretchConfig,
    *,
    speaker: Speaker | None = None,
    augmentation: Augmentation | None = None,
) -> Stretch:
    """Draw sentences and let one training voice speak them.

    Args:
        rng: everything random is drawn from it.
        mixture: where sentences come from.
        config: what may happen to them.
        speaker: who speaks; by default the engine of this process.
        augmentation: how the speech is spoilt (its own silence and speed are left out); ``CLEAN`` leaves it.
    """
    speaker = speaker or Speaker()
    while True:
        row = mixture.sample(rng)
        language = str(rng.choice([code for code in row.texts if code in ACCENTS]))
        if rng.random() < config.empty:
            return _nothing(rng, row, language, config)
        audio, parts = _speak(rng, _sentences(rng, mixture, row, config), language, speaker, config)
        if parts:
            break
    begin = _carry(rng, parts) if len(parts) > 1 and rng.random() < config.carried else 0
    spoken: str | None = " ".join(part.row.texts[language] for part in parts)
    if rng.random() < config.cut:
        audio, spoken = audio[: _cut(rng, parts[-1], begin, config)], None
    else:
        audio = np.pad(audio, (0, _between(rng, config.tail_ms)))
    asked = [part for part in parts if part.end > begin]
    plain = replace(augmentation or Augmentation(), speed_probability=0.0, silence_ms=(0, 0))
    return Stretch(
        language,
        {code: SEPARATOR.join(filter(None, (part.text(code) for part in asked))) for code in row.texts},
        augment(audio, rng, CLEAN if augmentation is CLEAN else plain),
        begin,
        spoken,
    )


def _carry(rng: np.random.Generator, parts: list[_Part]) -> int:
    """Choose from where on to translate: from a later sentence, or, after a bad cut, from the middle of one."""
    part = parts[int(rng.integers(1, len(parts)))]
    if rng.random() < MISPLACED:
        part.said = float(rng.uniform(0.1, 0.9))
    return part.start + int(part.said * (part.end - part.start))


def _cut(rng: np.random.Generator, part: _Part, begin: int, config: StretchConfig) -> int:
    """Choose where the audio ends inside of its last sentence, and how much of that sentence is heard by then."""
    first = max(part.start, begin) + samples(100)
    end = int(rng.integers(first, max(first + 1, part.end)))
    part.heard = (end - part.start - samples(config.reaction_ms)) / (part.end - part.start)
    return end


def _sentences(rng: np.random.Generator, mixture: Mixture, row: Row, config: StretchConfig) -> list[Row]:
    """Return ``row``, and where it is to be joined others that say something in the same languages."""
    rows = [row]
    if rng.random() < config.joined:
        while len(rows) < 2 or rng.random() < MORE:
            following = _alike(rng, mixture, row)
            if following is None:
                break
            rows.append(following)
    return rows


def _speak(
    rng: np.random.Generator, rows: list[Row], language: str, speaker: Speaker, config: StretchConfig
) -> tuple[Audio, list[_Part]]:
    """Let one voice speak the rows, as many as fit."""
    voice = random_voice(language, rng)
    pieces = [np.zeros(_between(rng, config.lead_ms), np.float32)]
    length, parts = len(pieces[0]), list[_Part]()
    room = samples(config.longest_s * 1000 - config.tail_ms[1])
    for row in rows:
        speech = trimmed(speaker.speak(row.texts[language], voice))
        gap = int(samples(config.gap_ms[0]) + rng.random() ** 3 * samples(config.gap_ms[1] - config.gap_ms[0]))
        gap = gap if parts else 0
        if not speech.size or length + gap + len(speech) > room:
            break
        pieces += [np.zeros(gap, np.float32), speech]
        parts.append(_Part(row, length + gap, length + gap + len(speech)))
        length = parts[-1].end
    return np.concatenate(pieces), parts


def _alike(rng: np.random.Generator, mixture: Mixture, row: Row) -> Row | None:
    """Draw a sentence in the same languages as ``row``, or give up."""
    for _ in range(30):
        other = mixture.sample(rng)
        if other.texts.keys() == row.texts.keys():
            return other
    return None


def _nothing(rng: np.random.Generator, row: Row, language: str, config: StretchConfig) -> Stretch:
    """Return sound without speech, with empty texts."""
    count = int(rng.integers(samples(300), samples(min(6.0, config.longest_s) * 1000)))
    level = 10 ** (rng.uniform(-70, -12) / 20)
    return Stretch(
        language, dict.fromkeys(row.texts, ""), (noise(count, rng, kinds=(*NOISES, "music")) * level).clip(-1, 1), 0, ""
    )


def trimmed(speech: Audio, floor: float = 0.01, margin_ms: int = 30) -> Audio:
    """Return speech ``(n,)`` without the silence around it: what stays below ``floor`` of its peak."""
    if not speech.size or not (peak := float(np.abs(speech).max())):
        return speech[:0]
    loud = np.flatnonzero(np.abs(speech) > floor * peak)
    margin = samples(margin_ms)
    return speech[max(0, int(loud[0]) - margin) : int(loud[-1]) + margin]


def _units(text: str) -> list[str]:
    """Cut a text into what can be left out: words, and characters of scripts without spaces."""
    units: list[str] = []
    for word in text.split(" "):
        if any(ord(character) >= 0x3000 for character in word):
            units += list(word)
        else:
            units.append(word)
        units[-1] += " "
    return [unit for unit in units if unit.strip()]


def _between(rng: np.random.Generator, ms: tuple[int, int]) -> int:
    """Draw a number of samples."""
    return int(rng.integers(samples(ms[0]), samples(ms[1])))
