"""When audio arrived, and how long it waited to be read.

```
arrived   |--t0--|--t1--|--t2--|--t3--|
          ^ start of a reading  ^ its end: the chunks of t0, t1 and t2 have been read, their lags are known
```
Only audio that a reading includes has a lag; silence has none.
"""

from __future__ import annotations

import math
from array import array
from collections import deque
from collections.abc import Sequence

from streamtrans.core import Caption, Event, Job, SpeechStarted, samples

_HISTORY = samples(120_000)
"""Audio whose arrival is remembered, for segments that begin in the past."""


class Arrivals:
    """Marks ``(position, time)``, one per chunk; times are seconds of any steady clock."""

    def __init__(self) -> None:
        self.received = 0
        """Samples that have arrived."""
        self.segments = 0
        self._lag = 0.0
        self._unread: deque[tuple[int, float]] = deque()
        self._history: deque[tuple[int, float]] = deque()
        self._lags = array("d")
        self._job: Job | None = None
        self._silent: dict[int, float] = {}
        """Open segments without text → when their first sample arrived."""
        self._first_captions = array("d")

    def arrived(self, count: int, now: float) -> None:
        """Note that ``count`` more samples are here."""
        if count == 0:
            return
        self.received += count
        mark = (self.received, now)
        self._unread.append(mark)
        self._history.append(mark)
        while self._history[0][0] < self.received - _HISTORY:
            self._history.popleft()

    def began(self, job: Job) -> None:
        """Note that ``job`` is being read; one is at a time."""
        self._job = job

    def read(self, job: Job, now: float) -> None:
        """Note that the reading ``job`` has ended at ``now``."""
        self._job = None
        self.skip(job.start)
        while self._unread and self._unread[0][0] <= job.end:
            self._lag = now - self._unread.popleft()[1]
            self._lags.append(self._lag)

    def skip(self, position: int) -> None:
        """Note that what arrived before ``position`` waits for no reading: it is read, or no speech."""
        while self._unread and self._unread[0][0] <= position:
            self._unread.popleft()

    def saw(self, event: Event, now: float) -> None:
        """Note an event of the session, for the delay of each segment's first text."""
        if isinstance(event, SpeechStarted):
            self.segments += 1
            self._silent[event.segment] = self._arrival(event.start, now)
        elif isinstance(event, Caption):
            since = self._silent.get(event.segment)
            if since is not None and event.text:
                self._first_captions.append(now - since)
            if event.text or event.final:
                self._silent.pop(event.segment, None)

    def lag_s(self, now: float) -> float:
        """Return the newest known lag, or the age of what is being read now if that is more."""
        if self._job is None:
            return self._lag
        waiting = (now - time for end, time in self._unread if end > self._job.start)
        return max(self._lag, next(waiting, 0.0))

    @property
    def lags_s(self) -> Sequence[float]:
        """One lag per chunk read, in seconds."""
        return self._lags

    @property
    def first_captions_s(self) -> Sequence[float]:
        """One delay per segment that got text, in seconds."""
        return self._first_captions

    def _arrival(self, position: int, now: float) -> float:
        return next((time for end, time in self._history if end > position), now)


def percentile(values: Sequence[float], percent: float) -> float:
    """Return the smallest of ``values`` that ``percent`` of them don't exceed (nearest rank); 0 for none."""
    if not values:
        return 0.0
    ranked = sorted(values)
    return ranked[max(0, math.ceil(len(ranked) * percent / 100) - 1)]
