"""Speech is what stands out of the noise: a detector without weights, for tests and tiny machines.

In four bands, each with a noise floor of its own: a voice is far above noise in some band where it isn't in all.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from streamtrans.core import SAMPLE_RATE, BadAudio, BadConfig
from streamtrans.vad.protocol import Probabilities, Windows, check_windows

EDGES_HZ = (100, 500, 1200, 3000, 7500)
"""Between them lie the bands: pitch and first formants, the next ones, hissing."""

Floors = tuple[float, ...]
"""A noise floor per band, in dB."""


@dataclass(frozen=True, slots=True)
class EnergyConfig:
    """Settings of :class:`EnergyVad`; levels per band, in dB relative to full scale."""

    start_floor_db: float = -50.0
    """Noise floor assumed at the beginning. Higher: quiet speech is missed until the floor has sunk;
    lower: noise counts as speech until the floor has risen."""
    lowest_floor_db: float = -70.0
    """The floor never sinks below it. Lower: a faint hiss after digital silence counts as speech."""
    rise_db_per_s: float = 3.0
    """How fast the floor follows louder audio. Larger: adapts sooner to noise, but long vowels fade."""
    fall_share: float = 0.1
    """Share of the way to a lower level that the floor sinks per window. Larger: one quiet window counts
    for more."""
    margin_db: float = 5.0
    """Level above the floor at which the probability is one half. Larger: fewer false alarms; smaller:
    fewer missed words."""
    slope_db: float = 1.0
    """Level change that moves the log odds by one. Larger: softer decisions."""

    def __post_init__(self) -> None:
        for name in ("rise_db_per_s", "margin_db", "slope_db"):
            if not getattr(self, name) > 0:
                raise BadConfig(f"{name} must be positive; got {getattr(self, name)}")
        if not 0 < self.fall_share <= 1:
            raise BadConfig(f"fall_share must be in (0, 1]; got {self.fall_share}")
        if self.lowest_floor_db > self.start_floor_db:
            raise BadConfig(
                f"lowest_floor_db ({self.lowest_floor_db}) must not exceed start_floor_db ({self.start_floor_db})"
            )


class EnergyVad:
    """Compare each window's levels with adaptive noise floors; the state is those floors.

    What stands out most counts. The level of a band is that of 30 ms; steady noise moves it by some 1 dB.
    """

    window = 480

    def __init__(self, config: EnergyConfig | None = None) -> None:
        """Use ``config``, or the defaults."""
        self.config = config or EnergyConfig()
        self._taper = np.hanning(self.window)
        # so that the bands' powers sum up to the mean square of what lies in them
        self._scale = 2 / (self.window * np.square(self._taper).sum())
        edges = [math.ceil(hertz * self.window / SAMPLE_RATE) for hertz in EDGES_HZ]
        self._bands = list(pairwise(edges))

    def detect(self, streams: Sequence[tuple[Windows, object | None]]) -> list[tuple[Probabilities, object | None]]:
        """Answer for several streams at once; see :class:`streamtrans.vad.Vad`."""
        return [self._follow(windows, state) for windows, state in streams]

    def _follow(self, windows: Windows, state: object | None) -> tuple[Probabilities, Floors]:
        check_windows(windows, self.window)
        config = self.config
        floors = self._floors(state)
        rise = config.rise_db_per_s * self.window / SAMPLE_RATE
        probabilities = np.empty(len(windows), np.float32)
        for i, levels in enumerate(self._levels(windows).tolist()):
            above = max(level - floor for level, floor in zip(levels, floors, strict=True))
            probabilities[i] = _logistic((above - config.margin_db) / config.slope_db)
            for band, level in enumerate(levels):
                floor = floors[band]
                if level < floor:
                    floors[band] = max(floor + config.fall_share * (level - floor), config.lowest_floor_db)
                else:
                    floors[band] = min(floor + rise, level)
        return probabilities, tuple(floors)

    def _floors(self, state: object | None) -> list[float]:
        if state is None:
            return [self.config.start_floor_db] * len(self._bands)
        if not (isinstance(state, tuple) and len(state) == len(self._bands)):
            raise BadAudio(f"the energy detector's state is a tuple of {len(self._bands)} floors; got {state!r}")
        return list(state)

    def _levels(self, windows: Windows) -> npt.NDArray[np.float64]:
        """Return the level of each band, in dB: ``(count, window)`` → ``(count, bands)``."""
        power = np.square(np.abs(np.fft.rfft(windows.astype(np.float64) * self._taper)))
        levels: npt.NDArray[np.float64] = np.empty((len(windows), len(self._bands)))
        for band, (low, high) in enumerate(self._bands):
            levels[:, band] = power[:, low:high].sum(axis=1)
        decibels: npt.NDArray[np.float64] = 10 * np.log10(levels * self._scale + 1e-12)
        return decibels


def _logistic(x: float) -> float:
    # tanh saturates where exp would overflow.
    return 0.5 * (1 + math.tanh(x / 2))
