"""Decoder caches as slots of preallocated tensors, and the attention that reads them.

```
 one group of layers:   (slot, head, time, layer, D)      time and layer are neighbours: KVSPN's view of the
                                                          group, time × layer flattened, is a view, not a copy
 one layer's crossing:  keys (slot, head, D, frame), values (slot, head, frame, D)
```

Law: positions from ``length`` on hold nothing that any later pass looks at, so rollback is a smaller number.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from streamtrans.model.config import NetworkConfig


@dataclass(frozen=True, slots=True)
class CrossingPair:
    """Keys ``(H, D, S)`` and values ``(H, S, D)`` of one attention to the encoder, for one utterance."""

    keys: Tensor
    values: Tensor


@dataclass(frozen=True, slots=True)
class EncodedSpeech:
    """What the encoder left behind: the projected keys and values of every attention that will read it.

    ``decoder`` has one pair per decoder layer, ``speculator`` one per KVSPN block.
    """

    frames: int
    decoder: tuple[CrossingPair, ...]
    speculator: tuple[CrossingPair, ...]


class SlotCache:
    """One text in one slot: a number of read positions."""

    def __init__(self, slots: Slots, slot: int, frames: int) -> None:
        self.slots = slots
        self.slot = slot
        self.frames = frames
        self.length = 0
        self.floor = 0

    def truncate(self, length: int) -> None:
        """Forget every position from ``length`` on."""
        if not self.floor <= length <= self.length:
            raise ValueError(f"cannot truncate a cache of {self.length} positions (floor {self.floor}) to {length}")
        self.length = length


class Slots:
    """A fixed number of decoder caches. Memory is taken when a slot is first used."""

    def __init__(self, config: NetworkConfig, capacity: int, device: torch.device, dtype: torch.dtype) -> None:
        heads, width = config.decoder_attention_heads, config.head_width
        self.capacity = capacity
        self.group = config.group if config.speculator_blocks else 1
        # One position more than texts may have: ragged batches write their padding there.
        self.positions = config.max_target_positions + 1
        frames = config.max_source_positions

        def make(*shape: int) -> Tensor:
            # Zeros, not whatever lies there: a hidden value that is not a number still spoils a weight of zero.
            return torch.zeros(capacity, heads, *shape, device=device, dtype=dtype)

        groups = config.decoder_layers // self.group
        self.keys = [make(self.positions, self.group, width) for _ in range(groups)]
        self.values = [make(self.positions, self.group, width) for _ in range(groups)]
        count = config.decoder_layers + config.speculator_blocks
        self.cross_keys = [make(width, frames) for _ in range(count)]
        self.cross_values = [make(frames, width) for _ in range(count)]
        self._open: dict[int, SlotCache] = {}

    @property
    def free(self) -> int:
        """Slots that can still be opened."""
        return self.capacity - len(self._open)

    def open(self, memory: EncodedSpeech) -> SlotCache:
        """Take the lowest free slot and lay the utterance's keys and values into it."""
        slot = next((number for number in range(self.capacity) if number not in self._open), None)
        if slot is None:
            raise RuntimeError(f"all {self.capacity} cache slots are taken; the scheduler should have waited")
        pairs = (*memory.decoder, *memory.speculator)
        for keys, values, pair in zip(self.cross_keys, self.cross_values, pairs, strict=True):
            keys[slot, :, :, : memory.frames] = pair.keys
            values[slot, :, : memory.frames] = pair.values
        cache = SlotCache(self, slot, memory.frames)
        self._open[slot] = cache
        return cache

    def release(self, cache: SlotCache) -> None:
        """Give a slot back."""
        if self._open.pop(cache.slot, None) is not cache:
            raise RuntimeError(f"slot {cache.slot} is not held by this cache: it was released before")


class SlotBatch:
    """The slots that one pass reads and writes: index arithmetic done once for all layers."""

    def __init__(self, caches: Sequence[SlotCache], counts: Sequence[int], device: torch.device) -> None:
        self.slots = caches[0].slots
        numbers = [cache.slot for cache in caches]
        longest = max(counts)
        first = numbers[0]
        self.run = slice(first, first + len(numbers)) if numbers == list(range(first, first + len(numbers))) else None
        self.rows = torch.tensor(numbers, device=device)
        lengths = [cache.length for cache in caches]
        start = torch.tensor(lengths, device=device)[:, None]
        # Padding goes to the scrap position at the end, and so do its queries: nobody reads their answers.
        steps = torch.arange(longest, device=device)
        real = steps < torch.tensor(counts, device=device)[:, None]
        self.positions = torch.where(real, start + steps, self.slots.positions - 1)
        self.embedded_positions = self.positions.clamp(max=self.slots.positions - 2)
        self.visible_length = max(length + count for length, count in zip(lengths, counts, strict=True))
        even = longest == 1 and len(set(lengths)) == 1
        times = torch.arange(self.visible_length, device=device)
        self.mask = None if even else (times <= self.positions[:, None, :, None])
        self.read_length = max(lengths)
        even = len(set(lengths)) == 1
        self.earlier = None if even and self.read_length else (times[: self.read_length] < start[:, None, None])
        frames = [cache.frames for cache in caches]
        self.frames = max(frames)
        self.frame_mask = None
        if len(set(frames)) > 1:
            heard = torch.tensor(frames, device=device)[:, None, None, None]
            self.frame_mask = torch.arange(self.frames, device=device) < heard

    def pick(self, tensor: Tensor) -> Tensor:
        """Select this batch's slots: a view where they are neighbours, a copy where not."""
        return tensor[self.run] if self.run is not None else tensor.index_select(0, self.rows)

    def group(self, number: int) -> tuple[Tensor, Tensor]:
        """Return a group's keys and values of the positions read so far, flattened to ``(B, H, N, D)``."""
        keys = self.pick(self.slots.keys[number][:, :, : self.read_length]).flatten(2, 3)
        values = self.pick(self.slots.values[number][:, :, : self.read_length]).flatten(2, 3)
        return keys, values

    def earlier_flat(self) -> Tensor | None:
        """Return the mask of :meth:`group`, or ``None`` where everything is visible."""
        return None if self.earlier is None else self.earlier.repeat_interleave(self.slots.group, dim=-1)


@dataclass(frozen=True, slots=True)
class SlotHistory:
    """Self-attention's history of one decoder layer, in slots."""

    batch: SlotBatch
    layer: int

    def extend(self, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        """Write ``(B, H, T, D)`` at this pass's positions; return everything up to the furthest of them."""
        batch, slots = self.batch, self.batch.slots
        number, inner = divmod(self.layer, slots.group)
        found = []
        for tensor, fresh in ((slots.keys[number], keys), (slots.values[number], values)):
            lane = tensor[:, :, :, inner]
            lane[batch.rows[:, None], :, batch.positions] = fresh.transpose(1, 2)
            found.append(batch.pick(lane[:, :, : batch.visible_length]))
        return found[0], found[1], batch.mask


@dataclass(frozen=True, slots=True)
class SlotCrossing:
    """Attention to the encoder of one decoder layer or KVSPN block, in slots."""

    batch: SlotBatch
    number: int

    def attend(self, queries: Tensor) -> Tensor:
        """Attend ``(B, H, T, D)`` to the frames of each slot."""
        batch, slots = self.batch, self.batch.slots
        keys = batch.pick(slots.cross_keys[self.number][..., : batch.frames])
        values = batch.pick(slots.cross_values[self.number][:, :, : batch.frames])
        scores = (queries * queries.shape[-1] ** -0.5) @ keys
        if batch.frame_mask is not None:
            scores = scores.masked_fill(~batch.frame_mask, float("-inf"))
        return scores.softmax(-1) @ values
