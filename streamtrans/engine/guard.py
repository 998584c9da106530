"""What is wrong with a text, as far as the text alone tells: so far, that it is in another language.

Who was taught a language is believed but for strong evidence; nothing that may be right is held back from a reader: in
40 thousand sentences of Tatoeba none of six words or more was taken for certainly wrong (``streamtrans bench guard``).
Who was never taught it is believed where the text, and each part of it, is likelier in the language that was asked for.
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
PART_WORDS = 4
EVEN = 1.0
"""The same for who was never taught it."""


def judging(vocabulary: Vocabulary, language: str, instead: Iterable[str], *, taught: bool) -> Judge:
    """Return what judges the texts in ``language`` of a model whose tokens ``vocabulary`` spells.

    Args:
        vocabulary: of the model.
        language: canonical code of what was asked for.
        instead: the languages that it may write instead.
        taught: whether it was taught to write that language of what is spoken.
    """
    others = tuple(instead)

    def judge(tokens: Tokens) -> Doubt | None:
        text = vocabulary.decode(tokens)
        other = other_language(text, language, others)
        if other is None:
            return None if taught or not text.strip() else Doubt()
        if not taught:
            found = (other_language(part, language, others) for part in _parts(text))
            strange = next((part for part in found if part is not None and part.odds > EVEN), None)
            return Doubt(strange.language, certain=True) if strange is not None else None
        certain = other.odds > CERTAIN and words_in(text) >= CERTAIN_WORDS
        return Doubt(other.language, certain) if other.odds > DOUBTED else None

    return judge


def _parts(text: str) -> Iterator[str]:
    """Yield a text, and its halves and thirds where these have words enough: who copies copies clauses."""
    words = text.split()
    for count in (1, 2, 3):
        if count == 1 or len(words) >= count * PART_WORDS:
            for at in range(count):
                yield " ".join(words[at * len(words) // count : (at + 1) * len(words) // count])
