"""Hear ahead: what *directions* learns from is spoken, heard and asked of the stock decoder once, and kept.

Hearing costs a core more than a step of the decoder does; kept, every utterance serves several times, for another
choice of languages each time, and the decoder trains while a second core goes on hearing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor

from streamtrans.core import BadConfig
from streamtrans.model.network import Network
from streamtrans.text import Tokenizer
from streamtrans.train.anchored.batches import POOL, HeardBatches, Prompting
from streamtrans.train.anchored.heard import Heard, Shelf, checksum, lay_together
from streamtrans.train.anchored.lessons import Listener
from streamtrans.train.anchored.recipe import AnchoredRecipe, load_anchored
from streamtrans.train.anchored.sounds import read_ahead
from streamtrans.train.anchored.weights import load_base, load_start
from streamtrans.train.loader import load_batches

HEARD = "heard"
LOOK = 16
"""Files between two looks at what was spoken ahead meanwhile."""


def open_shelf(recipe: AnchoredRecipe, stage: str, runs: Path, start: Network) -> Shelf:
    """Open what was heard ahead for a stage with the weights that it starts from."""
    ears: list[Tensor] = [*start.model.encoder.state_dict().values()]
    elsewhere = recipe.stage(stage).heard
    return Shelf(Path(elsewhere) if elsewhere else runs / recipe.name / stage / HEARD, checksum(ears))


def hear_ahead(
    recipe_file: str | Path,
    stage: str,
    *,
    runs: str | Path = "runs",
    files: int,
    processes: int = 1,
    say: Callable[[str], None] = print,
) -> int:
    """Hear until there are ``files`` files, those that aren't there yet; returns how many utterances that made.

    Raises:
        BadConfig: the recipe is wrong, the stage learns nothing from what was heard, or other weights heard before.
    """
    recipe = load_anchored(recipe_file)
    plan = recipe.stage(stage)
    if plan.lesson == "hearing":
        raise BadConfig(f"stage {stage} hears for itself; what is heard ahead is for decoders")
    base = Path(recipe.base)
    start = load_start(recipe, plan, Path(runs) / recipe.name)
    shelf = open_shelf(recipe, stage, Path(runs), start)
    listener = Listener(load_base(base), start, Prompting(Tokenizer.load(base)))
    torch.set_num_threads(1)
    made = 0
    while lacking := _lacking(shelf, files):
        ahead = len(read_ahead(recipe))
        first, end = lacking[0] * POOL, (lacking[-1] + 1) * POOL
        spoken = HeardBatches(recipe, plan, ahead, plan.per_file // POOL, first, end)
        batches = load_batches(spoken, processes=processes)
        for number in lacking:
            heard: Heard = lay_together([listener.hear(next(batches)) for _ in range(POOL)])
            shelf.add(_name(number), heard)
            made += len(heard.lengths)
            say(f"{_name(number)}: {len(heard.lengths)} utterances, {len(heard.features) / 50:.0f} s")
    return made


def _lacking(shelf: Shelf, files: int) -> Sequence[int]:
    """Return the next numbers in a row that aren't there yet."""
    there = {entry.file for entry in shelf.entries()}
    first = next((number for number in range(files) if _name(number) not in there), files)
    end = next((number for number in range(first, files) if _name(number) in there), files)
    return range(first, min(end, first + LOOK))


def _name(number: int) -> str:
    return f"{number:05d}.safetensors"
