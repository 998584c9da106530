"""Bring speech to the level that a model knows, for those that hear quiet speech otherwise than loud speech.

Law: a stream that is quieter throughout gives the same windows and the same gains, down to :data:`MOST_DB` of them; and
they depend on what was heard before alone, never on how it was cut into chunks.

How loud somebody speaks is the third loudest window so far, each fading with time: a click, which is in two windows at
most, says nothing of it.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from streamtrans.core import SAMPLE_RATE

Samples = npt.NDArray[np.float32]

Loudest = tuple[float, float, float]
"""Mean squares of the loudest windows, faded since, in rising order."""

SILENCE: Loudest = (0.0, 0.0, 0.0)

MOST_DB = 50.0
"""The largest gain. Larger: speech from farther away is understood; smaller: the hiss of a quiet room stays quiet."""

_FADE_DB = 1.0
"""What a window counts less after each second. Larger: quieter speakers are raised sooner, pauses too."""

_PEAK = 0.99
"""A window is raised up to here and no further: before anybody has spoken nothing is known."""


class Leveller:
    """Raises windows for the detector, and says by how much speech is to be raised for the model.

    Args:
        level_db: root mean square that the third loudest window of speech shall have, relative to full scale.
        window: samples per window.
        loudest: of the stream so far.
    """

    def __init__(self, level_db: float, window: int, loudest: Loudest = SILENCE) -> None:
        self.loudest = loudest
        self._level = 10 ** (level_db / 20)
        self._least = self._level / 10 ** (MOST_DB / 20)
        self._faded = 10 ** (-_FADE_DB * window / SAMPLE_RATE / 10)

    def hear(self, energy: float) -> Loudest:
        """Take the mean square of the next window; return what is loudest with it."""
        faded = (each * self._faded for each in self.loudest)
        _, first, second, third = sorted((*faded, energy))
        self.loudest = (first, second, third)
        return self.loudest

    def gain(self, loudest: Loudest) -> float:
        """Return the factor that brings a stream to its level whose loudest windows are these."""
        return self._level / max(math.sqrt(loudest[0]), self._least)

    def raised(self, window: Samples, loudest: Loudest) -> Samples:
        """Return ``(n,)`` samples as a detector hears them, within full scale."""
        peak = float(np.abs(window).max(initial=0.0))
        gain = self.gain(loudest)
        return window * np.float32(min(gain, _PEAK / peak) if peak else gain)


def raised(audio: Samples, gain: float) -> Samples:
    """Return ``(n,)`` samples as a model hears them, within full scale."""
    return audio if gain == 1.0 else np.clip(audio * np.float32(gain), -1.0, 1.0)
