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
from streamtrans.corpus.voices import ACCENTS, Speaker, Voice, random_voice

Audio = npt.NDArray[np.float32]

SEPARATOR = "\n"
"""Stands between two sentences of one segment."""


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
    """One sentence inside of a stretch: its samples ``[start, end)``."""

    row: Row
    start: int
    end: int


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
        languages = [language for language in row.texts if language in ACCENTS]
        language = str(rng.choice(languages))
        if rng.random() < config.empty:
            return _nothing(rng, row, language, config)
        voice = random_voice(language, rng)
        joined = rng.random() < config.joined
        audio, parts = _speak(rng, mixture, row, voice, speaker, config, joined=joined)
        if parts:
            break
    cut = rng.random() < config.cut
    carried = len(parts) > 1 and rng.random() < config.carried
    begin = 0
    texts = [dict(part.row.texts) for part in parts]
    heard_end = parts[-1].end
    if carried:
        first = int(rng.integers(1, len(parts)))
        begin = parts[first].start
        if rng.random() < 0.25:  # nobody noticed the end of a sentence: the cut fell into the next one
            share = float(rng.uniform(0.1, 0.9))
            begin += int(share * (parts[first].end - parts[first].start))
            texts[first] = {code: _tail(text, share) for code, text in texts[first].items()}
        texts = texts[first:]
    if cut:
        last = parts[-1]
        start = max(last.start, begin) + samples(100)
        heard_end = int(rng.integers(start, max(start + 1, last.end)))
        share = (heard_end - last.start - samples(config.reaction_ms)) / (last.end - last.start)
        whole = parts[-1].row.texts
        shorter = {code: _head(text, share) for code, text in whole.items()}
        if not (carried and begin > last.start):
            texts[-1] = shorter
        else:
            texts[-1] = {
                code: _head(text, share, skip=len(_units(whole[code])) - len(_units(text)))
                for code, text in texts[-1].items()
            }
        audio = audio[:heard_end]
    else:
        audio = np.pad(audio, (0, int(rng.integers(*map(samples, config.tail_ms)))))
    plain = replace(augmentation or Augmentation(), speed_probability=0.0, silence_ms=(0, 0))
    return Stretch(
        language,
        {code: SEPARATOR.join(text[code] for text in texts if text[code]) for code in texts[0]},
        augment(audio, rng, CLEAN if augmentation is CLEAN else plain),
        begin,
        None if cut else " ".join(part.row.texts[language] for part in parts),
    )


def _speak(
    rng: np.random.Generator,
    mixture: Mixture,
    row: Row,
    voice: Voice,
    speaker: Speaker,
    config: StretchConfig,
    *,
    joined: bool,
) -> tuple[Audio, list[_Part]]:
    """Speak ``row``, and where ``joined`` others that say something in the same languages, while they fit."""
    pieces = [np.zeros(int(rng.integers(*map(samples, config.lead_ms))), np.float32)]
    length, parts = len(pieces[0]), list[_Part]()
    room = samples(config.longest_s * 1000 - config.tail_ms[1])
    while True:
        speech = trimmed(speaker.speak(row.texts[voice.language], voice))
        gap = int(samples(config.gap_ms[0]) + rng.random() ** 3 * samples(config.gap_ms[1] - config.gap_ms[0]))
        gap = gap if parts else 0
        if not speech.size or length + gap + len(speech) > room:
            break
        pieces += [np.zeros(gap, np.float32), speech]
        parts.append(_Part(row, length + gap, length + gap + len(speech)))
        length = parts[-1].end
        enough = len(parts) > 1 and rng.random() < 0.4
        following = _alike(rng, mixture, row) if joined and not enough else None
        if following is None:
            break
        row = following
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


def _head(text: str, share: float, skip: int = 0) -> str:
    """Return about the first ``share`` of a text, rounded down to whole units; ``skip`` of them are gone already."""
    units = _units(text)
    wanted = int((len(units) + skip) * min(max(share, 0.0), 1.0)) - skip
    return "".join(units[: max(0, wanted)]).strip()


def _tail(text: str, share: float) -> str:
    """Return what follows about the first ``share`` of a text."""
    units = _units(text)
    return "".join(units[round(len(units) * share) :]).strip()
