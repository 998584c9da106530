import math
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamtrans.core import BadConfig
from streamtrans.decode import (
    DRAFTERS,
    Chain,
    Draft,
    DraftContext,
    DraftCosts,
    Echo,
    Kvspn,
    Ngram,
    parse_drafters,
    parse_top_k,
)
from streamtrans.foreign import Chosen
from streamtrans.model.api import Guess, Propose
from streamtrans.testing.toy import ToyCache, ToyModel, toy_audio

EOT = 0
PROMPT = [1, 2]


def context(*previous, **speculator):
    return DraftContext(prompt_length=2, eot=EOT, previous=previous, **speculator)


def cache(read=0) -> ToyCache:
    model = ToyModel()
    opened = model.allocate(1).open(model.encode([toy_audio(1)])[0])
    opened.length = read
    return opened


def guess(drafter, text, room=20, read=0, answer=9) -> Draft:
    drafting = drafter.propose([*PROMPT, *text], cache(read), room)
    try:
        request = next(drafting)
        assert isinstance(request, Propose)
        drafting.send(Guess((answer,) * request.count, (-0.5,) * request.count))
    except StopIteration as stop:
        return stop.value
    raise AssertionError("asked twice")


class Muted:
    """A third party's drafter that says nothing."""

    needs_speculator = False

    def __init__(self, context):
        self.context = context

    def propose(self, tokens, cache, room):
        yield from ()
        return Draft(name="muted")

    def verified(self, draft, accepted):
        assert draft.name != "muted"


def test_echo_repeats_the_rest_and_its_end():
    echo = Echo(context(8, 9, 10))
    assert guess(echo, []).tokens == (8, 9, 10, EOT)
    assert guess(echo, [8, 9]).tokens == (10, EOT)
    assert guess(echo, [8, 9, 10]).tokens == (EOT,)
    assert guess(echo, [8], room=1).tokens == (9,)


def test_echo_hands_the_bias_of_each_token_on():
    echo = Echo(context(8, 9, 10, biases=(0.3, 0.2, 0.1)))
    assert guess(echo, []).biases == (0.3, 0.2, 0.1)
    assert guess(echo, [8]) == Draft((9, 10, EOT), "echo", 1, (0.2, 0.1))
    assert guess(echo, [8], room=1).biases == (0.2,)
    assert guess(echo, [8, 9, 10]).biases == ()


@pytest.mark.parametrize("text", [[9], [8, 10], [8, 9, 10, 11], [8, 9, 10, 11, 12, 13]])
def test_echo_is_silent_once_the_text_went_another_way(text):
    assert guess(Echo(context(8, 9, 10)), text).tokens == ()


def test_echo_without_a_previous_reading_is_silent():
    assert guess(Echo(context()), []).tokens == ()


def test_ngram_finds_the_way_back_after_a_changed_word():
    ngram = Ngram(context(8, 9, 10, 11, 12, 13))
    assert guess(ngram, [8, 20]).tokens == ()
    assert guess(ngram, [8, 20, 10]).tokens == (11, 12, 13, EOT)


def test_ngram_guesses_at_most_eight():
    assert guess(Ngram(context(*range(8, 30))), [8, 9]).tokens == tuple(range(10, 18))


def test_ngram_prefers_the_longer_match_and_the_newer_place():
    assert guess(Ngram(context(7, 8, 9, 20, 5, 8, 9, 21)), [5, 8, 9], room=1).tokens == (21,)
    assert guess(Ngram(context(5, 8, 9, 21, 7, 8, 9, 20)), [5, 8, 9], room=1).tokens == (21,)
    assert guess(Ngram(context(8, 9, 20, 3, 8, 9, 21)), [4, 8, 9], room=1).tokens == (21,)
    assert guess(Ngram(context(8, 9, 20)), [8, 9, 22, 8, 9], room=1).tokens == (22,)


def test_ngram_learns_from_a_wrong_draft_what_would_have_followed_it():
    """Whoever drafted: the model read all of it, and said at each place what it would write next."""
    ngram = Ngram(context(8, 9, 10, 11))
    ngram.verified(Draft((8, 9, 10, 11, EOT), "echo", chosen=(8, 20, 30, 31, 32, 33)), 1)
    assert guess(ngram, [8, 20]).tokens == (30, 31, 32, 33)  # in the place of 9
    ngram.verified(Draft((30, 31, 32, 33), "ngram", chosen=(9, 40, 41, 42, 43)), 0)
    assert guess(ngram, [8, 20, 9]).tokens == (30, 40, 42, 43)  # behind 9, where the previous reading had 10; 30 → 40
    ngram.verified(Draft(chosen=(12,)), 0)
    assert guess(ngram, [8, 20, 9, 12]).tokens == ()


def test_ngram_believes_the_previous_reading_while_it_is_right_more_often():
    ngram = Ngram(context(8, 9, 10, 11, 12))
    ngram.verified(Draft((8, 9, 10, 11, 12, EOT), "echo", chosen=(20, 31, 32, 33, 34, 35)), 0)
    assert guess(ngram, [20, 8]).tokens[0] == 31  # what would have followed is right first, until it was wrong
    assert guess(ngram, [20, 8, 9]).tokens == (10, 11, 12, EOT)
    assert guess(ngram, [20, 8, 9, 32, 10, 33, 11]).tokens[0] == 34  # it was right twice since


def test_ngram_guesses_nothing_behind_an_end():
    ngram = Ngram(context(8, 9))
    ngram.verified(Draft((8, 9), "echo", chosen=(20, EOT, 7)), 0)
    assert guess(ngram, [20]).tokens == (EOT,)
    assert guess(ngram, [20, 8]).tokens == (EOT,)


def test_ngram_drafts_for_several_texts_in_turn():
    ngram = Ngram(context())
    assert guess(ngram, [8, 9, 8]).tokens[:2] == (9, 8)
    assert guess(ngram, [5, 6, 5]).tokens[:2] == (6, 5)
    assert guess(ngram, [8, 9, 8, 9, 7, 8, 9], room=1).tokens == (7,)


def test_ngram_looks_in_the_text_itself_when_there_is_no_previous_reading():
    assert guess(Ngram(context()), [8, 9, 10, 8, 9], room=2).tokens == (10, 8)


def test_kvspn_speaks_only_when_the_newest_token_alone_is_unread():
    kvspn = Kvspn(context(top_k=3, count=1))
    assert guess(kvspn, [8, 9], read=3) == Draft((9,), "kvspn", 3)
    assert guess(kvspn, [8, 9], read=2).tokens == ()
    assert guess(kvspn, [8, 9], read=0).tokens == ()
    assert guess(kvspn, [8, 9], read=3, room=0).tokens == ()


def test_a_chain_takes_the_first_that_speaks_and_keeps_its_name_and_k():
    chain = Chain([Muted(context()), Echo(context(8, 9)), Kvspn(context(top_k=2, count=1))])
    assert chain.needs_speculator
    assert guess(chain, [8], read=2) == Draft((9, EOT), "echo", 1)
    assert guess(chain, [10], read=2) == Draft((9,), "kvspn", 2)
    assert guess(chain, [10], read=0).tokens == ()


def test_a_chain_tells_all_what_became_of_a_draft_and_kvspn_learns_from_its_own():
    kvspn, ngram = Kvspn(context(count=1)), Ngram(context())
    chain = Chain([Echo(context(8, 9)), ngram, kvspn])
    echoed, guessed = guess(chain, [8], read=2), guess(chain, [10], read=2)
    assert (echoed.name, guessed.name) == ("echo", "kvspn")
    before = kvspn.acceptance
    chain.verified(replace(echoed, chosen=(20, 30, 31)), 0)
    assert guess(ngram, [8, 20]).tokens == (30, 31)
    assert kvspn.acceptance == before
    chain.verified(guessed, 1)
    assert kvspn.acceptance > before


@settings(max_examples=60, deadline=None)
@given(
    acceptance=st.floats(0, 1),
    most=st.integers(0, 12),
    costs=st.builds(DraftCosts, st.floats(0, 1), st.floats(0, 0.5), st.integers(1, 8)),
)
def test_the_best_draft_makes_most_tokens_for_its_cost(acceptance, most, costs):
    def rate(count):
        return sum(acceptance**power for power in range(count + 1)) / (1 + count * (costs.guess + costs.verify))

    best = costs.best(acceptance, most)
    assert 0 <= best <= min(most, costs.longest)
    assert all(rate(best) >= rate(other) - 1e-12 for other in range(min(most, costs.longest) + 1))


def test_longer_drafts_are_asked_where_more_is_accepted():
    asked = [DraftCosts().best(acceptance / 20, 8) for acceptance in range(21)]
    assert asked == sorted(asked)
    assert (asked[0], asked[4], asked[20]) == (0, 0, 8)  # up to 0.2 the guess costs more than it brings


def test_kvspn_asks_for_a_fixed_count_or_for_what_pays():
    def asked(kvspn, room=20):
        request = next(kvspn.propose([*PROMPT, 8], cache(2), room), None)
        return request.count if request else 0

    assert [asked(Kvspn(context(count=count))) for count in (0, 1, 8)] == [0, 1, 8]
    assert asked(Kvspn(context(count=8)), room=3) == 3
    kvspn = Kvspn(context(floor=0.3))
    assert next(kvspn.propose([*PROMPT, 8], cache(2), 20)).floor == 0.3
    first = asked(kvspn)
    for _ in range(30):
        kvspn.verified(Draft((8, 9, 10), "kvspn"), 3)
    assert asked(kvspn) > first >= 1
    for _ in range(40):
        kvspn.verified(Draft((8, 9, 10), "kvspn"), 0)
    counts = [asked(kvspn) for _ in range(40)]
    assert set(counts) == {0, 1}  # it tries again now and then
    assert 2 <= sum(counts) <= 3


@pytest.mark.parametrize("biases", [(0.1,), (0.1, 1.0), (0.1, -0.1), (math.nan, 0.1), (0.1, 0.2, 0.3)])
def test_a_bias_that_is_none_or_has_no_token_is_refused(biases):
    with pytest.raises(BadConfig, match="bias"):
        context(8, 9, biases=biases)


@pytest.mark.parametrize("wrong", [{"count": 9}, {"count": -1}, {"acceptance": 1.5}, {"floor": -0.1}])
def test_a_context_outside_of_its_range_is_refused(wrong):
    with pytest.raises(BadConfig, match="give 0 to"):
        context(**wrong)


def test_a_chain_is_read_from_text():
    factory = parse_drafters(" echo, kvspn")
    assert factory.spec == "echo,kvspn"
    assert factory.needs_speculator
    assert isinstance(factory.make(context()), Chain)
    assert isinstance(parse_drafters("echo").make(context()), Echo)
    assert not parse_drafters("echo,ngram,none").needs_speculator


def test_a_third_party_plugs_in_by_path():
    factory = parse_drafters(Chosen("echo, streamtrans.decode.drafters:Ngram"))
    assert guess(factory.make(context(8, 9, 10)), [20, 8, 9]).tokens == (10, EOT)


@pytest.mark.parametrize(
    "spec", ["ehco", "", "echo,", "echo;kvspn", "kvspm", ":Thing", "echo,streamtrans.decode.drafters:Ngram"]
)
def test_an_unknown_name_is_refused_with_the_known_ones(spec):
    with pytest.raises(BadConfig) as refused:
        parse_drafters(spec)
    assert all(name in str(refused.value) for name in DRAFTERS)


def test_the_nearest_name_is_suggested():
    with pytest.raises(BadConfig, match="did you mean 'kvspn'"):
        parse_drafters("kvpsn")


@pytest.mark.parametrize("spec", ["no.such.module:Thing", "echo,streamtrans.decode.drafters:Thing"])
def test_a_path_that_cannot_be_imported_is_refused(spec):
    with pytest.raises(BadConfig, match="can't be imported"):
        parse_drafters(Chosen(spec))


@pytest.mark.parametrize(("value", "expected"), [("1", 1), ("3", 3), ("inf", math.inf), (2, 2), (math.inf, math.inf)])
def test_top_k_is_a_whole_number_or_inf(value, expected):
    assert parse_top_k(value) == expected


@pytest.mark.parametrize("value", ["0", "-1", "1.5", "nan", "all", "-inf", ""])
def test_another_top_k_is_refused(value):
    with pytest.raises(BadConfig, match="top-k"):
        parse_top_k(value)
