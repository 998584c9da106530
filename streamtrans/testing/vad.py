"""A detector that knows in advance who speaks when."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt


class ScriptedVad:
    """Find speech in the windows whose middle lies in one of ``spans``, given in samples ``[start, end)``.

    The state is the number of windows heard, so every stream has the same script and keeps its own place.
    """

    def __init__(self, spans: Sequence[tuple[int, int]] = (), *, window: int = 512) -> None:
        """Hold the script; without spans all is silence."""
        self.spans = tuple(spans)
        self.window = window

    def detect(
        self, streams: Sequence[tuple[npt.NDArray[np.float32], object | None]]
    ) -> list[tuple[npt.NDArray[np.float32], object | None]]:
        """Return 0.95 for windows of speech and 0.05 for the others, and each stream's new place."""
        answers: list[tuple[npt.NDArray[np.float32], object | None]] = []
        for windows, state in streams:
            if windows.ndim != 2 or windows.shape[1] != self.window:
                raise ValueError(f"windows must be (count, {self.window}), not {windows.shape}")
            heard = 0 if state is None else state
            assert isinstance(heard, int)
            middles = (np.arange(heard, heard + len(windows)) + 0.5) * self.window
            spoken = np.zeros(len(windows), bool)
            for start, end in self.spans:
                spoken |= (start <= middles) & (middles < end)
            answers.append((np.where(spoken, 0.95, 0.05).astype(np.float32), heard + len(windows)))
        return answers
