"""Batches of *hearing*: spoken beside the trainer, asked of the anchor, and used several times.

Law: what a step learns from is a function of (seed, step, speech spoken ahead when its chapter began).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from streamtrans.train.anchored.batches import POOL, HeardBatch, HeardBatches
from streamtrans.train.anchored.lessons import Answered
from streamtrans.train.anchored.recipe import AnchoredRecipe, AnchoredStage
from streamtrans.train.anchored.sounds import read_ahead
from streamtrans.train.loader import load_batches

CHAPTER = 32
"""Pools between two looks at what was spoken ahead meanwhile; a resumed run repeats what they found."""


@dataclass(frozen=True, slots=True)
class AskedBatches:
    """The batches of a stage; what was spoken ahead when a chapter began is noted in ``file``."""

    recipe: AnchoredRecipe
    stage: AnchoredStage
    ask: Callable[[HeardBatch], Answered]
    file: Path
    processes: int

    def after(self, step: int) -> Iterator[Answered]:
        """Yield batches with the anchor's answers, each pool of them ``repeat`` times, from a step on."""
        stage, per_pool = self.stage, POOL * self.stage.repeat
        for chapter in range(step // (CHAPTER * per_pool), -(-stage.steps // (CHAPTER * per_pool))):
            first = max(chapter * CHAPTER, step // per_pool)
            end = min((chapter + 1) * CHAPTER, -(-stage.steps // per_pool))
            made = HeardBatches(self.recipe, stage, self._ahead(chapter), stage.batch, first * POOL, end * POOL)
            batches = load_batches(made, processes=self.processes)
            for pool in range(first, end):
                held: dict[int, Answered] = {}
                for number, place in enumerate(self._order(pool), start=pool * per_pool):
                    if place not in held:
                        held[place] = self.ask(next(batches))
                    if step <= number < stage.steps:
                        yield held[place]

    def _order(self, pool: int) -> list[int]:
        """Return the places of a pool's batches, in the order of its steps; the first round is as they are made."""
        rng = np.random.default_rng([self.recipe.seed, 3, pool])
        again = [int(place) for _ in range(self.stage.repeat - 1) for place in rng.permutation(POOL)]
        return [*range(POOL), *again]

    def _ahead(self, chapter: int) -> int:
        known: dict[str, int] = json.loads(self.file.read_text(encoding="utf-8")) if self.file.exists() else {}
        if str(chapter) not in known:
            known[str(chapter)] = len(read_ahead(self.recipe))
            self.file.write_text(json.dumps(known))
        return known[str(chapter)]
