"""Laws of the model: no memory between calls, a row is a row, rollback is a smaller number, KVSPN sees the past."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from streamtrans.core import AudioTooLong, BadModel, UnsupportedLanguage
from streamtrans.decode import DraftContext, Drafter, NoDraft, converse, decode, parse_drafters
from streamtrans.model.api import Forward, Guess, Propose
from streamtrans.model.cache import CrossingPair
from streamtrans.model.guessing import Guesser
from streamtrans.model.kvspn import flatten_group
from streamtrans.model.layers import attend_or_zero
from streamtrans.model.loading import load_model
from streamtrans.model.network import Texts
from streamtrans.model.scoring import Rules, Scorer
from streamtrans.model.speech import TorchSpeechModel
from tests.checkpoints import SPECULATORS, make_whisper_m2m
from tests.model.test_parity import speech


@pytest.fixture(scope="module")
def model(m2m_folder: Path) -> TorchSpeechModel:
    return load_model(m2m_folder, device="cpu", dtype="float64")


def make_speculator(request: pytest.FixtureRequest, factory: pytest.TempPathFactory) -> TorchSpeechModel:
    folder = factory.mktemp("speculator")
    make_whisper_m2m(folder, **SPECULATORS[request.param])
    return load_model(folder, device="cpu", dtype="float64")


@pytest.fixture(scope="module", params=[kind for kind in SPECULATORS if "medusa" not in kind])
def kvspn(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> TorchSpeechModel:
    return make_speculator(request, tmp_path_factory)


@pytest.fixture(scope="module", params=[kind for kind in SPECULATORS if "medusa" in kind])
def medusa(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> TorchSpeechModel:
    return make_speculator(request, tmp_path_factory)


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
    for row, answer in enumerate(answers):
        alone = model.allocate(1).open(memories[row])
        end = starts[row] + takes[row]
        expected = model.step([Forward(LINE[:end], alone, rows=takes[row], draft=LINE[starts[row] + 1 : end])])[0]
        assert answer.tokens == expected.tokens
        assert answer.ranks == expected.ranks
        assert answer.logprobs == pytest.approx(expected.logprobs, abs=1e-9)
        assert answer.draft_logprobs == pytest.approx(expected.draft_logprobs, abs=1e-9)


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


@settings(max_examples=20, deadline=None)
@given(before=st.integers(1, 6), read=st.integers(0, 4))
def test_what_stands_before_every_text_is_read_and_never_forgotten(
    model: TorchSpeechModel, before: int, read: int
) -> None:
    memory = model.encode([AUDIOS[3]])[0]
    slots = model.allocate(2)
    whole = slots.open(memory)
    model.step([Forward(LINE[:before], whole, rows=1)])
    prefix = tuple(
        CrossingPair(keys[whole.slot, :, :before].clone(), values[whole.slot, :, :before].clone())
        for keys, values in slots.lanes
    )
    behind = slots.open(replace(memory, prefix=prefix))
    assert (behind.length, behind.end) == (0, before)  # it isn't counted: a text begins behind it
    if read:
        model.step([Forward((9,) * read, behind, rows=1)])
        behind.truncate(0)
    rest = LINE[before:]
    both = model.step([Forward(rest, cache, rows=len(rest)) for cache in (whole, behind)])
    assert both[0].tokens == both[1].tokens
    assert both[0].logprobs == pytest.approx(both[1].logprobs, abs=1e-10)


def test_of_several_ends_each_counts_as_the_first() -> None:
    rules = Rules(6, eot=1, ends=frozenset({4, 5}))
    scorer = Scorer("m", rules, torch.device("cpu"), torch.float32)
    ends, goes_on = [0.0, 1.0, 2.0, 0.0, 5.0, 3.0], [0.0, 1.0, 6.0, 0.0, 5.0, 3.0]
    cache = SimpleNamespace(length=0)
    [answer] = scorer.answer(torch.tensor([ends, goes_on]), [Forward((0, 0), cache, rows=2, width=6)])  # type: ignore[arg-type]
    assert answer.tokens == (1, 2)
    assert [token for token, _ in answer.candidates[0]][:4] == [1, 2, 0, 3]
    assert all(logprob == -torch.inf for token, logprob in answer.candidates[0] if token in rules.ends)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 3), st.sampled_from([0, 2, 5])), min_size=1, max_size=5), st.integers(0, 99))
def test_candidates_are_those_of_the_row_whatever_its_neighbours_ask(asked: list[tuple[int, int]], seed: int) -> None:
    scorer = Scorer("m", Rules(size=6, eot=0), torch.device("cpu"), torch.float64)
    cache = SimpleNamespace(length=0)
    forwards = [Forward((0,) * rows, cache, rows, (), width) for rows, width in asked]  # type: ignore[arg-type]
    logits = torch.randn(sum(rows for rows, _ in asked), 6, generator=torch.Generator().manual_seed(seed))
    start = 0
    for forward, answer in zip(forwards, scorer.answer(logits.clone(), forwards), strict=True):
        [alone] = scorer.answer(logits[start : start + forward.rows].clone(), [forward])
        assert len(alone.candidates) == (forward.rows if forward.width else 0)
        for mine, other in zip(answer.candidates, alone.candidates, strict=True):
            assert [token for token, _ in mine] == [token for token, _ in other]
        start += forward.rows


def taught(model: TorchSpeechModel, audio: np.ndarray, line: tuple[int, ...], starts: list[int]) -> torch.Tensor:
    """Return the log-probabilities ``(T, V)`` that the speculator gives in training, its chains beginning so."""
    network = model.network
    assert network.speculator is not None
    features, _ = network.model.encoder(model._frames(audio))
    texts = Texts(torch.tensor([line]), torch.ones(1, len(line), dtype=torch.bool))
    _, hidden = network.read_targets(texts, features, None, chains=torch.tensor(starts))
    assert hidden is not None
    scores = model.network.model.decoder.logits(hidden[0]).to(model.scorer.dtype) + model.suppression
    listed = network.speculator.draft_tokens
    if listed is not None:
        unlisted = torch.ones(scores.shape[1], dtype=torch.bool).index_fill(0, listed, False)
        scores = scores.masked_fill(unlisted, -torch.inf)
    return scores.log_softmax(-1)


def check(guess: Guess, wanted: torch.Tensor) -> None:
    """Compare guesses with the rows that taught them."""
    assert guess.tokens == tuple(wanted.argmax(-1).tolist())
    assert guess.logprobs == pytest.approx(wanted.max(-1).values.tolist(), abs=1e-9)


@settings(max_examples=12, deadline=None)
@given(data=st.data())
def test_chains_of_guesses_in_slots_equal_those_of_training(kvspn: TorchSpeechModel, data: st.DataObject) -> None:
    count = data.draw(st.integers(1, 4), label="texts")
    rows = data.draw(st.permutations(range(4)), label="audios")[:count]
    even = data.draw(st.booleans(), label="even")
    draw = [data.draw(st.tuples(st.integers(0, 5), st.integers(1, 3), st.integers(1, 8))) for _ in range(count)]
    reads = [draw[0] if even else each for each in draw]
    memories, slots = kvspn.encode(AUDIOS), kvspn.allocate(5)
    caches = [slots.open(memories[row]) for row in rows]
    if data.draw(st.booleans(), label="gap"):
        slots.release(caches[0])
        caches[0] = slots.open(memories[rows[0]])
        caches.append(slots.open(memories[4]))  # nobody asks for it
    proposals = []
    for cache, (read, unread, most) in zip(caches, reads, strict=False):
        if read:
            kvspn.step([Forward(LINE[:read], cache, rows=1)])
        proposals.append(Propose(LINE[read : read + unread], cache, most))
    guesses = kvspn.propose(proposals[::-1])[::-1]
    assert kvspn.propose(proposals) == guesses
    for row, (read, unread, most), guess, cache in zip(rows, reads, guesses, caches, strict=False):
        assert cache.length == read
        assert len(guess.tokens) == most or guess.tokens[-1] == kvspn.eot
        line = (*LINE[: read + unread], *guess.tokens[:-1])
        wanted = taught(kvspn, AUDIOS[row], line, [min(place, read) for place in range(len(line))])
        check(guess, wanted[read + unread - 1 :])


def test_medusa_guesses_from_the_newest_hidden_state_that_is_left(medusa: TorchSpeechModel) -> None:
    memories, slots = medusa.encode(AUDIOS), medusa.allocate(4)
    nothing = Guess((), ())
    caches = [slots.open(memory) for memory in memories[:3]]
    assert medusa.propose([Propose(LINE[:1], cache, 3) for cache in caches]) == [nothing] * 3
    medusa.step([Forward(LINE[:5], cache, rows=3, draft=LINE[3:5]) for cache in caches])
    caches[1].truncate(3)
    caches[2].truncate(2)  # its hidden state was not answered
    found = medusa.propose([Propose((9,), cache, 3) for cache in caches[::-1]])[::-1]
    assert found[2] == nothing
    for row, read in ((0, 5), (1, 3)):
        check(found[row], taught(medusa, AUDIOS[row], LINE[:read], list(range(read)))[-1:])
    assert medusa.propose([Propose((9, 10), caches[0], 3)]) == [nothing]
    twin = slots.open(memories[0])
    twin.copy_from(caches[0], 5)
    again = medusa.propose([Propose((9,), twin, 1)])[0]
    assert again.tokens == found[0].tokens
    assert again.logprobs == pytest.approx(found[0].logprobs, abs=1e-9)


def test_kvspn_guesses_before_anything_is_read(model: TorchSpeechModel) -> None:
    cache = model.allocate(1).open(model.encode([AUDIOS[2]])[0])
    check(model.propose([Propose(LINE[:1], cache, 1)])[0], taught(model, AUDIOS[2], LINE[:1], [0]))


def test_kvspn_looks_only_at_strictly_earlier_positions(model: TorchSpeechModel) -> None:
    changed = (*LINE[:5], 11, *LINE[6:])
    one, two = (taught(model, AUDIOS[2], line, list(range(len(LINE)))) for line in (LINE, changed))
    torch.testing.assert_close(one[:5], two[:5])
    assert not torch.allclose(one[6:], two[6:])


def test_guessing_stops_where_the_guesses_get_unlikely(model: TorchSpeechModel) -> None:
    cache = model.allocate(1).open(model.encode([AUDIOS[2]])[0])
    model.step([Forward(LINE[:3], cache, rows=1)])
    long = model.propose([Propose(LINE[3:4], cache, 6)])[0]
    assert len(long.tokens) == 6
    sums = np.exp(np.cumsum(long.logprobs))
    for floor in (1.0, 0.5, float(sums[2] * 1.001), float(sums[2] * 0.999)):
        short = model.propose([Propose(LINE[3:4], cache, 6, floor)])[0]
        assert len(short.tokens) == min(6, 1 + int((sums >= floor).sum()))
        assert short.tokens == long.tokens[: len(short.tokens)]
    with pytest.raises(ValueError, match="a count of 1 or more"):
        model.propose([Propose(LINE[3:4], cache, 0)])
    with pytest.raises(ValueError, match="needs a newest token"):
        model.propose([Propose((), cache, 1)])
    with pytest.raises(ValueError, match="read of 48 positions"):
        model.propose([Propose((9,) * 46, cache, 1)])
    assert len(model.propose([Propose((9,) * 43, cache, 8)])[0].tokens) == 3  # and no position is left


def test_guessing_stops_at_the_end_of_the_text(model: TorchSpeechModel) -> None:
    cache = model.allocate(1).open(model.encode([AUDIOS[2]])[0])
    model.step([Forward(LINE[:3], cache, rows=1)])
    long = model.propose([Propose(LINE[3:4], cache, 4)])[0]
    assert model.guesser is not None
    model.guesser.eot = long.tokens[1]
    try:
        assert (
            model.propose([Propose(LINE[3:4], cache, 4)])[0].tokens
            == long.tokens[: long.tokens.index(long.tokens[1]) + 1]
        )
    finally:
        model.guesser.eot = model.eot


def test_a_short_vocabulary_must_hold_words_that_exist(tmp_path: Path) -> None:
    network = make_whisper_m2m(tmp_path, draft_vocabulary=10)
    assert network.speculator is not None
    suppression = torch.zeros(network.config.vocab_size)
    network.speculator.draft_tokens = torch.tensor([5, network.config.vocab_size])
    with pytest.raises(BadModel, match="tokens outside of 0"):
        Guesser(network, suppression, 0)
    network.speculator.draft_tokens = torch.tensor([5, 6])
    suppression[5:7] = -torch.inf
    with pytest.raises(BadModel, match="special tokens only"):
        Guesser(network, suppression, 0)


def test_draft_logprobs_are_those_of_the_draft(model: TorchSpeechModel) -> None:
    cache = model.allocate(1).open(model.encode([AUDIOS[3]])[0])
    draft = LINE[3:]
    answer = model.step([Forward(LINE, cache, rows=len(draft) + 1, draft=draft)])[0]
    for place, token in enumerate(draft):
        cache.truncate(0)
        row = model.step([Forward(LINE[: 3 + place], cache, rows=1, width=model.config.vocab_size)])[0]
        logprobs = dict(row.candidates[0])
        assert answer.draft_logprobs[place] == pytest.approx(logprobs[token], abs=1e-9)
        assert answer.logprobs[place] == pytest.approx(max(logprobs.values()), abs=1e-9)
        assert answer.ranks[place] == [*logprobs].index(token)


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
    assert answer.draft_logprobs[0] == -np.inf
    assert not special & set(model.propose([Propose((50,), cache, 8)])[0].tokens)


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


@pytest.mark.parametrize("kind", ["hole", "short vocabulary, own keys", "medusa"])
def test_bfloat16_runs(tmp_path: Path, kind: str) -> None:
    make_whisper_m2m(tmp_path, **SPECULATORS[kind])
    model = load_model(tmp_path, device="cpu", dtype="bfloat16")
    cache = model.allocate(1).open(model.encode([AUDIOS[3]])[0])
    answer = model.step([Forward(LINE, cache, rows=2, draft=LINE[-1:])])[0]
    assert np.isfinite(answer.logprobs).all()
    slots = model.allocate(2)
    caches = [slots.open(memory) for memory in model.encode(AUDIOS[2:4])]
    model.step([Forward(LINE[:count], cache, rows=1) for count, cache in zip((2, 4), caches, strict=True)])
    guesses = model.propose([Propose((50,), cache, 4) for cache in caches])
    assert all(len(guess.tokens) == len(guess.logprobs) > 0 for guess in guesses)
    assert all(np.isfinite(guess.logprobs).all() for guess in guesses)
