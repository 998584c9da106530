"""What a session needs to go on elsewhere, besides the audio that isn't settled yet.

```
      begins                    start of the first pending segment            known
 ───────|───────────────────────────|──────────────────────────────────────────|───────▶ samples
        |  heard again, so that     |  heard again, to be read again           |  new: boundaries are found here
        |  detectors find their way |  boundaries are known, and not sought    |
```
Law: a session that goes on says of each line what it had promised before, and then more; no segment begins or ends
elsewhere than it did, and none gets another number.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

from streamtrans.core import BadConfig, Tokens, samples
from streamtrans.segment import Before, EndpointRules
from streamtrans.stream.leveller import SILENCE, Loudest
from streamtrans.stream.lines import Line
from streamtrans.stream.progress import Cursors
from streamtrans.stream.segments import Segment

_WARM_UP = samples(1_000)
"""Audio that detectors with a memory hear again before anything depends on them."""


@dataclass(frozen=True, slots=True)
class KeptLine:
    """What is promised of a segment in one language; ``closed``: its final caption is out.

    ``hidden``: nobody is shown it, and where it is closed besides, no more: others are translated from it.
    """

    language: str
    tokens: Tokens = ()
    closed: bool = False
    hidden: bool = False


@dataclass(frozen=True, slots=True)
class KeptSegment:
    """A segment whose final captions aren't all out; only the last may have no ``end``."""

    number: int
    start: int
    lines: tuple[KeptLine, ...]
    end: int | None = None
    credible: bool = False
    needed: int = 0
    """Samples of speech from which it is."""
    gain: float = 1.0

    @classmethod
    def of(cls, segment: Segment) -> Self:
        """Return what is kept of ``segment``."""
        lines = tuple(
            KeptLine(line.language, line.committed, line.closed or line.parted, line.hidden) for line in segment.lines
        )
        return cls(segment.number, segment.start, lines, segment.end, segment.credible, segment.needed, segment.gain)

    def recalled(self, line_in: Callable[[str], Line], *, fresh: bool) -> Segment:
        """Return the segment, with new lines that have promised what those had; ``fresh`` as of :class:`Segment`."""
        lines = [line_in(kept.language) for kept in self.lines]
        for line, kept in zip(lines, self.lines, strict=True):
            line.recall(kept.tokens, closed=kept.closed, hidden=kept.hidden)
        segment = Segment(self.number, self.start, lines, fresh=fresh, gain=self.gain)
        segment.end, segment.credible, segment.needed = self.end, self.credible, self.needed
        return segment


@dataclass(frozen=True, slots=True)
class Memory:
    """See above; positions are samples since the stream began."""

    begins: int
    """Audio from here on, at the latest, has to be heard again."""
    known: int
    earliest: int
    """Nothing before belongs to a segment that is still to open."""
    segments: int
    """Opened so far."""
    cursors: Cursors
    pending: tuple[KeptSegment, ...] = ()
    onset: int | None = None
    """Where speech begins in the open segment."""
    loudest: Loudest = SILENCE
    """Windows before ``known``, see :mod:`streamtrans.stream.leveller`."""

    def __post_init__(self) -> None:
        """Check that it hangs together: it may come from a file.

        Raises:
            BadConfig: it doesn't.
        """
        places = [0, self.begins]
        for segment in self.pending:
            places += [segment.start] if segment.end is None else [segment.start, segment.end]
        open_ = [segment.end is None for segment in self.pending]
        numbers = [segment.number for segment in self.pending]
        known = list(range(self.segments - len(numbers), self.segments))
        if not all(0 <= each < math.inf for each in self.loudest):
            raise BadConfig(f"how loud a kept session was is {self.loudest}; give finite numbers from 0 on")
        if not all(0 < segment.gain < math.inf for segment in self.pending):
            raise BadConfig("what a segment of a kept session is multiplied by must be a finite number above 0")
        if places != sorted(places) or any(open_[:-1]) or numbers != known or min([0, *numbers]) < 0:
            raise BadConfig("the segments of a kept session don't follow each other")
        if (self.onset is None) == (open_[-1:] == [True]) or self.begins > max(self.known, self.earliest):
            raise BadConfig("the boundaries of a kept session contradict each other")

    @property
    def before(self) -> Before:
        """What a segmenter should know."""
        opened = None if self.onset is None else (self.pending[-1].start, self.onset)
        return Before(self.known, self.earliest, opened)


def hearing_again(rules: EndpointRules) -> int:
    """Return how many samples before the first that is needed are to be heard again."""
    return max(_WARM_UP, samples(rules.cut_search_ms))
