import math
import subprocess
import sys

import pytest

from streamtrans.core import DecodeStats
from streamtrans.decode import Draft, DraftContext, Echo, Kvspn, converse, decode, greedy, parse_drafters
from streamtrans.model.api import Choices, Forward, Guess, Propose
from streamtrans.testing.toy import ToyConfig, ToyModel, toy_audio

EOT = 0
PROMPT = (1, 4)


class Fixed:
    """Drafts the same tokens whatever the room."""

    needs_speculator = False

    def __init__(self, *tokens, top_k=1.0, biases=()):
        self.draft = Draft(tokens, "fixed", top_k, biases)
        self.learned = []

    def propose(self, tokens, cache, room):
        yield from ()
        return self.draft

    def verified(self, draft, accepted):
        self.learned.append((draft.tokens, accepted))


class Once(Fixed):
    """Drafts before the first pass only."""

    def verified(self, draft, accepted):
        self.draft = Draft()


class Cache:
    """Lengths only; the test plays the model."""

    floor = 0

    def __init__(self, length=0):
        self.length = length
        self.truncated = []

    def truncate(self, length):
        assert self.floor <= length <= self.length
        self.truncated.append(length)
        self.length = length


def play(conversation, *answers):
    """Answer the conversation's requests in turn; return the requests and the hypothesis."""
    asked = [next(conversation)]
    try:
        for answer in answers:
            request = asked[-1]
            if isinstance(request, Forward):
                request.cache.length += len(request.tokens)
            asked.append(conversation.send(answer))
    except StopIteration as stop:
        return asked, stop.value
    raise AssertionError(f"still wants {asked[-1]}")


def says(*tokens, ranks=(), frames=()):
    """Choose ``tokens``; drafts are as likely as the choice if they are it, and else less by their rank."""
    logprobs = tuple(-float(token) for token in tokens)
    drafts = tuple(logprob - rank / 8 for logprob, rank in zip(logprobs, ranks, strict=False))
    return Choices(tokens, logprobs, tuple(ranks), (), drafts, frames)


def test_greedy_reads_the_prompt_once_and_then_one_token_a_pass():
    cache = Cache()
    asked, hypothesis = play(greedy(PROMPT, (), cache, eot=EOT, limit=10), says(8), says(9), says(EOT))
    assert [(each.tokens, each.rows, each.draft) for each in asked] == [
        (PROMPT, 1, ()),
        ((8,), 1, ()),
        ((9,), 1, ()),
    ]
    assert (hypothesis.tokens, hypothesis.logprobs, hypothesis.complete) == ((8, 9), (-8.0, -9.0), True)
    assert hypothesis.stats == DecodeStats(passes=3, tokens=3)
    assert cache.length == len(PROMPT) + 2


def test_the_prefix_is_read_with_the_prompt_and_counts_as_certain():
    asked, hypothesis = play(greedy(PROMPT, (8, 9), Cache(), eot=EOT, limit=10), says(10), says(EOT))
    assert asked[0].tokens == (*PROMPT, 8, 9)
    assert hypothesis.tokens == (8, 9, 10)
    assert hypothesis.logprobs == (0.0, 0.0, -10.0)
    assert hypothesis.stats.tokens == 2


def test_a_rejected_draft_is_rolled_back_to_the_newest_unread_token():
    cache = Cache()
    conversation = decode(PROMPT, (), cache, Fixed(8, 9, 10), eot=EOT, limit=20)
    asked = next(conversation)
    assert (asked.tokens, asked.rows, asked.draft) == ((*PROMPT, 8, 9, 10), 4, (8, 9, 10))
    cache.length = 5
    asked = conversation.send(says(8, 20, 21, 22, ranks=(0, 4, 4)))
    assert cache.truncated == [3]  # the prompt and 8; 20 is unread
    assert asked.tokens[0] == 20


def test_an_end_inside_an_accepted_draft_ends_the_text():
    cache = Cache()
    conversation = decode(PROMPT, (), cache, Fixed(8, EOT, 9), eot=EOT, limit=20)
    _, hypothesis = play(conversation, says(8, EOT, 9, 10, ranks=(0, 0, 0)))
    assert (hypothesis.tokens, hypothesis.logprobs, hypothesis.complete) == ((8,), (-8.0,), True)
    assert hypothesis.stats == DecodeStats(1, 2, 3, 2, {"fixed": (3, 2)})
    assert cache.length == 3


def test_a_looser_k_keeps_the_drafts_token():
    loose = decode(PROMPT, (), Cache(), Fixed(8, 9, 10, top_k=2), eot=EOT, limit=7)
    _, hypothesis = play(loose, says(20, 9, 21, 22, ranks=(1, 0, 2)), says(EOT, 23, ranks=(4,)))
    assert hypothesis.tokens == (8, 9, 21)
    assert hypothesis.logprobs == (-20.125, -9.0, -21.0)  # 8 was second to 20, and is as likely as a second one is


def test_equal_logits_cannot_smuggle_another_token_in():
    exact = decode(PROMPT, (), Cache(), Fixed(9), eot=EOT, limit=4)
    _, hypothesis = play(exact, says(8, 20, ranks=(0,)), says(10))
    assert hypothesis.tokens == (8, 10)


def test_every_rank_passes_at_inf():
    _, hypothesis = play(
        decode(PROMPT, (), Cache(), Fixed(8, 9, top_k=math.inf), eot=EOT, limit=5),
        says(20, 21, 22, ranks=(19, 19)),
    )
    assert hypothesis.tokens == (8, 9, 22)
    assert hypothesis.logprobs == (-20 - 19 / 8, -21 - 19 / 8, -22.0)


def judged(own, best, *biases):
    """Return what becomes of the drafts 8 and 9 where 8, of probability ``own``, meets a choice of ``best``."""
    conversation = decode(PROMPT, (), Cache(), Once(8, 9, biases=biases), eot=EOT, limit=9)
    logprobs = (math.log(best), math.log(0.9), math.log(0.8))
    drafts = (math.log(own) if own else -math.inf, math.log(0.05))
    _, hypothesis = play(conversation, Choices((20, 21, 22), logprobs, (1, 3), (), drafts), says(EOT))
    return hypothesis


@pytest.mark.parametrize(
    ("own", "best", "bias", "kept"),
    [
        (0.4, 0.6, 0.0, False),
        (0.4, 0.4, 0.0, False),  # equals: the choice is the choice
        (0.4, 0.6, 0.16, False),
        (0.4, 0.6, 0.17, True),  # 0.2 < β / (1 - β)
        (0.01, 0.9, 0.4, False),
        (0.01, 0.99, 0.5, True),
        (0.0, 0.5, 0.9, False),  # what is masked is never written
    ],
)
def test_a_bias_keeps_what_outweighs_the_choice_with_it(own, best, bias, kept):
    hypothesis = judged(own, best, bias)
    assert hypothesis.tokens[:1] == ((8,) if kept else (20,))
    assert hypothesis.logprobs[0] == (math.log(own) if kept else math.log(best))  # the model's own


def test_only_a_biased_token_is_kept_against_the_model():
    assert judged(0.4, 0.6, 0.3).tokens[:2] == (8, 21)  # 9 has no bias of its own
    assert judged(0.4, 0.6, 0.3, 0.6).tokens[:2] == (8, 9)


def test_every_token_knows_where_the_model_looked_when_it_wrote_it():
    text = decode(PROMPT, (8,), Cache(), Once(9, 10), eot=EOT, limit=20, locate=lambda frame: 100 * frame)
    first = says(9, 11, 12, ranks=(0, 1), frames=(0, 1, 3, 4, 9))  # after the prompt's two, 8, 9, and the wrong 10
    second = says(EOT, ranks=(), frames=(5,))
    _, hypothesis = play(text, first, second)
    assert hypothesis.tokens == (8, 9, 11)
    assert hypothesis.ends == (100, 300, 400)


def test_what_was_read_before_came_from_nobody_knows_where():
    _, hypothesis = play(
        decode(PROMPT, (8, 9), Cache(3), Fixed(), eot=EOT, limit=10), says(10, frames=(4,)), says(EOT, frames=(6,))
    )
    assert (hypothesis.tokens, hypothesis.ends) == ((8, 9, 10), (-1, -1, 4))


def test_without_alignment_nobody_knows():
    _, hypothesis = play(greedy(PROMPT, (8,), Cache(), eot=EOT, limit=10), says(9), says(EOT))
    assert hypothesis.ends == ()


def test_a_drafter_learns_what_became_of_each_draft():
    drafter = Fixed(8, 9, EOT)
    conversation = decode(PROMPT, (), Cache(), drafter, eot=EOT, limit=20)
    play(conversation, says(8, 20, 21, 22, ranks=(0, 4, 4)), says(8, 9, EOT, 22, ranks=(0, 0, 0)))
    assert drafter.learned == [((8, 9, EOT), 1), ((8, 9, EOT), 3)]


def test_a_draft_longer_than_the_room_is_cut():
    cache = Cache()
    asked, hypothesis = play(
        decode(PROMPT, (), cache, Fixed(8, 9, 10, 11), eot=EOT, limit=5), says(8, 9, 10, ranks=(0, 0))
    )
    assert asked[0].tokens == (*PROMPT, 8, 9)  # and one of the model's own makes five
    assert (hypothesis.tokens, hypothesis.complete) == ((8, 9, 10), False)
    assert hypothesis.stats.drafted == 2


def test_the_limit_is_met_exactly():
    model = ToyModel()
    audio = toy_audio(4)
    text = model.greedy(PROMPT, audio, 64)
    full = len(PROMPT) + len(text)
    for limit, complete in ((full, False), (full + 1, True), (full - 1, False)):
        cache = model.allocate(1).open(model.encode([audio])[0])
        hypothesis = converse(model, greedy(PROMPT, (), cache, eot=EOT, limit=limit))
        assert (hypothesis.tokens, hypothesis.complete) == (text[: limit - len(PROMPT)], complete)


@pytest.mark.parametrize("prefix", [(8, 9, 10), (8, 9, 10, 11)])
def test_a_prefix_that_leaves_no_room_is_returned_without_a_pass(prefix):
    with pytest.raises(StopIteration) as stop:
        next(greedy(PROMPT, prefix, Cache(), eot=EOT, limit=5))
    hypothesis = stop.value.value
    assert (hypothesis.tokens, hypothesis.logprobs) == (prefix, (0.0,) * len(prefix))
    assert not hypothesis.complete
    assert hypothesis.stats == DecodeStats()


def test_a_cache_that_has_read_the_beginning_is_continued():
    asked, _ = play(greedy(PROMPT, (8, 9), Cache(3), eot=EOT, limit=10), says(EOT))
    assert asked[0].tokens == (9,)


@pytest.mark.parametrize(
    ("prompt", "prefix", "read"), [((), (8,), 0), (PROMPT, (8, EOT), 0), (PROMPT, (), 2), (PROMPT, (8,), 7)]
)
def test_nonsense_is_refused(prompt, prefix, read):
    with pytest.raises(ValueError, match="decoding needs"):
        next(greedy(prompt, prefix, Cache(read), eot=EOT, limit=10))


def test_a_wrong_kind_of_answer_is_refused():
    conversation = greedy(PROMPT, (), Cache(), eot=EOT, limit=10)
    next(conversation)
    with pytest.raises(TypeError, match="Choices"):
        conversation.send(3)
    drafter = Kvspn(DraftContext(2, EOT))
    conversation = decode(PROMPT, (), Cache(1), drafter, eot=EOT, limit=10)
    assert isinstance(next(conversation), Propose)
    with pytest.raises(TypeError, match="Guess"):
        conversation.send(says(8))


def test_a_reading_of_longer_audio_is_verified_in_one_pass():
    model = ToyModel()
    before = model.greedy(PROMPT, toy_audio(4), 64)
    after = model.greedy(PROMPT, toy_audio(4.2), 64)
    assert after[: len(before)] == before  # so this toy's old text stands
    cache = model.allocate(1).open(model.encode([toy_audio(4.2)])[0])
    echo = Echo(DraftContext(2, EOT, before))
    hypothesis = converse(model, decode(PROMPT, (), cache, echo, eot=EOT, limit=64))
    assert hypothesis.tokens == after
    assert hypothesis.stats.passes <= 1 + len(after) - len(before) + 1
    assert hypothesis.stats.by_drafter["echo"][1] >= len(before)


def test_a_reading_opens_with_promise_and_echo_in_one_pass_and_goes_on_with_the_speculator():
    context = DraftContext(2, EOT, (8, 9, 10, 11), count=1)
    drafter, cache = parse_drafters("echo,kvspn").make(context), Cache()
    conversation = decode(PROMPT, (8, 9), cache, drafter, eot=EOT, limit=20)
    first = next(conversation)
    assert first == Forward((*PROMPT, 8, 9, 10, 11, EOT), cache, 4, (10, 11, EOT))
    cache.length += len(first.tokens)
    second = conversation.send(says(10, 12, 13, 14, ranks=(0, 1, 1)))  # 12 in place of 11
    assert cache.truncated == [5]  # rolled back to before 12
    assert second == Propose((12,), cache, 1)
    third = conversation.send(Guess((13,), (-0.1,)))
    assert third == Forward((12, 13), cache, 2, (13,))
    cache.length += 2
    with pytest.raises(StopIteration) as stop:
        conversation.send(says(13, EOT, ranks=(0,)))
    hypothesis = stop.value.value
    assert hypothesis.tokens == (8, 9, 10, 12, 13)
    assert hypothesis.stats == DecodeStats(2, 4, 4, 2, {"echo": (3, 1), "kvspn": (1, 1)})


@pytest.mark.parametrize("count", [1, 3, 8])
def test_a_perfect_speculator_saves_all_passes_but_one_of_each_draft(count):
    model = ToyModel(ToyConfig(agreement=1.0))
    cache = model.allocate(1).open(model.encode([toy_audio(8)])[0])
    drafter = Kvspn(DraftContext(2, EOT, count=count))
    hypothesis = converse(model, decode(PROMPT, (), cache, drafter, eot=EOT, limit=64))
    assert hypothesis.stats.tokens > 10
    assert hypothesis.stats.accepted == hypothesis.stats.drafted
    assert hypothesis.stats.passes <= hypothesis.stats.tokens / (count + 1) + 2


def test_drafts_grow_with_what_is_accepted_and_stop_where_they_do_not_pay():
    stats = {}
    for rate in (0.0, 0.7, 1.0):
        stats[rate] = DecodeStats()
        for seed in range(4):
            model = ToyModel(ToyConfig(agreement=rate, seed=seed))
            cache = model.allocate(1).open(model.encode([toy_audio(12)])[0])
            drafter = Kvspn(DraftContext(2, EOT))
            stats[rate] += converse(model, decode(PROMPT, (), cache, drafter, eot=EOT, limit=64)).stats
        assert stats[rate].tokens > 200
    assert stats[1.0].passes < 0.2 * stats[1.0].tokens
    assert stats[0.7].passes < 0.6 * stats[0.7].tokens
    assert stats[0.0].passes == stats[0.0].tokens
    assert 30 < stats[0.0].drafted < 0.5 * stats[0.0].tokens  # few after the first ones, but never none at all


@pytest.mark.parametrize("top_k", [2, 3, math.inf])
def test_long_drafts_are_kept_as_loosely_as_short_ones(top_k):
    model = ToyModel(ToyConfig(agreement=0.6))
    cache = model.allocate(1).open(model.encode([toy_audio(6)])[0])
    drafter = Kvspn(DraftContext(2, EOT, top_k=top_k, count=4))
    hypothesis = converse(model, decode(PROMPT, (), cache, drafter, eot=EOT, limit=64))
    tokens, logprobs = list(PROMPT), []
    cache.truncate(0)
    for token in hypothesis.tokens:  # every log-probability is the model's own of that token, and it was good enough
        choices = model.step([Forward((*tokens[cache.length :], token), cache, 2, (token,))])[0]
        cache.truncate(len(tokens))
        assert choices.ranks[0] < top_k
        logprobs.append(choices.draft_logprobs[0])
        tokens.append(token)
    assert hypothesis.logprobs == tuple(logprobs)
    assert hypothesis.stats.accepted > hypothesis.stats.passes


def test_the_room_imports_without_torch():
    code = "import sys, streamtrans.decode, streamtrans.model.api; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
