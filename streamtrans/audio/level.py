"""How loud a recording is: on which scale its samples are."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
import numpy.typing as npt

from streamtrans.core import BadAudio

_SCALES = (15, 23, 31)
"""Bits of the integers that end up as floats without having been divided."""

_HOT = 32.0
"""Up to here samples are of an overdriven mix, beyond it on the scale of integers."""

_ENOUGH = 1_600
"""Samples with sound after which a scale is told. Larger: later; smaller: a few wrong ones say it."""

_SHARE = 0.01
"""Share of the samples beyond 1 from which they aren't clicks, which are clipped."""


class ScaleWatch:
    """Notices while samples arrive that they are on another scale: those that came already can't be read anew."""

    def __init__(self) -> None:
        self._peak, self._beyond, self._sounding = 0.0, 0, 0

    def see(self, values: npt.NDArray[np.float32]) -> None:
        """Take the next samples, all of them finite."""
        sizes = np.abs(values)
        self._peak = max(self._peak, float(sizes.max(initial=0.0)))
        self._beyond += int(np.count_nonzero(sizes > 1))
        self._sounding += int(np.count_nonzero(sizes))

    @property
    def problem(self) -> str | None:
        """What is wrong with the scale so far, and what would be right."""
        if self._peak <= _HOT or self._sounding < _ENOUGH or self._beyond <= _SHARE * self._sounding:
            return None
        return f"samples reach {self._peak:g} and are clipped: floating-point audio lies within -1 and 1"


def scale(blocks: Iterable[npt.NDArray[np.float32]], note: Callable[[str], None]) -> float:
    """Return the factor that brings floating-point samples into [-1, 1]; 1.0 where they are there already.

    Args:
        blocks: all frames of a recording.
        note: is told where samples are on another scale.

    Raises:
        BadAudio: they are on no scale.
    """
    peak, beyond, sounding = 0.0, 0, 0
    for frames in blocks:
        sizes = np.abs(frames[np.isfinite(frames)])
        peak = max(peak, float(sizes.max(initial=0.0)))
        beyond += int(np.count_nonzero(sizes > 1))
        sounding += int(np.count_nonzero(sizes))
    if beyond <= _SHARE * sounding:
        return 1.0
    if peak <= _HOT:
        return 1 / peak
    bits = next((bits for bits in _SCALES if peak <= 2**bits), None)
    if bits is None:
        raise BadAudio(f"its samples reach {peak:g}; floating-point audio lies within -1 and 1")
    note(f"its samples reach {peak:g}, as integers of {bits + 1} bits do: they are read on that scale")
    return 2.0**-bits
