"""Decoder caches as slots of preallocated tensors, and the attention that reads them.

```
 one group of layers:   (slot, head, time, layer, D)      time and layer are neighbours: KVSPN's view of the
                                                          group, time × layer flattened, is a view, not a copy
 one layer's crossing:  keys (slot, head, D, frame), values (slot, head, frame, D)
```

Law: positions from ``length`` on hold nothing that any later pass looks at, so rollback is a smaller number. What is
hidden still enters as zero times its value, so nothing that isn't finite may stay in a slot: failures wipe it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

import torch
from torch import Tensor

from streamtrans.core import Tokens
from streamtrans.model.api import DecoderCache
from streamtrans.model.layers import attend

Heads = Sequence[tuple[int, int]]
"""Heads of the decoder's attention to the encoder: (layer, head)."""

_VECTOR = 16
"""Frames that model.fused reads at once."""


@dataclass(frozen=True, slots=True)
class CrossingPair:
    """Keys ``(H, D, S)`` and values ``(H, S, D)`` of one attention to the encoder, for one utterance."""

    keys: Tensor
    values: Tensor


@dataclass(frozen=True, slots=True)
class EncodedSpeech:
    """What the encoder left behind: the projected keys and values of every attention that will read it.

    ``decoder`` has one pair per decoder layer, ``speculator`` one per KVSPN block. Decoders without attention to an
    encoder have a ``prefix`` instead: per layer keys and values ``(H, T, D)`` of what stands before every text.
    """

    frames: int
    decoder: tuple[CrossingPair, ...] = ()
    speculator: tuple[CrossingPair, ...] = ()
    prefix: tuple[CrossingPair, ...] = ()
    prompt: Tokens = ()
    """What a text about it is asked with, where that follows from what was read."""
    reach: tuple[int, ...] = ()
    """Of a text that was read: per frame how much of it there is up to its end, 0 for frames that are none of it."""
    identity: object = field(default_factory=object, compare=False)


@dataclass(frozen=True, slots=True)
class SlotShape:
    """What one slot holds: ``positions`` of text, in ``layers`` with ``heads`` of ``width`` for keys and values.

    ``crossings`` attentions look at up to ``frames`` of the memory; models that read their memory as text have none.
    The layers of a ``group`` lie side by side.
    """

    heads: int
    width: int
    layers: int
    positions: int
    crossings: int = 0
    frames: int = 0
    group: int = 1


class SlotCache:
    """One text in one slot: a number of read positions, behind those of its memory where that is read as text.

    Keys and values of attention to the memory lie in a ``lane``, once for all texts about it.
    """

    def __init__(self, slots: Slots, slot: int, lane: int, memory: EncodedSpeech) -> None:
        self.slots = slots
        self.slot, self.lane = slot, lane
        self.speech = memory.identity  # not the memory itself: its tensors were copied, and may go
        self.frames, self.reach = memory.frames, memory.reach
        self.base = memory.prefix[0].keys.shape[1] if memory.prefix else 0
        self.length = 0
        self.floor = 0
        self._hidden: Tensor | None = None
        self._hidden_from = 0

    @property
    def end(self) -> int:
        """Positions of the slot that are taken."""
        return self.base + self.length

    def keep_hidden(self, hidden: Tensor) -> None:
        """Remember the base's last hidden states ``(R, E)`` of the newest ``R`` positions, for Medusa."""
        self._hidden, self._hidden_from = hidden, self.length - len(hidden)

    def newest_hidden(self) -> Tensor | None:
        """Return the hidden state ``(E,)`` of the newest position that is left, if the last pass answered it."""
        row = self.length - 1 - self._hidden_from
        return self._hidden[row] if self._hidden is not None and 0 <= row < len(self._hidden) else None

    def truncate(self, length: int) -> None:
        """Forget every position from ``length`` on."""
        if not self.floor <= length <= self.length:
            raise ValueError(f"cannot truncate a cache of {self.length} positions (floor {self.floor}) to {length}")
        self.length = length

    def copy_from(self, source: DecoderCache, length: int) -> None:
        """Copy the positions ``[self.length, length)`` of another slot about the same speech."""
        if not isinstance(source, SlotCache) or source.slots is not self.slots or source.speech is not self.speech:
            raise ValueError("a cache is copied from another of the same slots, about the same speech")
        if not self.length <= length <= source.length:
            raise ValueError(
                f"cannot copy up to {length}: {self.length} positions are read here, {source.length} at the source"
            )
        new = slice(self.end, self.base + length)
        for tensor in (*self.slots.keys, *self.slots.values):
            tensor[self.slot, :, new] = tensor[source.slot, :, new]
        self.length = length
        self._hidden, self._hidden_from = source._hidden, source._hidden_from


class Slots:
    """A fixed number of decoder caches. Memory is taken when a slot is first used."""

    def __init__(self, shape: SlotShape, capacity: int, device: torch.device, dtype: torch.dtype) -> None:
        self.capacity = capacity
        self.shape, self.device, self.dtype = shape, device, dtype
        self.group, width = shape.group, shape.width
        # One position more than texts may have: ragged batches write their padding there.
        self.positions = shape.positions + 1

        def make(*sizes: int) -> Tensor:
            # Zeros, not whatever lies there: a hidden value that is not a number still spoils a weight of zero.
            return torch.zeros(capacity, shape.heads, *sizes, device=device, dtype=dtype)

        groups = shape.layers // self.group
        self.keys = [make(self.positions, self.group, width) for _ in range(groups)]
        self.values = [make(self.positions, self.group, width) for _ in range(groups)]
        self.lanes = [
            (keys[:, :, :, inner], values[:, :, :, inner])
            for keys, values in zip(self.keys, self.values, strict=True)
            for inner in range(self.group)
        ]
        self.frames = -(-shape.frames // _VECTOR) * _VECTOR
        self.cross_keys = [make(width, self.frames) for _ in range(shape.crossings)]
        self.cross_values = [make(self.frames, width) for _ in range(shape.crossings)]
        self._open: dict[int, SlotCache] = {}

    @property
    def free(self) -> int:
        """Slots that can still be opened."""
        return self.capacity - len(self._open)

    def open(self, memory: EncodedSpeech, prompt: Tokens = ()) -> SlotCache:
        """Take the lowest free slot and lay what the memory holds into it; the ``prompt`` is read with the text."""
        del prompt
        slot = next((number for number in range(self.capacity) if number not in self._open), None)
        if slot is None:
            raise RuntimeError(f"all {self.capacity} cache slots are taken; the scheduler should have waited")
        lane = self._lane(slot, memory)
        for (keys, values), pair in zip(self.lanes, memory.prefix, strict=bool(memory.prefix)):
            keys[slot, :, : pair.keys.shape[1]] = pair.keys
            values[slot, :, : pair.keys.shape[1]] = pair.values
        cache = SlotCache(self, slot, lane, memory)
        self._open[slot] = cache
        return cache

    def _lane(self, slot: int, memory: EncodedSpeech) -> int:
        """Return where the memory lies, laid there unless it was; its own slot's lane where that is free."""
        lanes = {cache.lane: cache.speech for cache in self._open.values()}
        for lane, speech in lanes.items():
            if speech is memory.identity:
                return lane
        lane = slot if slot not in lanes else next(free for free in range(self.capacity) if free not in lanes)
        pairs = (*memory.decoder, *memory.speculator)
        for keys, values, pair in zip(self.cross_keys, self.cross_values, pairs, strict=True):
            keys[lane, :, :, : memory.frames] = pair.keys
            values[lane, :, : memory.frames] = pair.values
        return lane

    def wipe(self, cache: SlotCache) -> None:
        """Fill a slot with zeros: after a failure it may hold what is no number."""
        self._check(cache)
        for tensor in (*self.keys, *self.values):
            tensor[cache.slot].zero_()
        if (
            sum(other.lane == cache.lane for other in self._open.values()) == 1
        ):  # a pass only reads it: others may go on
            for tensor in (*self.cross_keys, *self.cross_values):
                tensor[cache.lane].zero_()

    def release(self, cache: SlotCache) -> None:
        """Give a slot back."""
        self._check(cache)
        del self._open[cache.slot]

    def _check(self, cache: SlotCache) -> None:
        if self._open.get(cache.slot) is not cache:
            raise RuntimeError(f"slot {cache.slot} is not held by this cache: it was released before")


class SlotBatch:
    """The slots that one pass reads: what is the same for all layers is worked out once."""

    def __init__(self, caches: Sequence[SlotCache]) -> None:
        self.slots = slots = caches[0].slots
        numbers = [cache.slot for cache in caches]
        self.count, self.first = len(numbers), numbers[0]
        self.neighbours = numbers == list(range(self.first, self.first + self.count))
        self.rows = torch.tensor(numbers, device=slots.device)
        self.lengths = [cache.end for cache in caches]
        self.reach = [cache.reach for cache in caches]
        self.runs = runs([cache.lane for cache in caches])
        frames = [cache.frames for cache in caches]
        self.frames = max(frames)
        self.frame_bias = None
        if len(set(frames)) > 1:
            heard = torch.tensor(frames, device=slots.device)[:, None, None, None]
            self.frame_bias = bias(torch.arange(self.frames, device=slots.device) < heard, slots.dtype)

    def pick(self, tensor: Tensor) -> Tensor:
        """Select this batch's slots: a view where they are neighbours, a copy where not."""
        return tensor.narrow(0, self.first, self.count) if self.neighbours else tensor.index_select(0, self.rows)

    def crossing(self, number: int, watch: Callable[[Tensor], None] | None = None) -> SlotCrossing:
        """Return the attention to the encoder of a decoder layer, or after these of a KVSPN block.

        ``watch`` is shown its weights ``(B, H, T, S)``.
        """
        keys = self.slots.cross_keys[number].narrow(3, 0, self.frames)
        values = self.slots.cross_values[number].narrow(2, 0, self.frames)
        return SlotCrossing([(run, run.of(keys), run.of(values)) for run in self.runs], self.frame_bias, watch)


@dataclass(frozen=True, slots=True)
class Run:
    """Texts ``[begin, begin + texts)`` of a batch, about memories that lie side by side, or all about one."""

    begin: int
    texts: int
    lane: int
    lanes: int

    def of(self, tensor: Tensor) -> Tensor:
        """Return a view of what is theirs."""
        return tensor.narrow(0, self.lane, self.lanes)


def runs(lanes: Sequence[int]) -> list[Run]:
    """Part the lanes of a batch into as few runs as there are without changing their order."""
    found: list[Run] = []
    for at, lane in enumerate(lanes):
        last = found[-1] if found else None
        if last is not None and lane == last.lane and last.lanes == 1:
            found[-1] = Run(last.begin, last.texts + 1, lane, 1)
        elif last is not None and lane == last.lane + last.lanes and last.lanes == last.texts:
            found[-1] = Run(last.begin, last.texts + 1, last.lane, last.lanes + 1)
        else:
            found.append(Run(at, 1, lane, 1))
    return found


class SlotSpan:
    """The positions that one pass of the base writes, ``counts`` of them in each slot, and what they see."""

    def __init__(self, batch: SlotBatch, counts: Sequence[int]) -> None:
        self.batch = batch
        slots, lengths, longest = batch.slots, batch.lengths, max(counts)
        self.end = max(length + count for length, count in zip(lengths, counts, strict=True))
        self.start = lengths[0]
        self.even = len(set(lengths)) == len(set(counts)) == 1
        times = torch.arange(self.end, device=slots.device)
        if self.even:
            self.positions = self.embedded_positions = times[self.start :]
        else:
            start = torch.tensor(lengths, device=slots.device)[:, None]
            steps = torch.arange(longest, device=slots.device)
            real = steps < torch.tensor(counts, device=slots.device)[:, None]
            # Padding goes to the scrap position at the end, and so do its queries: nobody reads their answers.
            self.positions = torch.where(real, start + steps, slots.positions - 1)
            self.embedded_positions = self.positions.clamp(max=slots.positions - 2)
        self.bias = None
        if not self.even or longest > 1:
            visible = times <= self.positions[..., None]
            self.bias = bias(visible if self.even else visible[:, None], slots.dtype)

    def write(self, lane: Tensor, fresh: Tensor) -> Tensor:
        """Write ``(B, H, T, D)`` to the lane of one layer; return all that is written there so far."""
        batch = self.batch
        if self.even and batch.neighbours:
            batch.pick(lane).narrow(2, self.start, fresh.shape[2]).copy_(fresh)
        else:
            lane[batch.rows[:, None], :, self.positions] = fresh.transpose(1, 2)
        return batch.pick(lane.narrow(2, 0, self.end))


@dataclass(frozen=True, slots=True)
class SlotHistory:
    """Self-attention's history of one decoder layer, in slots."""

    span: SlotSpan
    layer: int

    def attend(self, queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        """Write ``(B, H, T, D)`` at this pass's positions; attend to everything up to each of them."""
        span = self.span
        key_lane, value_lane = span.batch.slots.lanes[self.layer]
        return attend(queries, span.write(key_lane, keys), span.write(value_lane, values), span.bias)


@dataclass(frozen=True, slots=True)
class SlotCrossing:
    """Attention to the encoder of one decoder layer or KVSPN block: keys ``(B, H, D, S)``, values ``(B, H, S, D)``.

    They are views of the slots, run by run: nothing is copied, whatever lies between.
    """

    parts: Sequence[tuple[Run, Tensor, Tensor]]
    bias: Tensor | None
    watch: Callable[[Tensor], None] | None = None

    def attend(self, queries: Tensor) -> Tensor:
        """Attend ``(B, H, T, D)`` to the frames of each slot."""
        queries = queries * queries.shape[-1] ** -0.5
        weights, seen = zip(*(self._attend(queries, *part) for part in self.parts), strict=True)
        if self.watch is not None:
            self.watch(weights[0] if len(weights) == 1 else torch.cat(weights))
        return seen[0] if len(seen) == 1 else torch.cat(seen)

    def _attend(self, queries: Tensor, run: Run, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Return the weights of a run's queries, and what they see."""
        queries = queries.narrow(0, run.begin, run.texts)
        length, folded = queries.shape[2], run.lanes < run.texts
        if folded:  # texts about one memory are queries of one attention
            queries = queries.transpose(0, 1).flatten(1, 2)[None]
        scores = queries @ keys
        if self.bias is not None:
            scores = scores + self.bias.narrow(0, run.begin, run.lanes)
        weights = scores.softmax(-1)
        seen = weights @ values
        if not folded:
            return weights, seen
        weights, seen = (part[0].unflatten(1, (-1, length)).transpose(0, 1) for part in (weights, seen))
        return weights, seen


class Alignment:
    """Where the alignment heads look during one pass: it watches the attention and changes none of it."""

    def __init__(self, heads: Heads) -> None:
        self._heads = {layer: [head for at, head in heads if at == layer] for layer, _ in heads}
        self._weights: Tensor | None = None

    def of(self, layer: int) -> Callable[[Tensor], None] | None:
        """Return what wants to see the weights ``(B, H, T, S)`` of ``layer``, if anybody does."""
        heads = self._heads.get(layer)
        return None if heads is None else partial(self._add, heads)

    def frames(self) -> list[list[int]]:
        """Return per text and token of the pass the frame in the middle of the heads' attention together."""
        return [] if self._weights is None else middles(self._weights).tolist()

    def _add(self, heads: Sequence[int], weights: Tensor) -> None:
        wide = torch.promote_types(weights.dtype, torch.float32)
        for head in heads:
            seen = weights[:, head].to(wide)
            self._weights = seen if self._weights is None else self._weights + seen


def middles(weights: Tensor) -> Tensor:
    """Return the frame ``(...)`` before which less than half of the attention ``(..., S)`` lies, and up to which half.

    It tells better than the frame with most attention which words are meant (``streamtrans align``): what a head sees
    by the way, far off, outweighs one frame easily and half of all seldom.
    """
    sums = weights.cumsum(-1)
    return (sums < sums[..., -1:] / 2).sum(-1)


def words_looked_at(weights: Tensor, batch: SlotBatch) -> list[list[int]]:
    """Return per text and token which frame that is a word gets most of the attention ``(B, H, T, S)``; -1: none.

    Codes around a text are no words: what isn't needed elsewhere is looked at there.
    """
    words = [[reach > 0 for reach in reaches] + [False] * (batch.frames - len(reaches)) for reaches in batch.reach]
    mean = weights.to(torch.promote_types(weights.dtype, torch.float32)).mean(1)
    most, frames = (mean * torch.tensor(words, device=weights.device)[:, None]).max(-1)
    return frames.masked_fill(most == 0, -1).tolist()  # type: ignore[no-any-return]


def bias(visible: Tensor, dtype: torch.dtype) -> Tensor:
    """Return what to add to scores so that only visible keys count: attention would make it of a mask every time."""
    return torch.zeros(visible.shape, dtype=dtype, device=visible.device).masked_fill_(~visible, float("-inf"))
