"""How long an answer may take: a time that follows what readings took, counted from when the engine began.

Law: a slow engine loses nothing, and what is lost is waited for in vain for a bounded time.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class Patience:
    """``seconds`` is what a request may take from its beginning; whoever had too little gets twice as much."""

    least_s: float = 5.0
    """Smaller notices sooner that an answer is lost, larger forgives stalls."""
    factor: float = 4.0
    """Times the longest reading lately: smaller notices sooner, larger forgives neighbours."""
    seconds: float = 30.0
    """At first, when nothing is known: a device may have to compile."""
    queue_s: float = 120.0
    """What a request may wait for its turn before it counts as lost."""
    stalled_s: float = 30.0
    """The same where the device is seen to hang: larger keeps the words of a longer stall, smaller tells sooner."""
    times: int = 3
    """How often what was lost is asked, altogether."""
    longest: float = 0.0
    """The longest reading lately, in seconds; it fades."""

    def took(self, seconds: float) -> None:
        """Learn what a reading took."""
        self.longest = max(seconds, 0.9 * self.longest)
        self.seconds = max(self.least_s, self.factor * self.longest)

    def ran_out(self) -> None:
        """Learn that it was too little, perhaps."""
        self.seconds *= 2

    def end(self) -> None:
        """Wait for nothing any more."""
        self.least_s = self.factor = self.seconds = self.queue_s = self.stalled_s = 0.0
        self.times = 1
