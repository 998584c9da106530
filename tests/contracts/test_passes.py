"""What every way to run a pass must keep: operator after operator, or all in one call, in each precision.

In one call, each law holds to the last bit; by operators float64 shows it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from streamtrans.core import BadAnswer
from streamtrans.decode import DraftContext, converse, decode, parse_drafters
from streamtrans.model.api import Choices, Forward, Propose
from streamtrans.model.linear import PRECISIONS, paneled
from streamtrans.model.loading import load_model
from streamtrans.model.speech import TorchSpeechModel
from tests.checkpoints import make_whisper_m2m
from tests.model.test_parity import speech

AUDIOS = [speech(seconds, seed) for seed, seconds in enumerate((0.02, 0.31, 0.7, 1.1, 1.9))]
LINE = (1, 2, 40, 50, 60, 70, 80, 90)
SHAPE = {"d_model": 96, "decoder_attention_heads": 3, "decoder_ffn_dim": 80, "speculator_own_keys": True}
HEADS = ((0, 1), (2, 0), (2, 2))
OPERATORS = "float64, by operators"


@dataclass(frozen=True)
class Backend:
    model: TorchSpeechModel
    close: Callable[[object], object]

    def same(self, one: Choices, other: Choices) -> None:
        """Compare two answers as exactly as this backend promises."""
        plain = {"logprobs": (), "draft_logprobs": (), "candidates": ()}
        assert replace(one, **plain) == replace(other, **plain)
        assert one.logprobs == self.close(other.logprobs)
        assert one.draft_logprobs == self.close(other.draft_logprobs)
        for mine, others in zip(one.candidates, other.candidates, strict=True):
            assert dict(mine) == self.close(dict(others))


KINDS = [OPERATORS, *(precision for precision in PRECISIONS if paneled(precision))]


@pytest.fixture(scope="module", params=KINDS)
def backend(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("passes")
    make_whisper_m2m(folder, **SHAPE)
    exact = request.param == OPERATORS
    model = load_model(folder, device="cpu", dtype="float64" if exact else request.param)
    assert (model.stack is None) == exact
    model.manner = replace(model.manner, alignment_heads=HEADS)
    return Backend(model, partial(pytest.approx, abs=1e-9) if exact else lambda value: value)


@settings(max_examples=20, deadline=None)
@given(data=st.data())
def test_a_row_of_a_ragged_batch_is_the_row_alone_wherever_its_slots_are(backend, data):
    model = backend.model
    memories = model.encode(AUDIOS)
    places = data.draw(st.lists(st.integers(0, 6), min_size=1, max_size=5, unique=True), label="slots")
    rows = [data.draw(st.integers(0, 4), label="audio") for _ in places]
    starts = [data.draw(st.integers(0, 4), label="read") for _ in places]
    takes = [data.draw(st.integers(1, 4), label="new") for _ in places]
    slots = model.allocate(7)
    held = [slots.open(memories[rows[places.index(place)] if place in places else 3]) for place in range(7)]
    caches = [held[place] for place in places]
    for cache, start in zip(caches, starts, strict=True):
        if start:
            model.step([Forward(LINE[:start], cache, 1)])
    asked = [
        Forward(LINE[start : start + take], cache, take, LINE[start + 1 : start + take], 4)
        for cache, start, take in zip(caches, starts, takes, strict=True)
    ]
    answers = model.step(asked)
    for row, start, take, answer in zip(rows, starts, takes, answers, strict=True):
        alone = model.allocate(1).open(memories[row])
        if start:
            model.step([Forward(LINE[:start], alone, 1)])
        fresh = LINE[start : start + take]
        backend.same(answer, model.step([Forward(fresh, alone, take, fresh[1:], 4)])[0])


@settings(max_examples=15, deadline=None)
@given(cuts=st.sets(st.integers(1, len(LINE) - 1)), audio=st.integers(0, 4))
def test_read_at_once_or_bit_by_bit_a_text_is_the_same(backend, cuts, audio):
    model = backend.model
    [memory] = model.encode([AUDIOS[audio]])
    slots = model.allocate(2)
    whole, parts = slots.open(memory), slots.open(memory)
    at_once = model.step([Forward(LINE, whole, len(LINE))])[0]
    edges = [0, *sorted(cuts), len(LINE)]
    found = [model.step([Forward(LINE[begin:end], parts, end - begin)])[0] for begin, end in pairwise(edges)]
    joined = Choices(
        *(tuple(x for part in found for x in getattr(part, name)) for name in ("tokens", "logprobs")),
        frames=tuple(frame for part in found for frame in part.frames),
    )
    backend.same(joined, at_once)


@settings(max_examples=15, deadline=None)
@given(kept=st.integers(1, 6), junk=st.lists(st.integers(10, 200), min_size=1, max_size=6))
def test_what_was_truncated_leaves_no_trace(backend, kept, junk):
    model = backend.model
    [memory] = model.encode([AUDIOS[3]])
    slots = model.allocate(2)
    used, fresh = slots.open(memory), slots.open(memory)
    for cache, more in ((used, tuple(junk)), (fresh, ())):
        model.step([Forward(LINE[:kept], cache, 1)])
        if more:
            model.step([Forward(more, cache, 1)])
            cache.truncate(kept)
    rest = LINE[kept:]
    backend.same(*model.step([Forward(rest, cache, len(rest), rest[1:], 3) for cache in (used, fresh)]))


def test_heads_are_watched_and_change_nothing(backend):
    model = backend.model
    found = {}
    for heads in (HEADS, ()):
        manner = model.manner
        model.manner = replace(manner, alignment_heads=heads)
        try:
            caches = [model.allocate(1).open(memory) for memory in model.encode(AUDIOS[3:4])]
            found[heads] = model.step([Forward(LINE, cache, 3, LINE[-2:], 2) for cache in caches])[0]
        finally:
            model.manner = manner
    assert found[()].frames == ()
    assert len(found[HEADS].frames) == len(LINE)
    assert replace(found[HEADS], frames=()) == found[()]


@settings(max_examples=12, deadline=None)
@given(data=st.data())
def test_a_guess_beside_others_is_the_guess_alone(backend, data):
    model = backend.model
    memories = model.encode(AUDIOS)
    places = data.draw(st.lists(st.integers(0, 4), min_size=1, max_size=4, unique=True), label="slots")
    draw = [data.draw(st.tuples(st.integers(0, 4), st.integers(1, 3), st.integers(1, 6))) for _ in places]
    slots = model.allocate(5)
    held = [slots.open(memory) for memory in memories]
    asked = []
    for place, (read, unread, count) in zip(places, draw, strict=True):
        if read:
            model.step([Forward(LINE[:read], held[place], 1)])
        asked.append(Propose(LINE[read : read + unread], held[place], count, width=2))
    for one, item in zip(model.propose(asked), asked, strict=True):
        [alone] = model.propose([item])
        assert one.tokens == alone.tokens
        assert one.logprobs == backend.close(alone.logprobs)
        assert dict(one.candidates) == backend.close(dict(alone.candidates))


def test_what_is_broken_is_no_answer(backend):
    model = backend.model
    positions = model.network.model.decoder.embed_positions.weight
    whole = positions[4].clone()
    with torch.inference_mode():
        positions[4, 3] = torch.nan
    try:
        cache = model.allocate(1).open(model.encode(AUDIOS[3:4])[0])
        with pytest.raises(BadAnswer, match="aren't finite"):
            model.step([Forward(LINE, cache, len(LINE))])
    finally:
        with torch.inference_mode():
            positions[4] = whole


@pytest.mark.parametrize("spec", ["kvspn", "echo,ngram,kvspn"])
def test_drafts_leave_the_text_alone(backend, spec):
    model = backend.model
    audio = np.concatenate([speech(0.7, 3), speech(0.9, 4)])

    def write(drafters):
        cache = model.allocate(1).open(model.encode([audio])[0])
        drafter = parse_drafters(drafters).make(DraftContext(prompt_length=2, eot=model.eot, count=4))
        return converse(model, decode(model.prompt("de", None), (), cache, drafter, eot=model.eot, limit=40))

    plain, drafted = write("none"), write(spec)
    assert drafted.tokens == plain.tokens
    assert drafted.stats.drafted > 0
