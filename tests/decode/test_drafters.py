import math

import pytest

from streamtrans.core import BadConfig
from streamtrans.decode import (
    DRAFTERS,
    Chain,
    Draft,
    DraftContext,
    Echo,
    Kvspn,
    Ngram,
    parse_drafters,
    parse_top_k,
)
from streamtrans.testing.toy import ToyCache, ToyModel, toy_audio

EOT = 0
PROMPT = [1, 2]


def context(*previous, top_k=1.0):
    return DraftContext(prompt_length=2, eot=EOT, previous=previous, top_k=top_k)


def cache(read=0) -> ToyCache:
    model = ToyModel()
    opened = model.allocate(1).open(model.encode([toy_audio(1)])[0])
    opened.length = read
    return opened


def guess(drafter, text, room=20, read=0, answer=9) -> Draft:
    drafting = drafter.propose([*PROMPT, *text], cache(read), room)
    try:
        next(drafting)
        drafting.send(answer)
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


def test_echo_repeats_the_rest_and_its_end():
    echo = Echo(context(8, 9, 10))
    assert guess(echo, []).tokens == (8, 9, 10, EOT)
    assert guess(echo, [8, 9]).tokens == (10, EOT)
    assert guess(echo, [8, 9, 10]).tokens == (EOT,)
    assert guess(echo, [8], room=1).tokens == (9,)


@pytest.mark.parametrize("text", [[9], [8, 10], [8, 9, 10, 11], [8, 9, 10, 11, 12, 13]])
def test_echo_is_silent_once_the_text_went_another_way(text):
    assert guess(Echo(context(8, 9, 10)), text).tokens == ()


def test_echo_without_a_previous_reading_is_silent():
    assert guess(Echo(context()), []).tokens == ()


def test_ngram_finds_the_way_back_after_a_changed_word():
    ngram = Ngram(context(8, 9, 10, 11, 12, 13))
    assert guess(ngram, [8, 20, 10]).tokens == ()
    assert guess(ngram, [8, 20, 10, 11]).tokens == (12, 13, EOT)


def test_ngram_guesses_at_most_six():
    assert guess(Ngram(context(*range(8, 30))), [8, 9]).tokens == (10, 11, 12, 13, 14, 15)


def test_ngram_prefers_the_longer_match_and_the_nearer_place():
    assert guess(Ngram(context(7, 8, 9, 20, 5, 8, 9, 21)), [5, 8, 9], room=1).tokens == (21,)
    assert guess(Ngram(context(8, 9, 20, 3, 3, 3, 3, 3, 8, 9, 21)), [4, 4, 4, 4, 4, 4, 4, 4, 8, 9], room=1).tokens == (
        21,
    )


def test_ngram_looks_in_the_text_itself_when_there_is_no_previous_reading():
    assert guess(Ngram(context()), [8, 9, 10, 8, 9], room=2).tokens == (10, 8)


def test_kvspn_speaks_only_when_the_newest_token_alone_is_unread():
    kvspn = Kvspn(context(top_k=3))
    assert guess(kvspn, [8, 9], read=3) == Draft((9,), "kvspn", 3)
    assert guess(kvspn, [8, 9], read=2).tokens == ()
    assert guess(kvspn, [8, 9], read=0).tokens == ()
    assert guess(kvspn, [8, 9], read=3, room=0).tokens == ()


def test_a_chain_takes_the_first_that_speaks_and_keeps_its_name_and_k():
    chain = Chain([Muted(context()), Echo(context(8, 9)), Kvspn(context(top_k=2))])
    assert chain.needs_speculator
    assert guess(chain, [8], read=2) == Draft((9, EOT), "echo", 1)
    assert guess(chain, [10], read=2) == Draft((9,), "kvspn", 2)
    assert guess(chain, [10], read=0).tokens == ()


def test_a_chain_is_read_from_text():
    factory = parse_drafters(" echo, kvspn")
    assert factory.spec == "echo,kvspn"
    assert factory.needs_speculator
    assert isinstance(factory.make(context()), Chain)
    assert isinstance(parse_drafters("echo").make(context()), Echo)
    assert not parse_drafters("echo,ngram,none").needs_speculator


def test_a_third_party_plugs_in_by_path():
    factory = parse_drafters("echo,streamtrans.decode.drafters:Ngram")
    assert guess(factory.make(context(8, 9, 10)), [20, 8, 9]).tokens == (10, EOT)


@pytest.mark.parametrize("spec", ["ehco", "", "echo,", "echo;kvspn", "kvspm"])
def test_an_unknown_name_is_refused_with_the_known_ones(spec):
    with pytest.raises(BadConfig) as refused:
        parse_drafters(spec)
    assert all(name in str(refused.value) for name in DRAFTERS)


def test_the_nearest_name_is_suggested():
    with pytest.raises(BadConfig, match="did you mean 'kvspn'"):
        parse_drafters("kvpsn")


@pytest.mark.parametrize("spec", ["no.such.module:Thing", "streamtrans.decode.drafters:Thing", ":Thing"])
def test_a_path_that_cannot_be_imported_is_refused(spec):
    with pytest.raises(BadConfig, match="can't be imported"):
        parse_drafters(spec)


@pytest.mark.parametrize(("value", "expected"), [("1", 1), ("3", 3), ("inf", math.inf), (2, 2), (math.inf, math.inf)])
def test_top_k_is_a_whole_number_or_inf(value, expected):
    assert parse_top_k(value) == expected


@pytest.mark.parametrize("value", ["0", "-1", "1.5", "nan", "all", "-inf", ""])
def test_another_top_k_is_refused(value):
    with pytest.raises(BadConfig, match="top-k"):
        parse_top_k(value)
