"""What a session tells the outside: speech boundaries and captions."""

from __future__ import annotations

from dataclasses import dataclass, field

from streamtrans.core.jobs import Doubt


@dataclass(frozen=True, slots=True)
class SpeechStarted:
    """Speech began: segment ``segment`` opens at sample ``start``; the model hears it ``gain`` times as loud."""

    segment: int
    start: int
    gain: float = 1.0


@dataclass(frozen=True, slots=True)
class SpeechEnded:
    """Segment ``segment`` closed at sample ``end``; its final captions follow."""

    segment: int
    end: int


@dataclass(frozen=True, slots=True)
class Word:
    """A word of a final caption, when it was said, in samples, and how sure the model was of it, in (0, 1].

    Where the model can't tell when it listened to what, ``start`` and ``end`` are ``None``.
    """

    text: str
    confidence: float
    start: int | None = None
    end: int | None = None


@dataclass(frozen=True, slots=True)
class Caption:
    """A complete reading of one segment in one language; it replaces any earlier one.

    ``committed`` only ever grows from revision to revision; ``tentative`` is replaced whole.
    A ``final`` caption has an empty ``tentative`` and is never followed by another one of the
    same segment and language. ``stability`` is the smallest token probability of the tail
    (1.0 for an empty tail). ``start`` and ``end`` are samples; while the segment is open, ``end`` is
    what has been ``heard`` of it. A text that isn't ``complete`` was ended by the model's limit, not by the model.
    ``words`` of a final caption are there where the session was asked for them.
    A final one that is in ``doubt`` seems to be in another language, or chatter; where that is certain, what the model
    wrote last isn't in it. ``moved`` is what was shown at the end of a final caption's segment and is shown in the next
    one now.
    """

    segment: int
    revision: int
    language: str
    committed: str
    tentative: str
    final: bool
    start: int
    end: int
    heard: int
    stability: float = 1.0
    complete: bool = True
    doubt: Doubt | None = field(default=None, compare=False)
    words: tuple[Word, ...] = field(default=(), compare=False)
    moved: str = field(default="", compare=False)

    @property
    def text(self) -> str:
        """The whole reading, committed and tentative."""
        return self.committed + self.tentative


Event = SpeechStarted | SpeechEnded | Caption
