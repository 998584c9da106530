"""Law: a detector is weights: ``probabilities, state = vad(windows, state)``.

Whatever must be remembered between two calls is in the state, which the stream holds; so any number of
streams share one detector, and a row of a batch equals the row alone. Importing this room loads no torch.
"""

from streamtrans.vad.energy import EnergyConfig, EnergyVad
from streamtrans.vad.protocol import VADS, Probabilities, Vad, Windows, load_vad, vad_window
from streamtrans.vad.silero import SileroVad
from streamtrans.vad.webrtc import WebrtcConfig, WebrtcVad

__all__ = [
    "VADS",
    "EnergyConfig",
    "EnergyVad",
    "Probabilities",
    "SileroVad",
    "Vad",
    "WebrtcConfig",
    "WebrtcVad",
    "Windows",
    "load_vad",
    "vad_window",
]
