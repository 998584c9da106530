"""From hidden states to answers: which rows are asked for, what may be chosen, and what was chosen.

Law: what is answered of a row follows from the row alone.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import islice

import torch
from torch import Tensor

from streamtrans.core import BadAnswer, Tokens
from streamtrans.model import native
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
        native.library()  # compiled while a model is loaded, not while somebody waits for an answer
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
        self._mask_begin(scores, asked)
        drafts = [token for item in asked for token in (*item.draft, *(None,) * (item.rows - len(item.draft)))]
        weigh = weigh_at_once if fits(scores) else weigh_by_operators
        weighed = weigh(scores, self.suppression, drafts)
        if not all(math.isfinite(row.logprob) for row in weighed):
            raise BadAnswer(f"the scores of {self.name} aren't finite, so there is nothing to choose from")
        return self._with_candidates(scores, _choices(weighed, asked), asked)

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


@dataclass(frozen=True, slots=True)
class Weighed:
    """What a row of scores says: the best token; of a draft how many are preferred to it, and its log-probability."""

    token: int
    logprob: float
    rank: int = 0
    draft_logprob: float = 0.0


def weigh_by_operators(scores: Tensor, mask: Tensor, drafts: Sequence[int | None]) -> list[Weighed]:
    """Weigh each row of ``scores`` ``(R, V)``, to which ``mask`` ``(V,)`` is added in place, and its draft."""
    scores += mask
    best, choice = scores.max(-1)
    rest = (scores - best[:, None]).exp_().sum(-1).log_()
    tokens, logprobs = choice.tolist(), (-rest).tolist()
    # Where the draft is the choice itself its rank is 0 by definition, whatever ties there are.
    missed = {row: token for row, token in enumerate(drafts) if token is not None and token != tokens[row]}
    judged = _judge(scores, best + rest, missed)
    return [
        Weighed(token, logprob, *judged.get(row, (0, logprob)))
        for row, (token, logprob) in enumerate(zip(tokens, logprobs, strict=True))
    ]


def weigh_at_once(scores: Tensor, mask: Tensor, drafts: Sequence[int | None]) -> list[Weighed]:
    """Do the same in one call, for scores that :func:`fits` is true of."""
    count, size = scores.shape
    numbers, floats = native.int32_arrays(3, count), native.float_arrays(3, count)
    (asked, best, ahead), (top, rest, own) = numbers, floats
    asked[:] = [-1 if token is None else token for token in drafts]
    native.call(
        "streamtrans_choose",
        scores.data_ptr(),
        count,
        size,
        scores.stride(0),
        mask.data_ptr(),
        *(asked, best, ahead, top, rest, own),
    )
    return [
        Weighed(token, -others, 0, -others)
        if draft in (token, -1)
        else Weighed(token, -others, preferred, mine - (most + others))
        for draft, token, preferred, most, others, mine in zip(asked, best, ahead, top, rest, own, strict=True)
    ]


def fits(scores: Tensor) -> bool:
    """Return whether :func:`weigh_at_once` can read ``scores``, and is there."""
    plain = scores.device.type == "cpu" and scores.dtype == torch.float32 and scores.stride(-1) == 1
    return plain and native.library() is not None


def _choices(weighed: Sequence[Weighed], asked: Sequence[Forward]) -> list[Choices]:
    found, rows = [], iter(weighed)
    for item in asked:
        mine = list(islice(rows, item.rows))
        judged = mine[: len(item.draft)]
        found.append(
            Choices(
                tokens=tuple(row.token for row in mine),
                logprobs=tuple(row.logprob for row in mine),
                ranks=tuple(row.rank for row in judged),
                draft_logprobs=tuple(row.draft_logprob for row in judged),
            )
        )
    return found


def _judge(scores: Tensor, totals: Tensor, missed: dict[int, int]) -> dict[int, tuple[int, float]]:
    """Return how many tokens the model prefers to each missed draft (row → token), and its log-probability."""
    if not missed:
        return {}
    rows, tokens = torch.tensor([[*missed], [*missed.values()]], device=scores.device)
    scores = scores[rows]
    own = scores.gather(1, tokens[:, None])
    lower = torch.arange(scores.shape[1], device=scores.device) < tokens[:, None]
    ahead = ((scores > own) | ((scores == own) & lower)).sum(-1)
    logprobs = own[:, 0] - totals[rows]
    return dict(zip(missed, zip(ahead.tolist(), logprobs.tolist(), strict=True), strict=True))
