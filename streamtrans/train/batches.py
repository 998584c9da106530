"""Batches for the trainer: sentences drawn, spoken, augmented and turned into tensors on the fly.

A stream of batches is a function of (seed, stage, rank, step): a resumed run sees what the unbroken one
would have seen.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from streamtrans.core import Tokens
from streamtrans.corpus import romanise
from streamtrans.corpus.augment import CLEAN
from streamtrans.corpus.mixture import Mixture, MixtureConfig
from streamtrans.corpus.stretches import StretchConfig, draw_stretch
from streamtrans.model.features import FeatureConfig, LogMel
from streamtrans.text import Tokenizer
from streamtrans.train.recipe import Recipe, Stage, build

POOL = 16
"""Batches drawn together and sorted by length, so that little of a batch is padding."""
FRAME_STEP = 8
"""Batches are padded to multiples of this many mel frames: fewer shapes, fewer kernels to prepare."""
LONGEST_FRAMES = 500
UNKNOWN = -2
"""Stands for the CTC's labels of speech that ends in the middle of its sentence."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Tensors of one step; the speech fields are ``None`` in a stage that does not hear.

    ``mel`` ``(B, M, T)`` with ``frames`` ``(B,)``; ``ctc`` ``(B, C)`` padded with -1 (a row of -2 is not
    known); ``begins`` ``(B,)`` the first feature frame that is to be translated; ``source`` ``(B, X)`` and its
    visibility; ``tokens`` and ``labels`` ``(B * n, Y)``: what the decoder reads, and what it should say next
    (-1 where nothing is asked). Row 0 of each utterance's ``n`` is a translation, never a transcript.
    """

    source: Tensor
    source_visible: Tensor
    tokens: Tensor
    labels: Tensor
    mel: Tensor | None = None
    frames: Tensor | None = None
    ctc: Tensor | None = None
    begins: Tensor | None = None

    def to(self, device: torch.device | str) -> Batch:
        """Return the batch on a device."""
        values = {item.name: getattr(self, item.name) for item in fields(self)}
        moved: dict[str, Any] = {name: None if value is None else value.to(device) for name, value in values.items()}
        return Batch(**moved)


@dataclass(frozen=True, slots=True)
class Item:
    """What to train on: texts, with speech features where the stage hears.

    ``begin`` is the first mel frame that is to be translated, ``spoken`` what is said in all of it, if that is known.
    """

    language: str
    texts: Mapping[str, str]
    mel: Tensor | None
    begin: int = 0
    spoken: str | None = None


@dataclass(frozen=True, slots=True)
class Batches:
    """All batches of one stage for one worker, from step ``first`` on.

    ``attempt`` counts the processes that made them: after a crash the draws must differ.
    """

    recipe: Recipe
    stage: Stage
    vocabularies: Path
    rank: int
    first: int
    attempt: int = 0

    @property
    def name(self) -> str:
        """The stage's name."""
        return self.stage.name

    @property
    def steps(self) -> int:
        """Batches in all."""
        return self.stage.steps

    def __iter__(self) -> Iterator[Batch]:
        """Yield batches until the stage's steps are used up."""
        data = self.recipe.data
        tokenizer, phones = Tokenizer.load(self.vocabularies), Tokenizer.load(self.vocabularies / "phones")
        rates = self.stage.mixture
        mixture = Mixture.from_folder(
            data.tables,
            MixtureConfig(
                requests=rates.get("requests", data.requests),
                templates=rates.get("templates", data.templates),
                tatoeba=rates.get("tatoeba", data.tatoeba),
            ),
        )
        mel = LogMel(FeatureConfig(**self.recipe.features))
        config = build(StretchConfig, self.stage.stretches, f"stage {self.stage.name}: stretches")
        per_pool = POOL * (self.stage.repeat if self.stage.hears else 1)
        for pool in range(self.first // per_pool, -(-self.stage.steps // per_pool)):
            seed = [self.recipe.seed, zlib.crc32(self.stage.name.encode()), self.rank, pool, self.attempt]
            rng = np.random.default_rng(seed)
            items = [self._draw(mixture, mel, config, rng) for _ in range(POOL * self.stage.batch)]
            items.sort(
                key=lambda item: (
                    0 if item.mel is None else item.mel.shape[1],
                    len(item.texts[item.language]),
                )
            )
            cuts = [items[at : at + self.stage.batch] for at in range(0, len(items), self.stage.batch)]
            order = np.concatenate([rng.permutation(len(cuts)) for _ in range(per_pool // POOL)])
            for number, cut in enumerate(order, start=pool * per_pool):
                batch = collate(cuts[cut], tokenizer, rng, targets=self.stage.targets, phones=phones)
                if self.first <= number < self.stage.steps:
                    yield batch

    def _draw(self, mixture: Mixture, mel: LogMel, config: StretchConfig, rng: np.random.Generator) -> Item:
        while True:
            if not self.stage.hears:
                row = mixture.sample(rng)
                language = str(rng.choice(sorted(row.texts)))
                return Item(language, row.texts, None)
            plain = not self.stage.augment or rng.random() < self.stage.clean
            stretch = draw_stretch(rng, mixture, config, augmentation=CLEAN if plain else None)
            features = mel(torch.from_numpy(stretch.audio)[None])[0]
            if features.shape[1] <= LONGEST_FRAMES:
                begin = stretch.begin // mel.config.hop
                return Item(stretch.language, stretch.texts, features, begin, stretch.spoken)


def collate(
    items: Sequence[Item],
    tokenizer: Tokenizer,
    rng: np.random.Generator,
    *,
    targets: int,
    phones: Tokenizer | None = None,
) -> Batch:
    """Turn sentences into tensors, with ``targets`` texts asked of each; ``phones`` spells the CTC's labels."""
    encode = tokenizer.encode
    source = [(*encode(item.texts[item.language]), tokenizer.eot) for item in items]
    asked = [(target, item.texts[target]) for item in items for target in choose_targets(item, targets, rng)]
    tokens = [(tokenizer.sot, tokenizer.language_token(code), *encode(text)) for code, text in asked]
    labels = [(-1, *line[2:], tokenizer.eot) for line in tokens]
    sound: dict[str, Any] = {}
    if mels := [item.mel for item in items if item.mel is not None]:
        sound = {
            "mel": stack_frames(mels),
            "frames": torch.tensor([mel.shape[1] for mel in mels]),
            "begins": torch.tensor([item.begin // 2 for item in items]),
        }
    if mels and phones is not None:
        spelled = [
            (UNKNOWN,) if item.spoken is None else phones.encode(romanise(item.spoken, item.language)) for item in items
        ]
        sound["ctc"] = stack_tokens(spelled, -1, 1)
    return Batch(
        source=(read := stack_tokens(source, -1, 4)).clamp(min=0),
        source_visible=read >= 0,
        tokens=stack_tokens(tokens, tokenizer.eot, 4),
        labels=stack_tokens(labels, -1, 4),
        **sound,
    )


def choose_targets(item: Item, count: int, rng: np.random.Generator) -> list[str]:
    """Choose target languages: first a translation, then any, the transcript too, without repeats if possible."""
    others = [code for code in sorted(item.texts) if code != item.language]
    chosen = [str(rng.choice(others))] if others else [item.language]
    rest = [code for code in sorted(item.texts) if code not in chosen]
    order = [str(code) for code in rng.permutation(rest)]
    while len(order) < count - 1:
        order += [str(code) for code in rng.permutation(sorted(item.texts))]
    return (chosen + order)[:count]


def stack_tokens(lines: Sequence[Tokens], filler: int, step: int) -> Tensor:
    """Lay lines out as rows ``(B, L)``, filled up to a multiple of ``step``."""
    length = -(-max(len(line) for line in lines) // step) * step
    table = np.full((len(lines), length), filler, dtype=np.int64)
    for at, line in enumerate(lines):
        table[at, : len(line)] = line
    return torch.from_numpy(table)


def stack_frames(mels: Sequence[Tensor]) -> Tensor:
    """Lay features ``(M, T)`` out as ``(B, M, T)``, with zeros behind the shorter ones."""
    length = -(-max(mel.shape[1] for mel in mels) // FRAME_STEP) * FRAME_STEP
    return torch.stack([torch.nn.functional.pad(mel, (0, length - mel.shape[1])) for mel in mels])
