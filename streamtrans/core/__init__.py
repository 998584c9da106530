"""Nouns without verbs: the values that rooms hand to each other.

Law: nothing here acts, and nothing here imports more than the standard library.
"""

from streamtrans.core.captions import LIVE, MODES, CaptionChoice, Mode, check_mode
from streamtrans.core.clock import SAMPLE_RATE, milliseconds, samples
from streamtrans.core.engines import EngineLike, Health, Reply
from streamtrans.core.errors import (
    AudioTooLong,
    BadAnswer,
    BadAudio,
    BadConfig,
    BadModel,
    EngineClosed,
    Lost,
    StreamtransError,
    UnsupportedLanguage,
    loggable,
)
from streamtrans.core.events import Caption, Event, SpeechEnded, SpeechStarted, Word
from streamtrans.core.extras import needs
from streamtrans.core.jobs import (
    DecodeStats,
    Detect,
    Detection,
    Doubt,
    Hypothesis,
    Job,
    Reading,
    Request,
    StateHandle,
    Target,
    Tokens,
)
from streamtrans.core.options import Asked, Group, Option, asked, parts

__all__ = [
    "LIVE",
    "MODES",
    "SAMPLE_RATE",
    "Asked",
    "AudioTooLong",
    "BadAnswer",
    "BadAudio",
    "BadConfig",
    "BadModel",
    "Caption",
    "CaptionChoice",
    "DecodeStats",
    "Detect",
    "Detection",
    "Doubt",
    "EngineClosed",
    "EngineLike",
    "Event",
    "Group",
    "Health",
    "Hypothesis",
    "Job",
    "Lost",
    "Mode",
    "Option",
    "Reading",
    "Reply",
    "Request",
    "SpeechEnded",
    "SpeechStarted",
    "StateHandle",
    "StreamtransError",
    "Target",
    "Tokens",
    "UnsupportedLanguage",
    "Word",
    "asked",
    "check_mode",
    "loggable",
    "milliseconds",
    "needs",
    "parts",
    "samples",
]
