"""Whether a series that is measured again and again still grows, honestly: its samples resemble their neighbours.

Memory that is measured every few seconds is nearly the same each time, so a line through all samples looks far
surer than it is. Means of long blocks hardly depend on each other; what dependence is left widens the interval.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

_FEWEST = 4
"""Blocks for a slope and its error."""


@dataclass(frozen=True, slots=True)
class Trend:
    """A slope in units per minute with its 95 % interval.

    ``blocks`` means went into it. ``correlation`` is that of the line's residuals with the next ones.
    """

    per_minute: float
    low: float
    high: float
    blocks: int
    correlation: float

    @property
    def grows(self) -> bool:
        """Whether growth is certain at this level."""
        return self.low > 0


def trend(minutes: npt.ArrayLike, values: npt.ArrayLike, *, block: float) -> Trend | None:
    """Fit a line through means of blocks of ``block`` minutes; ``None`` for fewer than four full blocks.

    With n blocks whose residuals correlate by r > 0 from one to the next, only n (1 - r) / (1 + r) count
    (Bayley and Hammersley 1946, "The 'effective' number of independent observations in an autocorrelated series").

    Args:
        minutes: ``(n,)``, when each value was measured.
        values: ``(n,)``.
        block: longer leaves less dependence and fewer means.
    """
    at, value = np.asarray(minutes, np.float64), np.asarray(values, np.float64)
    if not len(at):
        return None
    place = ((at - at[0]) / block).astype(int)
    full = int((at[-1] - at[0]) / block + 0.1)  # the last sample stands a little before the end of its block
    means = [(at[place == n].mean(), value[place == n].mean()) for n in range(full) if (place == n).any()]
    count = len(means)
    if count < _FEWEST:
        return None
    x, y = np.array(means).T
    x = x - x.mean()
    slope = float(x @ y / (x @ x))
    left = y - y.mean() - slope * x
    spread = float(left @ left)
    correlation = float(left[1:] @ left[:-1] / spread) if spread else 0.0
    # A line through few points takes up some of the dependence; as much as it takes at most is put back.
    assumed = min(0.9, max(0.0, correlation + 4 / count))
    effective = max(5.0, count * (1 - assumed) / (1 + assumed))
    error = math.sqrt(spread / (count - 2) / float(x @ x) * count / effective)
    margin = _student(effective - 2) * error
    return Trend(slope, slope - margin, slope + margin, count, correlation)


def _student(freedom: float) -> float:
    """Return the quantile 0.975 of Student's t for 3 degrees of freedom and more, within 0.03.

    Abramowitz and Stegun 1964, 26.7.5.
    """
    z = NormalDist().inv_cdf(0.975)
    terms = (z, (z**3 + z) / 4, (5 * z**5 + 16 * z**3 + 3 * z) / 96, (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384)
    return sum(term / freedom**n for n, term in enumerate(terms))
