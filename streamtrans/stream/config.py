"""What a session is told: languages, endpoints, and how lively its captions are."""

from __future__ import annotations

from dataclasses import dataclass, field

from streamtrans.core import MODES, BadConfig, Mode
from streamtrans.segment import EndpointRules
from streamtrans.stream.policies import load_policy
from streamtrans.text import canonical, written

_MOST = 86_400_000
"""The largest number of any setting: the milliseconds of a day."""


@dataclass(frozen=True, slots=True)
class SessionConfig:
    """Settings of one session. Language tags may be written in any BCP-47 form and are kept canonical.

    Raises:
        BadConfig: a value is out of range, or a target is named twice.
        UnsupportedLanguage: a tag names no language.
    """

    targets: tuple[str, ...]
    """Languages to write; naming the spoken one asks for a transcript. Each costs one decoding more."""
    source: str | None = None
    """The spoken language, for model families that must know it; ``None`` where any may come."""
    vad: str = "silero"
    """Which detector the engine is asked for."""
    endpoints: EndpointRules = field(default_factory=EndpointRules)
    """What opens and closes a segment."""
    mode: Mode = "live"
    """``live`` shows committed and tentative text, ``stable`` committed only, ``final`` whole segments."""
    policy: str = "agreement"
    """Key of ``POLICIES``: decides what is promised while the segment is open."""
    policy_n: int = 2
    """The policy's number. With ``agreement``, how many readings agree: tentative text is shown
    anyway, so a careful promise costs no time; 2 withstands a wild first guess. Larger: later and calmer."""
    bias: float = 0.0
    """Stability bias β of a reading towards the one before; 0 is exact. Larger: calmer, faster, and in the end worse;
    from 0.5 on only a pause takes anything back. Falls to 0 where a sentence ends and while speech pauses."""
    masked: int = 0
    """Newest tokens of an open segment that ``live`` doesn't show yet, up to a whole word; the first word is shown all
    the same. Larger: calmer, later."""
    words: bool = False
    """Whether final captions tell when each word was said."""
    min_voiced_ms: int = 160
    """Speech that a segment needs before anything is promised. Larger: less noise passes, short words are lost."""
    level_db: float | None = None
    """Level that speech is brought to before detector and model hear it, in dB relative to full scale: the root mean
    square of its loudest windows, of 32 ms each. ``None`` leaves it as it came, for models that hear all levels
    alike."""
    carry_state: bool = False
    """Whether the encoder hears on across a cut in continuous speech, or begins anew with each segment: with the
    embedded model anew is 2 BLEU better (docs/decisions/0012-calm-captions.md)."""
    sentence_lag_ms: int = 1_000
    """How long speech goes on after a sentence before the segment is divided there. Larger: surer that it has ended."""
    sentence_patience_ms: int = 2_500
    """How long a sentence that most languages saw end waits for the others before the segment is divided there."""
    reading_interval_ms: int = 480
    """Audio between two readings of an open segment: smaller is livelier and costs more passes."""
    min_first_reading_ms: int = 480
    """Audio a segment needs before its first reading, rounded up to the interval: larger guesses less."""
    detect_limit_ms: int = 2_000
    """Audio in one request to the detector: larger catches up in fewer passes, smaller shares more fairly."""
    max_behind_ms: int = 60_000
    """Audio heard but not yet read; beyond it ``Session.full`` asks to stop hearing. Larger: more memory."""

    def __post_init__(self) -> None:
        """Check every value, and write languages in their canonical form."""
        if isinstance(self.targets, str) or not self.targets:
            raise BadConfig(f"targets must be one or more language codes, such as ('de', 'fr'), not {self.targets!r}")
        targets = tuple(canonical(target) for target in self.targets)
        if len(set(targets)) != len(targets):
            raise BadConfig(f"targets {', '.join(self.targets)} name one language twice")
        object.__setattr__(self, "targets", tuple(written(target) for target in self.targets))
        if self.source is not None:
            object.__setattr__(self, "source", canonical(self.source))
        if self.mode not in MODES:
            raise BadConfig(f"unknown mode {self.mode!r}; use one of {', '.join(MODES)}")
        if abs(self.policy_n) > _MOST:
            raise BadConfig(f"policy_n is {self.policy_n}; no policy takes more than {_MOST}")
        load_policy(self.policy, self.policy_n)
        if not 0 <= self.bias < 1:
            raise BadConfig(f"bias is {self.bias}; use 0 (exact) or more, and less than 1")
        if self.level_db is not None and not -60 <= self.level_db <= -6:
            raise BadConfig(f"level_db is {self.level_db}; speech is brought to -60 to -6 dB of full scale")
        for name in ("masked", "min_voiced_ms", "sentence_lag_ms", "sentence_patience_ms"):
            _at_least(name, getattr(self, name), 0)
        _at_least("reading_interval_ms", self.reading_interval_ms, 20)
        _at_least("min_first_reading_ms", self.min_first_reading_ms, 0)
        _at_least("detect_limit_ms", self.detect_limit_ms, 100)
        _at_least("max_behind_ms", self.max_behind_ms, 2 * self.endpoints.max_segment_ms)


def _at_least(name: str, value: int, least: int) -> None:
    if value < least:
        raise BadConfig(f"{name} is {value}; use {least} or more")
    if value > _MOST:
        raise BadConfig(f"{name} is {value}; use {_MOST} or less")
