"""Task arithmetic: the whole differences, added and scaled (Ilharco et al. 2023, arXiv 2212.04089)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from streamtrans.compress.merging.parts import total


@dataclass(frozen=True, slots=True)
class TaskArithmetic:
    """Keep everything, and add."""

    additive: ClassVar[bool] = True
    factor: float = 0.3
    """λ, whatever the number of models; 0.3 to 0.4 does best in the source's figures."""

    def scale(self, count: int) -> float:  # noqa: ARG002 (the same for any number)
        """Return the factor."""
        return self.factor

    def keep(self, difference: Tensor, name: str, model: str) -> Tensor:  # noqa: ARG002 (others draw lots by them)
        """Return all of it."""
        return difference

    def join(self, kept: Sequence[Tensor]) -> Tensor:
        """Add."""
        return total(kept)
