"""Who races in ``streamtrans bench race``: programs that read speech with the same weights, a process each.

Law: all get the same samples, language and budget of tokens, and write greedily, without a second try.
"""

from __future__ import annotations

from dataclasses import dataclass

from streamtrans.core import SAMPLE_RATE

OURS = "ours"
BESIDE = "beside"
"""A model of ours with weights of its own; who has it at the end of its name reads these, too."""

PADDED, UNPADDED = "padded", "unpadded"

WINDOW = 30 * SAMPLE_RATE
"""What stock Whisper is padded to, so the most that anybody reads at once."""

ENTRANTS = (
    "ours bfloat16 padded",
    "ours bfloat16 unpadded",
    "ours int8 padded",
    "ours int8 +5s",
    "ours int8 unpadded",
    "ours float32 padded",
    "ours float32 unpadded",
    "beside float32 unpadded",
    "beside int8 unpadded",
    "beside int8 +1s",
    "faster-whisper int8 padded",
    "faster-whisper int8 +5s",
    "faster-whisper int8 unpadded",
    "faster-whisper-beside int8 +1s",
    "faster-whisper float32 padded",
    "faster-whisper float32 unpadded",
    "transformers float32 padded",
    "transformers bfloat16 padded",
    "whisper.cpp q8_0 padded",
    "whisper.cpp q8_0 unpadded",
    "whisper.cpp float16 padded",
    "openvino int8 padded",
    "openvino int8 unpadded",
    "openvino bfloat16 padded",
    "openvino float32 padded",
)
"""Program, precision, and whether audio is padded to the length that stock Whisper was trained on.

Unpadded, whoever never heard audio end with speech writes loops; a few seconds of silence behind it, as ``+5s`` has
them, are what such a reader gets by with.
"""


@dataclass(frozen=True, slots=True)
class Entrant:
    """One line of :data:`ENTRANTS`, and where its weights lie: in the form that it reads, see :mod:`.convert`."""

    who: str
    precision: str
    audio: str
    folder: str
    threads: int

    @classmethod
    def named(cls, name: str, folder: str, threads: int) -> Entrant:
        """Return the entrant of a line."""
        who, precision, audio = name.split()
        return cls(who, precision, audio, folder, threads)

    @property
    def beside(self) -> bool:
        """Whether it reads the weights of the model beside."""
        return self.who.endswith(BESIDE)

    @property
    def program(self) -> str:
        """Who it is, whatever weights it reads."""
        return self.who.removesuffix(f"-{BESIDE}")

    @property
    def padded(self) -> bool:
        """Whether it pads its audio."""
        return self.audio == PADDED

    @property
    def tail(self) -> int:
        """Samples of silence that it is given behind its audio."""
        return int(self.audio[1:-1]) * SAMPLE_RATE if self.audio.startswith("+") else 0

    def silence(self, count: int) -> int:
        """Samples of it behind ``count`` of audio: with them nobody is given more than a window."""
        return min(self.tail, max(0, WINDOW - count))
