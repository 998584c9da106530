"""Silero's network laid out for ``detecting.c``: the windows of several streams are read in one call.

Law: what a stream gets doesn't depend on those beside it, nor on how many windows are read at once, to the last bit.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from streamtrans.model import native
from streamtrans.model.linear import Panels, paneled

if TYPE_CHECKING:
    from streamtrans.vad.silero_net import SileroNet


class SileroCall:
    """The weights of the network as one call reads them.

    Raises:
        RuntimeError: there can be no such call here.
    """

    def __init__(self, net: SileroNet) -> None:
        self._kept: list[Panels | Tensor] = []
        bins = net.spectrum.out_features // 2
        beyond = -bins % native.LANES
        real, imaginary = (F.pad(part, (0, 0, 0, beyond)) for part in net.spectrum.weight.chunk(2))
        convolutions = [layer for layer in net.encoder if isinstance(layer, nn.Conv1d)]
        layers = [layer.weight.transpose(1, 2) for layer in convolutions]
        layers[0] = F.pad(layers[0], (0, beyond))
        layers[-1] = layers[-1][:, 1:2]  # one frame is left: what stands beside it is silence
        biases = [layer.bias for layer in convolutions]
        of_input, of_memory, bias, more = net.lstm.parameters()
        answer = torch.cat([net.output.weight[0], net.output.bias])
        self._kept.append(answer)
        self._laid = native.Detector(
            spectrum=self._linear(torch.cat([real, imaginary]), None),
            layers=tuple(self._linear(each.flatten(1), bias) for each, bias in zip(layers, biases, strict=True)),
            gates=self._linear(of_input, bias + more),
            memory=self._linear(of_memory, None),
            answer=native.address(answer),
            hop=net.spectrum.in_features // 2,
            bins=bins + beyond,
            width=net.lstm.hidden_size,
        )

    def detect(
        self, audio: npt.NDArray[np.float32], counts: Sequence[int], memory: Tensor
    ) -> tuple[npt.NDArray[np.float32], Tensor]:
        """Return the probabilities ``(sum(counts),)`` of windows, and what is remembered now, ``(2, B, WIDTH)``.

        Args:
            audio: ``(sum(counts), 5 * hop)``, each window with the end of the one before, and mirrored at its own end.
            counts: windows of each stream, which fall.
            memory: what each stream said last, and its cell.
        """
        found = np.empty(len(audio), np.float32)
        audio = np.ascontiguousarray(audio, np.float32)
        # Written to by address: a copy of its own, float32 whatever came.
        said, cell = memory = native.zeros(*memory.shape).copy_(memory)
        native.call(
            "streamtrans_detect",
            ctypes.byref(self._laid),
            audio.ctypes.data,
            (ctypes.c_int32 * len(counts))(*counts),
            len(counts),
            said.data_ptr(),
            cell.data_ptr(),
            found.ctypes.data,
        )
        return found, memory

    def _linear(self, weight: Tensor, bias: Tensor | None) -> native.Linear:
        made = Panels(weight, bias)
        self._kept.append(made)
        return made.laid


def make_call(net: SileroNet) -> SileroCall | None:
    """Return the network for one call, where there can be such here."""
    return SileroCall(net) if paneled("float32") else None
