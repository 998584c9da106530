"""What a detector is, and the table of those that ship."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from difflib import get_close_matches
from typing import Protocol, TypeAlias, cast

import numpy as np
import numpy.typing as npt

from streamtrans.core import BadAudio, BadConfig

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


VADS: dict[str, str] = {
    "silero": "streamtrans.vad.silero:SileroVad",
    "webrtc": "streamtrans.vad.webrtc:WebrtcVad",
    "energy": "streamtrans.vad.energy:EnergyVad",
}
"""Name → ``module:Class``. A detector of a third party is named by its path, ``package.module:Class``."""


def load_vad(name: str) -> Vad:
    """Construct the detector ``name`` with its default settings; this may import torch.

    Raises:
        BadConfig: no such detector.
    """
    return _find(name)()


def vad_window(name: str) -> int:
    """Return the samples per window of the detector ``name``, without loading it.

    Raises:
        BadConfig: no such detector.
    """
    return _find(name).window


def check_windows(windows: Windows, window: int) -> None:
    """Refuse what isn't ``(count, window)``."""
    if windows.ndim != 2 or windows.shape[1] != window:
        raise BadAudio(f"the detector takes windows of shape (count, {window}); got {windows.shape}")


def _find(name: str) -> type[Vad]:
    path = VADS.get(name, name)
    module, colon, attribute = path.partition(":")
    if not (module and colon and attribute):
        near = get_close_matches(name, VADS, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise BadConfig(f"unknown VAD {name!r}; known are {', '.join(VADS)} or a path package.module:Class{hint}")
    try:
        return cast("type[Vad]", getattr(importlib.import_module(module), attribute))
    except (ImportError, AttributeError) as error:
        raise BadConfig(f"the VAD {name!r} can't be loaded from {path!r}: {error}") from error
