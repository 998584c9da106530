from itertools import combinations_with_replacement

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamtrans.metrics.segments import cut_like, soft_pairs

TEXT = st.lists(st.sampled_from("abcd"), max_size=6)


def edits(one, other):
    costs = list(range(len(other) + 1))
    for row, left in enumerate(one, 1):
        diagonal, costs[0] = costs[0], row
        for column, right in enumerate(other, 1):
            best = min(diagonal + (left != right), costs[column] + 1, costs[column - 1] + 1)
            diagonal, costs[column] = costs[column], best
    return costs[-1]


def cost(hypothesis, references, bounds):
    pairs = zip(references, bounds[:-1], bounds[1:], strict=True)
    return sum(edits(hypothesis[start:end], reference) for reference, start, end in pairs)


@settings(max_examples=50, deadline=None)
@given(hypothesis=TEXT, references=st.lists(TEXT, min_size=1, max_size=3))
def test_no_other_cuts_have_fewer_errors(hypothesis, references):
    stretches = cut_like(hypothesis, references)
    assert [at for stretch in stretches for at in stretch] == list(range(len(hypothesis)))
    bounds = (0, *(stretch.stop for stretch in stretches))
    every = combinations_with_replacement(range(len(hypothesis) + 1), len(references) - 1)
    least = min(cost(hypothesis, references, (0, *inner, len(hypothesis))) for inner in every)
    assert cost(hypothesis, references, bounds) == least


def test_cuts_fall_between_sentences_and_ignore_case():
    words = ["Guten", "Morgen", "alle", "zusammen", "heute", "ist", "es", "warm", "und", "nass"]
    references = [["guten", "morgen", "zusammen"], [], ["Heute", "ist", "es", "kalt"]]
    assert cut_like(words, references) == [range(0, 4), range(4, 4), range(4, 10)]
    assert cut_like([], references) == [range(0, 0)] * 3
    assert cut_like(words, []) == []


def test_the_cuts_are_those_of_mweralign():
    mweralign = pytest.importorskip("mweralign", reason="the package that StreamLAAL is published with")
    random = np.random.default_rng(0)
    vocabulary = [f"w{number}" for number in range(200)]
    for _ in range(30):
        references = [list(random.choice(vocabulary, random.integers(3, 14))) for _ in range(random.integers(1, 8))]
        words = [word for line in references for word in line]
        heard = [
            str(random.choice(vocabulary)) if random.random() < 0.2 else str(word)
            for word in words
            for _ in range(random.choice([0, 1, 1, 1, 1, 2]))
        ]
        theirs = mweralign.align_texts("\n".join(" ".join(line) for line in references), " ".join(heard))
        ours = [[heard[at] for at in stretch] for stretch in cut_like(heard, references)]
        assert [line.split() for line in theirs.split("\n")] == ours


WORD = st.sampled_from(["haus", "hause", "maus", "aus", "auf", "so", ",", ".", "ja"])
WORDS = st.lists(WORD, max_size=12)


@settings(max_examples=50, deadline=None)
@given(reference=WORDS, hypothesis=WORDS, characters=st.booleans())
def test_soft_pairs_are_those_of_omnisteval(reference, hypothesis, characters):
    alignment = pytest.importorskip("omnisteval.alignment", reason="the eval extra")
    word = alignment.Word
    theirs = alignment.align_sequences(
        [word(unit, emission_cu=at) for at, unit in enumerate(reference)],
        [word(unit, emission_cu=at) for at, unit in enumerate(hypothesis)],
        characters,
    )
    ours = soft_pairs(reference, hypothesis, lambda *units: alignment.similarity(*map(word, units), characters))
    assert ours == [
        (left and left.emission_cu, right and right.emission_cu) for left, right in zip(*theirs, strict=True)
    ]
