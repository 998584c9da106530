"""What is wrong with a text: it is in another language, a copy of its source, or talk about it.

Who was taught a language is believed but for strong evidence, and nothing that may be right is held back from a reader.
Who was never taught it is believed where the text, and each part of it, is likeliest in the language that was asked
for. ``streamtrans bench guard`` counts what both rules do to people's recordings and to texts.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from streamtrans.core import Doubt, Tokens
from streamtrans.decode import Judge, Sound
from streamtrans.text import Source, Vocabulary, close, copied, other_language, remark, talk, words_in

DOUBTED = 10.0
"""How much likelier another language has to be before a text by who was taught its language is doubted."""
CERTAIN = 100.0
"""And before it is certainly wrong, if it has :data:`CERTAIN_WORDS` besides and the two aren't close to each other."""
CERTAIN_WORDS = 6
EVEN = 1.0
"""How much likelier another language has to be before a text by who was never taught its own is certainly wrong."""
LEAST_SHARE = 0.3
"""Of the identifier's belief, what such a text's own language has to have: inventions are in no language."""
PART_WORDS = 4


@dataclass(frozen=True, slots=True)
class Asked:
    """What a text is to be.

    Args:
        language: canonical code of what was asked for.
        instead: the languages that it may be in instead.
        taught: whether the model was taught to write that language of what is spoken.
        source: what is translated; ``None`` where the model hears that itself.
        in_words: whether the model is asked in words, and may answer in words of its own.
    """

    language: str
    instead: tuple[str, ...]
    taught: bool
    source: Source | None = None
    in_words: bool = False


def judging(vocabulary: Vocabulary, asked: Asked) -> Judge:
    """Return what judges the texts of a model whose tokens ``vocabulary`` spells; see :func:`doubt`."""
    return lambda tokens: doubt(vocabulary.decode(tokens), asked)


def sounding(vocabulary: Vocabulary, asked: Asked) -> Sound:
    """Return what counts the tokens before such a text begins to explain itself."""

    def sound(tokens: Tokens) -> int:
        text = vocabulary.decode(tokens)
        end = remark(text, asked.language, asked.source)
        if end == len(text):
            return len(tokens)
        return sum(len(vocabulary.decode(tokens[: count + 1])) <= end for count in range(len(tokens)))

    return sound if asked.in_words else len


def doubt(text: str, asked: Asked) -> Doubt | None:
    """Return what is wrong with a ``text`` as a model wrote it; ``None`` where nothing is."""
    found = foreign(text, asked)
    return found if found is not None and found.certain else strayed(text, asked) or found


def strayed(text: str, asked: Asked) -> Doubt | None:
    """Say whether a text is its source, or talk about it."""
    if asked.source is not None and copied(text, asked.language, asked.source):
        other = other_language(text, asked.language, (asked.source.language,))
        odds = EVEN if other is None else other.odds
        if odds >= EVEN:  # else both languages say so, or that one was spoken already
            return Doubt(asked.source.language, _certain(text, asked, asked.source.language, odds))
    talks = talk(text, asked.language, asked.source) if asked.in_words else None
    return None if talks is None else Doubt(certain=talks, chatter=True)


def foreign(text: str, asked: Asked) -> Doubt | None:
    """Say whether a text is in another language."""
    language, others, taught = asked.language, asked.instead, asked.taught
    other = other_language(text, language, others)
    if other is None:
        return None if taught or not text.strip() else Doubt()
    if taught:
        certain = _certain(text, asked, other.language, other.odds)
        return Doubt(other.language, certain) if other.odds > DOUBTED else None
    for part in _parts(text):
        found = other_language(part, language, others)
        if found is not None and (found.odds > EVEN or found.own < LEAST_SHARE):
            return Doubt(found.language, certain=True)
    return None


def _certain(text: str, asked: Asked, other: str, odds: float) -> bool:
    """Say whether a text by who was taught its language is in no case right."""
    return odds > CERTAIN and words_in(text) >= CERTAIN_WORDS and not close(asked.language, other)


def _parts(text: str) -> Iterator[str]:
    """Yield a text, and its halves and thirds where these have words enough: who copies copies clauses."""
    words = text.split()
    for count in (1, 2, 3):
        if count == 1 or len(words) >= count * PART_WORDS:
            for at in range(count):
                yield " ".join(words[at * len(words) // count : (at + 1) * len(words) // count])
