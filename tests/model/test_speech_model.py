"""Laws of the model: no memory between calls, a row is a row, rollback is a smaller number, KVSPN sees the past."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from streamtrans.core import AudioTooLong, UnsupportedLanguage
from streamtrans.decode import DraftContext, Drafter, NoDraft, converse, decode, parse_drafters
from streamtrans.model.api import Forward, Propose
from streamtrans.model.kvspn import flatten_group
from streamtrans.model.layers import attend_or_zero
from streamtrans.model.loading import load_model
from streamtrans.model.speech import TorchSpeechModel
from tests.model.test_parity import speech


@pytest.fixture(scope="module")
def model(m2m_folder: Path) -> TorchSpeechModel:
    return load_model(m2m_folder, device="cpu", dtype="float64")


AUDIOS = [speech(seconds, seed) for seed, seconds in enumerate((0.02, 0.31, 0.7, 1.1, 1.9))]
LINE = (1, 2, 40, 50, 60, 70, 80, 90)


def test_encoding_a_batch_equals_encoding_each_alone(model: TorchSpeechModel) -> None:
    together = model.encode(AUDIOS)
    for audio, row in zip(AUDIOS, together, strict=True):
        alone = model.encode([audio])[0]
        assert alone.frames == row.frames == max(1, (len(audio) // 160 + 1) // 2) or len(audio) < 400
        for mine, other in zip((*alone.decoder, *alone.speculator), (*row.decoder, *row.speculator), strict=True):
            torch.testing.assert_close(mine.keys, other.keys, atol=1e-10, rtol=0)
            torch.testing.assert_close(mine.values, other.values, atol=1e-10, rtol=0)


@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_a_row_of_a_ragged_batch_equals_the_row_alone(model: TorchSpeechModel, data: st.DataObject) -> None:
    memories = model.encode(AUDIOS)
    count = data.draw(st.integers(1, 5))
    starts = [data.draw(st.integers(0, 4)) for _ in range(count)]
    takes = [data.draw(st.integers(1, 3)) for _ in range(count)]
    many = model.allocate(7)
    held = [many.open(memories[0]) for _ in range(data.draw(st.integers(0, 2)))]
    caches = [many.open(memories[row]) for row in range(count)]
    for spare in held[::2]:
        many.release(spare)
    for cache, start in zip(caches, starts, strict=True):
        if start:
            model.step([Forward(LINE[:start], cache, rows=1)])
    forwards = [
        Forward(LINE[start : start + take], cache, rows=take, draft=LINE[start + 1 : start + take])
        for cache, start, take in zip(caches, starts, takes, strict=True)
    ]
    answers = model.step(forwards[::-1])[::-1]
    drafts = model.propose([Propose(LINE[cache.length], cache) for cache in caches])
    for row, answer in enumerate(answers):
        alone = model.allocate(1).open(memories[row])
        end = starts[row] + takes[row]
        expected = model.step([Forward(LINE[:end], alone, rows=takes[row], draft=LINE[starts[row] + 1 : end])])[0]
        assert answer.tokens == expected.tokens
        assert answer.ranks == expected.ranks
        assert answer.logprobs == pytest.approx(expected.logprobs, abs=1e-9)
        assert drafts[row] == model.propose([Propose(LINE[end], alone)])[0]


@settings(max_examples=25, deadline=None)
@given(kept=st.integers(1, 6), junk=st.lists(st.integers(10, 200), min_size=1, max_size=6))
def test_what_was_truncated_leaves_no_trace(model: TorchSpeechModel, kept: int, junk: list[int]) -> None:
    memory = model.encode([AUDIOS[3]])[0]
    slots = model.allocate(2)
    used, fresh = slots.open(memory), slots.open(memory)
    model.step([Forward(LINE[:kept], used, rows=1)])
    model.step([Forward(tuple(junk), used, rows=1)])
    used.truncate(kept)
    model.step([Forward(LINE[:kept], fresh, rows=1)])
    rest = LINE[kept:]
    both = model.step([Forward(rest, cache, rows=len(rest), draft=rest[1:]) for cache in (used, fresh)])
    assert both[0].tokens == both[1].tokens
    assert both[0].logprobs == pytest.approx(both[1].logprobs, abs=1e-10)


def test_kvspn_in_slots_equals_kvspn_in_training(model: TorchSpeechModel) -> None:
    memory = model.encode([AUDIOS[2]])[0]
    features, _ = model.network.model.encoder(model._frames(AUDIOS[2]))
    _, hidden = model.network.read_targets(torch.tensor([LINE]), features, None, speculate=True)
    assert hidden is not None
    wanted = model._scores(hidden[0]).argmax(-1).tolist()
    for length in range(len(LINE)):
        cache = model.allocate(1).open(memory)
        if length:
            model.step([Forward(LINE[:length], cache, rows=1)])
        assert model.propose([Propose(LINE[length], cache)])[0] == wanted[length]


def test_kvspn_looks_only_at_strictly_earlier_positions(model: TorchSpeechModel) -> None:
    features, _ = model.network.model.encoder(model._frames(AUDIOS[2]))
    changed = (*LINE[:5], 11, *LINE[6:])
    _, one = model.network.read_targets(torch.tensor([LINE]), features, None, speculate=True)
    _, two = model.network.read_targets(torch.tensor([changed]), features, None, speculate=True)
    assert one is not None
    assert two is not None
    torch.testing.assert_close(one[:, :5], two[:, :5])
    assert not torch.allclose(one[:, 6:], two[:, 6:])


def test_attention_to_nothing_is_zero_with_zero_gradient() -> None:
    queries = torch.randn(1, 2, 3, 4, requires_grad=True)
    keys = torch.randn(1, 2, 6, 4, requires_grad=True)
    mask = torch.tensor([[False] * 6, [True] * 2 + [False] * 4, [True] * 6])[None, None]
    seen = attend_or_zero(queries, keys, keys, mask)
    seen.sum().backward()
    assert torch.equal(seen[:, :, 0], torch.zeros(1, 2, 4))
    assert torch.isfinite(seen).all()
    assert queries.grad is not None
    assert torch.equal(queries.grad[:, :, 0], torch.zeros(1, 2, 4))
    assert keys.grad is not None
    assert torch.isfinite(keys.grad).all()


def test_flattened_group_is_time_outer_layer_inner() -> None:
    layers = [torch.full((1, 1, 3, 2), float(number)) + torch.arange(3.0)[:, None] * 10 for number in range(4)]
    flat = flatten_group(layers)[0, 0, :, 0]
    assert flat.tolist() == [0, 1, 2, 3, 10, 11, 12, 13, 20, 21, 22, 23]


GREEDY = NoDraft(DraftContext(prompt_length=2, eot=0))


def translate(model: TorchSpeechModel, audio: np.ndarray, drafter: Drafter) -> tuple[int, ...]:
    cache = model.allocate(1).open(model.encode([audio])[0])
    talk = decode(model.prompt("de", None), (), cache, drafter, eot=model.eot, limit=30)
    return converse(model, talk).tokens


@pytest.mark.parametrize("spec", ["echo", "ngram", "kvspn", "echo,ngram,kvspn"])
def test_every_drafter_gives_the_greedy_tokens_on_a_real_network(model: TorchSpeechModel, spec: str) -> None:
    for audio, shorter in zip(AUDIOS[1:], AUDIOS[:-1], strict=True):
        wanted = translate(model, audio, GREEDY)
        previous = translate(model, shorter, GREEDY)
        context = DraftContext(prompt_length=2, eot=model.eot, previous=previous)
        assert translate(model, audio, parse_drafters(spec).make(context)) == wanted


def test_specials_are_never_chosen_nor_drafted(model: TorchSpeechModel) -> None:
    memory = model.encode([AUDIOS[4]])[0]
    cache = model.allocate(1).open(memory)
    answer = model.step([Forward(LINE, cache, rows=len(LINE), draft=(2, *LINE[2:]))])[0]
    special = {token for token in range(model.config.vocab_size) if model.tokenizer.is_special(token)} - {model.eot}
    assert not special & set(answer.tokens)
    assert answer.ranks[0] >= model.config.vocab_size - len(special) - 1
    assert model.propose([Propose(50, cache)])[0] not in special


def test_limits_are_named(model: TorchSpeechModel) -> None:
    with pytest.raises(AudioTooLong, match=r"2\.5 s exceeds the model's 2\.0 s"):
        model.encode([speech(2.5)])
    with pytest.raises(UnsupportedLanguage, match="no language 'fr'; it has en, de, zh"):
        model.prompt("fr", None)
    cache = model.allocate(1).open(model.encode([AUDIOS[1]])[0])
    with pytest.raises(ValueError, match="exceed the model's 48"):
        model.step([Forward((5,) * 49, cache, rows=1)])
    assert cache.length == 0


def test_slots_are_counted(model: TorchSpeechModel) -> None:
    memory = model.encode([AUDIOS[1]])[0]
    slots = model.allocate(2)
    first = slots.open(memory)
    slots.open(memory)
    with pytest.raises(RuntimeError, match="all 2 cache slots are taken"):
        slots.open(memory)
    slots.release(first)
    assert slots.free == 1
    with pytest.raises(RuntimeError, match="released before"):
        slots.release(first)
    with pytest.raises(ValueError, match="cannot truncate"):
        first.truncate(3)


def test_bfloat16_runs(m2m_folder: Path) -> None:
    model = load_model(m2m_folder, device="cpu", dtype="bfloat16")
    cache = model.allocate(1).open(model.encode([AUDIOS[3]])[0])
    answer = model.step([Forward(LINE, cache, rows=2, draft=LINE[-1:])])[0]
    assert np.isfinite(answer.logprobs).all()
