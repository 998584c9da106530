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


_WINDOW_S = 0.02
"""How often it is asked whether the channels cancel each other. Larger: more is lost before that is noticed."""

_MEMORY = 0.8
"""How much a window counts beside the next, a tenth of a second in all. Larger: fewer changes between mix and channel,
and more is lost before they come."""

_CANCELLED, _SOUND = 0.1, 0.3
"""Energy of the mix, as a share of what unrelated channels would have, below which one channel is heard alone, and
above which all are again: 10 and 5 dB of loss."""

_BETTER = 2.0
"""How much more energy another channel needs to be heard instead. Larger: fewer changes."""


class Downmix:
    """Average channels and resample to 16 kHz, one block after another.

    Where channels cancel each other (a cable or a plug-in has turned one over) the strongest is heard alone; whether
    they do is judged by what came before, so nothing waits for it.

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
        self.cancelled = False
        """Whether channels have ever cancelled each other."""
        self._window = round(_WINDOW_S * sample_rate)
        self._alone: int | None = None  # the channel that is heard, None: the mix of all
        self._begin()
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
        return self._resample(self._mix(np.clip(frames, -1.0, 1.0)), last=False)

    def flush(self) -> Samples:
        """Return what the resampler still holds; the next block begins a new recording."""
        tail = self._resample(np.zeros(0, np.float32), last=True)
        self._taken = 0
        self._resampler = _resampler(self.sample_rate)
        self._begin()
        return tail

    def _begin(self) -> None:
        self._alone = None
        self._waiting: list[npt.NDArray[np.float32]] = []  # frames of the window that isn't full yet
        self._energy = np.zeros(self.channels)
        self._mixed = 0.0

    def _mix(self, frames: npt.NDArray[np.float32]) -> Samples:
        mono: Samples = frames.mean(axis=1, dtype=np.float32)
        if self.channels == 1:
            return mono
        at = 0
        while at < len(frames):
            held = sum(len(each) for each in self._waiting)
            until = min(len(frames), at + self._window - held)
            if self._alone is not None:
                mono[at:until] = frames[at:until, self._alone]
            self._waiting.append(frames[at:until])
            if held + until - at == self._window:
                self._judge(np.concatenate(self._waiting))
                self._waiting = []
            at = until
        return mono

    def _judge(self, window: npt.NDArray[np.float32]) -> None:
        """Decide by a full window, and those before it, what is heard from now on."""
        self._energy = _MEMORY * self._energy + np.square(window, dtype=np.float64).mean(axis=0)
        self._mixed = _MEMORY * self._mixed + float(np.square(window.mean(axis=1, dtype=np.float64)).mean())
        unrelated = self._energy.sum() / self.channels**2
        if self._mixed > _SOUND * unrelated or unrelated == 0:
            self._alone = None
        elif self._mixed < _CANCELLED * unrelated or self._alone is not None:
            self.cancelled = True
            best = int(self._energy.argmax())
            if self._alone is None or self._energy[best] > _BETTER * self._energy[self._alone]:
                self._alone = best

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
