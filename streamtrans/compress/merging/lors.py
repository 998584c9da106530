"""LoRS: low rank first, then the largest entries of what that leaves (arXiv 2502.17380)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from streamtrans.compress.merging.parts import largest, mean_scale, share, total


@dataclass(frozen=True, slots=True)
class LowRankAndSparse:
    """Keep the first singular directions of a difference, and of the residual its largest entries."""

    additive: ClassVar[bool] = True
    rank_share: float = 0.01
    """Of the width: 7 directions at Whisper small's 768, 5 at base's 512."""
    entries: float = 0.2
    """Share of the residual's entries that stay."""

    def __post_init__(self) -> None:
        share("rank_share", self.rank_share)
        share("entries", self.entries)

    def scale(self, count: int) -> float:
        """Return 0.2 for the paper's five models: their mean."""
        return mean_scale(count)

    def keep(self, difference: Tensor, name: str, model: str) -> Tensor:  # noqa: ARG002 (others draw lots by them)
        """Return low rank plus sparse residual."""
        rank = max(1, int(min(difference.shape) * self.rank_share))
        left, values, right = torch.linalg.svd(difference, full_matrices=False)
        low: Tensor = (left[:, :rank] * values[:rank]) @ right[:rank]
        return low + largest(difference - low, self.entries)

    def join(self, kept: Sequence[Tensor]) -> Tensor:
        """Add."""
        return total(kept)
