"""Bytes of a call become samples: int16 and float32 PCM, and the telephone's μ-law and A-law.

Law: any chunking of the bytes at frame boundaries gives the same samples.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

from streamtrans.audio.chunk import Samples
from streamtrans.audio.level import ScaleWatch
from streamtrans.audio.mix import Downmix
from streamtrans.core import SAMPLE_RATE, BadAudio

_Values = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class _Encoding:
    width: int
    """Bytes per sample."""
    expand: Callable[[bytes], _Values]


class Decoder:
    """Decode the bytes of one stream; the resampler's memory lives here, so one object per stream.

    Args:
        encoding: one of :data:`ENCODINGS`.
        sample_rate: in Hz, 8,000 to 192,000.
        channels: 1 to 8, interleaved; they are averaged.

    Raises:
        BadAudio: one of the three is outside of that.
    """

    def __init__(self, encoding: str, sample_rate: int, channels: int) -> None:
        """Prepare to decode; see the class for what is accepted."""
        if encoding not in _ENCODINGS:
            raise BadAudio(f"unknown encoding {encoding!r}; known are {', '.join(ENCODINGS)}")
        self.encoding = encoding
        self._format = _ENCODINGS[encoding]
        self._downmix = Downmix(sample_rate, channels)
        self.frame_bytes = self._format.width * channels
        """One sample of each channel."""
        self._sample_rate = sample_rate
        self._scale = ScaleWatch() if encoding == "pcm_f32le" else None
        self._taken = 0  # frames, since the beginning
        self._given = 0  # samples, likewise

    def decode(self, data: bytes) -> Samples:
        """Return the 16 kHz samples that are ready once ``data``, a whole number of frames, is taken.

        Raises:
            BadAudio: a frame is incomplete, or a float sample is NaN or infinite. Nothing was taken.
        """
        self.check(data)
        values = self._format.expand(data)
        ready = self._downmix.feed(values.reshape(-1, self._downmix.channels))
        if self._scale is not None:
            self._scale.see(values)
        self._taken += len(data) // self.frame_bytes
        self._given += len(ready)
        return ready

    def check(self, data: bytes) -> None:
        """Take nothing, only see to it that ``data`` is a whole number of frames.

        Raises:
            BadAudio: it isn't.
        """
        channels, frame = self._downmix.channels, self.frame_bytes
        if len(data) % frame:
            raise BadAudio(
                f"{self.encoding} with {channels} channel{'s' * (channels > 1)} comes in frames of {frame} "
                f"bytes; {len(data)} bytes end {len(data) % frame} bytes into a frame"
            )

    @property
    def problem(self) -> str | None:
        """What a sender should know of the samples so far: that they are on another scale."""
        return None if self._scale is None else self._scale.problem

    def flush(self) -> Samples:
        """Return what the resampler still holds back, at the end of an utterance or of the stream.

        What is decoded after it begins where it would have begun: the count of samples is that of the frames, rounded
        down, however often this is asked.
        """
        tail = self._downmix.flush()
        due = self._taken * SAMPLE_RATE // self._sample_rate - self._given
        tail = np.pad(tail[:due], (0, max(0, due - len(tail))))  # by one sample at most
        self._given += len(tail)
        return tail


def _expand_s16le(data: bytes) -> _Values:
    return _scaled(np.frombuffer(data, "<i2"))


def _expand_f32le(data: bytes) -> _Values:
    return np.frombuffer(data, "<f4").astype(np.float32)


def _expand_mulaw(data: bytes) -> _Values:
    return _mulaw_table()[np.frombuffer(data, np.uint8)]


def _expand_alaw(data: bytes) -> _Values:
    return _alaw_table()[np.frombuffer(data, np.uint8)]


@cache
def _mulaw_table() -> _Values:
    """Return the value of each of the 256 μ-law codes (ITU-T G.711, table 2), on a 16-bit scale.

    All bits of a code are inverted on the line. Sign, 3 bits of exponent and 4 of mantissa stand for
    ``(mantissa + 16.5) * 2 ** (exponent + 3) - 132``; a set sign bit (after inversion) is negative.
    """
    code = ~np.arange(256, dtype=np.int32) & 0xFF
    exponent, mantissa = code >> 4 & 7, code & 15
    magnitude = ((mantissa * 2 + 33) << (exponent + 2)) - 132
    return _scaled(np.where(code & 0x80, -magnitude, magnitude))


@cache
def _alaw_table() -> _Values:
    """Return the value of each of the 256 A-law codes (ITU-T G.711, table 1), on a 16-bit scale.

    Every other bit is inverted on the line. The lowest two segments are linear, each further one doubles
    the step; a set sign bit is positive.
    """
    code = np.arange(256, dtype=np.int32) ^ 0x55
    exponent, mantissa = code >> 4 & 7, code & 15
    implied = np.where(exponent > 0, 32, 0)
    magnitude = (mantissa * 2 + 1 + implied) << (np.maximum(exponent, 1) + 2)
    return _scaled(np.where(code & 0x80, magnitude, -magnitude))


def _scaled(values: npt.NDArray[np.integer[Any]]) -> _Values:
    """Bring 16-bit integers into [-1, 1)."""
    return values.astype(np.float32) / np.float32(32768)


_ENCODINGS = {
    "pcm_s16le": _Encoding(2, _expand_s16le),
    "pcm_f32le": _Encoding(4, _expand_f32le),
    "mulaw": _Encoding(1, _expand_mulaw),
    "alaw": _Encoding(1, _expand_alaw),
}

ENCODINGS = tuple(_ENCODINGS)
"""Names that :class:`Decoder` knows."""
