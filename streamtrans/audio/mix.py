"""Frames of any rate and channel count become mono float32 at 16 kHz.

Law: cutting the frames into other blocks changes no sample of the result.
"""

from __future__ import annotations

from typing import cast

import numpy as np
import numpy.typing as npt
import soxr

from streamtrans.audio.chunk import Samples
from streamtrans.core import SAMPLE_RATE, BadAudio

MIN_RATE = 8_000
"""Telephone speech; below it there is too little left to understand."""

MAX_RATE = 192_000
"""The highest rate of studio equipment; beyond it a header is more likely wrong than right."""

MAX_CHANNELS = 8
"""7.1 surround; beyond it a header is more likely wrong than right."""


class Downmix:
    """Average channels and resample to 16 kHz, one block after another.

    The resampler's memory lives in this object: one per stream, used from one thread. It holds back some
    20 to 60 ms of audio, which :meth:`flush` gives out. Nothing is resampled where the rate is 16 kHz.

    Raises:
        BadAudio: the rate or the channel count is outside of what this program takes.
    """

    def __init__(self, sample_rate: int, channels: int) -> None:
        """Prepare for frames of ``channels`` samples, ``sample_rate`` of them per second."""
        if not MIN_RATE <= sample_rate <= MAX_RATE:
            raise BadAudio(f"sample rate {sample_rate} Hz is outside of {MIN_RATE} to {MAX_RATE} Hz")
        if not 1 <= channels <= MAX_CHANNELS:
            raise BadAudio(f"{channels} channels; 1 to {MAX_CHANNELS} are supported")
        self.sample_rate = sample_rate
        self.channels = channels
        self._taken = 0
        self._resampler = _resampler(sample_rate)

    def feed(self, frames: npt.NDArray[np.float32]) -> Samples:
        """Take ``frames`` of shape ``(n, channels)`` and return the 16 kHz samples that are ready.

        Values beyond [-1, 1] are clipped.

        Raises:
            BadAudio: a sample is NaN or infinite; nothing of the block was taken.
        """
        if frames.ndim != 2 or frames.shape[1] != self.channels:
            raise BadAudio(f"frames have shape (n, {self.channels}); got {frames.shape}")
        self._refuse_holes(frames)
        self._taken += len(frames)
        mono = np.clip(frames, -1.0, 1.0).mean(axis=1, dtype=np.float32)
        return self._resample(mono, last=False)

    def flush(self) -> Samples:
        """Return what the resampler still holds; the next block begins a new recording."""
        tail = self._resample(np.zeros(0, np.float32), last=True)
        self._taken = 0
        self._resampler = _resampler(self.sample_rate)
        return tail

    def _resample(self, mono: Samples, *, last: bool) -> Samples:
        if self._resampler is None:
            return mono
        ready = cast(Samples, self._resampler.resample_chunk(mono, last=last))
        # The filter rings beyond full scale next to clipped peaks.
        return np.clip(ready, -1.0, 1.0)

    def _refuse_holes(self, frames: npt.NDArray[np.float32]) -> None:
        finite = np.isfinite(frames)
        if finite.all():
            return
        row, channel = (int(index) for index in np.argwhere(~finite)[0])
        value = frames[row, channel]
        name = "NaN" if np.isnan(value) else "infinite"
        where = f" in channel {channel + 1}" if self.channels > 1 else ""
        raise BadAudio(f"sample {self._taken + row}{where} is {name}; samples must be finite numbers")


def _resampler(sample_rate: int) -> soxr.ResampleStream | None:
    if sample_rate == SAMPLE_RATE:
        return None
    return soxr.ResampleStream(sample_rate, SAMPLE_RATE, 1, dtype="float32", quality="HQ")
