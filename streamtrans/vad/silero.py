"""Silero's detector behind our protocol; torch is imported when one is constructed."""

from __future__ import annotations

from collections.abc import Sequence

from streamtrans.vad.protocol import Probabilities, Windows


class SileroVad:
    """The network of the installed ``silero-vad`` package, batched over streams of different state.

    Construct it in the process that has the device: this imports torch and loads 1.2 MB of weights.
    """

    window = 512

    def __init__(self) -> None:
        """Load the weights onto the CPU."""
        from streamtrans.vad.silero_net import load_net

        self._net = load_net()

    def detect(self, streams: Sequence[tuple[Windows, object | None]]) -> list[tuple[Probabilities, object | None]]:
        """Answer for several streams at once; see :class:`streamtrans.vad.Vad`."""
        from streamtrans.vad.silero_net import detect

        return detect(self._net, streams)
