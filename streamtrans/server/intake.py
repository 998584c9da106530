"""Client messages become samples, at the pace and of the size that the limits allow."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Protocol

import numpy as np
import numpy.typing as npt

from streamtrans.audio import ENCODINGS, Decoder
from streamtrans.core import SAMPLE_RATE, BadAudio
from streamtrans.server.refusal import invalid, unsupported
from streamtrans.wire import BYTES_PER_SAMPLE, Limits, StreamOptions

Samples = npt.NDArray[np.float32]

_SILENT = {"pcm_s16le": 0x00, "pcm_f32le": 0x00, "mulaw": 0xFF, "alaw": 0xD5}
"""Encoding → the byte that digital silence is made of (ITU-T G.711 for the last two)."""


class Clock(Protocol):
    """Seconds of a clock that never goes back."""

    def __call__(self) -> float:
        """Return the time now."""


class Intake:
    """Decode one call's audio.

    Raises:
        Refusal: this server doesn't decode the encoding, or rate or channels are out of range.
    """

    def __init__(self, options: StreamOptions, limits: Limits) -> None:
        if options.encoding not in ENCODINGS:
            raise unsupported(
                f"encoding {options.encoding} isn't decoded by this server; use one of {', '.join(ENCODINGS)}"
            )
        try:
            self._decoder = Decoder(options.encoding, options.sample_rate_hertz, options.channels)
        except BadAudio as error:
            raise invalid([("audio_format", str(error))]) from error
        self._limits = limits
        self._rate = options.sample_rate_hertz
        self._frame_bytes = BYTES_PER_SAMPLE[options.encoding] * options.channels
        self._silence = bytes([_SILENT[options.encoding]]) * self._frame_bytes

    def audio(self, data: bytes) -> Samples:
        """Return the samples that are ready once ``data`` is taken; an empty chunk is no audio and no error.

        Raises:
            Refusal: the chunk is too long, ends within a frame, or holds samples that are no numbers.
        """
        limits = self._limits
        if len(data) > limits.max_chunk_bytes:
            raise invalid([("audio.data", f"{len(data)} bytes; at most {limits.max_chunk_bytes} in one chunk")])
        duration_ms = len(data) // self._frame_bytes * 1000 / self._rate
        if duration_ms > limits.max_chunk_ms:
            raise invalid(
                [("audio.data", f"{duration_ms:.0f} ms of audio; at most {limits.max_chunk_ms} in one chunk")]
            )
        try:
            return self._decoder.decode(data)
        except BadAudio as error:
            raise invalid([("audio.data", str(error))]) from error

    def silence(self, duration_ms: int) -> Iterator[Samples]:
        """Yield the samples of ``duration_ms`` of digital silence, a second at a time.

        Silence passes through the same decoder as audio, so that it stands exactly where it was sent.

        Raises:
            Refusal: the duration is not positive, or too long.
        """
        most = self._limits.max_silence_ms
        if not 0 < duration_ms <= most:
            raise invalid([("silence.duration_ms", f"{duration_ms} is out of range; use 1 to {most}")])
        frames = duration_ms * self._rate // 1000
        while frames > 0:
            step = min(frames, self._rate)
            yield self._decoder.decode(self._silence * step)
            frames -= step

    def rest(self) -> Samples:
        """Return what the resampler held back, at the end of the stream."""
        return self._decoder.flush()


class Pace:
    """A budget of audio per wall time: a burst at first, then a multiple of real time.

    Audio that was not sent in time may be sent later, up to the burst.
    """

    def __init__(self, limits: Limits, clock: Clock = time.monotonic) -> None:
        self._factor = limits.max_real_time_factor
        self._burst_s = limits.burst_ms / 1000
        self._clock = clock
        self._spent_s = 0.0
        """Audio ahead of the allowance; 0 is a full burst in hand."""
        self._at = clock()

    def spend(self, count: int) -> float:
        """Take ``count`` samples from the budget; return the seconds to wait until it is in balance again."""
        now = self._clock()
        self._spent_s = max(0.0, self._spent_s - (now - self._at) * self._factor) + count / SAMPLE_RATE
        self._at = now
        return max(0.0, (self._spent_s - self._burst_s) / self._factor)


def too_fast(wait_s: float, limits: Limits) -> str:
    """Say to a sender how much too fast it is."""
    return (
        f"audio comes faster than {limits.max_real_time_factor:g} times real time beyond a burst of "
        f"{limits.burst_ms} ms; it is {wait_s:.1f} s early"
    )
