"""The 16 kHz network of silero-vad as a lean module whose memory is a value.

Facts (layers, strides, context) were read off the TorchScript archive that the ``silero-vad`` package
ships; its weights are taken from there too. The same package also holds a safetensors file of the same
layout, but with other weights: its probabilities differ by up to 0.4 from what the package itself answers.
"""

from __future__ import annotations

import importlib.util
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_sequence, pad_packed_sequence

from streamtrans.audio import Samples
from streamtrans.core import BadAudio, BadModel
from streamtrans.vad.protocol import Probabilities, Windows, check_windows
from streamtrans.vad.silero_call import SileroCall, make_call

WINDOW = 512
CONTEXT = 64
"""Samples of the window before that are read again with each window."""

WIDTH = 128
"""Size of the LSTM's state."""

_FFT, _HOP = 256, 128
_ENCODE_AT_ONCE = 256
"""Windows per pass of the encoder. Larger: no faster, and the buffers leave the processor's cache."""


@dataclass(frozen=True, slots=True, eq=False)
class SileroState:
    """One stream's memory: the LSTM's output and cell, ``(2, WIDTH)``; the last samples, ``(CONTEXT,)``."""

    memory: Tensor
    context: Samples


class SileroNet(nn.Module):
    """Spectrum by matrix product, four convolutions down to one frame per window, an LSTM, one logit."""

    def __init__(self) -> None:
        """Make the layers, without useful weights; see :func:`load_net`."""
        super().__init__()
        bins = _FFT // 2 + 1
        self.spectrum = nn.Linear(_FFT, 2 * bins, bias=False)
        self.encoder = nn.ModuleList(
            nn.Conv1d(before, after, 3, stride=stride, padding=1)
            for before, after, stride in ((bins, 128, 1), (128, 64, 2), (64, 64, 2), (64, WIDTH, 1))
        )
        self.lstm = nn.LSTM(WIDTH, WIDTH)
        self.output = nn.Linear(WIDTH, 1)
        self.call: SileroCall | None = None
        """All of it as one call, where there can be such."""

    def encode(self, windows: Tensor) -> Tensor:
        """Turn windows between their contexts, ``(N, CONTEXT + WINDOW + CONTEXT)``, into features ``(N, WIDTH)``."""
        real, imaginary = self.spectrum(windows.unfold(1, _FFT, _HOP)).chunk(2, dim=-1)
        x: Tensor = (real.square() + imaginary.square()).sqrt().mT
        for layer in self.encoder:
            x = F.relu(layer(x))
        return x.squeeze(-1)

    def decode(self, features: Tensor) -> Tensor:
        """Turn the LSTM's outputs ``(N, WIDTH)`` into probabilities ``(N,)``."""
        logits: Tensor = self.output(F.relu(features))
        return torch.sigmoid(logits).squeeze(-1)


@torch.inference_mode()
def detect(
    net: SileroNet, streams: Sequence[tuple[Windows, object | None]]
) -> list[tuple[Probabilities, object | None]]:
    """Answer for several streams: one encoder pass over all windows, one ragged LSTM over all streams."""
    states = [_opened(windows, state) for windows, state in streams]
    answers: list[tuple[Probabilities, object | None]] = [(np.zeros(0, np.float32), each) for each in states]
    busy = [i for i, (windows, _) in enumerate(streams) if len(windows)]
    if not busy:
        return answers
    busy.sort(key=lambda i: -len(streams[i][0]))
    counts = [len(streams[i][0]) for i in busy]
    audio = _with_context([(streams[i][0], states[i].context) for i in busy])
    memory = torch.stack([states[i].memory for i in busy], dim=1).float()
    if net.call is None:
        found, memory = _by_operators(net, audio, counts, memory)
    else:
        found, memory = net.call.detect(audio, counts, memory)
    for i, part, kept in zip(busy, np.split(found, np.cumsum(counts[:-1])), memory.unbind(1), strict=True):
        # Copies, so that a stream's small state doesn't keep the whole batch alive.
        answers[i] = (part, SileroState(kept.clone(), streams[i][0][-1, -CONTEXT:].copy()))
    return answers


def _by_operators(net: SileroNet, audio: Samples, counts: list[int], memory: Tensor) -> tuple[Probabilities, Tensor]:
    features = torch.cat([net.encode(part) for part in torch.split(torch.from_numpy(audio), _ENCODE_AT_ONCE)])
    outputs, memory = _remember(net.lstm, features, counts, memory)
    return net.decode(outputs).numpy(), memory


def _remember(lstm: nn.LSTM, features: Tensor, counts: list[int], memory: Tensor) -> tuple[Tensor, Tensor]:
    """Run the LSTM over ragged streams.

    Args:
        lstm: one layer, time first.
        features: ``(sum(counts), WIDTH)``, stream after stream.
        counts: windows per stream.
        memory: ``(2, B, WIDTH)``, what each stream brings along.

    Returns:
        Outputs in the place of their features, and the new memory.
    """
    begin = (memory[0][None], memory[1][None])
    if len(set(counts)) == 1:
        # The usual case, a batch on one grid: half the cost of packing.
        outputs, (hidden, cell) = lstm(features.view(len(counts), counts[0], WIDTH).transpose(0, 1), begin)
        return outputs.transpose(0, 1).reshape(-1, WIDTH), torch.cat([hidden, cell])
    packed = pack_sequence(list(torch.split(features, counts)), enforce_sorted=False)
    outputs, (hidden, cell) = lstm(packed, begin)
    rows, _ = pad_packed_sequence(outputs, batch_first=True)
    return torch.cat([row[:n] for row, n in zip(rows, counts, strict=True)]), torch.cat([hidden, cell])


def load_net() -> SileroNet:
    """Return the network with the weights of the installed ``silero-vad`` package.

    The package is found and never imported: importing it sets torch's thread count for the whole process.

    Raises:
        BadModel: the package is missing, or its model has another shape.
    """
    spec = importlib.util.find_spec("silero_vad")
    if spec is None or spec.origin is None:
        raise BadModel("the silero detector needs the package silero-vad (pip install silero-vad)")
    path = Path(spec.origin).parent / "data" / "silero_vad.jit"
    if not path.is_file():
        raise BadModel(f"silero-vad is installed without its model {path}; version 6 has it")
    with warnings.catch_warnings():
        # torch wants TorchScript replaced by torch.export; the package ships no such file.
        warnings.simplefilter("ignore", DeprecationWarning)
        theirs = torch.jit.load(str(path), map_location="cpu").state_dict()  # type: ignore[no-untyped-call]
    # On the meta device no weights are drawn, so the caller's random numbers stay what they were.
    with torch.device("meta"):
        net = SileroNet()
    try:
        weights = {
            name: theirs[_their_name(name)].detach().reshape(parameter.shape)
            for name, parameter in net.state_dict().items()
        }
    except (KeyError, RuntimeError) as error:
        raise BadModel(f"{path} isn't the network that is known here (silero-vad 5 or 6): {error}") from error
    net.load_state_dict(weights, assign=True)
    net.eval().requires_grad_(False)
    net.call = make_call(net)
    return net


def _their_name(name: str) -> str:
    layer, _, kind = name.rpartition(".")
    if layer == "spectrum":
        return "_model.stft.forward_basis_buffer"
    if layer == "lstm":
        return f"_model.decoder.rnn.{kind.removesuffix('_l0')}"
    if layer == "output":
        return f"_model.decoder.decoder.2.{kind}"
    return f"_model.{layer}.reparam_conv.{kind}"


def _opened(windows: Windows, state: object | None) -> SileroState:
    check_windows(windows, WINDOW)
    if state is None:
        return SileroState(torch.zeros(2, WIDTH, dtype=torch.float32), np.zeros(CONTEXT, np.float32))
    if not isinstance(state, SileroState):
        raise BadAudio(f"the silero detector's state is a SileroState; got {type(state).__name__}")
    return state


def _with_context(streams: list[tuple[Windows, Samples]]) -> npt.NDArray[np.float32]:
    """Put each window between the end of the one before and its own end, mirrored.

    Returns ``(windows of all streams, CONTEXT + WINDOW + CONTEXT)``.
    """
    heard = np.empty((sum(len(windows) for windows, _ in streams), CONTEXT + WINDOW + CONTEXT), np.float32)
    at = 0
    for windows, context in streams:
        rows = heard[at : at + len(windows)]
        rows[:, CONTEXT:-CONTEXT] = windows
        rows[:, -CONTEXT:] = windows[:, -2 : -2 - CONTEXT : -1]
        rows[0, :CONTEXT] = context
        rows[1:, :CONTEXT] = windows[:-1, -CONTEXT:]
        at += len(windows)
    return heard
