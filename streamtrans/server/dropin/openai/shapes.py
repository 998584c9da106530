"""Captions and refusals in OpenAI's shapes."""

from __future__ import annotations

import math
import re
import zlib
from collections.abc import Sequence
from typing import Any

import grpc

from streamtrans.core import SAMPLE_RATE, Caption
from streamtrans.server.refusal import Refusal
from streamtrans.text import display_name

_KINDS = {
    grpc.StatusCode.UNAUTHENTICATED: ("authentication_error", "invalid_api_key"),
    grpc.StatusCode.PERMISSION_DENIED: ("permission_error", "insufficient_permissions"),
    grpc.StatusCode.RESOURCE_EXHAUSTED: ("rate_limit_error", "rate_limit_exceeded"),
    grpc.StatusCode.UNAVAILABLE: ("server_error", "server_unavailable"),
    grpc.StatusCode.INTERNAL: ("server_error", "server_error"),
    grpc.StatusCode.UNIMPLEMENTED: ("invalid_request_error", "unsupported_value"),
}
"""Status → type and code of an error; others are an ``invalid_request_error`` with ``invalid_value``."""

_LANGUAGE = re.compile(r"(targets|source_languages)\[\d+\](\.language)?$")


def error(refusal: Refusal) -> dict[str, Any]:
    """Return what is said of a refusal."""
    kind, code = _KINDS.get(refusal.code, ("invalid_request_error", "invalid_value"))
    path, colon, _ = refusal.message.partition(": ")
    param = path if colon and " " not in path else None
    if param is not None and _LANGUAGE.match(param):
        param = "language"
    return {"message": refusal.message, "type": kind, "param": param, "code": code}


def verbose(captions: Sequence[Caption], language: str, duration_s: float, text: str) -> dict[str, Any]:
    """Return a text with its segments, as ``verbose_json`` has it.

    ``tokens`` are left empty, and a segment is what the detector took for speech.
    """
    return {
        "language": display_name(language).lower(),
        "duration": duration_s,
        "text": text,
        "segments": [_segment(number, caption) for number, caption in enumerate(captions)],
    }


def words(captions: Sequence[Caption]) -> list[dict[str, Any]]:
    """Return the words whose times are known."""
    return [
        {"word": word.text, "start": word.start / SAMPLE_RATE, "end": word.end / SAMPLE_RATE}
        for caption in captions
        for word in caption.words
        if word.start is not None and word.end is not None
    ]


def seconds(duration_s: float) -> dict[str, Any]:
    """Return the usage of what was heard."""
    return {"type": "duration", "seconds": math.ceil(duration_s)}


def _segment(number: int, caption: Caption) -> dict[str, Any]:
    text = " ".join(caption.text.split())
    data = text.encode()
    sure = [math.log(word.confidence) for word in caption.words if word.confidence > 0]
    return {
        "id": number,
        "seek": 0,
        "start": caption.start / SAMPLE_RATE,
        "end": caption.end / SAMPLE_RATE,
        "text": text,
        "tokens": [],
        "temperature": 0.0,
        "avg_logprob": sum(sure) / len(sure) if sure else 0.0,
        "compression_ratio": len(data) / len(zlib.compress(data)),
        "no_speech_prob": 0.0,
    }
