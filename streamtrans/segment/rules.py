"""Where speech begins and ends, as data."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

from streamtrans.core import BadConfig


@dataclass(frozen=True, slots=True)
class EndpointRules:
    """Settings of :class:`streamtrans.segment.Segmenter`.

    Raises:
        BadConfig: a value is out of range, or two contradict each other.
    """

    threshold: float = 0.5
    """Probability from which a window is speech. Larger: fewer false starts; smaller: fewer lost words."""
    release_threshold: float = 0.45
    """Probability below which speech pauses again. Smaller: faint word endings stay in the segment, and so does noise
    that a detector needs time to tell from them."""
    onset_threshold: float = 0.1
    """Probability from which windows right before the first one of speech belong to it. Smaller: soft first sounds
    are found; larger: no noise before them is."""
    onset_reach_ms: int = 256
    """How far back such windows may reach. Larger: slower beginnings are found."""
    sure_threshold: float = 0.8
    """Probability from which a window counts as voiced beyond doubt; music seldom gets there. Larger: it gets there
    even less, and neither does faint speech."""
    min_speech_ms: int = 96
    """Speech needed before a segment opens. Larger: clicks and coughs open none; smaller: opens sooner."""
    min_silence_ms: int = 500
    """Silence that closes a segment. Larger: longer, more coherent segments; smaller: earlier finals."""
    pre_roll_ms: int = 200
    """Audio before the onset that joins the segment. Larger: soft first consonants are kept."""
    head_ms: int = 500
    """A segment that would begin this soon after the stream does begins with it: what is switched on clicks, and behind
    a click a detector finds speech late. Larger: later speech is found whole, with more silence before it."""
    padding_ms: int = 150
    """How much of the trailing silence stays in the segment. Larger: faint word endings are kept."""
    max_segment_ms: int = 12_000
    """Length at which speech without a pause is cut. Larger: fewer cuts inside sentences; smaller: less
    for the model to read again and again."""
    cut_search_ms: int = 3_000
    """How far back the quietest place for such a cut is looked for. Larger: better places, shorter
    segments."""

    sentence_dip_db: float = 10.0
    """How much quieter than the speech around it the end of a sentence must be, for a segment to be divided there.
    Larger: only where there is a short pause; 0: anywhere."""

    def __post_init__(self) -> None:
        for field in fields(self):
            if not math.isfinite(value := getattr(self, field.name)):
                raise BadConfig(f"{field.name} must be a finite number; got {value}")
        if not 0 < self.threshold <= 1:
            raise BadConfig(f"threshold must be in (0, 1]; got {self.threshold}")
        if not 0 < self.release_threshold <= self.threshold:
            raise BadConfig(
                f"release_threshold must be in (0, threshold = {self.threshold}]; got {self.release_threshold}"
            )
        if not 0 < self.onset_threshold <= self.release_threshold:
            raise BadConfig(
                f"onset_threshold must be in (0, release_threshold = {self.release_threshold}]; "
                f"got {self.onset_threshold}"
            )
        if not self.threshold <= self.sure_threshold <= 1:
            raise BadConfig(f"sure_threshold must be in [threshold = {self.threshold}, 1]; got {self.sure_threshold}")
        for name in ("min_speech_ms", "min_silence_ms", "max_segment_ms", "cut_search_ms"):
            if getattr(self, name) <= 0:
                raise BadConfig(f"{name} must be positive; got {getattr(self, name)}")
        for name in ("pre_roll_ms", "head_ms", "padding_ms", "onset_reach_ms", "sentence_dip_db"):
            if getattr(self, name) < 0:
                raise BadConfig(f"{name} must not be negative; got {getattr(self, name)}")
        if self.padding_ms > self.min_silence_ms:
            raise BadConfig(
                f"padding_ms ({self.padding_ms}) must not exceed min_silence_ms ({self.min_silence_ms}): "
                "a segment can keep only silence that was heard"
            )
        if self.cut_search_ms * 2 > self.max_segment_ms:
            raise BadConfig(
                f"cut_search_ms ({self.cut_search_ms}) must be at most half of max_segment_ms ({self.max_segment_ms})"
            )
