"""A tokenizer as one language needs it: whole words, ends of sentences, and what may be promised.

Law: a boundary is never behind a number, an abbreviation or a name whose next word isn't within it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from streamtrans.text.sentences import is_name, is_open

if TYPE_CHECKING:
    from streamtrans.text.vocabulary import Vocabulary

NAMES = 6
"""Words with capitals in a row that are held back; a text that writes more of them writes all words so."""


class Spelling:
    """How a tokenizer spells ``language``; immutable, made by :meth:`Tokenizer.speaking`."""

    def __init__(self, tokenizer: Vocabulary, language: str) -> None:
        self._tokenizer = tokenizer
        self._language = language

    def decode(self, tokens: Sequence[int]) -> str:
        """Return the text; of more tokens it only gets longer."""
        return self._tokenizer.decode(tokens)

    def sentence_end(self, tokens: Sequence[int]) -> tuple[int, int] | None:
        """Return where the first sentence ends and where the next begins, if more than one has begun."""
        return self._tokenizer.sentence_end(tokens, self._language)

    def boundary(self, tokens: Sequence[int], n: int, *, final: bool = False) -> int:
        """Return the largest ``m <= n`` at which ``tokens[:m]`` ends with a word that can stand without the next.

        The end of ``tokens`` counts only if ``final``, and then whatever stands there.
        """
        m = widest = self._tokenizer.boundary(tokens, n, final=final)
        if final and m == len(tokens):
            return m
        text = self._tokenizer.decode(tokens)
        names = 0
        while m:
            before = self._tokenizer.decode(tokens[:m])
            name = is_name(before, self._language)
            if not name and not is_open(before, text[len(before) :], self._language):
                return m
            names += name
            if names > NAMES:
                return widest
            m = self._tokenizer.boundary(tokens, m - 1)
        return 0
