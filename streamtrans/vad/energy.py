"""Speech is what stands out of the noise: a detector without weights, for tests and tiny machines."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from streamtrans.audio import energies
from streamtrans.core import SAMPLE_RATE, BadAudio, BadConfig
from streamtrans.vad.protocol import Probabilities, Windows, check_windows


@dataclass(frozen=True, slots=True)
class EnergyConfig:
    """Settings of :class:`EnergyVad`; levels in dB relative to full scale."""

    start_floor_db: float = -50.0
    """Noise floor assumed at the beginning. Higher: quiet speech is missed until the floor has sunk;
    lower: noise counts as speech until the floor has risen."""
    lowest_floor_db: float = -65.0
    """The floor never sinks below it. Lower: a faint hum after digital silence counts as speech."""
    rise_db_per_s: float = 3.0
    """How fast the floor follows louder audio. Larger: adapts sooner to noise, but long vowels fade."""
    fall_share: float = 0.2
    """Share of the way to a lower level that the floor sinks per window. Larger: one quiet window counts
    for more."""
    margin_db: float = 9.0
    """Level above the floor at which the probability is one half. Larger: fewer false alarms; smaller:
    fewer missed words."""
    slope_db: float = 2.0
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
    """Compare each window's level with an adaptive noise floor; the state is that floor, in dB."""

    window = 480

    def __init__(self, config: EnergyConfig | None = None) -> None:
        """Use ``config``, or the defaults."""
        self.config = config or EnergyConfig()

    def detect(self, streams: Sequence[tuple[Windows, object | None]]) -> list[tuple[Probabilities, object | None]]:
        """Answer for several streams at once; see :class:`streamtrans.vad.Vad`."""
        return [self._follow(windows, state) for windows, state in streams]

    def _follow(self, windows: Windows, state: object | None) -> tuple[Probabilities, float]:
        check_windows(windows, self.window)
        if not (state is None or isinstance(state, float)):
            raise BadAudio(f"the energy detector's state is a float; got {type(state).__name__}")
        config = self.config
        floor = config.start_floor_db if state is None else state
        rise = config.rise_db_per_s * self.window / SAMPLE_RATE
        probabilities = np.empty(len(windows), np.float32)
        for i, energy in enumerate(energies(windows).tolist()):
            level = 10 * math.log10(energy + 1e-12)
            probabilities[i] = _logistic((level - floor - config.margin_db) / config.slope_db)
            if level < floor:
                floor = max(floor + config.fall_share * (level - floor), config.lowest_floor_db)
            else:
                floor = min(floor + rise, level)
        return probabilities, floor


def _logistic(x: float) -> float:
    # tanh saturates where exp would overflow.
    return 0.5 * (1 + math.tanh(x / 2))
