"""What the device carries, measured while it carries it: who is let in, and how much is done for each stream.

```
lag   |--0.8------1.2--▶  of the bound                 a rung up; down again after calm, twice as much of it each time
rung    0      1     2      0: as asked, 1: longer steps, 2: finals only; nobody new is let in from rung 2 on
```
Lag is estimated from readings: speech waits for the next one, which takes as long as one lately took. A newcomer is let
in where this, projected to the load with him, stays below the bound. Law: whoever was let in isn't made to lag by those
who come later; what is done less is told, and done again.
"""

from __future__ import annotations

import logging
import math
import time
from collections import deque
from collections.abc import Callable
from enum import IntEnum
from typing import TYPE_CHECKING, Protocol

from streamtrans.server.config import Load
from streamtrans.server.refusal import exhausted

if TYPE_CHECKING:
    from streamtrans.engine import EngineStats

_log = logging.getLogger(__name__)

_UP = (0.8, 1.2)
"""Lag, in shares of the bound, from which the next rung is taken."""

_DOWN = 0.9
"""Share of that lag below which it is left again."""

_STEPS = 2
"""A lag of so many steps is never too much: a device that reads within one isn't overloaded, however long it is."""

_SPEECH = 1.5
"""What a reading of speech may cost, times one of silence: larger lets fewer in before anything was measured."""

_LEAST_SHARE = 0.5
"""Of a reading's time alone, what one among several is taken to cost at least: of speech, whose texts differ in length,
less is saved than of silence. Smaller lets more in before anything was measured."""

_MOST_READINGS = 256
"""The newest that are judged by: enough for a percentile, and few enough to sort several times a second."""

_MOST_CALM = 12
"""Times the calm that is asked for, at most, where leaving a rung has led back to it."""


class Rung(IntEnum):
    """How much is done for a stream; a higher one costs less."""

    FULL_SERVICE = 0
    FEWER_PARTIALS = 1
    NO_PARTIALS = 2


class Carried(Protocol):
    """A stream that is served."""

    @property
    def texts(self) -> int:
        """Languages that are written."""
        ...

    def asked_for(self, now: float) -> float:
        """Return since how many seconds a reading is under way; 0 without one."""
        ...

    def serve_at(self, rung: Rung) -> None:
        """Do as much as ``rung`` says from now on, and tell the client."""
        ...


class Capacity:
    """The book of one device's load.

    Args:
        bounds: of the load; ``None``: it is only measured.
        interval_ms: steps between readings where nobody asks for others.
        retry_after_ms: what is told to who isn't let in.
        clock: seconds, of the same clock as :meth:`Carried.asked_for`.
    """

    def __init__(
        self, bounds: Load | None, interval_ms: int, retry_after_ms: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.rung = Rung.FULL_SERVICE
        self.busy = 0.0
        """Share of the time in which the device was at work lately; 0 where the engine doesn't count."""
        self._bounded = bounds is not None
        self._rules = rules = bounds or Load()
        self._interval_s = interval_ms / 1000
        self._bound_s = max(rules.max_lag_ms / 1000, _STEPS * self._interval_s)
        self._retry_after_ms = retry_after_ms
        self._clock = clock
        self._window_s = rules.window_ms / 1000
        self._streams: dict[Carried, float] = {}
        """Stream → when it came."""
        self._taken: deque[tuple[float, float]] = deque(maxlen=_MOST_READINGS)
        """When a reading ended, and how long it took from being asked for; of half the window."""
        self._looks: deque[tuple[float, float, float]] = deque()
        """Time, seconds of work, seconds of texts served until then; of the window."""
        self._cost = 0.0
        """Share of the device that a text takes."""
        self._climbed_at = self._left_at = self._weighed_at = -math.inf
        self._calm_s = rules.calm_ms / 1000

    def learn(self, alone_s: float, together_s: float) -> None:
        """Take in what a reading of silence took while nothing else was done; later, measured costs replace it.

        Args:
            alone_s: one by itself.
            together_s: its share where some were asked for together, as a device reads them when there is much to do.
        """
        self._cost = _SPEECH * max(together_s, _LEAST_SHARE * alone_s) / self._interval_s

    def join(self, stream: Carried) -> None:
        """Count a stream that is served from now on."""
        self._streams[stream] = self._clock()
        if self.rung:
            stream.serve_at(self.rung)

    def leave(self, stream: Carried) -> None:
        """Count it no more."""
        self._streams.pop(stream, None)

    def took(self, reading_s: float) -> None:
        """Note how long a reading took from being asked for to its answer."""
        self._taken.append((self._clock(), reading_s))

    @property
    def texts(self) -> int:
        """Languages written, of all streams together."""
        return sum(stream.texts for stream in self._streams)

    @property
    def lag_s(self) -> float:
        """The lag that 95 % of what is said now will not exceed."""
        return self._lag(self._reading_s(), self.rung)

    def refuse_when_full(self, texts: int) -> None:
        """Turn away a stream with so many languages where those that are served would lag with it.

        Raises:
            Refusal: that is so.
        """
        if not self._bounded or not self._streams:  # who is alone lags because of nobody
            return
        now = self._clock()
        unseen = sum(
            stream.texts * max(0.0, 1 - (now - since) / self._window_s) for stream, since in self._streams.items()
        )
        busy = self.busy + (unseen + texts) * self._cost
        reading_s = self._reading_s() * (1 - min(self.busy, 0.99)) / max(1 - busy, 0.01)
        if self.rung is Rung.NO_PARTIALS:
            problem = "the device is overloaded"
        elif busy > self._rules.most_busy:
            problem = f"the device would be at work {busy:.0%} of the time"
        elif (lag_s := self._lag(reading_s, self.rung)) > self._bound_s:
            problem = f"captions would lag by {lag_s:.1f} s"
        else:
            return
        problem += f" with another stream; at most {self._rules.most_busy:.0%} and {self._bound_s:g} s are allowed"
        raise exhausted(problem, self._retry_after_ms, "busy")

    def look(self, stats: EngineStats | None) -> None:
        """Bring the book up to date, several times a second, and take another rung where it is time."""
        now = self._clock()
        while self._taken and self._taken[0][0] < now - self._window_s / 2:  # what came before a new rung has gone
            self._taken.popleft()
        if stats is not None:
            self._weigh(now, stats.busy_s / stats.devices)
        if self._bounded and self._streams:
            self._climb(now)
        elif self.rung:
            self._take(Rung.FULL_SERVICE, now)

    def _weigh(self, now: float, work_s: float) -> None:
        """Note the device's share of work, and what a text costs."""
        looks = self._looks
        served_s = looks[-1][2] + self.texts * (now - looks[-1][0]) if looks else 0.0
        looks.append((now, work_s, served_s))
        while looks[0][0] < now - self._window_s:
            looks.popleft()
        (_, work_before, served_before), past = looks[0], now - looks[0][0]
        if past <= 0:
            return
        self.busy = min(1.0, (work_s - work_before) / past)
        if served_s > served_before and past > self._window_s / 2:
            seen = (work_s - work_before) / (served_s - served_before)
            since = min(now - self._weighed_at, self._window_s)
            self._cost += (seen - self._cost) * (since / (3 * self._window_s) if self._cost else 1)
        self._weighed_at = now

    def _climb(self, now: float) -> None:
        """Take the next rung where captions lag, and the one before after enough calm."""
        bound_s, reading_s = self._bound_s, self._reading_s()
        # Who is alone lags because of nobody: without partials he would only wait longer for his text.
        top = Rung.FEWER_PARTIALS if len(self._streams) == 1 else Rung.NO_PARTIALS
        if self.rung > top:
            self._take(top, now)
            return
        if self.rung < top and self._lag(reading_s, self.rung) > _UP[self.rung] * bound_s:
            if now - self._climbed_at >= self._window_s:  # the last one has had time to show
                again = now - self._left_at < 4 * self._calm_s
                base_s = self._rules.calm_ms / 1000
                self._calm_s = min(2 * self._calm_s, _MOST_CALM * base_s) if again else base_s
                self._take(Rung(self.rung + 1), now)
            return
        if not self.rung:
            return
        lower = Rung(self.rung - 1)
        if self._lag(reading_s, lower) > _DOWN * _UP[lower] * bound_s or self.busy > self._rules.most_busy:
            self._climbed_at = max(self._climbed_at, now - self._window_s)  # no calm: it begins anew
        elif now - self._climbed_at >= self._calm_s + self._window_s:
            self._left_at = now
            self._take(lower, now)

    def _take(self, rung: Rung, now: float) -> None:
        level = logging.WARNING if rung > self.rung else logging.INFO
        told = rung.name, self._reading_s(), 100 * self.busy
        _log.log(level, "%s: readings take %.2f s, the device is %.0f %% busy", *told)
        self.rung, self._climbed_at = rung, now
        for stream in self._streams:
            stream.serve_at(rung)

    def _reading_s(self) -> float:
        """Return what 95 % of readings don't exceed, those included that are under way for longer than that."""
        taken = sorted(took for _, took in self._taken)
        usual = taken[math.ceil(0.95 * len(taken)) - 1] if taken else 0.0
        now = self._clock()
        waiting = [asked for stream in self._streams if (asked := stream.asked_for(now)) > usual]
        taken = sorted([*taken, *waiting])
        return taken[math.ceil(0.95 * len(taken)) - 1] if taken else 0.0

    def _lag(self, reading_s: float, rung: Rung) -> float:
        """Return how long speech waits for a reading, or its end, where one takes so long."""
        if rung is Rung.NO_PARTIALS:
            return 2 * reading_s
        step_s = self._interval_s * (self._rules.longer if rung else 1.0)
        return max(step_s, reading_s) + reading_s
