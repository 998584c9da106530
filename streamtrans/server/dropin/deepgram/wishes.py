"""What the parameters of Deepgram's address ask for."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from multidict import MultiMapping

from streamtrans.server.refusal import invalid, unsupported
from streamtrans.wire import StreamOptions

_ENCODINGS = {"linear16": "pcm_s16le", "linear32": "pcm_f32le", "mulaw": "mulaw", "alaw": "alaw"}
"""Their name → ours."""

_WITHOUT = {
    "callback": "send nothing elsewhere: read the answer here",
    "multichannel": "open a connection for each channel",
    "redact": "take out of the text yourself what nobody may read",
}
"""What changes who reads what, and is refused rather than left out → what to do instead."""

LEAST_SILENCE_MS = 200
"""Shorter ones are within words."""

_NEVER_MS = 600_000
"""Silence that ends nothing."""


@dataclass(frozen=True, slots=True)
class Wish:
    """What the parameters of an address ask for; those of them that only polish a transcript are left out."""

    options: StreamOptions
    encoded: bool = False
    """Whether it is said how the audio is encoded; else it comes in a container."""
    vad_events: bool = False
    utterance_end_ms: int | None = None
    utterances: bool = False
    paragraphs: bool = False

    @classmethod
    def read(cls, query: MultiMapping[str], *, live: bool) -> Wish:
        """Read the parameters.

        Raises:
            Refusal: one is wrong, or asks for what changes who reads what and isn't to be had here.
        """
        for name, instead in _WITHOUT.items():
            if query.get(name, "false").lower() not in ("false", ""):
                raise unsupported(f"{name}: isn't offered here; {instead}")
        language = query.get("language") or None
        targets = tuple(tag.strip() for each in query.getall("to", ()) for tag in each.split(",") if tag.strip())
        if language == "multi" and not targets:
            raise invalid([("language", "is multi, so nothing says what to write; name it, such as to=en")])
        if language is None and not targets:
            language = "en"  # theirs where nothing is said
        source = () if language in (None, "multi") else (str(language),)
        interim = live and _flag(query, "interim_results")
        encoded = live or "encoding" in query
        options = StreamOptions(
            targets or source,
            source_languages=source,
            mode="live" if interim else "final",
            min_silence_ms=_silence(query) if live else None,
            word_times=True,
            **(_format(query) if encoded else {"encoding": "pcm_f32le"}),
        )
        return cls(
            options,
            encoded,
            _flag(query, "vad_events"),
            _number(query, "utterance_end_ms", None),
            _flag(query, "utterances"),
            _flag(query, "paragraphs"),
        )


def _format(query: MultiMapping[str]) -> dict[str, Any]:
    """Return how the audio is encoded."""
    encoding = query.get("encoding", "")
    if encoding not in _ENCODINGS:
        what = f"{encoding!r} isn't decoded" if encoding else "is missing"
        raise invalid([("encoding", f"{what} here; use one of {', '.join(_ENCODINGS)}, with sample_rate")])
    usual = 8_000 if encoding in ("mulaw", "alaw") else None
    rate = _number(query, "sample_rate", usual)
    if rate is None:
        raise invalid([("sample_rate", f"is missing; {encoding} says nothing of it: send sample_rate=16000 or so")])
    channels = _number(query, "channels", 1)
    return {"encoding": _ENCODINGS[encoding], "sample_rate_hertz": rate, "channels": channels}


def _silence(query: MultiMapping[str]) -> int | None:
    """Return how much silence ends an utterance, in ms; ``None``: the server's choice."""
    given = query.get("endpointing", "true").lower()
    if given in ("true", "false"):
        return None if given == "true" else _NEVER_MS
    return LEAST_SILENCE_MS if given == "0" else max(LEAST_SILENCE_MS, _number(query, "endpointing", None) or 0)


def _number(query: MultiMapping[str], name: str, otherwise: int | None) -> int | None:
    given = query.get(name)
    if given is None:
        return otherwise
    try:
        number = float(given)
    except ValueError:
        number = math.nan
    if not 0 < number < 2**31 or number != int(number):
        raise invalid([(name, f"{given!r} is no positive whole number; give one, such as 1000")])
    return int(number)


def _flag(query: MultiMapping[str], name: str) -> bool:
    given = query.get(name, "false").lower()
    if given not in ("true", "false"):
        raise invalid([(name, f"{given!r} is neither true nor false")])
    return given == "true"
