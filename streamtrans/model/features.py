"""Log-mel features as Whisper's preprocessor defines them, in torch.

Two ways of scaling exist. ``clip`` is Whisper's own: 8 decades below the loudest bin of the clip are cut off, so
a frame depends on the whole clip. ``fixed`` has a floor that depends on nothing: a frame is the same
whatever comes later, which is what a stream needs.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from streamtrans.core import SAMPLE_RATE, AudioTooLong, BadModel


@dataclass(frozen=True, slots=True)
class FeatureConfig:
    """How sound becomes frames. ``hop`` is in samples: larger gives fewer, cheaper, coarser frames."""

    mels: int = 80
    window: int = 400
    hop: int = 160
    scaling: str = "clip"

    def __post_init__(self) -> None:
        for name, least, most in (("mels", 1, 1_024), ("window", 2, SAMPLE_RATE), ("hop", 1, self.window)):
            value = getattr(self, name)
            if type(value) is not int or not least <= value <= most:
                raise BadModel(f"features: {name} is {str(value)[:40]}; give a whole number, {least} to {most}")
        if self.scaling not in ("clip", "fixed"):
            raise BadModel(f"feature scaling is {str(self.scaling)[:40]!r}; it must be 'clip' or 'fixed'")

    def frames(self, samples: int) -> int:
        """Return how many frames a clip has; it counts as at least one window long."""
        return max(1, max(samples, self.window) // self.hop)


class LogMel:
    """Turn audio into log-mel frames; holds the window and the filter bank, no state."""

    def __init__(self, config: FeatureConfig, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32):
        # Spectra of quiet sound lose too much in half precision; they are computed in fp32 and cast at the end.
        self.work = torch.float64 if dtype == torch.float64 else torch.float32
        self.config = config
        self.dtype = dtype
        self.window = torch.hann_window(config.window, device=device, dtype=self.work)
        self.filters = mel_filters(config.mels, config.window).to(device=device, dtype=self.work)

    def __call__(self, audio: Tensor) -> Tensor:
        """Return ``(B, M, T)`` for audio ``(B, samples)``, mono at 16 kHz; ``T = samples // hop``."""
        audio = audio.to(self.work)
        if audio.shape[-1] < self.config.window:
            audio = torch.nn.functional.pad(audio, (0, self.config.window - audio.shape[-1]))
        half = self.config.window // 2
        padded = torch.nn.functional.pad(audio, (half, half), mode="reflect")
        return self.windows(padded, self.config.frames(audio.shape[-1]))

    def windows(self, audio: Tensor, count: int) -> Tensor:
        """Return ``(B, M, count)`` for the first windows of ``(B, samples)``: frame ``i`` reads from ``i * hop`` on."""
        spectrum = torch.stft(
            audio.to(self.work),
            self.config.window,
            self.config.hop,
            window=self.window,
            center=False,
            return_complex=True,
        )[..., :count]
        power = self.filters @ spectrum.abs().square()
        if self.config.scaling == "fixed":
            return ((power.clamp(min=1e-6).log10() + 2.0) / 2.0).to(self.dtype)
        log = power.clamp(min=1e-10).log10()
        log = torch.maximum(log, log.amax((-2, -1), keepdim=True) - 8.0)
        return ((log + 4.0) / 4.0).to(self.dtype)


def check_length(audio: npt.NDArray[np.float32], most: int) -> None:
    """Refuse a segment of more than ``most`` samples.

    Raises:
        AudioTooLong: it is.
    """
    if len(audio) > most:
        raise AudioTooLong(
            f"a segment of {len(audio) / SAMPLE_RATE:.1f} s exceeds the model's {most / SAMPLE_RATE:.1f} s; let the"
            " segmenter cut earlier (max_segment_ms)"
        )


def mel_filters(count: int, window: int, rate: int = SAMPLE_RATE) -> Tensor:
    """Return the triangular mel filter bank ``(count, window // 2 + 1)`` on Slaney's scale and area norm.

    Source: M. Slaney, "Auditory Toolbox", 1998: linear below 1 kHz, logarithmic above.
    """
    step, corner, ratio = 200.0 / 3, 1000.0, math.log(6.4) / 27.0

    def to_mel(hertz: float) -> float:
        return hertz / step if hertz < corner else corner / step + math.log(hertz / corner) / ratio

    def to_hertz(mel: Tensor) -> Tensor:
        return torch.where(mel < corner / step, mel * step, corner * torch.exp(ratio * (mel - corner / step)))

    bins = torch.linspace(0, rate / 2, window // 2 + 1, dtype=torch.float64)
    edges = to_hertz(torch.linspace(to_mel(0.0), to_mel(rate / 2), count + 2, dtype=torch.float64))
    rising = (bins - edges[:-2, None]) / (edges[1:-1] - edges[:-2])[:, None]
    falling = (edges[2:, None] - bins) / (edges[2:] - edges[1:-1])[:, None]
    triangles = torch.minimum(rising, falling).clamp(min=0.0)
    return triangles * (2.0 / (edges[2:] - edges[:-2]))[:, None]
