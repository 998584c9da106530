"""SVOX Pico: natural enough that Whisper understands it, and a hundred times faster than it is listened to.

One voice per language (two for English); speed and pitch make others of them. Pauses come out a little differently each
time. The package ``py-nanotts`` brings the
voices; it belongs to the ``train`` extra.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from streamtrans.core import BadConfig, UnsupportedLanguage, needs

VOICES: Mapping[str, tuple[str, ...]] = {
    "en": ("en-US", "en-GB"),
    "de": ("de-DE",),
    "es": ("es-ES",),
    "fr": ("fr-FR",),
    "it": ("it-IT",),
}
"""Language → the voices that speak it."""

_MARKUP = str.maketrans({"<": " ", ">": " ", "&": " ", "\\": " "})  # Pico reads XML


class Pico:
    """Speak text with SVOX Pico, at 16 kHz."""

    def __init__(self) -> None:
        try:
            from py_nanotts import NanoTTS
        except ImportError:
            raise BadConfig(needs("speaking with Pico", "py-nanotts", "train")) from None
        self._engine = NanoTTS()

    def speak(self, text: str, voice: str, *, speed: float = 1.0, pitch: float = 1.0) -> npt.NDArray[np.float32]:
        """Return ``text`` spoken, ``(n,)`` float32; ``speed`` and ``pitch`` are factors.

        Raises:
            UnsupportedLanguage: there is no such voice.
        """
        if not any(voice in voices for voices in VOICES.values()):
            raise UnsupportedLanguage(f"Pico has no voice {voice!r}; it has {', '.join(sum(VOICES.values(), ()))}")
        pcm = self._engine.speak(text.translate(_MARKUP), voice=voice, speed=speed, pitch=pitch)
        return np.frombuffer(pcm, dtype="<i2").astype(np.float32) / 32768.0
