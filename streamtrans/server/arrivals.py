"""When audio arrived, and how long it waited to be read.

```
arrived   |--t0--|--t1--|--t2--|--t3--|        cells of 20 ms, whatever the chunks were
          ^ start of a reading  ^ its end: the cells of t0, t1 and t2 have been read, their lags are known
```
Only audio that a reading includes has a lag; silence has none. Law: what is kept grows neither with the number of
chunks nor with the age of the stream.
"""

from __future__ import annotations

import math
from array import array
from collections import Counter, deque
from collections.abc import Callable, Sequence

from streamtrans.core import Caption, Event, Job, SpeechStarted, samples

_CELL = samples(20)
"""Audio that shares one time of arrival: that of its last sample. Smaller chunks are as if they had come together."""

_CELLS = samples(120_000) // _CELL
"""Cells whose arrival is remembered, for segments that begin in the past; older ones are overwritten."""

_FIRST_CAPTIONS = 1_000
"""Segments, the newest, whose first text is told one by one."""


class Delays:
    """How often which delay was seen, within 1 % of it; ``also`` is told each one, in seconds."""

    _STEP = math.log(1.02)

    def __init__(self, also: Callable[[float], object] | None = None) -> None:
        self._also = also
        self._counts: Counter[int] = Counter()
        """Logarithm of the delay in milliseconds, in steps → how often; a few hundred steps reach to an hour."""

    def __len__(self) -> int:
        return self._counts.total()

    def add(self, delay_s: float) -> None:
        """Count one delay; less than a millisecond is none."""
        if self._also is not None:
            self._also(delay_s)
        self._counts[-1 if delay_s < 1e-3 else round(math.log(delay_s * 1e3) / self._STEP)] += 1

    def percentile_s(self, percent: float) -> float:
        """Return the smallest delay that ``percent`` of them don't exceed (nearest rank); 0 for none."""
        wanted = math.ceil(len(self) * percent / 100)
        for step, count in sorted(self._counts.items()):
            wanted -= count
            if wanted <= 0:
                return 0.0 if step < 0 else math.exp(step * self._STEP) / 1e3
        return 0.0


class Arrivals:
    """The book of one stream's audio; times are seconds of any steady clock.

    Args:
        lag: told each lag, as they are noted here.
        first_caption: the same of first captions.
        received: samples that arrived elsewhere.
    """

    def __init__(
        self,
        lag: Callable[[float], object] | None = None,
        first_caption: Callable[[float], object] | None = None,
        received: int = 0,
    ) -> None:
        self.received = received
        """Samples that have arrived."""
        self.segments = 0
        self.lags = Delays(lag)
        """One per cell read."""
        self.first_captions = Delays(first_caption)
        """One per segment that got text."""
        self._lag = 0.0
        self._times = array("d", bytes(8 * _CELLS))
        """Cell, modulo their number → when it was complete."""
        self._waiting = received // _CELL
        """The first cell that is neither read nor skipped."""
        self._job: Job | None = None
        self._silent: dict[int, float] = {}
        """Open segments without text → when their first sample arrived."""
        self._newest: deque[float] = deque(maxlen=_FIRST_CAPTIONS)

    def arrived(self, count: int, now: float) -> None:
        """Note that ``count`` more samples are here."""
        complete = self._complete
        self.received += count
        for cell in range(max(complete, self._oldest), self._complete):
            self._times[cell % _CELLS] = now

    def began(self, job: Job) -> None:
        """Note that ``job`` is being read; one is at a time."""
        self._job = job

    def read(self, job: Job, now: float) -> None:
        """Note that the reading ``job`` has ended at ``now``."""
        self._job = None
        self.skip(job.start)
        read = min(job.end // _CELL, self._complete)
        for cell in range(max(self._waiting, self._oldest), read):
            self._lag = now - self._times[cell % _CELLS]
            self.lags.add(self._lag)
        self._waiting = max(self._waiting, read)

    def skip(self, position: int) -> None:
        """Note that what arrived before ``position`` waits for no reading: it is read, or no speech."""
        self._waiting = max(self._waiting, position // _CELL)

    def saw(self, event: Event, now: float) -> None:
        """Note an event of the session, for the delay of each segment's first text."""
        if isinstance(event, SpeechStarted):
            self.segments += 1
            self._silent[event.segment] = self._arrival(event.start // _CELL, now)
        elif isinstance(event, Caption):
            since = self._silent.get(event.segment)
            if since is not None and event.text:
                self.first_captions.add(now - since)
                self._newest.append(now - since)
            if event.text or event.final:
                self._silent.pop(event.segment, None)

    def lag_s(self, now: float) -> float:
        """Return the newest known lag, or the age of what is being read now if that is more."""
        if self._job is None:
            return self._lag
        return max(self._lag, now - self._arrival(max(self._waiting, self._job.start // _CELL), now))

    @property
    def first_captions_s(self) -> Sequence[float]:
        """One delay per segment that got text, in seconds; of very many segments the newest."""
        return self._newest

    @property
    def _complete(self) -> int:
        """Cells that have arrived whole."""
        return self.received // _CELL

    @property
    def _oldest(self) -> int:
        """The first cell that is remembered."""
        return max(0, self._complete - _CELLS)

    def _arrival(self, cell: int, now: float) -> float:
        """Return when ``cell`` arrived, or the oldest that is remembered, if it is older; ``now`` if it has not."""
        return self._times[max(cell, self._oldest) % _CELLS] if cell < self._complete else now
