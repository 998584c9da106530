"""How far a session is, and what it has cost."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Self

from streamtrans.core import DecodeStats, Reading


@dataclass(frozen=True, slots=True)
class Cursors:
    """How far a session is, in samples since the stream began; each only grows.

    ``received``: heard. ``decoded``: read, or known to be no speech. ``committed``: end of the audio whose
    reading promised something last. ``final``: everything before is in final captions.
    """

    received: int = 0
    decoded: int = 0
    committed: int = 0
    final: int = 0

    def grown(self, other: Cursors) -> Cursors:
        """Return whichever is further, of each."""
        return Cursors(
            max(self.received, other.received),
            max(self.decoded, other.decoded),
            max(self.committed, other.committed),
            max(self.final, other.final),
        )


@dataclass(frozen=True, slots=True)
class SessionStats:
    """What a session has cost so far. ``skipped`` readings fell due and were replaced by newer ones.

    ``divided`` segments ended with a sentence and not with a pause. ``partials`` are the texts read of segments that
    were still open, and ``partial_decode`` what they cost; ``decode`` is all.
    """

    segments: int = 0
    readings: int = 0
    skipped: int = 0
    failures: int = 0
    divided: int = 0
    partials: int = 0
    decode: DecodeStats = field(default_factory=DecodeStats)
    partial_decode: DecodeStats = field(default_factory=DecodeStats)
    detections: int = 0

    @property
    def in_vain(self) -> bool:
        """Whether all that was asked failed, so that an empty end says nothing of what was said."""
        return self.failures > 0 and not self.readings and (self.segments > 0 or not self.detections)

    def plus(self, **more: int) -> Self:
        """Return these with the named ones counted up."""
        return replace(self, **{name: getattr(self, name) + each for name, each in more.items()})

    def plus_reading(self, reading: Reading, *, partial: bool) -> Self:
        """Return these with one reading more."""
        cost = sum((hypothesis.stats for hypothesis in reading.hypotheses), DecodeStats())
        read = replace(self, readings=self.readings + 1, decode=self.decode + cost)
        if not partial:
            return read
        texts = self.partials + len(reading.hypotheses)
        return replace(read, partials=texts, partial_decode=self.partial_decode + cost)
