"""From hidden states to answers: which rows are asked for, what may be chosen, and what was chosen.

Law: what is answered of a row follows from the row alone.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, islice

import torch
from torch import Tensor

from streamtrans.core import BadAnswer, Tokens
from streamtrans.model.api import Choices, Forward
from streamtrans.model.guessing import best_candidates


@dataclass(frozen=True, slots=True)
class Rules:
    """What a model may choose of ``size`` tokens.

    ``suppressed`` tokens are never chosen, those that are ``begin_suppressed`` not at position ``begin``, where texts
    begin. Where a model may end a text in several ways, ``ends`` lists the others: each of them counts as ``eot``.
    """

    size: int
    eot: int
    suppressed: frozenset[int] = frozenset()
    begin_suppressed: frozenset[int] = frozenset()
    begin: int = 0
    ends: frozenset[int] = frozenset()


class Scorer:
    """Answers a pass for a model called ``name``, by its rules."""

    def __init__(self, name: str, rules: Rules, device: torch.device, dtype: torch.dtype) -> None:
        self.name, self.rules, self.device = name, rules, device
        self.dtype = torch.float64 if dtype == torch.float64 else torch.float32
        """Of scores, whatever the network computes in."""
        self.suppression = torch.zeros(rules.size, device=device, dtype=self.dtype)
        self.suppression[sorted(rules.suppressed | rules.ends)] = float("-inf")
        self._ends = torch.tensor(sorted({rules.eot, *rules.ends}), device=device)

    def stack(self, lines: Sequence[Tokens]) -> Tensor:
        """Return lines of tokens as ``(B, T)``, padded at the end."""
        longest = max(len(line) for line in lines)
        return torch.tensor([(*line, *(self.rules.eot,) * (longest - len(line))) for line in lines], device=self.device)

    def answered(self, x: Tensor, asked: Sequence[Forward]) -> Tensor:
        """Return the rows ``(R, E)`` of ``x`` ``(B, T, E)`` that are to be answered, text after text."""
        if len({(len(item.tokens), item.rows) for item in asked}) == 1:
            return x[:, -asked[0].rows :].flatten(0, 1)
        places = [
            (row, place)
            for row, item in enumerate(asked)
            for place in range(len(item.tokens) - item.rows, len(item.tokens))
        ]
        where = torch.tensor(places, device=self.device)
        return x[where[:, 0], where[:, 1]]

    def answer(self, logits: Tensor, asked: Sequence[Forward]) -> list[Choices]:
        """Return what is chosen by logits ``(R, V)``; the caches have the lengths from before the pass.

        Raises:
            BadAnswer: the scores of a text aren't finite.
        """
        scores = logits.to(self.dtype)
        if len(self._ends) > 1:
            scores[:, self.rules.eot] = scores[:, self._ends].amax(-1)
        scores += self.suppression
        self._mask_begin(scores, asked)
        return self._with_candidates(scores, self._choices(scores, asked), asked)

    def _mask_begin(self, scores: Tensor, asked: Sequence[Forward]) -> None:
        """Mask what may not begin a text, in those of the rows ``(R, V)`` that choose a first token."""
        if not self.rules.begin_suppressed:
            return
        rows, start = [], 0
        for item in asked:
            first = item.cache.length + len(item.tokens) - item.rows  # the position whose row is answered first
            place = self.rules.begin - 1 - first
            rows += [start + place] if 0 <= place < item.rows else []
            start += item.rows
        if rows:
            tokens = sorted(self.rules.begin_suppressed)
            scores[torch.tensor(rows)[:, None], torch.tensor(tokens)] = float("-inf")

    def _choices(self, scores: Tensor, asked: Sequence[Forward]) -> list[Choices]:
        best, choice = scores.max(-1)
        rest = (scores - best[:, None]).exp_().sum(-1).log_()
        tokens, logprobs = choice.tolist(), (-rest).tolist()
        if not all(map(math.isfinite, logprobs)):
            raise BadAnswer(f"the scores of {self.name} aren't finite, so there is nothing to choose from")
        starts = [0, *accumulate(item.rows for item in asked)]
        drafted = {
            row: token
            for start, item in zip(starts, asked, strict=False)
            for row, token in enumerate(item.draft, start)
        }
        # Where the draft is the choice itself its rank is 0 by definition, whatever ties there are.
        judged = {row: (0, logprobs[row]) for row in drafted}
        judged |= self._judge(scores, best + rest, {row: new for row, new in drafted.items() if new != tokens[row]})
        found = []
        for start, item in zip(starts, asked, strict=False):
            draft = [judged[row] for row in range(start, start + len(item.draft))]
            found.append(
                Choices(
                    tokens=tuple(tokens[start : start + item.rows]),
                    logprobs=tuple(logprobs[start : start + item.rows]),
                    ranks=tuple(rank for rank, _ in draft),
                    draft_logprobs=tuple(logprob for _, logprob in draft),
                )
            )
        return found

    def _with_candidates(self, scores: Tensor, answers: list[Choices], asked: Sequence[Forward]) -> list[Choices]:
        """Add the best tokens of each row ``(R, V)`` for the texts that want some, in one selection for all."""
        if not any(item.width for item in asked):
            return answers
        rows = iter(best_candidates(scores, [item.width for item in asked for _ in range(item.rows)]))
        found = [tuple(islice(rows, item.rows)) for item in asked]  # of those that want none, too: rows stand in a row
        return [
            replace(answer, candidates=best if item.width else ())
            for answer, item, best in zip(answers, asked, found, strict=True)
        ]

    def _judge(self, scores: Tensor, totals: Tensor, missed: dict[int, int]) -> dict[int, tuple[int, float]]:
        """Return how many tokens the model prefers to each missed draft (row → token), and its log-probability."""
        if not missed:
            return {}
        rows, tokens = torch.tensor([[*missed], [*missed.values()]], device=self.device)
        scores = scores[rows]
        own = scores.gather(1, tokens[:, None])
        lower = torch.arange(scores.shape[1], device=self.device) < tokens[:, None]
        ahead = ((scores > own) | ((scores == own) & lower)).sum(-1)
        logprobs = own[:, 0] - totals[rows]
        return dict(zip(missed, zip(ahead.tolist(), logprobs.tolist(), strict=True), strict=True))
