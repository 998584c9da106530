"""What a detector is, and the table of those that ship."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from streamtrans.core import BadAudio
from streamtrans.foreign import Table

Windows: TypeAlias = npt.NDArray[np.float32]
"""Consecutive windows of one stream, ``(count, window)``."""

Probabilities: TypeAlias = npt.NDArray[np.float32]
"""One probability of speech per window, ``(count,)``, in [0, 1]."""


class Vad(Protocol):
    """Says how likely each window holds speech; remembers nothing itself.

    The class can be constructed without arguments, and its module imports nothing heavy: ``window`` is
    read from the class by processes that never run the detector.
    """

    window: int
    """Samples per window."""

    def detect(self, streams: Sequence[tuple[Windows, object | None]]) -> list[tuple[Probabilities, object | None]]:
        """Answer for several streams at once.

        Args:
            streams: per stream its next windows, ``(count, window)`` with a ``count`` of its own (zero
                too), and the state that the previous call returned; ``None`` begins a stream. A state is
                used up by the call: continue from the one returned.

        Returns:
            Per stream one probability per window, and the state to hand in next time.

        Raises:
            BadAudio: windows of another shape, or a state that another detector made.
        """
        ...


VADS: Table[type[Vad]] = Table(
    "VAD",
    {
        "silero": "streamtrans.vad.silero:SileroVad",
        "webrtc": "streamtrans.vad.webrtc:WebrtcVad",
        "energy": "streamtrans.vad.energy:EnergyVad",
    },
)
"""Name → ``module:Class``. A detector of an installed package is named by its path, as a
:class:`~streamtrans.foreign.Chosen` name."""


def load_vad(name: str) -> Vad:
    """Construct the detector ``name`` with its default settings; this may import torch.

    Raises:
        BadConfig: no such detector.
    """
    return VADS.load(name)()


def vad_window(name: str) -> int:
    """Return the samples per window of the detector ``name``, without loading it.

    Raises:
        BadConfig: no such detector.
    """
    return VADS.load(name).window


def check_windows(windows: Windows, window: int) -> None:
    """Refuse what isn't ``(count, window)``."""
    if windows.ndim != 2 or windows.shape[1] != window:
        raise BadAudio(f"the detector takes windows of shape (count, {window}); got {windows.shape}")
