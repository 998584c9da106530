"""A piece of audio together with its place in the stream."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from streamtrans.core import BadAudio

Samples: TypeAlias = npt.NDArray[np.float32]
"""Mono float32 at 16 kHz in [-1, 1], shape ``(n,)`` unless said otherwise."""


@dataclass(frozen=True, slots=True, eq=False)
class AudioChunk:
    """What arrived: ``samples`` of shape ``(n,)``, the first of which is number ``start`` of the stream.

    Raises:
        BadAudio: ``samples`` isn't one-dimensional float32, or ``start`` is negative.
    """

    samples: Samples
    start: int

    def __post_init__(self) -> None:
        if self.samples.ndim != 1 or self.samples.dtype != np.float32:
            raise BadAudio(
                f"a chunk holds one-dimensional float32 samples; got {self.samples.dtype} of shape {self.samples.shape}"
            )
        if self.start < 0:
            raise BadAudio(f"a chunk starts at sample 0 or later; got {self.start}")

    @property
    def end(self) -> int:
        """The index of the sample that follows the chunk."""
        return self.start + len(self.samples)
