"""Nouns without verbs: the values that rooms hand to each other.

Law: nothing here acts, and nothing here imports more than the standard library.
"""

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
    Hypothesis,
    Job,
    Reading,
    Request,
    StateHandle,
    Target,
    Tokens,
)

__all__ = [
    "SAMPLE_RATE",
    "AudioTooLong",
    "BadAnswer",
    "BadAudio",
    "BadConfig",
    "BadModel",
    "Caption",
    "DecodeStats",
    "Detect",
    "Detection",
    "EngineClosed",
    "EngineLike",
    "Event",
    "Health",
    "Hypothesis",
    "Job",
    "Lost",
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
    "loggable",
    "milliseconds",
    "needs",
    "samples",
]
