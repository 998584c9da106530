"""The loss of *directions*: texts and anchor scored by one product with the vocabulary, forward and back.

Per labelled position it is ``own`` times the cross-entropy of the text and ``pull`` times the KL divergence from what
the anchor believes, so its gradient is ``(own + pull) softmax - own text - pull believed``: no logits are made twice
and none are kept.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

CHUNK = 128
"""Rows scored at once, so that their logits stay in the cache of a core."""


class _Scored(torch.autograd.Function):
    @staticmethod
    def forward(  # type: ignore[override]  # noqa: PLR0917 - autograd hands its arguments over by position
        ctx: Any, hidden: Tensor, weight: Tensor, gold: Tensor, ids: Tensor, shares: Tensor, pull: float, known: float
    ) -> tuple[Tensor, Tensor]:
        d_hidden = torch.empty_like(hidden)
        texts, apart = hidden.new_zeros(2, dtype=torch.float32)
        for at in range(0, len(hidden), CHUNK):
            rows = slice(at, at + CHUNK)
            logits = (hidden[rows] @ weight.t()).float()
            logits -= logits.logsumexp(-1, keepdim=True)
            held = shares[rows]
            own = torch.where(held.sum(-1, keepdim=True) > 0, known, 1.0)
            texts = texts - (own * logits.gather(1, gold[rows, None])).sum()
            apart = apart + (torch.special.xlogy(held, held) - held * logits.gather(1, ids[rows])).sum()
            delta = logits.exp_()
            delta *= own + pull * held.sum(-1, keepdim=True)
            delta.scatter_add_(1, gold[rows, None], -own)
            delta.scatter_add_(1, ids[rows], -pull * held)
            d_hidden[rows] = delta.to(hidden.dtype) @ weight
        terms = torch.stack([texts, apart])
        ctx.save_for_backward(d_hidden)
        ctx.mark_non_differentiable(terms)
        return texts + pull * apart, terms

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (d_hidden,) = ctx.saved_tensors
        return d_hidden * gradients[0].to(d_hidden.dtype), None, None, None, None, None, None


def anchored_cross_entropy(
    hidden: Tensor, weight: Tensor, gold: Tensor, ids: Tensor, shares: Tensor, *, pull: float, known: float = 1.0
) -> tuple[Tensor, dict[str, Tensor]]:
    """Return the mean loss of rows, and its terms: ``texts`` per row, ``anchor`` per row that has one.

    Args:
        hidden: ``(R, E)`` states to score.
        weight: ``(V, E)`` output projection, which doesn't learn.
        gold: ``(R,)`` what comes next.
        ids: ``(R, K)`` the anchor's likeliest tokens, each once.
        shares: ``(R, K)`` how likely they are, summing to 1, or to less where the anchor counts less.
        pull: weight of the anchor.
        known: weight of the text where the anchor believes something.
    """
    if torch.is_autocast_enabled(hidden.device.type):
        hidden = hidden.to(torch.get_autocast_dtype(hidden.device.type))
    matrix, shares = weight.detach().to(hidden.dtype), shares.float()
    total, terms = _Scored.apply(hidden, matrix, gold, ids.long(), shares, pull, known)  # type: ignore[no-untyped-call]
    held = (shares.sum(-1) > 0).sum().clamp(min=1)
    return total / max(1, len(gold)), {"texts": terms[0] / max(1, len(gold)), "anchor": terms[1] / held}
