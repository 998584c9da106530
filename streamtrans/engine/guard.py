"""What is wrong with a text, as far as the text alone tells: so far, that it is in another language.

Who was taught a language is believed but for strong evidence, and nothing that may be right is held back from a reader.
Who was never taught it is believed where the text, and each part of it, is likeliest in the language that was asked
for. ``streamtrans bench guard`` counts what both rules do to people's recordings and to texts.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from streamtrans.core import Doubt, Tokens
from streamtrans.decode import Judge
from streamtrans.text import Vocabulary, other_language, words_in

DOUBTED = 10.0
"""How much likelier another language has to be before a text by who was taught its language is doubted."""
CERTAIN = 100.0
"""And before it is certainly wrong, if it has :data:`CERTAIN_WORDS` besides."""
CERTAIN_WORDS = 6
EVEN = 1.0
"""How much likelier another language has to be before a text by who was never taught its own is certainly wrong."""
LEAST_SHARE = 0.3
"""Of the identifier's belief, what such a text's own language has to have: inventions are in no language."""
PART_WORDS = 4


def judging(vocabulary: Vocabulary, language: str, instead: Iterable[str], *, taught: bool) -> Judge:
    """Return what judges the texts in ``language`` of a model whose tokens ``vocabulary`` spells; see :func:`doubt`."""
    others = tuple(instead)

    def judge(tokens: Tokens) -> Doubt | None:
        return doubt(vocabulary.decode(tokens), language, others, taught=taught)

    return judge


def doubt(text: str, language: str, instead: Iterable[str], *, taught: bool) -> Doubt | None:
    """Return what is wrong with a text; ``None`` where nothing is.

    Args:
        text: as a model wrote it.
        language: canonical code of what was asked for.
        instead: the languages that it may be in instead.
        taught: whether the model was taught to write that language of what is spoken.
    """
    others = tuple(instead)
    other = other_language(text, language, others)
    if other is None:
        return None if taught or not text.strip() else Doubt()
    if taught:
        certain = other.odds > CERTAIN and words_in(text) >= CERTAIN_WORDS
        return Doubt(other.language, certain) if other.odds > DOUBTED else None
    for part in _parts(text):
        found = other_language(part, language, others)
        if found is not None and (found.odds > EVEN or found.own < LEAST_SHARE):
            return Doubt(found.language, certain=True)
    return None


def _parts(text: str) -> Iterator[str]:
    """Yield a text, and its halves and thirds where these have words enough: who copies copies clauses."""
    words = text.split()
    for count in (1, 2, 3):
        if count == 1 or len(words) >= count * PART_WORDS:
            for at in range(count):
                yield " ".join(words[at * len(words) // count : (at + 1) * len(words) // count])
