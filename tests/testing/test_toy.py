import math
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from streamtrans.core import AudioTooLong, BadAudio, UnsupportedLanguage
from streamtrans.model.api import Forward, Propose
from streamtrans.testing.toy import ToyConfig, ToyModel, toy_audio

PROMPT = (1, 4)


def opened(model, seconds=2.0, slots=2):
    pool = model.allocate(slots)
    return pool, pool.open(model.encode([toy_audio(seconds)])[0])


def test_a_row_of_many_equals_a_batch_of_one():
    model = ToyModel()
    audios = [toy_audio(2, seed) for seed in range(3)]
    pool = model.allocate(6)
    together = [pool.open(memory) for memory in model.encode(audios)]
    alone = [pool.open(model.encode([audio])[0]) for audio in audios]
    forwards = [Forward((*PROMPT, 9, 10)[: n + 2], cache, 1) for n, cache in enumerate(together)]
    batch = model.step(forwards)
    singles = [model.step([Forward(f.tokens, cache, 1)])[0] for f, cache in zip(forwards, alone, strict=True)]
    assert batch == singles
    assert model.steps == [3, 1, 1, 1]


def test_what_was_truncated_is_forgotten():
    model = ToyModel()
    _, cache = opened(model)
    clean = model.step([Forward(PROMPT, cache, 1)])[0]
    model.step([Forward((20, 21, 22), cache, 1)])
    cache.truncate(1)
    again = model.step([Forward(PROMPT[1:], cache, 1)])[0]
    assert replace(again, frames=clean.frames) == clean
    assert again.frames == clean.frames[1:]
    with pytest.raises(ValueError, match="truncate"):
        cache.truncate(3)


def test_it_listens_to_what_it_writes_about():
    model = ToyModel()
    _, cache = opened(model, seconds=0.6)
    assert model.step([Forward((*PROMPT, 9, 10, 11, 12), cache, 1)])[0].frames == (0, 0, 1, 2, 2, 2)


def test_growing_audio_leaves_old_text_alone():
    model = ToyModel(ToyConfig(seed=3))
    texts = [model.greedy(PROMPT, toy_audio(seconds), 64) for seconds in (1, 1.5, 2, 3)]
    assert all(long[: len(short) - 1] == short[:-1] for short, long in pairwise(texts))
    assert len(texts[-1]) > len(texts[0])


def test_ranks_count_what_is_preferred():
    model = ToyModel()
    _, cache = opened(model)
    ranks = []
    for word in range(model.size):
        choices = model.step([Forward((*PROMPT, word)[cache.length :], cache, 2, (word,))])[0]
        ranks.append(choices.ranks[0])
        assert (choices.ranks[0] == 0) == (word == choices.tokens[0])
        cache.truncate(1)
    assert sorted(ranks) == list(range(model.size))


@pytest.mark.parametrize("rate", [0.0, 0.5, 1.0])
def test_the_speculator_agrees_at_the_set_rate(rate):
    model = ToyModel(ToyConfig(agreement=rate))
    _, cache = opened(model, 20)
    agreed, text = 0, [*PROMPT, *range(8, 28), *range(8, 28)]
    for token in text:
        guess = model.propose([Propose((token,), cache, 1)])[0].tokens[0]
        agreed += guess == model.step([Forward((token,), cache, 1)])[0].tokens[0]
    assert abs(agreed / len(text) - rate) < 0.2


@pytest.mark.parametrize("rate", [0.0, 0.5, 1.0])
def test_the_speculator_goes_on_from_its_own_guesses(rate):
    model = ToyModel(ToyConfig(agreement=rate))
    _, cache = opened(model, 20)
    model.step([Forward(PROMPT, cache, 1)])
    long = model.propose([Propose((9, 10), cache, 8)])[0]
    assert len(long.tokens) == len(long.logprobs) == 8
    assert (9, *long.tokens) != (9, *long.tokens[:1] * 8)
    for count in range(1, 8):
        ahead = (9, 10, *long.tokens[: 8 - count])
        assert model.propose([Propose(ahead, cache, count)])[0].tokens == long.tokens[8 - count :]
    sure = model.propose([Propose((9, 10), cache, 8, floor=math.exp(sum(long.logprobs[:3]) - 1e-9))])[0]
    assert sure.tokens == long.tokens[:4]
    read = model.step([Forward((9, 10, *long.tokens), cache, 9, long.tokens)])[0]
    assert read.draft_logprobs == pytest.approx(long.logprobs)
    assert cache.length == 12
    _, short = opened(model, 0.4)
    model.step([Forward((*PROMPT, 9, 10), short, 1)])
    if rate == 1:
        assert model.propose([Propose((11,), short, 8)])[0].tokens == (0,)


def test_it_refuses_what_a_real_model_would_get_silently_wrong():
    model = ToyModel(ToyConfig(max_tokens=4))
    pool, cache = opened(model, slots=1)
    with pytest.raises(ValueError, match="twice"):
        model.step([Forward(PROMPT, cache, 1), Forward(PROMPT, cache, 1)])
    with pytest.raises(ValueError, match="rows"):
        model.step([Forward(PROMPT, cache, 3)])
    with pytest.raises(ValueError, match="end of the tokens"):
        model.step([Forward(PROMPT, cache, 2, (9,))])
    with pytest.raises(ValueError, match="the toy has 4"):
        model.step([Forward((*PROMPT, 9, 9, 9), cache, 1)])
    assert cache.length == 0
    with pytest.raises(RuntimeError, match="all 1 slots"):
        pool.open(cache.memory)
    pool.release(cache)
    with pytest.raises(RuntimeError, match="given back"):
        pool.release(cache)
    with pytest.raises(RuntimeError, match="no longer yours"):
        model.step([Forward(PROMPT, cache, 1)])


def test_it_refuses_bad_requests_by_name():
    model = ToyModel(ToyConfig(speculator=False))
    with pytest.raises(AudioTooLong):
        model.encode([toy_audio(1), toy_audio(31)])
    with pytest.raises(BadAudio):
        model.encode([np.full(100, np.nan, np.float32)])
    with pytest.raises(UnsupportedLanguage, match="'sv'"):
        model.prompt("sv", None)
    with pytest.raises(UnsupportedLanguage, match="'sv'"):
        model.prompt("de", "sv")
    with pytest.raises(RuntimeError, match="speculator"):
        model.propose([Propose((8,), opened(model)[1], 1)])
