"""Find the moment at which a sentence ended, from what the words before and after it listened to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile

from streamtrans.core import samples
from streamtrans.stream.lines import Line
from streamtrans.stream.segments import Segment

STEP = samples(20)
"""How finely moments are tried."""
TAIL = samples(60)
"""What usually follows of a word after the moment that its last token listened to most."""
REACH = samples(400)
"""How far after that moment the end of a sentence is looked for."""
MISPLACED = 0.3
"""Share of tokens that may have listened to the wrong side; with more of them the moment isn't known."""
LEAST = samples(300)
"""A sentence is longer than this."""


@dataclass(frozen=True, slots=True)
class Joint:
    """A sentence ended about sample ``moment``, between ``first`` and ``last``."""

    moment: int
    first: int
    last: int


def sentence_end(lines: Sequence[Line], start: int) -> Joint | None:
    """Return when the first sentence of a segment from ``start`` on ended, or ``None`` if that isn't known.

    As few tokens as possible are on the wrong side of it: of the sentence, listening after it, or of the next one,
    listening before it; summed up over ``lines``.
    """
    joints = [joint for line in lines if (joint := line.joint) is not None]
    if not lines or len(joints) < len(lines):
        return None
    low, high = min(first for first, _ in joints), max(last for _, last in joints)
    moments = range(low, high + 1, STEP)
    costs = [sum(line.misplaced(moment) or 0 for line in lines) for moment in moments]
    least = min(costs)
    if least > MISPLACED * sum(line.length for line in lines):
        return None
    first = costs.index(least)
    count = len(list(takewhile(lambda cost: cost == least, costs[first:])))
    earliest, latest = moments[first], moments[first + count - 1]
    # Not before the last word's moment: its end would be heard as the beginning of the next sentence.
    return Joint(earliest + TAIL, max(earliest, start + LEAST), min(latest, earliest + REACH))


def agreed_end(segment: Segment, heard: int, lag: int, patience: int) -> Joint | None:
    """Return where an open segment, heard up to sample ``heard``, may end with a sentence; ``None``: nowhere yet.

    All of its lines saw the end ``lag`` samples ago, or at least half of them ``patience`` samples ago.
    """
    if not segment.credible:
        return None  # a sentence of words that nobody may have said
    lines = [line for line in segment.open_lines if not line.translated]  # translations end with their transcript
    ready = [line for line in lines if line.ending is not None]
    joint = sentence_end(ready, segment.start)
    wanted = lag if len(ready) == len(lines) else max(lag, patience)
    if joint is None or 2 * len(ready) < len(lines) or heard - joint.last < wanted:
        return None
    for line in lines:
        # Whoever saw no end may have promised words behind it, and they would be said twice.
        until = 0 if line in ready else line.promised_until()
        if until is None or until > joint.first:
            return None
    return joint
