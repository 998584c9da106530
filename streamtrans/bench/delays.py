"""How late captions are, as a client sees it that sends each sample at the moment when it is spoken.

| | from | to |
|---|---|---|
| first partial | the first sample of a segment | its first text |
| partial | the newest sample that a caption of an open segment has heard | that caption |
| commit | the newest sample heard by the caption that first showed a word | the caption that promises it |
| final | the last sample of a segment | its final caption |
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from streamtrans.client import StreamEvent
from streamtrans.core import SAMPLE_RATE, Caption
from streamtrans.metrics import percentile

KINDS = ("first partial", "partial", "commit", "final")
PERCENTS = (50, 90, 95, 99)


@dataclass(slots=True)
class _Line:
    """One language of one segment: how much was promised, and per reading how much it showed, having heard what."""

    promised: int = 0
    shown: list[tuple[str, int]] = field(default_factory=list)


class Delays:
    """Of one stream, in seconds, by kind."""

    def __init__(self) -> None:
        self.seconds: dict[str, list[float]] = {kind: [] for kind in KINDS}
        self._lines: dict[tuple[int, str], _Line] = {}
        self._seen: set[int] = set()

    def told(self, event: StreamEvent, _received: int, at: float) -> None:
        """Note an event that came ``at`` seconds after the first sample was spoken."""
        if not isinstance(event, Caption) or not event.text:
            return
        if event.segment not in self._seen:
            self._seen.add(event.segment)
            self._add("first partial", at, event.start)
        line = self._lines.setdefault((event.segment, event.language), _Line())
        if event.final:
            self._add("final", at, event.end)
        else:
            self._add("partial", at, event.heard)
        line.shown.append((event.text, event.heard))
        for end in range(line.promised + 1, len(event.committed) + 1):
            if end == len(event.committed) or event.committed[end] == " ":  # one per word
                start = event.committed[:end]
                self._add("commit", at, next(heard for text, heard in line.shown if text.startswith(start)))
        line.promised = max(line.promised, len(event.committed))
        if event.final:
            del self._lines[event.segment, event.language]

    def _add(self, kind: str, at: float, sample: int) -> None:
        self.seconds[kind].append(at - sample / SAMPLE_RATE)


def percentiles_ms(streams: Iterable[Delays]) -> dict[str, dict[str, int] | None]:
    """Return kind → ``p50``, ``p90``, … of all streams together, in milliseconds; ``None`` where there was none."""
    found: dict[str, dict[str, int] | None] = {}
    together = list(streams)
    for kind in KINDS:
        seconds = [each for stream in together for each in stream.seconds[kind]]
        found[kind] = {f"p{p}": round(1000 * percentile(seconds, p)) for p in PERCENTS} if seconds else None
    return found


def largest(fits: dict[int, bool]) -> int | None:
    """Return the next number to try, by doubling and then by bisection; ``None`` once the largest that fits is known.

    Args:
        fits: number → whether it fits, of those tried.
    """
    best = max((number for number, fit in fits.items() if fit), default=0)
    worst = min((number for number, fit in fits.items() if not fit), default=None)
    if worst is None:
        return max(1, 2 * best)
    return None if worst - best <= 1 else (best + worst) // 2
