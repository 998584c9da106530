import itertools
import math

import numpy as np
import pytest
import torch
from transformers.generation import GenerationMixin

from streamtrans.core import BadConfig, DecodeStats
from streamtrans.decode import converse, greedy
from streamtrans.decode.beam import BeamConfig, beam, converse_beam
from streamtrans.model.api import Choices, Forward, Guess, Propose
from streamtrans.model.loading import load_model
from streamtrans.testing.toy import EOT, ToyConfig, ToyModel, toy_audio
from tests.checkpoints import make_whisper
from tests.model.test_parity import SHAPES, speech

PROMPT = (1, 4)


def search(model, audio, config=None, *, limit=64, prefix=(), prompt=PROMPT):
    config = config or BeamConfig()
    slots, memory = model.allocate(config.caches), model.encode([audio])[0]
    caches = [slots.open(memory) for _ in range(config.caches)]
    return converse_beam(model, beam(prompt, prefix, caches, config, eot=model.eot, limit=limit))


def reference(model, start, audio, limit, config):
    """Search by definition: score every continuation of every text anew, without cache, rows or drafts."""
    memory, width = model.encode([audio])[0], config.beams
    running, ended = [(start, 0.0)], []
    for length in range(len(start) + 1, limit + 1):
        options = []
        for tokens, score in running:
            logits = model._logits(memory, tokens)
            logprobs = logits - np.log(np.exp(logits).sum())
            options += [((*tokens, token), score + logprobs[token]) for token in np.flatnonzero(logprobs > -np.inf)]
        options.sort(key=lambda option: -option[1])
        over = [tokens[-1] == EOT or length == limit for tokens, _ in options]
        norm = (length - len(start)) ** config.length_penalty
        ended += [(score / norm, tokens) for (tokens, score), end in zip(options[:width], over, strict=False) if end]
        ended = sorted(ended, key=lambda text: -text[0])[:width]
        running = [option for option, end in zip(options, over, strict=True) if not end][:width]
        full = len(ended) == width
        if not running or (full and (config.early_stopping or running[0][1] / norm <= ended[-1][0])):
            break
    return [(score, tuple(token for token in tokens[len(PROMPT) :] if token != EOT)) for score, tokens in ended]


@pytest.mark.parametrize("beams", [1, 2, 3, 5])
@pytest.mark.parametrize("early_stopping", [False, True])
@pytest.mark.parametrize("length_penalty", [0.0, 1.0, 2.0])
def test_texts_and_scores_are_those_of_a_search_by_definition(beams, early_stopping, length_penalty):
    config = BeamConfig(beams, length_penalty, early_stopping)
    for seed, (prefix, limit) in enumerate([((), 64), ((9, 10), 64), ((9,), 9), ((), 3)]):
        model, audio = ToyModel(ToyConfig(seed=seed, words=6)), toy_audio(1.5, seed)
        wanted = reference(model, (*PROMPT, *prefix), audio, limit, config)
        found = search(model, audio, limit=limit, prefix=prefix, config=config)
        assert [each.hypothesis.tokens for each in found] == [text for _, text in wanted]
        assert [each.score for each in found] == pytest.approx([score for score, _ in wanted])
        assert all(each.hypothesis.tokens[: len(prefix)] == prefix for each in found)


@pytest.mark.parametrize("early_stopping", [False, True])
def test_texts_and_scores_are_those_of_transformers(tmp_path, early_stopping):
    theirs = make_whisper(tmp_path, **SHAPES[0])
    with torch.no_grad():  # a random network that changes its mind along the text, and ends it now and then
        theirs.model.decoder.embed_positions.weight.mul_(6)
        theirs.model.decoder.layer_norm.weight.mul_(3)
        theirs.model.decoder.embed_tokens.weight[EOT] = 1.5 * theirs.model.decoder.embed_tokens.weight[100]
    theirs.save_pretrained(tmp_path)
    theirs = theirs.double()
    ours = load_model(tmp_path, device="cpu", dtype="float64")
    lengths = set()
    for seed, language in itertools.product(range(2), ("de", "en", "zh")):
        audio, prompt = speech(1.3, seed), ours.prompt(language, language)
        with torch.no_grad():
            wanted = GenerationMixin.generate(
                theirs,
                ours._frames(audio),
                decoder_input_ids=torch.tensor([prompt]),
                num_beams=3,
                num_return_sequences=3,
                do_sample=False,
                early_stopping=early_stopping,
                max_length=24,
                suppress_tokens=sorted(ours.manner.suppressed),
                renormalize_logits=True,  # ours are probabilities among the tokens that are allowed
                return_dict_in_generate=True,
                output_scores=True,
            )
        found = search(ours, audio, config=BeamConfig(early_stopping=early_stopping), limit=24, prompt=prompt)
        texts = [tuple(token for token in line[len(prompt) :] if token != EOT) for line in wanted.sequences.tolist()]
        assert [each.hypothesis.tokens for each in found] == texts
        assert [each.score for each in found] == pytest.approx(wanted.sequences_scores.tolist(), abs=1e-5)
        lengths |= {len(text) for text in texts}
    assert len(lengths) > 1


def test_a_wide_search_finds_the_likeliest_of_all_texts():
    model, audio = ToyModel(ToyConfig(seed=5, words=3)), toy_audio(0.6)
    memory = model.encode([audio])[0]
    words = range(model.first_word, model.size)

    def score(text):
        total = 0.0
        for place, token in enumerate(text):
            logits = model._logits(memory, (*PROMPT, *text[:place]))
            total += logits[token] - np.log(np.exp(logits).sum())
        return total / len(text)

    texts = [(*text, EOT) for length in range(4) for text in itertools.product(words, repeat=length)]
    texts += list(itertools.product(words, repeat=4))
    best = max(texts, key=score)
    found = search(model, audio, limit=len(PROMPT) + 4, config=BeamConfig(beams=100))
    assert (*found[0].hypothesis.tokens, *(EOT,) * found[0].hypothesis.complete) == best
    assert found[0].score == pytest.approx(score(best))


def test_one_beam_that_stops_early_is_the_greedy_loop():
    for seed in range(8):
        model, audio = ToyModel(ToyConfig(seed=seed, agreement=0.6)), toy_audio(3, seed)
        cache = model.allocate(1).open(model.encode([audio])[0])
        wanted = converse(model, greedy(PROMPT, (), cache, eot=EOT, limit=64))
        for speculate in (False, True):
            (found,) = search(model, audio, BeamConfig(beams=1, early_stopping=True, speculate=speculate))
            assert (found.hypothesis.tokens, found.hypothesis.complete) == (wanted.tokens, wanted.complete)
            assert found.hypothesis.stats.tokens == wanted.stats.tokens
            assert found.hypothesis.stats.passes <= wanted.stats.passes - found.hypothesis.stats.accepted // 2
            assert speculate or found.hypothesis.stats == wanted.stats


@pytest.mark.parametrize("beams", [1, 2, 3, 5])
def test_a_perfect_speculator_halves_the_passes(beams):
    model, audio = ToyModel(ToyConfig(seed=beams, agreement=1.0)), toy_audio(3)
    plain = search(model, audio, BeamConfig(beams))
    model.steps.clear()
    drafted = search(model, audio, BeamConfig(beams, speculate=True))
    assert [each.hypothesis.tokens for each in drafted] == [each.hypothesis.tokens for each in plain]
    before, after = plain[0].hypothesis.stats, drafted[0].hypothesis.stats
    assert after.passes == len(model.steps) == before.passes // 2 + 1
    assert max(model.steps) <= 2 * beams - 1
    assert after.tokens == before.tokens == len(plain[0].hypothesis.tokens) + 1
    assert after.accepted == after.drafted
    assert after.by_drafter == {"kvspn": (after.drafted, after.accepted)}


def test_with_fewer_caches_fewer_branches_are_drafted():
    model, audio = ToyModel(ToyConfig(seed=4, agreement=1.0)), toy_audio(3)
    memory, config = model.encode([audio])[0], BeamConfig(speculate=True)
    found = {}
    for count in (3, 4, 5):
        slots = model.allocate(count)
        caches = [slots.open(memory) for _ in range(count)]
        found[count] = converse_beam(model, beam(PROMPT, (), caches, config, eot=EOT, limit=64))
    assert len({each[0].hypothesis.tokens for each in found.values()}) == 1
    drafted = [each[0].hypothesis.stats.drafted / each[0].hypothesis.stats.passes for each in found.values()]
    assert drafted == sorted(drafted)
    assert drafted[0] < drafted[-1]


def test_a_looser_k_costs_fewer_passes_and_at_infinity_half_of_them():
    passes, accepted = {}, {}
    for top_k in (1, 2, 3, math.inf):
        stats = DecodeStats()
        for seed in range(12):
            model, audio = ToyModel(ToyConfig(seed=seed, agreement=0.3)), toy_audio(3, seed)
            found = search(model, audio, BeamConfig(speculate=True, top_k=top_k))
            stats += found[0].hypothesis.stats
            scores = [each.score for each in found]
            assert scores == sorted(scores, reverse=True)
        passes[top_k], accepted[top_k] = stats.passes / stats.tokens, stats.accepted / stats.drafted
    assert passes[1] > passes[2] > passes[math.inf]
    assert accepted[1] < accepted[2] < accepted[3] < accepted[math.inf]
    assert accepted[math.inf] > 0.9


class Cache:
    """Lengths only; the test plays the model."""

    floor = 0

    def __init__(self):
        self.length = 0
        self.copied = []

    def truncate(self, length):
        assert self.floor <= length <= self.length
        self.length = length

    def copy_from(self, source, length):
        assert self.length <= length <= source.length
        self.copied.append((source, self.length, length))
        self.length = length


def answer(requests, *rows):
    """Answer every request with the same rows of candidates."""
    for request in requests:
        assert isinstance(request, Forward)
        request.cache.length += len(request.tokens)
    rows = tuple(tuple(row.items()) for row in rows)
    logprobs = tuple(row[0][1] for row in rows)
    draft_logprobs = tuple(-9.0 for _ in rows[1:])
    tokens = tuple(row[0][0] for row in rows)
    return [
        Choices(tokens, logprobs, (9,) * (len(rows) - 1), candidates=rows, draft_logprobs=draft_logprobs)
        for _ in requests
    ]


def test_a_text_branches_by_copying_what_the_other_lacks():
    caches = [Cache(), Cache()]
    talk = beam(PROMPT, (), caches, BeamConfig(beams=2), eot=EOT, limit=6)
    (first,) = next(talk)
    assert (first.tokens, first.rows, first.draft, first.width) == (PROMPT, 1, (), 3)
    two = talk.send(answer([first], {8: -1.0, 9: -2.0, 10: -3.0}))
    assert [each.tokens for each in two] == [(8,), (9,)]
    assert caches[1].copied == [(caches[0], 0, 2)]
    # Both survivors continue the first text now: the second one's cache keeps the prompt that they share.
    replies = [answer([two[0]], {11: -0.1, 12: -0.2, 13: -9.0}), answer([two[1]], {11: -5.0, 12: -6.0, 13: -7.0})]
    two = talk.send([*replies[0], *replies[1]])
    assert [each.tokens for each in two] == [(11,), (12,)]
    assert caches[1].copied[1:] == [(caches[0], 2, 3)]
    assert [cache.length for cache in caches] == [3, 3]


def guess(requests, *rows):
    assert all(isinstance(request, Propose) for request in requests)
    return [Guess((next(iter(row)),), (-1.0,), tuple(row.items())) for row in rows]


def test_drafts_are_the_likeliest_survivors_and_who_takes_one_needs_no_pass():
    caches = [Cache() for _ in range(3)]
    talk = beam(PROMPT, (), caches, BeamConfig(beams=2, speculate=True), eot=EOT, limit=9)
    (first,) = next(talk)
    assert (first.tokens, first.rows) == (PROMPT, 1)  # nothing is drafted while the prompt is unread
    asked = talk.send(answer([first], {8: -1.0, 9: -2.0, 10: -8.0}))
    assert [(each.tokens, each.width) for each in asked] == [((8,), 3), ((9,), 3)]
    # Both likely survivors continue the first beam: the second one waits for its row without a draft.
    passes = talk.send(guess(asked, {11: -0.1, 12: -0.2, EOT: -0.3}, {11: -5.0, 12: -6.0, 13: -7.0}))
    assert [(each.tokens, each.rows, each.draft) for each in passes] == [
        ((8, 11), 2, (11,)),
        ((8, 12), 1, ()),
        ((9,), 1, ()),
    ]
    assert len({id(each.cache) for each in passes}) == 3
    right = {11: -0.1, 12: -0.3, 13: -8.0}
    replies = [
        *answer(passes[:1], right, {14: -0.1, 15: -0.9, 16: -9.0}),
        *answer(passes[1:2], {17: -0.1, 18: -0.9, 16: -9.0}),
        *answer(passes[2:], {11: -5.0, 12: -6.0, 13: -7.0}),
    ]
    asked = talk.send(replies)
    # Both survived, so their rows are known; the step after them is branched without a pass, and asks again.
    assert [each.tokens for each in asked] == [(14,), (17,)]
    assert {asked[0].cache, asked[1].cache} == {passes[0].cache, passes[1].cache}
    assert [each.cache.length for each in asked] == [4, 4]


def finish(talk, replies, row):
    """Answer all that is still asked with one row of candidates; return what was found."""
    try:
        while True:
            request = talk.send(replies)
            guessing = isinstance(request[0], Propose)
            replies = guess(request, *[row] * len(request)) if guessing else answer(request, *[row] * request[0].rows)
    except StopIteration as stop:
        return stop.value


@pytest.mark.parametrize(("top_k", "taken"), [(1, 8), (2, 8), (3, 10), (math.inf, 10)])
def test_a_loosely_verified_draft_survives_before_better_ones_and_keeps_its_score(top_k, taken):
    config = BeamConfig(beams=1, early_stopping=True, speculate=True, top_k=top_k)
    talk = beam((1,), (), [Cache()], config, eot=EOT, limit=4)
    (first,) = talk.send(guess(next(talk), {10: -0.1, 8: -0.2}))
    assert (first.tokens, first.draft) == ((1, 10), (10,))
    assert first.width == (3 if top_k == 3 else 2)
    row = {8: -1.0, 9: -2.0, 10: -3.0} if top_k == 3 else {8: -1.0, 9: -2.0}
    after = {EOT: -0.5, 9: -1.5}
    (found,) = finish(talk, answer([first], row, after), after)
    assert found.hypothesis.tokens == (taken,)
    own = {8: -1.0, 10: -3.0 if top_k == 3 else -9.0}[taken]
    assert (found.hypothesis.logprobs, found.score) == ((own,), (own - 0.5) / 2)
    assert (found.hypothesis.stats.drafted, found.hypothesis.stats.accepted) == ((1, 1) if taken == 10 else (2, 1))


def test_a_prefix_that_leaves_no_room_is_returned_without_a_pass():
    with pytest.raises(StopIteration) as stop:
        next(beam(PROMPT, (8, 9), [Cache() for _ in range(3)], eot=EOT, limit=4))
    (found,) = stop.value.value
    assert (found.hypothesis.tokens, found.hypothesis.complete, found.score) == ((8, 9), False, 0.0)


@pytest.mark.parametrize(("prompt", "prefix", "count", "read"), [
    ((), (8,), 3, 0), (PROMPT, (8, EOT), 3, 0), (PROMPT, (), 2, 0), (PROMPT, (), 3, 2),
])  # fmt: skip
def test_nonsense_is_refused(prompt, prefix, count, read):
    caches = [Cache() for _ in range(count)]
    caches[0].length = read
    with pytest.raises(ValueError, match="beam search needs"):
        next(beam(prompt, prefix, caches, eot=EOT, limit=10))


def test_settings_out_of_range_are_refused():
    with pytest.raises(BadConfig, match="beams is 0"):
        BeamConfig(beams=0)
    with pytest.raises(BadConfig, match="length_penalty is inf"):
        BeamConfig(length_penalty=math.inf)


def test_a_wrong_kind_of_answer_is_refused():
    talk = beam(PROMPT, (), [Cache() for _ in range(3)], eot=EOT, limit=10)
    next(talk)
    with pytest.raises(TypeError, match="Choices"):
        talk.send([3])
    talk = beam((1,), (), [Cache()], BeamConfig(beams=1, speculate=True), eot=EOT, limit=10)
    next(talk)
    with pytest.raises(TypeError, match="Guess"):
        talk.send([3])
    talk = beam(PROMPT, (), [Cache()], BeamConfig(beams=1), eot=EOT, limit=10)
    next(talk)
    with pytest.raises(ValueError, match="without candidates"):
        talk.send([Choices((8,), (-1.0,))])
