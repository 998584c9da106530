"""Batches of recordings: which utterances a step sees, and their tensors.

What a step sees is a function of (seed, step) alone: neither the processes that read, nor the devices that share a
step, nor an interruption change it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from streamtrans.audio import read_audio
from streamtrans.core import BadAudio
from streamtrans.model.config import read_features
from streamtrans.model.features import LogMel
from streamtrans.text import Tokenizer
from streamtrans.train.batches import Batch, Item, collate
from streamtrans.train.finetune.corpus import Corpus, Example
from streamtrans.train.stopping import deaf
from streamtrans.train.trainer import mask_features

POOL = 32
"""Batches drawn together and sorted by length: larger pads less, and mixes lengths less evenly over time."""
ATTEMPTS = 100
"""Unreadable recordings in a row after which the corpus itself is taken to be gone."""


class Order:
    """The order of a corpus of ``seconds`` ``(n,)``: shuffled epochs end to end, cut into batches of like length."""

    def __init__(self, seconds: npt.NDArray[np.float32], batch: int, seed: int) -> None:
        self.seconds, self.batch, self.seed = seconds, batch, seed
        self._shuffled: dict[int, npt.NDArray[np.int64]] = {}

    def rows(self, step: int) -> npt.NDArray[np.int64]:
        """Return the ``(batch,)`` rows of a step, the longest first."""
        pool, place = divmod(step, POOL)
        size = POOL * self.batch
        drawn = np.array([self._row(at) for at in range(pool * size, (pool + 1) * size)])
        sorted_rows = drawn[np.argsort(-self.seconds[drawn], kind="stable")]
        order = np.random.default_rng([self.seed, 1, pool]).permutation(POOL)
        return sorted_rows.reshape(POOL, self.batch)[order[place]]

    def _row(self, position: int) -> int:
        epoch, at = divmod(position, len(self.seconds))
        if epoch not in self._shuffled:
            if len(self._shuffled) > 1:
                self._shuffled.pop(min(self._shuffled))
            self._shuffled[epoch] = np.random.default_rng([self.seed, 0, epoch]).permutation(len(self.seconds))
        return int(self._shuffled[epoch][at])


@dataclass(frozen=True, slots=True)
class Share:
    """Which part of a step one pass of one device takes: every ``devices * passes``-th utterance."""

    device: int = 0
    devices: int = 1
    passes: int = 1

    def of(self, rows: npt.NDArray[np.int64], number: int) -> npt.NDArray[np.int64]:
        """Return the rows of pass ``number`` of a step."""
        return rows[number * self.devices + self.device :: self.devices * self.passes]


@dataclass(frozen=True, slots=True)
class Work:
    """One pass: its tensors, and the recordings they were made of."""

    batch: Batch
    examples: tuple[Example, ...]


@dataclass(frozen=True, slots=True)
class Manner:
    """How recordings become tensors. ``longest`` is in mel frames; ``masks`` is the strength of SpecAugment."""

    base: Path
    longest: int
    targets: int = 1
    masks: float = 0.0
    refuse: bool = False
    """Whether a recording that can't be read ends the run; else another one takes its place."""


class Reading:
    """Reads recordings as a :class:`Manner` says; made in the process that uses it."""

    def __init__(self, manner: Manner) -> None:
        self.manner = manner
        self.tokenizer = Tokenizer.load(manner.base)
        self.log_mel = LogMel(read_features(manner.base))

    def mel(self, example: Example) -> Tensor:
        """Return the features ``(M, T)`` of a recording.

        Raises:
            BadAudio: the file can't be read to its end.
        """
        # A compressed file may be a little longer than its header says.
        audio = read_audio(example.audio)[: self.manner.longest * self.log_mel.config.hop]
        return self.log_mel(torch.from_numpy(audio)[None])[0]

    def batch(self, examples: Sequence[Example], mels: Sequence[Tensor], seed: Sequence[int]) -> Batch:
        """Put recordings together; ``seed`` decides the languages asked for and what is masked."""
        rng = np.random.default_rng(list(seed))
        items = [Item(example.language, example.texts, mel) for example, mel in zip(examples, mels, strict=True)]
        batch = collate(items, self.tokenizer, rng, targets=self.manner.targets)
        if self.manner.masks > 0 and batch.mel is not None and batch.frames is not None:
            dice = torch.Generator().manual_seed(int(rng.integers(2**62)))
            mask_features(batch.mel, batch.frames, dice, self.manner.masks)
        return batch


class Passes(Dataset[Work]):
    """All passes of one device, by number: ``step * passes + pass``."""

    def __init__(self, corpus: Corpus, order: Order, share: Share, manner: Manner, problems: Path) -> None:
        self.corpus, self.order, self.share, self.manner, self.problems = corpus, order, share, manner, problems
        self._reading: Reading | None = None
        self._reported: set[str] = set()

    def __getitem__(self, number: int) -> Work:
        if self._reading is None:
            self._reading = Reading(self.manner)
        step, part = divmod(number, self.share.passes)
        read = [self._read(int(row)) for row in self.share.of(self.order.rows(step), part)]
        examples = tuple(example for example, _ in read)
        seed = (self.order.seed, 2, step, part * self.share.devices + self.share.device)
        return Work(self._reading.batch(examples, [mel for _, mel in read], seed), examples)

    def _read(self, row: int) -> tuple[Example, Tensor]:
        """Read a recording; where it can't be, the next one of the corpus, which is the same whenever it is asked."""
        assert self._reading is not None
        for attempt in range(ATTEMPTS):
            example = self.corpus.read((row + attempt) % len(self.corpus))
            try:
                return example, self._reading.mel(example)
            except BadAudio as error:
                if self.manner.refuse:
                    raise BadAudio(f'{example.where}: {error}; on_bad = "skip" takes another in its place') from None
                self._report(example, error)
        raise BadAudio(f"{ATTEMPTS} recordings in a row can't be read; is the corpus still there? See {self.problems}")

    def _report(self, example: Example, error: BadAudio) -> None:
        if example.where not in self._reported:
            self._reported.add(example.where)
            with self.problems.open("a", encoding="utf-8") as file:
                file.write(f"{example.where}: unreadable audio: {error}\n")


def load(passes: Passes, first: int, end: int, *, processes: int) -> Iterator[Work]:
    """Yield the passes from number ``first`` up to ``end``, made by processes beside this one."""
    numbers = range(first, end)
    loader: DataLoader[Work] = DataLoader(
        passes,
        batch_size=None,
        sampler=numbers,
        num_workers=processes,
        multiprocessing_context="spawn" if processes else None,
        prefetch_factor=4 if processes else None,
        worker_init_fn=deaf if processes else None,
        generator=torch.Generator(),  # else it draws from the global dice, at whatever step the run was begun
    )
    yield from loader
