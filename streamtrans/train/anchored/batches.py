"""Utterances on their way to the encoder: drawn, spoken and turned into tensors beside the process that hears them.

Law: a batch is a function of (seed, stage, number, speech spoken ahead): a resumed run sees what the unbroken one
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
KNOWN = 2
"""Texts that stock Whisper can be asked for: the transcript, and the English of another language."""
UNASKED = -1


@dataclass(frozen=True, slots=True)
class HeardBatch:
    """Tensors of ``B`` utterances.

    ``mel`` ``(B, M, T)`` with ``frames`` ``(B,)``; ``padded`` ``(B, M, T')`` is the same audio with silence behind it
    (``T' = T`` where the stage doesn't want it), of ``padded_frames``. ``anchor`` and ``labels`` ``(2B, Y)``: what the
    stock decoder reads and what comes next, transcript and English of an utterance standing together, nothing labelled
    where it doesn't know the task. ``spoken`` ``(B,)`` is the place of the utterance's language among the recipe's,
    -1 if it has none; ``texts`` ``(B, L, Y')`` what it says in each of them, with its end, nothing but -1 where nobody
    knows.
    """

    mel: Tensor
    frames: Tensor
    padded: Tensor
    padded_frames: Tensor
    anchor: Tensor
    labels: Tensor
    spoken: Tensor
    texts: Tensor


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

    @property
    def length(self) -> int:
        """Tokens of a prompt."""
        return len(self.model("en"))

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
    size: int
    """Utterances in each."""
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
        size = self.size
        pad_s = self.stage.pad_s if self.stage.lesson == "hearing" else 0.0
        for pool in range(self.first // POOL, -(-self.steps // POOL)):
            seed = [self.recipe.seed, zlib.crc32(self.stage.name.encode()), pool, self.attempt]
            rng = np.random.default_rng(seed)
            drawn = [sounds.draw(at, rng) for at in range(pool * POOL * size, (pool + 1) * POOL * size)]
            drawn.sort(key=lambda sound: len(sound.audio))
            for number, place in enumerate(rng.permutation(POOL), start=pool * POOL):
                if self.first <= number < self.steps:
                    cut = drawn[place * size : (place + 1) * size]
                    yield make_batch(cut, asking, mel, self.recipe.languages, pad_s=pad_s)


def make_batch(
    sounds: Sequence[Sound], asking: Prompting, mel: LogMel, languages: Sequence[str], *, pad_s: float
) -> HeardBatch:
    """Turn utterances into tensors."""
    near = [mel(torch.from_numpy(sound.audio)[None])[0] for sound in sounds]
    silence = np.zeros(int(pad_s * SAMPLE_RATE), np.float32)
    far = near
    if pad_s:
        far = [mel(torch.from_numpy(np.concatenate([sound.audio, silence]))[None])[0] for sound in sounds]
    eot = asking.tokenizer.eot
    said = [{code: (*asking.tokenizer.encode(text), eot) for code, text in sound.texts.items()} for sound in sounds]
    asked = [_known(sound, texts, asking) for sound, texts in zip(sounds, said, strict=True)]
    pairs = [pair for known in asked for pair in (*known, *((),) * (KNOWN - len(known)))]
    unread = asking.model("en")
    texts = stack_tokens([texts.get(code, ()) for texts in said for code in languages], UNASKED, 4)
    return HeardBatch(
        mel=stack_frames(near),
        frames=torch.tensor([each.shape[1] for each in near]),
        padded=stack_frames(far),
        padded_frames=torch.tensor([each.shape[1] for each in far]),
        anchor=stack_tokens([(*pair[0], *pair[1][:-1]) if pair else unread for pair in pairs], eot, 4),
        labels=stack_tokens([answers(pair[1], asking.length) if pair else () for pair in pairs], UNASKED, 4),
        spoken=torch.tensor([languages.index(sound.language) if sound.language else UNASKED for sound in sounds]),
        texts=texts.unflatten(0, (len(sounds), len(languages))),
    )


def answers(text: Tokens, prompt: int) -> Tokens:
    """Return what a text with a prompt before it should be answered with, ``text`` having its end."""
    return (*(UNASKED,) * (prompt - 1), *text)


def _known(sound: Sound, texts: dict[str, Tokens], asking: Prompting) -> list[tuple[Tokens, Tokens]]:
    """Return the prompts and texts that stock Whisper can be asked for; of silence it isn't."""
    codes = dict.fromkeys((sound.language, "en"))
    return [
        (prompt, texts[code])
        for code in codes
        if len(texts.get(code, ())) > 1 and (prompt := asking.anchor(sound.language, code)) is not None
    ]
