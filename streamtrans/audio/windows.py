"""Chunks become the fixed windows that detectors take.

Law: the windows depend on the audio alone, never on how it was chunked.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from streamtrans.audio.chunk import Samples


class Windower:
    """Cut a stream into consecutive windows of ``window`` samples; the rest waits for more audio."""

    def __init__(self, window: int) -> None:
        """Begin a stream; ``window`` is what one call of the detector takes."""
        self.window = window
        self._rest: Samples = np.zeros(0, np.float32)

    @property
    def waiting(self) -> int:
        """How many samples don't fill a window yet."""
        return len(self._rest)

    def feed(self, samples: Samples) -> npt.NDArray[np.float32]:
        """Take ``samples`` of shape ``(n,)`` and return the windows now full, ``(count, window)``."""
        audio = np.concatenate([self._rest, samples])
        whole = len(audio) // self.window * self.window
        self._rest = audio[whole:].copy()
        return audio[:whole].reshape(-1, self.window)


def energies(windows: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    """Return the mean square of each window: ``(count, window)`` → ``(count,)``, in float64."""
    squares: npt.NDArray[np.float64] = np.square(np.ascontiguousarray(windows), dtype=np.float64)
    means: npt.NDArray[np.float64] = squares.mean(axis=1)
    return means
