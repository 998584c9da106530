"""Slots: a memory lies there once for all texts about it, and holes between slots cost no copy."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from streamtrans.model.cache import CrossingPair, EncodedSpeech, Run, SlotBatch, Slots, SlotShape, runs

SHAPE = SlotShape(heads=2, width=4, layers=2, positions=6, crossings=3, frames=5)


def memory(frames: int, value: float) -> EncodedSpeech:
    pairs = tuple(
        CrossingPair(torch.full((2, 4, frames), value + at), torch.full((2, frames, 4), -value - at)) for at in range(3)
    )
    return EncodedSpeech(frames, pairs)


def make(capacity: int) -> Slots:
    return Slots(SHAPE, capacity, torch.device("cpu"), torch.float32)


@pytest.mark.parametrize(
    ("lanes", "found"),
    [
        ([3], [Run(0, 1, 3, 1)]),
        ([1, 2, 3], [Run(0, 3, 1, 3)]),
        ([1, 3], [Run(0, 1, 1, 1), Run(1, 1, 3, 1)]),
        ([2, 2, 2], [Run(0, 3, 2, 1)]),
        ([0, 1, 1, 2, 0], [Run(0, 2, 0, 2), Run(2, 2, 1, 2), Run(4, 1, 0, 1)]),
        ([0, 0, 1], [Run(0, 2, 0, 1), Run(2, 1, 1, 1)]),
    ],
)
def test_lanes_part_into_runs(lanes, found):
    assert runs(lanes) == found


def test_across_a_hole_nothing_is_copied():
    slots = make(4)
    caches = [slots.open(memory(5, value)) for value in (10.0, 20.0, 30.0)]
    crossing = SlotBatch([caches[0], caches[2]]).crossing(1)
    storages = {tensor.untyped_storage().data_ptr() for tensor in (*slots.cross_keys, *slots.cross_values)}
    read = [part for _, *both in crossing.parts for part in both]
    assert {part.untyped_storage().data_ptr() for part in read} <= storages
    assert sum(part.shape[0] for part in read) == 2 * 2  # of keys and of values, the lanes that were asked for
    queries = torch.randn(2, 2, 3, 4)
    seen = crossing.attend(queries)
    assert torch.allclose(seen, torch.tensor([-11.0, -31.0])[:, None, None, None].expand_as(seen))


def test_texts_about_one_memory_are_read_in_one_go():
    slots = make(4)
    one, other = memory(5, 1.0), memory(3, 2.0)
    caches = [slots.open(each) for each in (one, one, other, one)]
    assert [cache.lane for cache in caches] == [0, 0, 2, 0]
    crossing = SlotBatch([caches[0], caches[1], caches[3]]).crossing(0)
    [(_, keys, _)] = crossing.parts
    assert keys.shape[0] == 1
    shown: list[torch.Tensor] = []
    queries = torch.randn(3, 2, 2, 4)
    found = SlotBatch([caches[0], caches[1], caches[3]]).crossing(0, shown.append).attend(queries)
    assert found.shape == queries.shape
    assert shown[0].shape == (3, 2, 2, 5)
    for row, cache in enumerate((caches[0], caches[1], caches[3])):
        alone = SlotBatch([cache]).crossing(0).attend(queries[row : row + 1])
        assert torch.allclose(found[row : row + 1], alone)


def test_what_is_wiped_is_still_there_for_others():
    slots = make(2)
    shared = memory(5, 1.0)
    first, second = slots.open(shared), slots.open(shared)
    slots.wipe(first)
    assert slots.cross_keys[0][second.lane].eq(1.0).all(dim=(0, 1))[:5].all()
    slots.release(first)
    slots.wipe(second)
    assert not slots.cross_keys[0].any()


@settings(max_examples=60, deadline=None)
@given(moves=st.lists(st.tuples(st.booleans(), st.integers(0, 5)), max_size=30))
def test_every_text_finds_its_memory(moves):
    memories = [memory(1 + number % 5, 10.0 * (number + 1)) for number in range(4)]
    slots, held = make(4), []
    for opens, number in moves:
        if opens and slots.free:
            held.append((slots.open(memories[number % 4]), number % 4))
        elif held:
            slots.release(held.pop(number % len(held))[0])
        for cache, which in held:
            for at in range(3):
                keys = slots.cross_keys[at][cache.lane, :, :, : cache.frames]
                assert torch.equal(keys, memories[which].decoder[at].keys)
        assert len({cache.lane for cache, _ in held}) == len({which for _, which in held})
