"""What keeps nonsense out of captions: loops of a model that has lost its way, and words for sound without speech.

Law: a guard only ever takes away from the end, and never what is promised.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence

REPEATS = {1: 6, 2: 4}
"""Length of an n-gram → how often it may stand in a row, less one; three times for longer ones."""
LONGEST = 12
"""Longest n-gram that is looked at, in tokens."""
COMPRESSION = 2.4
"""A text that zlib makes so many times smaller says the same again and again (Radford et al. 2022, section 4.5)."""
SHORTEST = 60
"""Bytes below which the ratio says nothing."""


def without_loop(tokens: Sequence[int], floor: int, spell: Callable[[Sequence[int]], str]) -> int:
    """Return how many of ``tokens`` to keep: up to the second round of the first loop, at least ``floor``.

    Args:
        tokens: a hypothesis.
        floor: so many of them are promised.
        spell: makes text of tokens, for loops that are no exact repetition.
    """
    kept = _first_loop(tokens)
    if _compression(spell(tokens[:kept])) > COMPRESSION:
        low, high = floor, kept
        while low < high:  # the longest beginning that isn't too repetitive; of more text the ratio rises
            middle = (low + high + 1) // 2
            low, high = (middle, high) if _compression(spell(tokens[:middle])) <= COMPRESSION else (low, middle - 1)
        kept = low
    return max(floor, kept)


def _first_loop(tokens: Sequence[int]) -> int:
    """Return the end of the first round of the first loop, or the number of tokens."""
    count = len(tokens)
    for start in range(count):
        for size in range(1, LONGEST + 1):
            rounds = REPEATS.get(size, 3)
            if start + size * rounds > count:
                break
            gram = tuple(tokens[start : start + size])
            if all(tuple(tokens[start + size * k : start + size * (k + 1)]) == gram for k in range(1, rounds)):
                return start + size
    return count


def _compression(text: str) -> float:
    data = text.encode()
    return len(data) / len(zlib.compress(data)) if len(data) >= SHORTEST else 0.0
