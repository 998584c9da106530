"""Batches of what was heard ahead: which utterances, and which of their languages are asked.

The stage goes on in chapters. Each takes the files that were used least so far, oldest first, so that everything new
comes before anything is heard again; what it took is noted, and a resumed run takes the same.

Law: a batch is a function of (seed, step, files of its chapter).
"""

from __future__ import annotations

import itertools
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from streamtrans.core import BadConfig, Tokens
from streamtrans.train.anchored.batches import UNASKED, Prompting, answers
from streamtrans.train.anchored.heard import BELIEVED, Heard, Shelf, lay_together
from streamtrans.train.anchored.recipe import AnchoredRecipe, AnchoredStage
from streamtrans.train.batches import stack_tokens

CHAPTER = 4
"""Files mixed together: more mix better, and make a resumed run read more again."""
TRANSLATIONS = 2
"""Translations asked of an utterance, where so many are known."""
TRANSCRIPTS = 0.5
"""How often an utterance is asked for its transcript as well; the stock model knows these best."""
FEATURE_STEP = 8
FEATURES_PER_SECOND = 50


@dataclass(frozen=True, slots=True)
class TaughtBatch:
    """Tensors of ``B`` utterances with ``n`` texts each, standing together; some of the texts may be empty.

    ``features`` ``(B, S, E)``, real where ``visible`` ``(B, S)``. ``tokens`` and ``labels`` ``(nB, Y)``: what the
    decoder reads and should say next. ``ids`` and ``shares`` ``(nB, Y, K)``: what the anchor believes.
    """

    features: Tensor
    visible: Tensor
    tokens: Tensor
    labels: Tensor
    ids: Tensor
    shares: Tensor

    @property
    def seconds(self) -> float:
        """Audio in the batch."""
        return float(self.visible.sum()) / FEATURES_PER_SECOND


class TaughtBatches:
    """The batches of a stage; chapters are noted in ``file``."""

    def __init__(
        self, recipe: AnchoredRecipe, stage: AnchoredStage, shelf: Shelf, asking: Prompting, file: Path
    ) -> None:
        self.recipe, self.stage, self.shelf, self.asking, self.file = recipe, stage, shelf, asking, file

    def after(self, step: int) -> Iterator[TaughtBatch]:
        """Yield the batches from a step on, without end.

        Raises:
            BadConfig: too little was heard, or a file of it is missing or broken.
        """
        chapters: list[list[str]] = json.loads(self.file.read_text(encoding="utf-8")) if self.file.exists() else []
        per_chapter = CHAPTER * self.stage.per_file // self.stage.batch
        for number in itertools.count(step // per_chapter):
            entries = {entry.file: entry for entry in self.shelf.entries()}
            if number >= len(chapters):
                chapters += [[]] * (number - len(chapters))  # a run that goes on from what was kept has no notes
                chapters.append(self._next(list(entries), chapters))
                self.file.write_text(json.dumps(chapters), encoding="utf-8")
            if gone := [name for name in chapters[number] if name not in entries]:
                raise BadConfig(f"{self.shelf.folder / gone[0]} is to be learnt from, and isn't in the manifest")
            heard = lay_together([self.shelf.read(entries[name]) for name in chapters[number]])
            rng = np.random.default_rng([self.recipe.seed, 5, number])
            for at, batch in enumerate(self._chapter(heard, rng), start=number * per_chapter):
                if at >= step:
                    yield batch

    def _next(self, files: Sequence[str], chapters: Sequence[Sequence[str]]) -> list[str]:
        if len(files) < CHAPTER:
            raise BadConfig(
                f"{self.shelf.folder} holds {len(files)} files of what was heard ahead, and {CHAPTER} are needed to "
                "begin: run streamtrans corpus hear, before the training or beside it"
            )
        used = Counter(name for chapter in chapters for name in chapter)
        return sorted(files, key=lambda name: used[name])[:CHAPTER]

    def _chapter(self, heard: Heard, rng: np.random.Generator) -> Iterator[TaughtBatch]:
        """Yield batches of utterances that are about equally long, in any order."""
        order = np.argsort(heard.lengths.numpy(), kind="stable")
        ends = heard.lengths.cumsum(0)
        for rows in rng.permutation(order.reshape(-1, self.stage.batch)):
            yield self._batch(heard, rows, ends, rng)

    def _batch(self, heard: Heard, rows: Sequence[int], ends: Tensor, rng: np.random.Generator) -> TaughtBatch:
        longest = -(-int(heard.lengths[rows].max()) // FEATURE_STEP) * FEATURE_STEP
        features = heard.features.new_zeros(len(rows), longest, heard.features.shape[1])
        asked = [self.asked(heard, int(row), rng) for row in rows]
        count = max(1, *map(len, asked))
        tokens: list[Tokens] = []
        labels: list[Tokens] = []
        beliefs: list[tuple[int, int, int]] = []
        for at, (row, places) in enumerate(zip(rows, asked, strict=True)):
            length = int(heard.lengths[row])
            features[at, :length] = heard.features[int(ends[row]) - length : int(ends[row])]
            for slot, place in enumerate(places):
                code = self.recipe.languages[place]
                text = tuple(token for token in heard.texts[row, place].tolist() if token != UNASKED)
                tokens.append((*self.asking.model(code), *text[:-1]))
                labels.append(answers(text, self.asking.length))
                kind = 0 if place == heard.spoken[row] else 1 if code == "en" else None
                if kind is not None:
                    beliefs.append((at * count + slot, int(row), kind))
            tokens += [()] * (count - len(places))
            labels += [()] * (count - len(places))
        table = stack_tokens(labels, UNASKED, 4)
        ids = torch.zeros(*table.shape, BELIEVED, dtype=torch.int32)
        shares = torch.zeros(*table.shape, BELIEVED)
        for line, row, kind in beliefs:
            kept = table.shape[1] - self.asking.length + 1
            width = min(kept, heard.ids.shape[2])
            ids[line, -kept:][:width] = heard.ids[row, kind, :width]
            shares[line, -kept:][:width] = heard.shares[row, kind, :width].float()
        shares[table == self.asking.tokenizer.eot] *= self.stage.ending
        shares[table == UNASKED] = 0.0
        return TaughtBatch(
            features,
            torch.arange(longest) < heard.lengths[rows][:, None],
            stack_tokens(tokens, self.asking.tokenizer.eot, 4),
            table,
            ids,
            shares,
        )

    def asked(self, heard: Heard, row: int, rng: np.random.Generator) -> list[int]:
        """Choose the places of the languages that are asked: some translations, then the transcript now and then."""
        texts, spoken = heard.texts[row], int(heard.spoken[row])
        written = [not self.stage.written or code in self.stage.written for code in self.recipe.languages]
        others = [at for at in range(len(texts)) if written[at] and at != spoken and int(texts[at, 0]) != UNASKED]
        chosen = [int(at) for at in rng.permutation(others)[:TRANSLATIONS]]
        if written[spoken] and int(texts[spoken, 0]) != UNASKED and (not chosen or rng.random() < TRANSCRIPTS):
            chosen.append(spoken)
        if self.stage.clear and clarity(heard, row) < self.stage.clear:
            return [at for at in chosen if at == spoken or self.recipe.languages[at] == "en"]  # the anchor's alone
        return chosen


def clarity(heard: Heard, row: int) -> float:
    """Return the geometric mean of what the stock decoder gives to the tokens of what was really said.

    1 where nobody spoke, or nobody knows what was said. What isn't among its likeliest tokens counts as a thousandth.
    """
    spoken = int(heard.spoken[row])
    said = heard.texts[row, spoken]
    said = said[said != UNASKED]
    if spoken < 0 or not heard.shares[row, 0].any():
        return 1.0
    width = min(len(said), heard.ids.shape[2])
    found = (heard.ids[row, 0, :width] == said[:width, None]) * heard.shares[row, 0, :width].float()
    return float(found.sum(-1).clamp(min=1e-3).log().mean().exp())
