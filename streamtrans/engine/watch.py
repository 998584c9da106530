"""Whether the device is well: how long it is busy with one call, and whether it fails one reading after the other.

Law: what a request does wrong is its own; only a device that fails at what it must be able to do is broken.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from streamtrans.core import BadAnswer, EngineClosed, StreamtransError


class Stopwatch:
    """Times the device's calls; any thread may ask whether the one that is under way takes too long.

    A call is a stall once it takes longer than ``least_s`` and than ``factor`` times the longest one lately.
    """

    factor = 8  # larger calls fewer calls stalls, and later
    fading = 0.98  # of the longest call, what it counts for after the next one; smaller forgets sooner
    first_s = 300.0  # a device compiles and allocates before it first answers

    def __init__(self, least_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.least_s = least_s
        self._clock = clock
        self._longest: float | None = None
        self._since: float | None = None

    @contextmanager
    def call(self) -> Iterator[None]:
        """Time a call."""
        self._since = began = self._clock()
        try:
            yield
        finally:
            self._since = None
            took, before = self._clock() - began, self._longest
            # A stall must not teach that stalls are usual; a device that has become slower is believed in steps.
            self._longest = took if before is None else max(self.fading * before, min(took, 2 * before))

    @property
    def stalled(self) -> bool:
        """Whether the call under way is a stall."""
        since, longest = self._since, self._longest
        bound = self.first_s if longest is None else max(self.least_s, self.factor * longest)
        return since is not None and self._clock() - since > bound


class Trouble:
    """Failures in a row, and when to find out whether the device is to blame.

    After the first, second, fourth, eighth … failure in a row it is tried with what can't fail; twice in a row in vain,
    it is broken. So nobody can close an engine with what he asks, and neither does one short lack of memory.
    """

    def __init__(self) -> None:
        self._failures = 0
        self._in_vain = 0

    def note(self, outcome: object) -> bool:
        """Take in how a request ended, and say whether the device should be tried."""
        if not isinstance(outcome, Exception):
            self._failures = self._in_vain = 0
            return False
        if isinstance(outcome, EngineClosed) or (
            isinstance(outcome, StreamtransError) and not isinstance(outcome, BadAnswer)
        ):
            return False
        self._failures += 1
        return self._failures & (self._failures - 1) == 0

    def tried(self, outcome: object) -> bool:
        """Take in how a trial ended, and say whether the device is broken."""
        self._in_vain = self._in_vain + 1 if isinstance(outcome, Exception) else 0
        return self._in_vain >= 2
