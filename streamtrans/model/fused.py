"""A pass through a stack of layers as one call of ``fused.c``, in place of an operator after another.

It reads and writes the slots themselves, whatever their order, holes and lengths, and pads nothing. Law: what a row
gives depends on its own text and memory only, to the last bit.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from weakref import WeakKeyDictionary

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from streamtrans.model import native
from streamtrans.model.cache import Heads, SlotCache, Slots
from streamtrans.model.config import NetworkConfig
from streamtrans.model.kvspn import Kvspn, KvspnBlock
from streamtrans.model.layers import DecoderLayer, TextDecoder
from streamtrans.model.linear import Panels

WRITES, READS, OWN = range(3)
"""What a block does with keys: writes and sees them; sees those of others; sees those and its own."""

_KINDS = {torch.float32: native.FLOAT, torch.bfloat16: native.HALF}


@dataclass(frozen=True, slots=True)
class Passage:
    """The rows of one text in a pass: ``count`` of them, at the end of what ``cache`` holds.

    Keys before position ``begin`` aren't seen. ``chain`` own keys stand before this pass.
    """

    cache: SlotCache
    count: int
    begin: int = 0
    chain: int = 0


class Own:
    """Keys and values that KVSPN writes for one chain of guesses, ``room`` for each text."""

    def __init__(self, blocks: int, texts: int, heads: int, room: int, width: int) -> None:
        self.room = room
        self.keys, self.values = native.empty(2, blocks, texts, heads, room, width)


class Stack:
    """The blocks of a decoder, or of its KVSPN, laid out for :data:`fused.c`, and the norm behind them.

    Args:
        layers: made of :class:`Panels`.
        blocks: the same, laid out; what they point at is theirs, or ``kept``.
        norm: behind the last.
        lanes: per block the first of the decoder's layers whose keys it reads or writes, and how many.
        crossing: of the first block, among a memory's.
    """

    def __init__(
        self,
        layers: Iterable[nn.Module],
        blocks: Sequence[native.Block],
        kept: list[Tensor],
        norm: nn.LayerNorm,
        *,
        lanes: Sequence[range],
        crossing: int,
    ) -> None:
        self._blocks = (native.Block * len(blocks))(*blocks)
        self._layers, self._kept = [*layers], kept
        self._watched: Heads = ()
        self._norm = (norm.weight.float(), norm.bias.float())
        self._lanes, self._crossing = lanes, crossing
        self._memories: WeakKeyDictionary[Slots, ctypes.Array[native.Memory]] = WeakKeyDictionary()

    def run(self, x: Tensor, passages: Sequence[Passage], *, watched: Heads = (), own: Own | None = None) -> Tensor:
        """Take rows ``(R, E)``, float32, passage after passage, through all blocks, in place.

        Returns the attention ``(watched, R, S)`` to memories of the heads that are watched, layer by layer.
        """
        assert x.dtype == torch.float32, "it is read by address"
        assert x.is_contiguous(), "it is read by address"
        if watched != self._watched:
            self._watch(watched)
        slots = passages[0].cache.slots
        frames = max(passage.cache.frames for passage in passages)
        weights = native.zeros(len(watched), len(x), frames)
        texts = (native.Text * len(passages))()
        first = 0
        for text, passage in zip(texts, passages, strict=True):
            cache, count = passage.cache, passage.count
            text.first, text.rows, text.slot, text.lane = first, count, cache.slot, cache.lane
            text.begin, text.start, text.frames, text.chain = passage.begin, cache.end, cache.frames, passage.chain
            first += count
        shape = slots.shape
        keys = slots.keys[0]
        native.call(
            "streamtrans_pass",
            ctypes.byref(
                native.Shape(
                    len(self._blocks),
                    shape.heads,
                    shape.heads * shape.width,
                    _KINDS[slots.dtype],
                    *keys.stride()[:3],
                    slots.frames,
                    0 if own is None else own.room,
                    frames,
                )
            ),
            self._blocks,
            self._pointers(slots, own),
            x.data_ptr(),
            len(x),
            texts,
            len(texts),
            weights.data_ptr(),
            torch.get_num_threads(),
        )
        return weights

    def made_of(self, layers: Iterable[nn.Module]) -> bool:
        """Return whether these layers, in this order, are what was laid out."""
        return all(mine is layer for mine, layer in zip_longest(self._layers, layers))

    def normalise(self, rows: Tensor) -> Tensor:
        """Normalise what came out, as its scoring wants it."""
        return F.layer_norm(rows, rows.shape[-1:], *self._norm)

    def _watch(self, watched: Heads) -> None:
        first = 0
        for number, block in enumerate(self._blocks):
            heads = {head for layer, head in watched if layer == number}
            block.watched, block.first_watched = sum(1 << head for head in heads), first
            first += len(heads)
        self._watched = watched

    def _pointers(self, slots: Slots, own: Own | None) -> ctypes.Array[native.Memory]:
        found = self._memories.get(slots)
        if found is None:
            found = (native.Memory * len(self._blocks))()
            for number, (memory, layers) in enumerate(zip(found, self._lanes, strict=True)):
                memory.keys, memory.values = (native.address(lane) for lane in slots.lanes[layers.start])
                memory.cross_keys = native.address(slots.cross_keys[self._crossing + number])
                memory.cross_values = native.address(slots.cross_values[self._crossing + number])
            self._memories[slots] = found
        if own is not None:
            for memory, own_keys, own_values in zip(found, own.keys, own.values, strict=True):
                memory.own_keys, memory.own_values = own_keys.data_ptr(), own_values.data_ptr()
        return found


def decoder_stack(decoder: TextDecoder) -> Stack:
    """Lay out a packed decoder."""
    kept: list[Tensor] = []
    blocks = []
    for layer in decoder.layers:
        block = _block(layer, layer.self_attn.qkv_proj, layer.self_attn.out_proj, kept)
        block.before = _norm(layer.self_attn_layer_norm, kept)
        block.span, block.reads = 1, WRITES
        blocks.append(block)
    lanes = [range(number, number + 1) for number in range(len(blocks))]
    return Stack(decoder.layers, blocks, kept, decoder.layer_norm, lanes=lanes, crossing=0)


def kvspn_stack(speculator: Kvspn, config: NetworkConfig) -> Stack:
    """Lay out a packed KVSPN."""
    kept: list[Tensor] = []
    blocks = []
    for layer, layers in zip(speculator.blocks, config.speculator_reads, strict=True):
        attention = layer.base_attn
        block = _block(layer, attention.qkv_proj or attention.q_proj, attention.out_proj, kept)
        block.after = _norm(layer.base_attn_layer_norm, kept)
        block.span, block.reads = len(layers), READS if attention.qkv_proj is None else OWN
        blocks.append(block)
    lanes, crossing = config.speculator_reads, config.decoder_layers
    return Stack(speculator.blocks, blocks, kept, speculator.layer_norm, lanes=lanes, crossing=crossing)


def _block(layer: DecoderLayer | KvspnBlock, qkv: nn.Module | None, out: nn.Module, kept: list[Tensor]) -> native.Block:
    """Lay out what layers of the decoder and blocks of KVSPN have in common."""
    crossing = layer.encoder_attn
    linears = (qkv, out, crossing.q_proj, crossing.out_proj, layer.fc1, layer.fc2)
    names = ("qkv", "out", "cross_q", "cross_out", "up", "down")
    block = native.Block()
    for name, linear in zip(names, linears, strict=True):
        assert isinstance(linear, Panels), f"{name} isn't laid out in panels"
        setattr(block, name, linear.laid)
    block.cross_norm = _norm(layer.encoder_attn_layer_norm, kept)
    block.mlp_norm = _norm(layer.final_layer_norm, kept)
    return block


def _norm(norm: nn.LayerNorm, kept: list[Tensor]) -> native.Norm:
    assert norm.eps == 1e-5, f"fused.c normalises with 1e-5, and this norm has {norm.eps}"
    parts = norm.weight.float().contiguous(), norm.bias.float().contiguous()
    kept += parts
    return native.Norm(*(part.data_ptr() for part in parts))
