"""The detector of WebRTC: a mixture of Gaussians over six bands; costs next to nothing, says yes or no."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import webrtcvad

from streamtrans.core import SAMPLE_RATE, BadAudio, BadConfig
from streamtrans.vad.protocol import Probabilities, Windows, check_windows


@dataclass(frozen=True, slots=True)
class WebrtcConfig:
    """Settings of :class:`WebrtcVad`."""

    aggressiveness: int = 3
    """0 to 3. Larger: less noise passes for speech, more quiet speech is missed. Below 3 steady noise some 5 dB
    softer than speech passes most of the time."""

    def __post_init__(self) -> None:
        if self.aggressiveness not in (0, 1, 2, 3):
            raise BadConfig(f"aggressiveness must be 0, 1, 2 or 3; got {self.aggressiveness!r}")


@dataclass(frozen=True, slots=True, eq=False)
class WebrtcState:
    """One stream's memory: it sits in a C object, which every call changes in place."""

    detector: webrtcvad.Vad


class WebrtcVad:
    """Answer 0 or 1 per window of 30 ms; the state of a stream is a C object of its own.

    That object can't be copied: a stream can't be forked or taken back to an earlier state.
    """

    window = 480

    def __init__(self, config: WebrtcConfig | None = None) -> None:
        """Use ``config``, or the defaults."""
        self.config = config or WebrtcConfig()

    def detect(self, streams: Sequence[tuple[Windows, object | None]]) -> list[tuple[Probabilities, object | None]]:
        """Answer for several streams at once; see :class:`streamtrans.vad.Vad`."""
        return [self._ask(windows, state) for windows, state in streams]

    def _ask(self, windows: Windows, state: object | None) -> tuple[Probabilities, WebrtcState]:
        check_windows(windows, self.window)
        if state is None:
            state = WebrtcState(webrtcvad.Vad(self.config.aggressiveness))
        if not isinstance(state, WebrtcState):
            raise BadAudio(f"the webrtc detector's state is a WebrtcState; got {type(state).__name__}")
        pcm = np.rint(np.clip(windows, -1.0, 1.0) * 32767).astype("<i2")
        answers = [state.detector.is_speech(window.tobytes(), SAMPLE_RATE) for window in pcm]
        return np.array(answers, np.float32), state
