"""Which layers go: greedily those whose absence costs least, or evenly spaced ones, or those in the middle.

The first and the last layer are never candidates. Of equals the lowest goes. Nothing is trained between removals.
Source of the greedy search: arXiv 2505.20237, whose authors chose layers on the recordings that they reported.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from streamtrans.compress.pruning.scores import Notebook, Score, score, selection_sha256
from streamtrans.compress.pruning.stacks import check, cut, find_stack
from streamtrans.compress.pruning.subjects import Subject, check_silence, load_subject
from streamtrans.compress.weights import check_new
from streamtrans.core import BadConfig
from streamtrans.evaluate.manifest import Talk
from streamtrans.model.loading import find_folder
from streamtrans.model.network import spread_layers
from streamtrans.runtime import weights_sha256

Scorer = Callable[[frozenset[int]], Score]
Told = Callable[[str, int, int | None], None]
"""Told of progress: what is done, how many candidates are scored, of how many."""


@dataclass(frozen=True, slots=True)
class Round:
    """One removal more: all layers that are gone, what is left is worth, and what the candidates were worth."""

    removed: tuple[int, ...]
    score: Score
    candidates: Mapping[int, float]


@dataclass(frozen=True, slots=True)
class Pruned:
    """What was removed, numbered as in the model that it was removed from, and what each removal cost."""

    stack: str
    order: str
    depth: int
    whole: Score
    rounds: tuple[Round, ...]

    @property
    def kept(self) -> tuple[int, ...]:
        """The layers that stay."""
        return tuple(layer for layer in range(self.depth) if layer not in self.rounds[-1].removed)

    def figures(self) -> dict[str, Any]:
        """Return all of it, as JSON can hold it."""
        return {**asdict(self), "kept": list(self.kept)}


@dataclass(frozen=True, slots=True)
class Pruning:
    """What is asked for.

    Raises:
        BadConfig: a number is out of range, or the order is unknown.
    """

    remove: int
    """Layers to remove; the first and the last stay."""
    stack: str = "decoder"
    order: str = "importance"
    targets: tuple[str, ...] = ()
    """Languages whose texts count; empty takes all that the selection has and the model can be asked for."""
    together: int = 8
    """Recordings decoded at once."""
    device: str = "auto"
    dtype: str = "auto"
    silence_s: float | None = None
    """Silence behind recordings, in the place of the padding that the model's family wants; audio LLMs hear none."""

    def __post_init__(self) -> None:
        if self.order not in ORDERS:
            raise BadConfig(f"unknown order {self.order!r}; use {', '.join(ORDERS)}")
        for name in ("remove", "together"):
            if getattr(self, name) < 1:
                raise BadConfig(f"{name} is {getattr(self, name)}; use 1 or more")
        check_silence(self.silence_s)


def prune(
    source: str | Path,
    destination: str | Path,
    talks: Sequence[Talk],
    pruning: Pruning,
    *,
    work: str | Path | None = None,
    told: Told | None = None,
) -> Pruned:
    """Write ``source`` without some layers of a stack.

    Args:
        source: folder or hub name.
        destination: a new folder.
        talks: the selection: recordings that no score is reported on later.
        pruning: what is asked for.
        work: where scores are noted, and found again; by default beside the destination.
        told: of progress.

    Raises:
        BadModel: a weight isn't finite, or the model has no such stack.
        BadConfig: no layer would be left, nothing can be scored, or a folder isn't what it should be.
    """
    folder, target = find_folder(source), Path(destination)
    check_new(target)
    found = choose(folder, talks, pruning, work_folder(target, work), told=told)
    card = _card(found, weights_sha256(folder), selection_sha256(talks))
    cut(folder, pruning.stack, found.kept, target, card)
    return found


def check_removal(stack: str, depth: int, remove: int) -> None:
    """See that ``remove`` layers of a stack can go.

    Raises:
        BadConfig: the first or the last layer would have to.
    """
    if remove > depth - 2:
        raise BadConfig(
            f"the {stack} has {depth} layers, of which the first and the last stay: "
            + (f"1 to {depth - 2} can be removed, not {remove}" if depth > 2 else "none can be removed")
        )


def choose(folder: Path, talks: Sequence[Talk], pruning: Pruning, work: Path, *, told: Told | None = None) -> Pruned:
    """Say which layers of a folder go; scores are noted in ``work``, and found again.

    Raises:
        BadModel: a weight isn't finite, or the model has no such stack.
        BadConfig: no layer would be left, nothing can be scored, or ``work`` was begun for something else.
    """
    depth = check(folder, find_stack(folder, pruning.stack))
    check_removal(pruning.stack, depth, pruning.remove)
    if not talks:
        raise BadConfig("the selection is empty: layers are chosen by recordings with references")
    settings = {name: value for name, value in asdict(pruning).items() if name not in ("remove", "order")}
    about = {"base": weights_sha256(folder), "selection": selection_sha256(talks), **settings}
    about["targets"] = list(pruning.targets)
    notebook = Notebook(work / "scores.jsonl", about)
    loaded: list[Subject] = []

    def scored(without: frozenset[int]) -> Score:
        def compute() -> Score:
            if not loaded:
                loaded.append(load_subject(folder, talks=talks, **settings))
            return score(loaded[0].write([layer for layer in range(depth) if layer not in without]))

        return notebook.of(without, compute)

    whole = scored(frozenset())
    rounds = ORDERS[pruning.order](depth, pruning.remove, scored, told or _silent)
    return Pruned(pruning.stack, pruning.order, depth, whole, tuple(rounds))


def work_folder(target: Path, work: str | Path | None) -> Path:
    """Return where scores are noted."""
    return Path(work) if work is not None else target.with_name(f"{target.name}-pruning")


def _card(found: Pruned, base: str, selection: str) -> dict[str, Any]:
    """Return what the folder says of itself: nothing that depends on the machine or the hour."""
    return {
        "base": base,
        "selection": selection,
        "stack": found.stack,
        "order": found.order,
        "kept": list(found.kept),
        "whole": dict(found.whole.directions),
        "rounds": [{"removed": list(each.removed), **each.score.directions} for each in found.rounds],
    }


def _by_importance(depth: int, remove: int, scored: Scorer, told: Told) -> list[Round]:
    """Remove one layer after the other: the one without which most is left."""
    rounds: list[Round] = []
    gone: tuple[int, ...] = ()
    total, done = sum(depth - 2 - at for at in range(remove)), 0
    for at in range(remove):
        scores: dict[int, Score] = {}
        for layer in (each for each in range(1, depth - 1) if each not in gone):
            told(f"removal {at + 1}", done, total)
            scores[layer] = scored(frozenset((*gone, layer)))
            done += 1
        best = max(scores, key=lambda layer: (scores[layer].mean, -layer))
        gone = (*gone, best)
        rounds.append(Round(gone, scores[best], {layer: each.mean for layer, each in scores.items()}))
    return rounds


def _evenly(depth: int, remove: int, scored: Scorer, told: Told) -> list[Round]:
    """Keep layers evenly spread, as Distil-Whisper does."""
    return _fixed(lambda count: set(range(depth)) - set(spread_layers(depth, depth - count)), remove, scored, told)


def _from_the_middle(depth: int, remove: int, scored: Scorer, told: Told) -> list[Round]:
    """Remove neighbours in the middle."""
    return _fixed(lambda count: range((depth - count) // 2, (depth + count) // 2), remove, scored, told)


def _fixed(gone: Callable[[int], Any], remove: int, scored: Scorer, told: Told) -> list[Round]:
    rounds = []
    for count in range(1, remove + 1):
        told(f"removal {count}", count - 1, remove)
        layers = tuple(sorted(gone(count)))
        rounds.append(Round(layers, scored(frozenset(layers)), {}))
    return rounds


def _silent(name: str, done: int, total: int | None) -> None:
    pass


ORDERS: Mapping[str, Callable[[int, int, Scorer, Told], list[Round]]] = {
    "importance": _by_importance,
    "even": _evenly,
    "middle": _from_the_middle,
}
"""How layers are chosen."""
