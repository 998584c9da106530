"""What several methods share."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from streamtrans.core import BadConfig


def largest(tensor: Tensor, part: float) -> Tensor:
    """Return ``tensor`` with all but its largest entries by amount set to 0; the first of equals stay."""
    count = round(tensor.numel() * part)
    flat = tensor.flatten()
    chosen = flat.abs().argsort(descending=True, stable=True)[:count]
    found = torch.zeros_like(flat)
    found[chosen] = flat[chosen]
    return found.view_as(tensor)


def total(tensors: Sequence[Tensor]) -> Tensor:
    """Add tensors of one shape."""
    return torch.stack(list(tensors)).sum(0)


def mean_scale(count: int) -> float:
    """Return the λ that makes a sum of ``count`` a mean."""
    return 1 / count


def share(name: str, value: float) -> None:
    """Refuse what is no share.

    Raises:
        BadConfig: it isn't above 0 and at most 1.
    """
    if not 0 < value <= 1:
        raise BadConfig(f"{name} is {value:g}; use more than 0 and at most 1")
