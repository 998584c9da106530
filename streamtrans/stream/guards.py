"""What keeps nonsense out of captions: loops of a model that has lost its way, and words for sound without speech.

Law: a guard only ever takes away from the end, and never what is promised.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence

REPEATS = {1: 6, 2: 4}
"""Length of an n-gram → how often it may stand in a row, less one; three times for longer ones."""
LEAST = 5
"""Tokens that are only repetition, below which nothing is a loop: some scripts take three tokens a character."""
LONGEST = 12
"""Longest n-gram that is looked at, in tokens."""
COMPRESSION = 2.4
"""A text that zlib makes so many times smaller says the same again and again (Radford et al. 2022, section 4.5)."""
SHORTEST = 60
"""Bytes below which the ratio says nothing."""


def without_loop(tokens: Sequence[int], floor: int, spell: Callable[[Sequence[int]], str]) -> int:
    """Return how many of ``tokens`` to keep: up to the first round of a loop that goes on to the end, or ``floor``.

    Who has lost his way doesn't come back: what follows a repetition shows that it was meant ("no, no, no, I won't").

    Args:
        tokens: a hypothesis.
        floor: so many of them are promised.
        spell: makes text of tokens, for loops that are no exact repetition.
    """
    kept = _endless(tokens)
    if _compression(spell(tokens[:kept])) > COMPRESSION:
        low, high = floor, kept
        while low < high:  # the longest beginning that isn't too repetitive; of more text the ratio rises
            middle = (low + high + 1) // 2
            low, high = (middle, high) if _compression(spell(tokens[:middle])) <= COMPRESSION else (low, middle - 1)
        kept = low
    return max(floor, kept)


def _endless(tokens: Sequence[int]) -> int:
    """Return the end of the first round of a repetition that lasts to the end, or the number of tokens."""
    count = len(tokens)
    for size in range(1, LONGEST + 1):
        run = 0  # tokens at the end that equal those one round before them
        while run + size < count and tokens[count - 1 - run] == tokens[count - 1 - run - size]:
            run += 1
        if run >= max(size * (REPEATS.get(size, 3) - 1), LEAST):
            return count - run
    return count


def _compression(text: str) -> float:
    data = text.encode()
    return len(data) / len(zlib.compress(data)) if len(data) >= SHORTEST else 0.0
