"""What is heard in training: sentences spoken on the fly or ahead, recordings without a text, and nothing at all.

Law: who says what at a position follows from the recipe, the seed and the manifests as they were read.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from streamtrans.audio import Samples, read_audio
from streamtrans.core import SAMPLE_RATE, samples
from streamtrans.corpus import CLEAN, Recording, Row, Speaker, augment, random_voice, read_manifest
from streamtrans.corpus.augment import NOISES, noise
from streamtrans.corpus.parallel import Parallel, read_parallel
from streamtrans.corpus.pico import VOICES, Pico
from streamtrans.corpus.tables import has_digits
from streamtrans.train.anchored.recipe import AnchoredRecipe, AnchoredStage

LONGEST = 20 * SAMPLE_RATE
"""Longer audio is cut off if it has no text, and left out if it has one."""
GAP_MS = (120, 700)
PICO_SPEEDS, PICO_PITCHES = (0.8, 1.3), (0.75, 1.35)
SUFFIXES = (".wav", ".flac", ".ogg", ".gsm")


@dataclass(frozen=True, slots=True)
class Sound:
    """Audio ``(n,)`` and what it says in each known language; no texts where nobody knows."""

    audio: Samples
    language: str
    texts: Mapping[str, str] = field(default_factory=dict)


class Sounds:
    """Draws utterances; made in the process that uses it."""

    def __init__(self, recipe: AnchoredRecipe, stage: AnchoredStage, ahead: int) -> None:
        """Open tables, manifests and folders; of the speech spoken ahead the first ``ahead`` utterances are used."""
        self.stage, self.voices, self.languages = stage, recipe.voices, recipe.languages
        self.rows = read_texts(recipe)
        self.ahead = read_ahead(recipe)[:ahead]
        self.recordings = sorted(
            file
            for folder in recipe.voices.sounds
            for file in Path(folder).rglob("*")
            if file.suffix in SUFFIXES and file.is_file()
        )
        self._pico: Pico | None = None
        self._espeak: Speaker | None = None

    def draw(self, position: int, rng: np.random.Generator) -> Sound:
        """Return the utterance at a position, spoilt now and then."""
        dice = rng.random()
        if dice < self.stage.empty:
            return Sound(self._nothing(rng), self.languages[0], dict.fromkeys(self.languages, ""))
        if dice < self.stage.empty + self.stage.sounds and self.recordings:
            return Sound(self._spoilt(self._recording(rng), rng), "")
        sound = self._spoken(position, rng)
        if rng.random() < self.stage.joined:
            sound = _joined(sound, self._spoken(position, rng, sound.language), rng)
        return Sound(self._spoilt(sound.audio, rng), sound.language, sound.texts)

    def _spoilt(self, audio: Samples, rng: np.random.Generator) -> Samples:
        return augment(audio, rng, CLEAN if rng.random() < self.stage.clean else None)[:LONGEST]

    def _nothing(self, rng: np.random.Generator) -> Samples:
        count = samples(float(rng.uniform(300, 4000)))
        sound = noise(count, rng, kinds=(*NOISES, "music")) * 10 ** (rng.uniform(-70, -20) / 20)
        return np.clip(sound, -1.0, 1.0).astype(np.float32)

    def _recording(self, rng: np.random.Generator) -> Samples:
        audio = read_audio(self.recordings[int(rng.integers(len(self.recordings)))])
        longest = samples(float(rng.uniform(2000, 12000)))
        start = int(rng.integers(max(1, len(audio) - longest)))
        return audio[start : start + longest]

    def _spoken(self, position: int, rng: np.random.Generator, language: str = "") -> Sound:
        """Speak the row at a position, or another one if nobody can; ``language`` asks for one, if it can be had."""
        for attempt in range(200):
            if self.ahead and rng.random() < self.voices.ahead / (self.voices.ahead + self.voices.pico):
                turn = self.ahead[(position * 7919 + attempt) % len(self.ahead)]
                if not language or turn.language == language:
                    return Sound(read_audio(turn.audio), turn.language, self._wanted(turn.texts))
            row = self.rows.row(position) if attempt == 0 and not language else self.rows.row(int(rng.integers(2**40)))
            sound = self._say(row, rng, language)
            if sound is not None:
                return sound
        raise RuntimeError(f"no sentence in {language or 'any language'} could be spoken")

    def _say(self, row: Row, rng: np.random.Generator, language: str) -> Sound | None:
        texts = self._wanted(row.texts)
        able = [code for code in texts if code == (language or code) and not has_digits(texts[code])]
        weights = np.array([self._weight(code) for code in able])
        if len(texts) < 2 or weights.sum() <= 0:
            return None
        chosen = str(rng.choice(able, p=weights / weights.sum()))
        text = texts[chosen]
        if chosen in VOICES and rng.random() * (self.voices.pico + self.voices.espeak) < self.voices.pico:
            self._pico = self._pico or Pico()
            speed, pitch = float(rng.uniform(*PICO_SPEEDS)), float(rng.uniform(*PICO_PITCHES))
            audio = self._pico.speak(text, str(rng.choice(VOICES[chosen])), speed=speed, pitch=pitch)
        else:
            self._espeak = self._espeak or Speaker()
            audio = self._espeak.speak(text, random_voice(chosen, rng))
        return Sound(audio, chosen, texts) if SAMPLE_RATE // 4 < len(audio) <= LONGEST else None

    def _wanted(self, texts: Mapping[str, str]) -> dict[str, str]:
        return {code: text for code, text in texts.items() if code in self.languages}

    def _weight(self, code: str) -> float:
        weight = self.voices.languages.get(code, 1.0)
        return weight if code in VOICES else weight * self.voices.espeak


def read_texts(recipe: AnchoredRecipe) -> Parallel:
    """Return the sentences of a recipe in the order in which they are spoken."""
    text = recipe.text
    return read_parallel(Path(text.tables), text.shares, recipe.seed, most_words=text.most_words, uncased=text.uncased)


def read_ahead(recipe: AnchoredRecipe) -> list[Recording]:
    """Return what was spoken ahead so far."""
    return [
        recording
        for manifest in recipe.voices.spoken
        if Path(manifest).exists()
        for recording in read_manifest(manifest)[0]
    ]


def _joined(first: Sound, second: Sound, rng: np.random.Generator) -> Sound:
    """Put a pause and the second sentence behind the first, where they share languages and aren't too long."""
    shared = [code for code in first.texts if code in second.texts]
    gap = samples(float(rng.uniform(*GAP_MS)))
    if len(shared) < 2 or second.language != first.language or len(first.audio) + len(second.audio) + gap > LONGEST:
        return first
    texts = {code: ("" if code == "zh" else " ").join((first.texts[code], second.texts[code])) for code in shared}
    return Sound(np.concatenate([first.audio, np.zeros(gap, np.float32), second.audio]), first.language, texts)
