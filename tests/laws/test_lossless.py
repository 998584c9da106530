"""A draft can change the speed of an answer, never the answer (k = 1)."""

import math
from functools import cache as remember

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamtrans.core import Hypothesis
from streamtrans.decode import DraftContext, DraftCosts, converse, decode, greedy, parse_drafters
from streamtrans.model.api import Forward
from streamtrans.model.loading import load_model
from streamtrans.testing.toy import ToyConfig, ToyModel, toy_audio
from tests.checkpoints import SPECULATORS, make_whisper_m2m

CHAINS = ["none", "echo", "ngram", "kvspn", "echo,kvspn", "echo,ngram,kvspn", "kvspn,echo", "ngram,kvspn"]
SEEDS = st.integers(0, 10_000)


def toys():
    return st.builds(
        lambda seed, words, order, agreement: ToyModel(
            ToyConfig(seed=seed, words=words, order=order, agreement=agreement)
        ),
        SEEDS,
        st.sampled_from([2, 5, 20]),
        st.sampled_from([None, 1, 2]),
        st.sampled_from([0.0, 0.5, 0.9, 1.0]),
    )


SPECULATIONS = st.fixed_dictionaries(
    {
        "count": st.sampled_from([None, 0, 1, 2, 5, 8]),
        "acceptance": st.floats(0, 1),
        "floor": st.sampled_from([0.0, 0.0, 0.01, 0.3]),
        "costs": st.builds(DraftCosts, st.floats(0, 0.5), st.floats(0, 0.2), st.integers(1, 8)),
    }
)


def read(model, spec, audio, *, limit, prefix=(), previous=(), **speculation) -> Hypothesis:
    prompt = model.prompt("de", None)
    slots = model.allocate(1)
    cache = slots.open(model.encode([audio])[0])
    drafter = parse_drafters(spec).make(DraftContext(len(prompt), model.eot, previous, **speculation))
    return converse(model, decode(prompt, prefix, cache, drafter, eot=model.eot, limit=limit))


@st.composite
def previous_readings(draw, model, text):
    """The text itself, the text with some words changed, dropped or added, or anything at all."""
    words = st.integers(model.first_word, model.size - 1)
    kind = draw(st.sampled_from(["same", "edited", "arbitrary"]))
    if kind == "same":
        return text
    if kind == "arbitrary":
        return tuple(draw(st.lists(st.integers(0, model.size - 1), max_size=40)))
    edited = list(text)
    for _ in range(draw(st.integers(1, 3))):
        place = draw(st.integers(0, len(edited)))
        edited[place : place + draw(st.integers(0, 2))] = draw(st.lists(words, max_size=2))
    return tuple(edited)


@settings(max_examples=120, deadline=None)
@given(
    data=st.data(), model=toys(), seconds=st.floats(0, 5), seed=SEEDS, spec=st.sampled_from(CHAINS), how=SPECULATIONS
)
def test_every_drafter_gives_exactly_the_greedy_tokens_in_no_more_passes(data, model, seconds, seed, *, spec, how):
    audio = toy_audio(seconds, seed)
    prompt = model.prompt("de", None)
    limit = data.draw(st.integers(1, model.max_tokens), label="limit")
    words = st.integers(model.first_word, model.size - 1)
    prefix = tuple(data.draw(st.lists(words, max_size=6), label="prefix"))
    rest = model.greedy((*prompt, *prefix), audio, limit)
    previous = data.draw(previous_readings(model, prefix + rest), label="previous")

    cache = model.allocate(1).open(model.encode([audio])[0])
    plain = converse(model, greedy(prompt, prefix, cache, eot=model.eot, limit=limit))
    drafted = read(model, spec, audio, limit=limit, prefix=prefix, previous=previous, **how)

    assert plain.tokens == prefix + rest
    assert (drafted.tokens, drafted.logprobs) == (plain.tokens, plain.logprobs)
    assert drafted.complete == plain.complete
    assert drafted.stats.tokens == plain.stats.tokens == plain.stats.passes
    assert drafted.stats.passes <= plain.stats.passes
    assert drafted.stats.passes + drafted.stats.accepted >= drafted.stats.tokens


@settings(max_examples=40, deadline=None)
@given(data=st.data(), model=toys(), seed=SEEDS, top_k=st.sampled_from([2, 3, math.inf]), how=SPECULATIONS)
def test_a_looser_k_loosens_the_speculators_drafts_only(data, model, seed, top_k, how):
    audio = toy_audio(3, seed)
    text = model.greedy(model.prompt("de", None), audio, model.max_tokens)
    previous = data.draw(previous_readings(model, text), label="previous")
    exact = read(model, "echo,ngram", audio, limit=model.max_tokens, previous=previous, top_k=top_k, **how)
    loose = read(model, "kvspn", audio, limit=model.max_tokens, previous=previous, top_k=top_k, **how)
    assert exact.tokens == text
    if top_k == math.inf:
        assert loose.stats.accepted == loose.stats.drafted
    assert all(token >= model.first_word for token in loose.tokens)
    assert all(-math.inf < logprob <= 0 for logprob in loose.logprobs)


def biased(bias, own, best):
    """Say by definition whether a draft of log-probability ``own`` stands against the model's choice."""
    return math.log((1 - bias) * math.exp(own) + bias) >= math.log(1 - bias) + best if bias else False


def by_definition(model, audio, limit, previous, biases):
    """Repeat the previous reading with its biases up to the first token that is rejected, then decode greedily."""
    tokens = [*model.prompt("de", None)]
    start = len(tokens)
    for token, bias in zip((*previous, model.eot), (*biases, 0.0), strict=True):
        if len(tokens) >= limit - 1 or tokens[-1] == model.eot:
            break
        cache = model.allocate(1).open(model.encode([audio])[0])
        choices = model.step([Forward((*tokens, token), cache, 2, (token,))])[0]
        own, best = choices.draft_logprobs[0], choices.logprobs[0]
        if token != choices.tokens[0] and (own == -math.inf or not biased(bias, own, best)):
            break
        tokens.append(token)
    kept = tuple(tokens[start:])
    ended = model.eot in kept
    return kept[:-1] if ended else (*kept, *model.greedy(tuple(tokens), audio, limit))


@settings(max_examples=80, deadline=None)
@given(data=st.data(), model=toys(), seconds=st.floats(0, 4), seed=SEEDS, chain=st.sampled_from(CHAINS[4:]))
def test_a_biased_draft_is_kept_exactly_as_far_as_it_outweighs_the_choice(data, model, seconds, seed, *, chain):
    audio = toy_audio(seconds, seed)
    limit = data.draw(st.integers(3, model.max_tokens), label="limit")
    text = model.greedy(model.prompt("de", None), audio, limit)
    previous = data.draw(previous_readings(model, text), label="previous")
    some = st.sampled_from([0.0, 0.1, 0.3, 0.45])
    biases = tuple(data.draw(st.lists(some, min_size=len(previous), max_size=len(previous)), label="biases"))
    hypothesis = read(model, "echo", audio, limit=limit, previous=previous, biases=biases)
    assert hypothesis.tokens == by_definition(model, audio, limit, previous, biases)
    with_others = read(model, "echo,ngram,kvspn", audio, limit=limit, previous=previous, biases=biases)
    assert (with_others.tokens, with_others.logprobs) == (hypothesis.tokens, hypothesis.logprobs)

    plain = read(model, chain, audio, limit=limit, previous=previous)
    unbiased = read(model, chain, audio, limit=limit, previous=previous, biases=(0.0,) * len(previous))
    assert unbiased == plain


@settings(max_examples=40, deadline=None)
@given(data=st.data(), model=toys(), seconds=st.floats(0, 4), bias=st.sampled_from([0.5, 0.7, 0.999]))
def test_from_one_half_on_the_whole_draft_is_kept(data, model, seconds, bias):
    audio, words = toy_audio(seconds), st.integers(model.first_word, model.size - 1)
    previous = tuple(data.draw(st.lists(words, max_size=30), label="previous"))
    biases = (bias,) * len(previous)
    hypothesis = read(model, "echo,kvspn", audio, limit=64, previous=previous, biases=biases)
    assert hypothesis.tokens[: len(previous)] == previous
    rest = model.greedy((*model.prompt("de", None), *previous), audio, 64)
    assert hypothesis.tokens[len(previous) :] == rest


@pytest.fixture(scope="module", params=SPECULATORS)
def network(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("lossless")
    make_whisper_m2m(folder, **SPECULATORS[request.param])
    return load_model(folder, device="cpu", dtype="float64")


@remember
def plain_text(model, seconds):
    return read(model, "none", toy_audio(seconds), limit=24)


@settings(max_examples=6, deadline=None)
@given(
    seconds=st.sampled_from([0.3, 0.9, 1.7]),
    before=st.sampled_from([0.3, 0.9]),
    spec=st.sampled_from(["kvspn", "kvspn", "echo,ngram,kvspn", "kvspn,ngram"]),
    how=SPECULATIONS,
)
def test_every_speculative_network_gives_the_greedy_tokens(network, seconds, before, spec, how):
    plain, previous = plain_text(network, seconds), plain_text(network, before).tokens
    drafted = read(network, spec, toy_audio(seconds), limit=24, previous=previous, **how)
    assert drafted.tokens == plain.tokens
    assert drafted.logprobs == pytest.approx(plain.logprobs, abs=1e-9)
    assert drafted.stats.tokens == plain.stats.passes
    assert drafted.stats.passes + drafted.stats.accepted >= drafted.stats.tokens
