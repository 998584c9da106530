"""DARE: drop entries at random, and rescale the rest (Yu et al. 2024, arXiv 2311.03099)."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from streamtrans.compress.merging.parts import mean_scale, share, total


@dataclass(frozen=True, slots=True)
class Dare:
    """Keep random entries, each times what makes up for those that are gone."""

    additive: ClassVar[bool] = True
    entries: float = 0.1
    """Share of entries that stay."""
    seed: int = 0

    def __post_init__(self) -> None:
        share("entries", self.entries)

    def scale(self, count: int) -> float:
        """Return one part in ``count``."""
        return mean_scale(count)

    def keep(self, difference: Tensor, name: str, model: str) -> Tensor:
        """Draw by tensor and model, so that what is drawn doesn't depend on the others."""
        draw = torch.Generator().manual_seed(zlib.crc32(f"{self.seed} {model} {name}".encode()))
        stays = torch.rand(difference.shape, generator=draw) < self.entries
        return difference * stays / self.entries

    def join(self, kept: Sequence[Tensor]) -> Tensor:
        """Add."""
        return total(kept)
