"""TIES: trim, elect a sign per entry, and average those who agree (Yadav et al. 2023, arXiv 2306.01708)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from streamtrans.compress.merging.parts import largest, share


@dataclass(frozen=True, slots=True)
class Ties:
    """Keep the largest entries; where models disagree on a sign, the heavier side counts alone."""

    additive: ClassVar[bool] = False
    entries: float = 0.2
    """Share of entries that stay."""

    def __post_init__(self) -> None:
        share("entries", self.entries)

    def scale(self, count: int) -> float:  # noqa: ARG002 (a mean is taken already)
        """Return 1: what is joined is a mean."""
        return 1.0

    def keep(self, difference: Tensor, name: str, model: str) -> Tensor:  # noqa: ARG002 (others draw lots by them)
        """Return the largest entries."""
        return largest(difference, self.entries)

    def join(self, kept: Sequence[Tensor]) -> Tensor:
        """Average the entries of the elected sign; an entry that nobody kept stays 0."""
        stacked = torch.stack(list(kept))
        elected = stacked.sum(0).sign()
        agreeing = stacked * (stacked.sign() == elected)
        count = (agreeing != 0).sum(0).clamp(min=1)
        return agreeing.sum(0) / count
