"""What readings of known cost come to where speech goes on in real time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from streamtrans.bench.racing.running import Read

CHUNK_S = 0.1
"""Audio arrives in pieces of this length."""


@dataclass(frozen=True, slots=True)
class Paced:
    """``lags_s``: per piece of audio, from its arrival to the end of the first reading that hears it."""

    lags_s: tuple[float, ...]
    first_words_s: float | None
    """From the segment's beginning to the end of the first reading that holds a word; ``None``: none does."""
    readings: int
    """Readings that were made: whoever is late skips those that a newer one replaces."""


def paced(ends_s: Sequence[float], reads: Sequence[Read]) -> Paced:
    """Let the reading that hears up to ``ends_s[i]`` fall due then; it takes as long as ``reads[i]`` took."""
    free, number, heard, made = 0.0, 0, 0, 0
    lags, first = list[float](), None
    while number < len(ends_s):
        begins = max(free, ends_s[number])
        while number + 1 < len(ends_s) and ends_s[number + 1] <= begins:
            number += 1
        free = begins + reads[number].wall_s
        made += 1
        if first is None and reads[number].text:
            first = free
        while heard * CHUNK_S < ends_s[number]:
            heard += 1
            lags.append(free - min(heard * CHUNK_S, ends_s[number]))
        number += 1
    return Paced(tuple(lags), first, made)
