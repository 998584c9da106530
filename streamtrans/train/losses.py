"""Losses that never keep the logits: scored chunk by chunk, with the gradient made on the way.

Logits over the vocabulary are the largest tensors of training. Each chunk's logits live only until the gradient of
the loss with respect to the hidden states and the shared embedding has been taken from them.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

CHUNK = 512
"""Rows of hidden states scored at once: larger needs more memory, smaller more launches."""


class _Scored(torch.autograd.Function):
    """Cross-entropy of a linear layer's outputs against labels or against a teacher's distribution."""

    @staticmethod
    def forward(  # type: ignore[override]  # noqa: PLR0917 - autograd hands its arguments over by position
        ctx: Any, hidden: Tensor, weight: Tensor, labels: Tensor, teacher: Tensor | None, smoothing: float
    ) -> Tensor:
        """Return the loss summed over rows; with a teacher it is the KL divergence from it."""
        width, vocabulary = hidden.shape[1], weight.shape[0]
        matrix = weight.to(hidden.dtype)
        d_hidden = torch.empty_like(hidden)
        # A frozen projection, which is half of the work, is not asked for a gradient.
        d_weight = torch.zeros(vocabulary, width, device=hidden.device) if weight.requires_grad else None
        total = torch.zeros((), dtype=torch.float32, device=hidden.device)
        for at in range(0, hidden.shape[0], CHUNK):
            rows = slice(at, at + CHUNK)
            logits = (hidden[rows] @ matrix.t()).float()
            log_norm = logits.logsumexp(-1, keepdim=True)
            if teacher is None:
                gold = labels[rows, None]
                picked = (logits.gather(1, gold) - log_norm).sum()
                uniform = (logits.mean(-1, keepdim=True) - log_norm).sum()
                total -= (1 - smoothing) * picked + smoothing * uniform
                delta = (logits - log_norm).exp_()
                delta -= smoothing / vocabulary
                delta.scatter_add_(1, gold, torch.full_like(gold, -(1 - smoothing), dtype=delta.dtype))
            else:
                target = (teacher[rows] @ matrix.t()).float().log_softmax(-1)
                believed = logits - log_norm
                total += (target.exp() * (target - believed)).sum()
                delta = believed.exp_() - target.exp_()
            delta = delta.to(hidden.dtype)
            d_hidden[rows] = delta @ matrix
            if d_weight is not None:
                d_weight += (delta.t() @ hidden[rows]).float()
        ctx.save_for_backward(d_hidden, None if d_weight is None else d_weight.to(weight.dtype))
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """Scale the gradients made in the forward pass."""
        d_hidden, d_weight = ctx.saved_tensors
        scale = gradients[0]
        return (
            d_hidden * scale.to(d_hidden.dtype),
            None if d_weight is None else d_weight * scale,
            None,
            None,
            None,
        )


def cross_entropy(hidden: Tensor, weight: Tensor, labels: Tensor, *, smoothing: float = 0.0) -> Tensor:
    """Return the mean cross-entropy of labelled positions.

    Args:
        hidden: ``(B, T, E)`` states to score.
        weight: ``(V, E)`` output projection.
        labels: ``(B, T)``; negative where a position does not count.
        smoothing: share of the target mass that is spread over the vocabulary.
    """
    rows, gold = _labelled(hidden, labels)
    return _apply(rows, weight, gold, None, smoothing) / max(1, gold.shape[0])


def divergence(hidden: Tensor, teacher: Tensor, weight: Tensor, labels: Tensor) -> Tensor:
    """Return the mean KL divergence of the student from the (detached) teacher at labelled positions.

    ``hidden`` and ``teacher`` are ``(B, T, E)`` states scored by the same projection ``weight``.
    """
    rows, gold = _labelled(hidden, labels)
    taught, _ = _labelled(teacher.detach(), labels)
    return _apply(rows, weight, gold, taught.to(rows.dtype), 0.0) / max(1, gold.shape[0])


def _labelled(hidden: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    chosen = labels.flatten() >= 0
    return hidden.flatten(0, 1)[chosen], labels.flatten()[chosen]


def _apply(rows: Tensor, weight: Tensor, gold: Tensor, teacher: Tensor | None, smoothing: float) -> Tensor:
    if torch.is_autocast_enabled(rows.device.type):
        work = torch.get_autocast_dtype(rows.device.type)
        rows, teacher = rows.to(work), None if teacher is None else teacher.to(work)
    total: Tensor = _Scored.apply(rows, weight, gold, teacher, smoothing)  # type: ignore[no-untyped-call]
    return total
