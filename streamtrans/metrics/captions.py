"""What a viewer notices of captions that grow: how much is withdrawn, and how soon something appears."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from streamtrans.core import BadConfig, Caption, Event, SpeechStarted, milliseconds, samples
from streamtrans.text import joins_without_spaces

Timed = tuple[int, Event]
"""An event and when it came, in samples since the stream began."""


@dataclass(frozen=True, slots=True)
class Erased:
    """Units withdrawn between revisions, and units of final text; talks are summed with ``+``."""

    withdrawn: int = 0
    final: int = 0

    def __add__(self, other: Erased) -> Erased:
        return Erased(self.withdrawn + other.withdrawn, self.final + other.final)

    @property
    def normalised(self) -> float | None:
        """Units withdrawn per unit of final text; ``None`` where nothing is final."""
        return self.withdrawn / self.final if self.final else None


def units(text: str, language: str) -> tuple[str, ...]:
    """Split a text into what is counted: words, or characters in languages written without spaces.

    White space, the ends of lines included, only separates.
    """
    words = text.split()
    return tuple("".join(words)) if joins_without_spaces(language) else tuple(words)


def shared(before: Sequence[str], after: Sequence[str]) -> int:
    """Return the length of the longest common beginning."""
    for index, (old, new) in enumerate(zip(before, after, strict=False)):
        if old != new:
            return index
    return min(len(before), len(after))


def count_erased(captions: Iterable[Caption]) -> Erased:
    """Count what the revisions of one talk withdrew.

    Each revision withdraws what follows the longest beginning that it shares with its successor (Arivazhagan
    et al. 2020, "Re-translation versus Streaming for Simultaneous Translation", arXiv 2004.03643, section 3).
    Segments and languages are kept apart and summed up; words that move from the end of a segment to the beginning
    of the one that goes on from there (see :func:`moved`) stay where they are on the screen, and aren't withdrawn.

    Args:
        captions: all revisions, in the order in which they were shown. The newest of a segment is its final.
    """
    captions = list(captions)
    revisions: dict[tuple[int, str], list[tuple[str, ...]]] = {}
    for caption in captions:
        shown = revisions.setdefault((caption.segment, caption.language), [])
        shown.append(units(caption.text, caption.language))
    final = sum(len(shown[-1]) for shown in revisions.values())
    for divided, following in moved(captions):
        key = divided.segment, divided.language
        revisions[key][-1] += units(following.text, following.language)
    withdrawn = sum(len(old) - shared(old, new) for shown in revisions.values() for old, new in pairwise(shown))
    return Erased(withdrawn, final)


def moved(captions: Iterable[Caption]) -> list[tuple[Caption, Caption]]:
    """Return the pairs of a final caption and the first one of the segment that takes over what was said after it.

    In continuous speech a segment ends with a sentence, and the words that were shown after it are the next one's:
    its first caption follows at once, in the same language, and begins where the final one ended.
    """
    pairs = []
    newest: dict[str, Caption] = {}
    for caption in captions:
        before = newest.get(caption.language)
        if before is not None and before.final and caption.revision == 1 and caption.start == before.end:
            pairs.append((before, caption))
        newest[caption.language] = caption
    return pairs


def erasure(captions: Sequence[Caption]) -> float:
    """Return the normalised erasure of one talk: units withdrawn per unit of final text.

    0 says that nothing shown was ever taken back. Where an empty text must be reported and not refused, ask
    :func:`count_erased`.

    Args:
        captions: as for :func:`count_erased`.

    Raises:
        BadConfig: there are no captions, or the final ones are empty.
    """
    value = count_erased(captions).normalised
    if value is None:
        raise BadConfig(
            f"{len(captions)} captions and no final text: erasure is counted per word of the final captions"
        )
    return value


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


def first_caption_after_ms(
    events: Iterable[Timed], starts_ms: Sequence[float], *, lead_ms: float = 500
) -> list[int | None]:
    """Return per true start of speech the time to its first caption with text, in order of ``starts_ms``.

    A start belongs to the first segment that opened from ``lead_ms`` before it on and before the next start
    was due. ``None`` stands where none did (missed, or run together with the speech before), or where it
    never got text: such a start has no delay, and a report should say how many there are.

    Args:
        events: with the stream's position when each came, or with wall-clock samples.
        starts_ms: when somebody really started to speak after a pause, ascending.
        lead_ms: how much earlier a detector may open a segment.

    Raises:
        BadConfig: the starts are not in order.
    """
    if any(later < earlier for earlier, later in pairwise(starts_ms)):
        raise BadConfig("the starts of speech are not in order: sort them by time")
    opened: dict[int, int] = {}
    shown: dict[int, int] = {}
    for at, event in events:
        if isinstance(event, SpeechStarted):
            opened[event.segment] = event.start
        elif isinstance(event, Caption) and event.text.strip():
            shown.setdefault(event.segment, at)
    lead = samples(lead_ms)
    begins = [samples(ms) for ms in starts_ms]
    delays: list[int | None] = []
    for begin, following in pairwise([*begins, math.inf]):
        own = [(first, segment) for segment, first in opened.items() if begin <= first + lead < following]
        came = shown.get(min(own)[1]) if own else None
        delays.append(None if came is None else milliseconds(came - int(begin)))
    return delays


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
