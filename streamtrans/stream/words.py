"""When each word of a text was said, and how sure the model was of it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Protocol

from streamtrans.core import Hypothesis, Word


class WordSpeller(Protocol):
    """What is needed of a tokenizer."""

    def decode(self, tokens: Sequence[int]) -> str:
        """Return the text; of more tokens it only gets longer."""
        ...

    def boundary(self, tokens: Sequence[int], n: int, *, final: bool = False) -> int:
        """Return the largest ``m <= n`` at which ``tokens[:m]`` ends with a whole word."""
        ...


def words(hypothesis: Hypothesis, speller: WordSpeller, start: int) -> tuple[Word, ...]:
    """Cut a hypothesis into its words.

    A word lasts from the end of the one before, of the first from ``start`` (a sample), until where the model listened
    when it wrote the word's last token. Times don't go back: of a translation, whose words come in another order than
    they were said, they are the moment from which the word could be known.
    """
    return tuple(_cut(hypothesis, speller, start))


def _cut(hypothesis: Hypothesis, speller: WordSpeller, start: int) -> Iterator[Word]:
    tokens = hypothesis.tokens
    begin, shown = 0, ""
    for stop in sorted({speller.boundary(tokens, n, final=True) for n in range(1, len(tokens) + 1)}):
        text = speller.decode(tokens[:stop])
        if not text[len(shown) :].strip():
            continue  # a mark or a space belongs to the word that follows
        logprobs = hypothesis.logprobs[begin:stop]
        confidence = math.exp(sum(logprobs) / len(logprobs))
        end = max([start, *hypothesis.ends[begin:stop]]) if hypothesis.ends else None
        yield Word(text[len(shown) :].strip(), confidence, None if end is None else start, end)
        begin, shown, start = stop, text, start if end is None else end
