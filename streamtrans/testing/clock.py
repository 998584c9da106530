"""A clock that stands still until a test moves it."""

from __future__ import annotations

import asyncio
import heapq
from itertools import count


class ManualClock:
    """Seconds since the test began; call it for the time, ``await sleep`` for a later one."""

    def __init__(self, start_s: float = 0.0) -> None:
        """Stand at ``start_s``."""
        self._now = start_s
        self._order = count()
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []

    def __call__(self) -> float:
        """Return the time in seconds."""
        return self._now

    def advance(self, seconds: float) -> None:
        """Move forward, and wake whoever's time has come."""
        if seconds < 0:
            raise ValueError(f"time does not run backwards: {seconds} s")
        self._now += seconds
        while self._sleepers and self._sleepers[0][0] <= self._now:
            _, _, sleeper = heapq.heappop(self._sleepers)
            if not sleeper.done():
                sleeper.set_result(None)

    async def sleep(self, seconds: float) -> None:
        """Wait until the clock has been moved forward by ``seconds``."""
        sleeper = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (self._now + seconds, next(self._order), sleeper))
        self.advance(0)
        await sleeper
