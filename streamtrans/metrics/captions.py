"""What a viewer notices of captions that grow: how much is withdrawn, and how soon something appears."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise

from streamtrans.core import BadConfig, Caption, Event, SpeechStarted, milliseconds
from streamtrans.text import joins_without_spaces

Timed = tuple[int, Event]
"""An event and when it came, in samples since the stream began."""


def erasure(captions: Sequence[Caption]) -> float:
    """Return the normalised erasure: units withdrawn between revisions, per unit of final text.

    A unit is a word, or a character in languages written without spaces. Each revision withdraws what follows
    the longest beginning that it shares with its successor (Arivazhagan et al. 2020, "Re-translation versus
    Streaming for Simultaneous Translation", arXiv 2004.03643, section 3). Segments and languages are kept
    apart and summed up; 0 says that nothing shown was ever taken back.

    Args:
        captions: all revisions, in the order in which they were shown. The newest of a segment is its final.

    Raises:
        BadConfig: there are no captions, or the final ones are empty.
    """
    revisions: dict[tuple[int, str], list[Sequence[str]]] = {}
    for caption in captions:
        units = caption.text if joins_without_spaces(caption.language) else caption.text.split()
        revisions.setdefault((caption.segment, caption.language), []).append(units)
    final = sum(len(shown[-1]) for shown in revisions.values())
    if not final:
        raise BadConfig(
            f"{len(captions)} captions and no final text: erasure is counted per word of the final captions"
        )
    return sum(_withdrawn(shown) for shown in revisions.values()) / final


def first_caption_ms(events: Iterable[Timed]) -> list[int]:
    """Return per segment the time from its first sample to its first caption with text, in order of segments.

    On a virtual clock, where an event comes with the audio that caused it, this leaves computing time out.
    Segments that never got text have no entry.

    Args:
        events: with the stream's position when each came.
    """
    started: dict[int, int] = {}
    delays: dict[int, int] = {}
    for at, event in events:
        if isinstance(event, SpeechStarted):
            started[event.segment] = event.start
        elif isinstance(event, Caption) and event.text and event.segment in started:
            delays.setdefault(event.segment, milliseconds(at - started[event.segment]))
    return [delays[segment] for segment in sorted(delays)]


def lag_percentiles(lags_ms: Sequence[float], percents: Sequence[float] = (50, 95)) -> Mapping[float, float]:
    """Return the percentiles of lags: wall time from a chunk's arrival to the end of its first reading.

    Raises:
        BadConfig: there are no lags.
    """
    return {percent: percentile(lags_ms, percent) for percent in percents}


def percentile(values: Sequence[float], percent: float) -> float:
    """Return the smallest of ``values`` that ``percent`` of them don't exceed (nearest rank).

    Raises:
        BadConfig: there are no values, or ``percent`` is not between 0 and 100.
    """
    if not values:
        raise BadConfig("a percentile of no values: nothing was measured")
    if not 0 <= percent <= 100:
        raise BadConfig(f"percentile {percent} is not between 0 and 100")
    ranked = sorted(values)
    return ranked[max(0, math.ceil(len(ranked) * percent / 100) - 1)]


def _withdrawn(shown: Sequence[Sequence[str]]) -> int:
    """Count the units that some revision had and its successor had not."""
    return sum(len(before) - _shared(before, after) for before, after in pairwise(shown))


def _shared(before: Sequence[str], after: Sequence[str]) -> int:
    """Return the length of the longest common beginning."""
    for index, (old, new) in enumerate(zip(before, after, strict=False)):
        if old != new:
            return index
    return min(len(before), len(after))
