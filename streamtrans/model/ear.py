"""An encoder laid out for ``hearing.c``: what is new of several runs of speech is heard in one call.

Law: what a run gives doesn't depend on those beside it, nor on how many of its blocks are heard at once, to the last
bit.
"""

from __future__ import annotations

import ctypes
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from streamtrans.core import BadAnswer
from streamtrans.model import native
from streamtrans.model.features import LogMel
from streamtrans.model.layers import Attention, Blocks, EncoderLayer, SpeechEncoder, rotations
from streamtrans.model.linear import Panels, make_panels, paneled

AT_ONCE = 512
"""Frames of several runs that are heard in one call: each of its threads has room for as many."""


@dataclass(frozen=True, slots=True)
class Sound:
    """What is new of one run.

    ``samples`` ``(n,)`` are what columns of the spectrum read, hop by hop, up to ``end``, the first two of them from
    before the frames; those from ``begin`` on are real. ``frames`` are heard, with the ``context``
    ``(2, L, H, C, D)`` of those before.
    """

    samples: npt.NDArray[np.float32]
    begin: int
    end: int
    frames: int
    context: Tensor


class Ear:
    """The weights of an encoder that hears in blocks, and of what attends to it, as one call reads them.

    Args:
        encoder: with rotary positions, not packed yet.
        log_mel: of fixed scaling.
        readers: that attend to it, not packed yet.
        precision: of its layers.
        name: of the model, to show.
    """

    def __init__(
        self, encoder: SpeechEncoder, log_mel: LogMel, readers: Sequence[Attention], precision: str, name: str
    ) -> None:
        self.name, self.readers = name, [*readers]
        self._kept: list[Panels | Tensor] = []
        self._places: list[tuple[nn.Module, str, Panels]] = []
        self._heads, self._width = encoder.layers[0].self_attn.heads, encoder.head_width
        self._layers = (native.Layer * len(encoder.layers))(*(self._layer(e, precision) for e in encoder.layers))
        crossings = [self._joined(each, "kv_proj", [each.k_proj, each.v_proj], precision) for each in readers]
        self._crossings = (native.Linear * len(crossings))(*crossings)
        spectrum, filters = _spectrum(log_mel)
        first, second = (each.weight.float().transpose(1, 2) for each in (encoder.conv1, encoder.conv2))
        first = F.pad(first, (0, len(filters) - first.shape[-1]))
        width = len(first)
        self._laid = native.Ear(
            spectrum=self._linear(spectrum, None, "float32"),
            filters=self._linear(filters, None, "float32"),
            first=self._linear(first.flatten(1), encoder.conv1.bias, "float32"),
            second=self._linear(second.flatten(1), encoder.conv2.bias, "float32"),
            norm=self._norm(encoder.layer_norm),
            layers=self._layers,
            crossings=self._crossings,
            depth=len(self._layers),
            readers=len(readers),
            heads=self._heads,
            reader_heads=readers[0].heads,
            width=width,
            inner=encoder.layers[0].fc1.out_features,
            reader_width=readers[0].k_proj.out_features,
            hop=log_mel.config.hop,
            bins=len(spectrum) // 2,
            mels=len(filters),
        )
        self._turns = [torch.empty(0)]

    def hear_in(self, blocks: Blocks) -> None:
        """From now on, hear in such blocks."""
        positions = torch.arange(blocks.size + blocks.left)
        self._turns = [each.contiguous() for each in rotations(positions, self._width, torch.float32)]
        self._laid.cosines, self._laid.sines = map(native.address, self._turns)
        self._laid.block, self._laid.left = blocks.size, blocks.left

    def hear(self, sounds: Sequence[Sound]) -> list[tuple[Tensor, Tensor, Tensor]]:
        """Return per run its layers' keys and values ``(2, L, H, F, D)``, and keys ``(A, H, D, F)`` and values
        ``(A, H, F, D)`` of what attends to it.

        Raises:
            BadAnswer: what is heard isn't finite.
        """
        laid = self._laid
        runs, kept = (native.Run * len(sounds))(), []
        made: list[tuple[Tensor, Tensor, Tensor]] = []
        for run, sound in zip(runs, sounds, strict=True):
            context, frames, heads = sound.context.float().contiguous(), sound.frames, laid.reader_heads
            own = native.empty(2, laid.depth, laid.heads, frames, self._width)
            keys, values = native.empty(2, laid.readers, heads, laid.reader_width // heads * frames)
            samples = np.ascontiguousarray(sound.samples, np.float32)  # read by address, as is the context
            run.sound, run.begin, run.end = samples.ctypes.data, sound.begin, sound.end
            run.frames, run.known = frames, context.shape[-2]
            run.keys, run.values = map(native.address, context)
            run.own_keys, run.own_values = map(native.address, own)
            run.cross_keys, run.cross_values = native.address(keys), native.address(values)
            made.append((own, keys.unflatten(-1, (-1, frames)), values.unflatten(-1, (frames, -1))))
            kept.append((samples, context))
        first = 0
        for count in _shares([sound.frames for sound in sounds]):
            some = (native.Run * count).from_buffer(runs, first * ctypes.sizeof(native.Run))
            native.call("streamtrans_hear", ctypes.byref(laid), some, count, torch.get_num_threads())
            first += count
        check_finite(self.name, sum(float(part.sum()) for _, *parts in made for part in parts))
        return made

    def _layer(self, layer: EncoderLayer, precision: str) -> native.Layer:
        attention = layer.self_attn
        return native.Layer(
            before=self._norm(layer.self_attn_layer_norm),
            mlp_norm=self._norm(layer.final_layer_norm),
            qkv=self._joined(attention, "qkv_proj", [attention.q_proj, attention.k_proj, attention.v_proj], precision),
            out=self._joined(attention, "out_proj", [attention.out_proj], precision),
            up=self._joined(layer, "fc1", [layer.fc1], precision),
            down=self._joined(layer, "fc2", [layer.fc2], precision),
        )

    def _joined(self, holder: nn.Module, name: str, parts: Sequence[nn.Linear], precision: str) -> native.Linear:
        """Lay out ``parts`` end to end; ``holder`` has them so under ``name`` once it is packed."""
        biases: list[Tensor] = [
            torch.zeros_like(part.weight[:, 0]) if part.bias is None else part.bias for part in parts
        ]
        weights: list[Tensor] = [part.weight for part in parts]
        made = self._panels(torch.cat(weights), torch.cat(biases), precision)
        self._places.append((holder, name, made))
        return made.laid

    def share(self) -> None:
        """Let what is packed now have these very panels in the place of its own, where its own are the same."""
        for holder, name, panels in self._places:
            if type(getattr(holder, name)) is type(panels):
                setattr(holder, name, panels)
        self._places.clear()

    def _linear(self, weight: Tensor, bias: Tensor | None, precision: str) -> native.Linear:
        return self._panels(weight, bias, precision).laid

    def _panels(self, weight: Tensor, bias: Tensor | None, precision: str) -> Panels:
        made = make_panels(weight, bias, precision)
        assert isinstance(made, Panels), "panels are what it reads"
        self._kept.append(made)
        return made

    def _norm(self, norm: nn.LayerNorm) -> native.Norm:
        weight, bias = norm.weight.float(), norm.bias.float()
        self._kept += [weight, bias]
        return native.Norm(native.address(weight), native.address(bias))


def make_ear(
    encoder: SpeechEncoder, log_mel: LogMel, readers: Sequence[Attention], precision: str, name: str
) -> Ear | None:
    """Return the encoder for one call, where there can be such here."""
    layer, reader = encoder.layers[0], readers[0].k_proj.out_features
    widths = (len(encoder.conv1.weight), encoder.head_width, layer.fc1.out_features, reader, reader // readers[0].heads)
    return Ear(encoder, log_mel, readers, precision, name) if paneled(precision, *widths) else None


def _shares(frames: Sequence[int]) -> list[int]:
    """Return how many runs are heard at once, one after another, that have so many frames each."""
    shares, rows = [0], 0
    for count in frames:
        if shares[-1] and rows + count > AT_ONCE:
            shares.append(0)
            rows = 0
        shares[-1] += 1
        rows += count
    return shares


def check_finite(name: str, total: float) -> None:
    """Refuse what was heard where its sum is no number.

    Raises:
        BadAnswer: that is so.
    """
    if not math.isfinite(total):
        raise BadAnswer(f"{name} hears numbers that aren't finite in this audio, so nothing can be read of it")


def _spectrum(log_mel: LogMel) -> tuple[Tensor, Tensor]:
    """Return what makes windows spectra, ``(2 * bins, window)``, and powers mel columns, ``(mels, bins)``.

    Bins and mels are as many as fill whole vectors; those beyond are zero.
    """
    window = log_mel.window.double().cpu()
    filters = log_mel.filters.float().cpu()
    bins, size = filters.shape[1], len(window)
    turns = torch.outer(torch.arange(bins), torch.arange(size)).remainder(size).double()
    angles = turns * (2 * math.pi / size)
    beyond = -bins % native.LANES
    parts = [F.pad((turned * window).float(), (0, 0, 0, beyond)) for turned in (angles.cos(), angles.sin())]
    return torch.cat(parts), F.pad(filters, (0, beyond, 0, -len(filters) % native.LANES))
