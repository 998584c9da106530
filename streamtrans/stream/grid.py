"""When a reading of an open segment falls due: at fixed steps of audio time, counted from the segment's beginning.

Law: whatever the chunks were, the readings that fall due are the same.
"""

from __future__ import annotations

from streamtrans.core import samples


class Grid:
    """Steps of ``interval_ms``, the first of at least ``first_ms``; ``None`` instead of steps: nothing falls due."""

    def __init__(self, interval_ms: int | None, first_ms: int) -> None:
        self._first = samples(first_ms)
        self._interval = 0
        self.pace(interval_ms)

    def pace(self, interval_ms: int | None) -> None:
        """Go on in other steps."""
        self._interval = 0 if interval_ms is None else samples(interval_ms)

    def newest(self, start: int, position: int) -> int:
        """Return where the newest step since ``start`` ended, as of ``position``: ``start`` where there is none."""
        return start if not self._interval else start + max(0, position - start) // self._interval * self._interval

    def due(self, start: int, position: int) -> int:
        """Return the end of the newest reading that a segment from ``start`` to ``position`` suffices for.

        It is ``start`` where there is none.
        """
        newest = self.newest(start, position)
        return newest if newest - start >= self._first else start
