"""The plain average of the weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from streamtrans.compress.merging.parts import mean_scale, total


@dataclass(frozen=True, slots=True)
class Mean:
    """Keep everything, and average."""

    additive: ClassVar[bool] = True

    def scale(self, count: int) -> float:
        """Return one part in ``count``."""
        return mean_scale(count)

    def keep(self, difference: Tensor, name: str, model: str) -> Tensor:  # noqa: ARG002 (others draw lots by them)
        """Return all of it."""
        return difference

    def join(self, kept: Sequence[Tensor]) -> Tensor:
        """Add."""
        return total(kept)
