"""Pairs of sentences on their way to the network: drawn, cut into pieces, laid out in batches of equal work.

Law: a batch is a function of (tables, manifest, seed, step), and nothing that is scored is ever learnt from.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from streamtrans.core import BadConfig, Tokens
from streamtrans.corpus import Row, normalise, read_manifest
from streamtrans.corpus.parallel import read_parallel
from streamtrans.train.batches import stack_tokens
from streamtrans.train.translator.recipe import TranslatorRecipe
from streamtrans.train.translator.vocabulary import TextVocabulary

POOL = 64
"""Batches drawn together and sorted by length: larger pads less, and makes a resumed run draw more again."""
UNASKED = -1


@dataclass(frozen=True, slots=True)
class Pair:
    """A sentence and its translation."""

    source: str
    target: str
    text: str
    translation: str


@dataclass(frozen=True, slots=True)
class PairBatch:
    """Tensors of ``B`` pairs.

    ``read`` ``(B, S)`` with ``real`` ``(B, S)``; ``begun`` ``(B, T)`` is what the decoder reads, and ``labels``
    ``(B, T)`` what comes next, -1 where nothing is asked.
    """

    read: Tensor
    real: Tensor
    begun: Tensor
    labels: Tensor


class Pairs:
    """The sentences of a recipe: those to learn from in an endless order, and those that are held out."""

    def __init__(self, recipe: TranslatorRecipe) -> None:
        """Read the tables.

        Raises:
            BadConfig: one can't be read, or the manifest, or there is nothing in a direction.
        """
        self.recipe = recipe
        self.scored = _texts(recipe)
        """Those of the manifest."""
        self._never = {_spelt(pair.text, pair.source) for pair in self.scored}
        text = recipe.text
        self._rows = read_parallel(
            Path(text.tables), text.shares, recipe.seed, most_words=text.most_words, uncased=text.uncased
        )
        found = dict.fromkeys(
            pair for table in self._rows.tables for row in table for pair in self._pairs(row, held=True)
        )
        self.held = tuple(
            pair
            for source, to in recipe.directions.items()
            for target in to
            for pair in spread(
                [each for each in found if (each.source, each.target) == (source, target)], recipe.held.rows
            )
        )
        if not any(self._pairs(row, held=False) for table in self._rows.tables for row in table):
            raise BadConfig(f"no row of the tables in {text.tables} has a text in both languages of a direction")

    def texts(self) -> Iterator[str]:
        """Yield the sentences of the first epoch in all languages of the recipe, but for those that are held out."""
        for at in range(len(self._rows)):
            row = self._rows.row(at)
            if self._pairs(row, held=False):
                yield from (text for code, text in row.texts.items() if code in self.recipe.languages)

    def draw(self, pool: int) -> list[Pair]:
        """Return the pairs of a pool, one for each row that has any; of some only the beginning."""
        size, drawn = POOL * self.recipe.training.batch, list[Pair]()
        rng = np.random.default_rng([self.recipe.seed, 11, pool])
        at = pool * size
        for position in range(at, at + size):
            able = self._pairs(self._rows.row(position), held=False)
            chosen, cut, share = rng.random(3)
            if able:
                pair = able[int(chosen * len(able))]
                drawn.append(beginning(pair, share) if cut < self.recipe.training.beginnings else pair)
        return drawn

    def _pairs(self, row: Row, *, held: bool) -> list[Pair]:
        """Return what a row says in the directions of the recipe, if it is one of those held out, or of the others."""
        texts = row.texts
        able = [
            Pair(source, target, texts[source], texts[target])
            for source, to in self.recipe.directions.items()
            for target in to
            if source in texts and target in texts
        ]
        return able if able and self._is_held({pair.source: pair.text for pair in able}) == held else []

    def _is_held(self, read: Mapping[str, str]) -> bool:
        """Say whether one of the sentences is held out or scored, however it is spelt and wherever it stands."""
        spelt = {_spelt(text, language) for language, text in read.items()}
        held = min(zlib.crc32(text) % 1000 for text in spelt) < self.recipe.held.per_mille
        return held or not spelt.isdisjoint(self._never)


def _spelt(text: str, language: str) -> bytes:
    return normalise(text, language).encode()


def _texts(recipe: TranslatorRecipe) -> tuple[Pair, ...]:
    """Return the texts of the manifest in the directions of the recipe."""
    if not recipe.held.manifest:
        return ()
    found, problems = read_manifest(recipe.held.manifest)
    if problems:
        raise BadConfig(problems[0])
    return tuple(
        Pair(each.language, target, each.text, each.texts[target])
        for each in found
        for target in recipe.directions.get(each.language, ())
        if target in each.texts and each.text
    )


def beginning(pair: Pair, share: float) -> Pair:
    """Return what is said at first: equal shares of the words of both texts, one at least."""
    text, translation = (
        " ".join(words[: max(1, round(share * len(words)))]) for words in (pair.text.split(), pair.translation.split())
    )
    return Pair(pair.source, pair.target, text, translation)


def spread(pairs: Sequence[Pair], count: int) -> list[Pair]:
    """Return at most ``count`` of the pairs, evenly spread."""
    count = min(count, len(pairs))
    return [pairs[at * len(pairs) // count] for at in range(count)]


def batches(pairs: Pairs, vocabulary: TextVocabulary, step: int) -> Iterator[PairBatch]:
    """Yield batches from a step on, without end.

    Raises:
        BadConfig: all pairs are longer than the positions of the network.
    """
    seed = pairs.recipe.seed
    pool = step // POOL
    while True:
        lines = [
            (vocabulary.question(pair.target, pair.text), vocabulary.answer(pair.translation))
            for pair in pairs.draw(pool)
        ]
        order = np.random.default_rng([seed, 12, pool]).permutation(POOL)
        most = pairs.recipe.network.positions
        short = [line for line in lines if max(map(len, line)) <= most]
        if not short:
            raise BadConfig(f"[network]: positions is {most}, and no pair of {len(lines)} is so short; give more")
        made = _shared_out(short)
        for number, place in enumerate(order, start=pool * POOL):
            if number >= step:
                yield lay_out(made[place], vocabulary)
        pool += 1


def _shared_out(lines: Sequence[tuple[Tokens, Tokens]]) -> list[list[tuple[Tokens, Tokens]]]:
    """Share pairs out among the batches of a pool by length, each about as many tokens and at least one pair."""
    ordered = sorted(lines, key=lambda line: (len(line[1]), len(line[0])))
    ends = np.cumsum([len(text) + len(answer) for text, answer in ordered])
    cuts = np.searchsorted(ends, ends[-1] * np.arange(1, POOL) / POOL)
    edges = [0, *(int(cut) for cut in cuts), len(ordered)]
    return [ordered[min(first, len(ordered) - 1) : max(first + 1, last)] for first, last in pairwise(edges)]


def lay_out(lines: Sequence[tuple[Tokens, Tokens]], vocabulary: TextVocabulary) -> PairBatch:
    """Turn questions and answers into tensors."""
    read = stack_tokens([question for question, _ in lines], vocabulary.pad, 1)
    begun = [(vocabulary.eos, *answer[:-1]) for _, answer in lines]
    return PairBatch(
        read,
        torch.arange(read.shape[1]) < torch.tensor([[len(question)] for question, _ in lines]),
        stack_tokens(begun, vocabulary.pad, 1),
        stack_tokens([answer for _, answer in lines], UNASKED, 1),
    )
