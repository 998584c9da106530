import math

import pytest

from streamtrans.core import Hypothesis, Word
from streamtrans.stream.words import words
from tests.fakes import Words


class Syllables(Words):
    """Tokens are syllables; a word ends where the next token begins with a space."""

    def __init__(self, *pieces):
        self.pieces = pieces

    def decode(self, tokens):
        return "".join(self.pieces[token] for token in tokens)

    def boundary(self, tokens, n, *, final=False):
        ends = [m for m in range(1, n + 1) if (m == len(tokens) and final) or self.pieces[tokens[m]][0] in " \n"]
        return ends[-1] if ends else 0


def hypothesis(*ends, probabilities=None):
    count = len(ends)
    return Hypothesis(tuple(range(count)), tuple(map(math.log, probabilities or [0.5] * count)), ends=ends)


def test_a_word_lasts_from_the_one_before_until_its_last_token_was_heard():
    speller = Syllables(" wun", "der", " bar", ".", "\n", " Ja")
    said = words(hypothesis(100, 150, 170, 180, 190, 260), speller, 40)
    assert [(word.text, word.start, word.end) for word in said] == [
        ("wunder", 40, 150),
        ("bar.", 150, 180),
        ("Ja", 180, 260),
    ]


def test_confidence_is_the_mean_of_its_tokens():
    [first, second] = words(hypothesis(10, 20, 30, probabilities=[0.9, 0.4, 1.0]), Syllables(" a", "b", " c"), 0)
    assert first.confidence == pytest.approx(0.6)
    assert second.confidence == 1


def test_times_never_go_back():
    said = words(hypothesis(90, 30, 60, 120), Syllables(" a", " b", " c", " d"), 0)
    assert [(word.start, word.end) for word in said] == [(0, 90), (90, 90), (90, 90), (90, 120)]


def test_without_attention_there_are_no_times():
    found = words(Hypothesis((0, 1), (0.0, 0.0)), Syllables(" a", " b"), 7)
    assert found == (Word("a", 1.0), Word("b", 1.0))


def test_nothing_has_no_words():
    assert words(Hypothesis((), ()), Syllables(), 0) == ()
