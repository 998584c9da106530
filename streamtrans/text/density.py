"""How many tokens a vocabulary needs for a second of speech, language by language.

What a byte-level vocabulary was trained on little it spells in bytes: Whisper needs 37 tokens for an article of law
in English, 333 for the same in Bengali. Languages tell about as much per second as each other (Coupé et al. 2019), so
one text in all of them is the measure: article 1 of the Universal Declaration of Human Rights (public domain).
"""

from __future__ import annotations

from functools import lru_cache
from importlib import resources
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from streamtrans.text.vocabulary import Vocabulary

READ_S = 5.0
"""Seconds that nobody needs less of for the article: six words of English a second; read aloud it takes eleven."""


def tokens_per_second(tokenizer: Vocabulary, language: str) -> float:
    """Return how many tokens the fastest speech in ``language``, or translated into it, needs per second."""
    return len(tokenizer.encode(articles()[language])) / READ_S


@lru_cache(maxsize=1)
def articles() -> dict[str, str]:
    """Return the article in every language of Whisper, by canonical code."""
    text = resources.files("streamtrans.text").joinpath("article1.tsv").read_text(encoding="utf-8")
    return dict(line.split("\t") for line in text.splitlines())
