"""Batches of an anchored run: utterances drawn, spoken and turned into tensors beside the trainer.

Law: a batch is a function of (seed, stage, step, speech spoken ahead): a resumed run sees what the unbroken one
would have seen, but for voices that don't sound the same twice (eSpeak's breath, Pico's pauses).
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from streamtrans.core import SAMPLE_RATE, Tokens
from streamtrans.model.config import read_features
from streamtrans.model.features import LogMel
from streamtrans.text import Tokenizer
from streamtrans.train.anchored.recipe import AnchoredRecipe, AnchoredStage
from streamtrans.train.anchored.sounds import Sound, Sounds
from streamtrans.train.batches import stack_frames, stack_tokens

POOL = 8
"""Batches drawn together and sorted by length: larger pads less, and makes a resumed run draw more again."""
TEXTS = 2
"""Texts asked of each utterance: a translation, then the transcript or another translation."""
TRANSCRIPTS = 2 / 3
"""How often the second text is the transcript: a third of all texts are."""
UNASKED = -1


@dataclass(frozen=True, slots=True)
class HeardBatch:
    """Tensors of ``B`` utterances with two texts each, standing together.

    ``mel`` ``(B, M, T)`` with ``frames`` ``(B,)``; ``padded`` ``(B, M, T')`` is the same audio with silence behind it
    (``T' = T`` where the stage doesn't want it), of ``padded_frames``. ``tokens`` and ``labels`` ``(2B, Y)``: what the
    decoder reads and should say next. ``anchor`` ``(2B, Y)``: the same texts with the prompt of stock Whisper;
    ``known`` ``(2B,)`` says where stock Whisper knows the task.
    """

    mel: Tensor
    frames: Tensor
    padded: Tensor
    padded_frames: Tensor
    tokens: Tensor
    labels: Tensor
    anchor: Tensor
    known: Tensor


@dataclass(frozen=True, slots=True)
class Prompting:
    """How the model and its anchor are asked, in prompts of one length."""

    tokenizer: Tokenizer

    def model(self, target: str) -> Tokens:
        """Return the prompt of the model that learns."""
        return self._prompt(target, "<|transcribe|>")

    def anchor(self, source: str, target: str) -> Tokens | None:
        """Return the prompt of stock Whisper, if it knows the task."""
        if target == source:
            return self._prompt(source, "<|transcribe|>")
        return self._prompt(source, "<|translate|>") if target == "en" else None

    def _prompt(self, language: str, task: str) -> Tokens:
        names = (task, "<|notimestamps|>")
        orders = [token for name in names if (token := self.tokenizer.special(name)) is not None]
        assert len(orders) == len(names), "the recipe's base was made with another prompt"
        return (self.tokenizer.sot, self.tokenizer.language_token(language), *orders)


@dataclass(frozen=True, slots=True)
class HeardBatches:
    """The batches of a stage from number ``first`` on."""

    recipe: AnchoredRecipe
    stage: AnchoredStage
    ahead: int
    first: int
    steps: int
    """Where they end; like ``first`` a multiple of :data:`POOL`."""
    attempt: int = 0
    """Counts the processes that made them: after a crash the draws must differ."""

    @property
    def name(self) -> str:
        """The stage's name."""
        return self.stage.name

    def __iter__(self) -> Iterator[HeardBatch]:
        """Yield the batches."""
        base = Path(self.recipe.base)
        sounds = Sounds(self.recipe, self.stage, self.ahead)
        asking, mel = Prompting(Tokenizer.load(base)), LogMel(read_features(base))
        size = self.stage.batch
        for pool in range(self.first // POOL, -(-self.steps // POOL)):
            seed = [self.recipe.seed, zlib.crc32(self.stage.name.encode()), pool, self.attempt]
            rng = np.random.default_rng(seed)
            drawn = [sounds.draw(at, rng) for at in range(pool * POOL * size, (pool + 1) * POOL * size)]
            drawn.sort(key=lambda sound: len(sound.audio))
            for number, place in enumerate(rng.permutation(POOL), start=pool * POOL):
                cut = drawn[place * size : (place + 1) * size]
                batch = make_batch(cut, asking, mel, rng, pad_s=self.stage.pad_s if self.hears else 0.0)
                if self.first <= number < self.steps:
                    yield batch

    @property
    def hears(self) -> bool:
        """Whether the anchor hears the audio for itself."""
        return self.stage.lesson == "hearing"


def make_batch(
    sounds: Sequence[Sound], asking: Prompting, mel: LogMel, rng: np.random.Generator, *, pad_s: float
) -> HeardBatch:
    """Turn utterances into tensors; ``rng`` chooses the languages."""
    near = [mel(torch.from_numpy(sound.audio)[None])[0] for sound in sounds]
    silence = np.zeros(int(pad_s * SAMPLE_RATE), np.float32)
    far = near
    if pad_s:
        far = [mel(torch.from_numpy(np.concatenate([sound.audio, silence]))[None])[0] for sound in sounds]
    eot = asking.tokenizer.eot
    tokens: list[Tokens] = []
    labels: list[Tokens] = []
    anchors: list[Tokens] = []
    known: list[bool] = []
    for sound in sounds:
        for target in choose(sound, rng):
            text = asking.tokenizer.encode(sound.texts[target]) if target in sound.texts else ()
            prompt, anchor = asking.model(target), asking.anchor(sound.language or target, target)
            answer = (*text, eot) if target in sound.texts else (UNASKED,) * (len(text) + 1)
            tokens.append((*prompt, *text))
            labels.append((*(UNASKED,) * (len(prompt) - 1), *answer))
            anchors.append((*(anchor or prompt), *text))
            known.append(anchor is not None and bool(text))
    return HeardBatch(
        mel=stack_frames(near),
        frames=torch.tensor([each.shape[1] for each in near]),
        padded=stack_frames(far),
        padded_frames=torch.tensor([each.shape[1] for each in far]),
        tokens=stack_tokens(tokens, eot, 4),
        labels=stack_tokens(labels, UNASKED, 4),
        anchor=stack_tokens(anchors, eot, 4),
        known=torch.tensor(known),
    )


def choose(sound: Sound, rng: np.random.Generator) -> list[str]:
    """Choose the two languages that are asked: a translation, then mostly the transcript."""
    others = [code for code in sound.texts if code != sound.language]
    if not others:
        return [sound.language or "en"] * TEXTS
    first = str(rng.choice(others))
    rest = [code for code in others if code != first]
    if rest and rng.random() > TRANSCRIPTS:
        return [first, str(rng.choice(rest))]
    return [first, sound.language]
