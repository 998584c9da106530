"""What keeps loops out of captions: of a model that has lost its way and says the same again and again.

Law: a guard only ever takes away from the end, never what is promised, and nothing of a text that somebody may have
said: a loop is one only where the very same words come more often than people say them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from streamtrans.core import Caption
from streamtrans.text import display_name, words_in

ROUNDS = ((1, 12), (2, 7), (5, 6))
"""Up to so many words → how often nobody says them in a row: "no" ten times and a refrain five times is said."""
ROUNDS_OF_SENTENCES = 4
"""The same of more words."""
ROUNDS_AT_THE_LIMIT = ((1, 6), (2, 4))
"""The same where the model didn't end the text, but its limit did: nobody speaks as fast as that."""
ROUNDS_OF_MORE_AT_THE_LIMIT = 3
LEAST = 5
"""Tokens that are only repetition, below which nothing is a loop: some scripts take three tokens a character."""


def without_loop(
    tokens: Sequence[int], floor: int, spell: Callable[[Sequence[int]], str], *, complete: bool = True
) -> int:
    """Return how many of ``tokens`` to keep: up to the first round of a loop that goes on to the end, or ``floor``.

    Who has lost his way doesn't come back: what follows a repetition shows that it was meant ("no, no, no, I won't").
    Rounds are counted in words, for what is one token in one script is a dozen in another.

    Args:
        tokens: a hypothesis.
        floor: so many of them are promised.
        spell: makes text of tokens.
        complete: whether the model ended the text itself, and no limit did.
    """
    count = len(tokens)
    for size in range(1, count // 2 + 1):
        run = 0  # tokens at the end that equal those one round before them
        while run + size < count and tokens[count - 1 - run] == tokens[count - 1 - run - size]:
            run += 1
        rounds, kept = run // size + 1, count - run
        if run >= LEAST and rounds >= ROUNDS_OF_MORE_AT_THE_LIMIT:
            unit = spell(tokens[kept - size : kept])
            if rounds >= _too_many(words_in(unit), complete=complete):
                return max(floor, kept)
    return count


def doubted(caption: Caption) -> str | None:
    """Say for a reader why a final caption may not be what was asked for; ``None`` where nothing is wrong."""
    doubt = caption.doubt
    if doubt is None or not doubt.told:
        return None
    wanted, text = display_name(caption.language), caption.text.strip()
    if doubt.language is None:
        if text and (doubt.cut or doubt.certain):
            return f"what the model said about a text in {wanted} was left out: {text}"
        held = f"a text in {wanted} was held back: the model talked about it instead"
        return held if doubt.certain else f"a text in {wanted} may be chatter: {text}"
    found = display_name(doubt.language)
    if doubt.certain:
        return f"a text in {wanted} was held back: the model wrote {found} instead"
    return f"a text in {wanted} seems to be {found}: {text}"


def _too_many(words: int, *, complete: bool) -> int:
    """Return how often so many words in a row are a loop."""
    table = ROUNDS if complete else ROUNDS_AT_THE_LIMIT
    most = ROUNDS_OF_SENTENCES if complete else ROUNDS_OF_MORE_AT_THE_LIMIT
    return next((rounds for size, rounds in table if words <= size), most)
