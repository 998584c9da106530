"""A draft inside a beam search changes what the search costs, never what it finds (k = 1)."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from streamtrans.decode.beam import BeamConfig, beam, converse_beam, converse_beams
from streamtrans.model.api import Forward, Guess
from streamtrans.model.loading import load_model
from streamtrans.testing.toy import ToyConfig, ToyModel, toy_audio
from tests.checkpoints import make_whisper_m2m
from tests.model.test_parity import speech

torch.set_num_threads(1)

TOYS = st.builds(
    ToyConfig,
    seed=st.integers(0, 10_000),
    words=st.sampled_from([2, 5, 20]),
    order=st.sampled_from([None, 1, 2]),
    agreement=st.sampled_from([0.0, 0.5, 0.9, 1.0]),
)


def begin(model, slots, memory, config, *, limit, prefix=()):
    caches = [slots.open(memory) for _ in range(config.caches)]
    return beam(model.prompt("de", None), prefix, caches, config, eot=model.eot, limit=limit)


def search(model, memory, config, **rest):
    return converse_beam(model, begin(model, model.allocate(config.caches), memory, config, **rest))


def same(found, wanted):
    assert [each.hypothesis.tokens for each in found] == [each.hypothesis.tokens for each in wanted]
    assert [each.hypothesis.complete for each in found] == [each.hypothesis.complete for each in wanted]
    assert [each.score for each in found] == pytest.approx([each.score for each in wanted], abs=1e-9)
    for one, other in zip(found, wanted, strict=True):
        assert one.hypothesis.logprobs == pytest.approx(other.hypothesis.logprobs, abs=1e-9)
    mine, plain = found[0].hypothesis.stats, wanted[0].hypothesis.stats
    assert mine.tokens == plain.tokens
    assert mine.passes <= plain.passes
    assert mine.accepted <= mine.drafted


@settings(max_examples=60, deadline=None)
@given(
    data=st.data(),
    toy=TOYS,
    config=st.builds(BeamConfig, beams=st.integers(1, 5), early_stopping=st.booleans()),
    seconds=st.floats(0, 4),
)
def test_drafts_leave_the_texts_and_scores_of_a_search_as_they_are(data, toy, config, seconds):
    model = ToyModel(toy)
    prefix = tuple(data.draw(st.lists(st.integers(model.first_word, model.size - 1), max_size=5), label="prefix"))
    limit = data.draw(st.integers(3, model.max_tokens), label="limit")
    memory = model.encode([toy_audio(seconds, toy.seed)])[0]
    wanted = search(model, memory, config, limit=limit, prefix=prefix)
    same(search(model, memory, replace(config, speculate=True), limit=limit, prefix=prefix), wanted)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory):
    folder: Path = tmp_path_factory.mktemp("m2m")
    make_whisper_m2m(folder)
    return load_model(folder, device="cpu", dtype="float64")


def test_drafts_leave_the_search_of_a_real_network_as_it_is(model):
    for seed, seconds in enumerate((0.3, 0.9, 1.9)):
        memory = model.encode([speech(seconds, seed)])[0]
        wanted = search(model, memory, BeamConfig(), limit=26)
        same(search(model, memory, BeamConfig(speculate=True), limit=26), wanted)


class Foreseeing:
    """A model whose speculator asks the model itself, and so is always right: a random KVSPN never is."""

    def __init__(self, model):
        self.step = model.step

    def propose(self, proposals):
        guesses = []
        for each in proposals:
            length = each.cache.length
            (row,) = self.step([Forward(each.tokens, each.cache, 1, width=each.width)])[0].candidates
            each.cache.truncate(length)
            guesses.append(Guess((row[0][0],), (row[0][1],), row))
        return guesses


def test_drafts_that_survive_leave_it_as_it_is_too(model):
    for seed, seconds in enumerate((0.3, 0.9, 1.9)):
        memory = model.encode([speech(seconds, seed)])[0]
        wanted = search(model, memory, BeamConfig(), limit=26)
        config = BeamConfig(speculate=True)
        talk = begin(model, model.allocate(config.caches), memory, config, limit=26)
        found = converse_beam(Foreseeing(model), talk)
        same(found, wanted)
        stats = found[0].hypothesis.stats
        assert stats.accepted == stats.drafted > 20
        assert stats.passes <= wanted[0].hypothesis.stats.passes // 2 + 1


def test_searches_that_share_passes_find_what_each_finds_alone(model):
    memories = model.encode([speech(seconds, seed) for seed, seconds in enumerate((0.3, 0.9, 1.9))])
    config = BeamConfig(speculate=True)
    slots = model.allocate(3 * config.caches)
    talks = [begin(model, slots, memory, config, limit=20 + place) for place, memory in enumerate(memories)]
    for place, (memory, found) in enumerate(zip(memories, converse_beams(model, talks), strict=True)):
        same(found, search(model, memory, config, limit=20 + place))


@settings(max_examples=20, deadline=None)
@given(common=st.integers(0, 3), read=st.integers(3, 6), length=st.integers(3, 6))
def test_what_was_copied_is_as_if_it_had_been_read(model, common, read, length):
    line, other = (1, 2, 40, 50, 60, 70, 80, 90), (1, 2, 40, 99, 98)
    memory = model.encode([speech(0.9)])[0]
    slots = model.allocate(3)
    slots.open(memory)
    source, copy = slots.open(memory), slots.open(memory)
    model.step([Forward(line[:read], source, 1), Forward(other, copy, 1)])
    copy.truncate(common)
    if length > read:
        with pytest.raises(ValueError, match="cannot copy up to"):
            copy.copy_from(source, length)
        assert copy.length == common
        return
    copy.copy_from(source, length)
    rest = Forward(line[length:], copy, 2, line[-1:], width=4)
    fresh = model.allocate(1).open(memory)
    wanted = model.step([Forward(line, fresh, 2, line[-1:], width=4)])[0]
    found = model.step([rest])[0]
    assert (found.tokens, found.ranks) == (wanted.tokens, wanted.ranks)
    for one, another in zip(found.candidates, wanted.candidates, strict=True):
        assert [token for token, _ in one] == [token for token, _ in another]
        assert [logprob for _, logprob in one] == pytest.approx([logprob for _, logprob in another], abs=1e-10)


def test_a_cache_is_copied_only_from_another_text_about_the_same_speech(model):
    short, long = model.encode([speech(0.3), speech(0.9)])
    slots = model.allocate(2)
    with pytest.raises(ValueError, match="about the same speech"):
        slots.open(short).copy_from(slots.open(long), 0)
    with pytest.raises(ValueError, match="of the same slots"):
        model.allocate(1).open(short).copy_from(model.allocate(1).open(short), 0)


def test_candidates_are_the_best_allowed_tokens_in_order(model):
    cache = model.allocate(1).open(model.encode([speech(0.9)])[0])
    line = (1, 2, 40, 50)
    plain = model.step([Forward(line, cache, 2, line[-1:])])[0]
    assert plain.candidates == ()
    cache.truncate(0)
    narrow, wide = 3, model.config.vocab_size + 5
    found = {}
    for width in (narrow, wide):
        found[width] = model.step([Forward(line, cache, 2, line[-1:], width)])[0]
        cache.truncate(0)
        assert (found[width].tokens, found[width].ranks) == (plain.tokens, plain.ranks)
    allowed = set(range(model.config.vocab_size)) - model.manner.suppressed
    for few, many, token, logprob in zip(
        found[narrow].candidates, found[wide].candidates, plain.tokens, plain.logprobs, strict=True
    ):
        assert many[:narrow] == few
        assert {token for token, _ in many} == allowed
        assert few[0] == (token, pytest.approx(logprob))
        logprobs = [logprob for _, logprob in many]
        assert logprobs == sorted(logprobs, reverse=True)
        assert torch.tensor(logprobs).exp().sum().item() == pytest.approx(1)
