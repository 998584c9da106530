"""Captions in Deepgram's shapes."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

import streamtrans
from streamtrans.core import SAMPLE_RATE, Caption

_PARAGRAPH_S = 2.0
"""Silence between two paragraphs."""


def about(session_id: str, sha256: str, created: str, model: str) -> dict[str, Any]:
    uid = model_uuid(model)
    return {
        "transaction_key": "deprecated",
        "request_id": str(uuid.UUID(session_id)),
        "sha256": sha256,
        "created": created,
        "models": [uid],
        "model_info": {uid: model_info(model)},
    }


def alternative(captions: Sequence[Caption], joint: str) -> dict[str, Any]:
    """Return the only reading that there is."""
    sure = [word.confidence for caption in captions for word in caption.words]
    sure = sure or [caption.stability for caption in captions]
    return {
        "transcript": joint.join(" ".join(caption.text.split()) for caption in captions),
        "confidence": sum(sure) / len(sure) if sure else 0.0,
        "languages": list(dict.fromkeys(caption.language for caption in captions)),
        "words": [word for caption in captions for word in words(caption)],
    }


def words(caption: Caption) -> list[dict[str, Any]]:
    """Return the words whose times are known."""
    return [
        {
            "word": word.text.strip(".,;:!?…\"'()«»„“”¡¿。，、！？").lower() or word.text,
            "punctuated_word": word.text,
            "start": word.start / SAMPLE_RATE,
            "end": word.end / SAMPLE_RATE,
            "confidence": word.confidence,
            "language": caption.language,
        }
        for word in caption.words
        if word.start is not None and word.end is not None
    ]


def paragraphs(captions: Sequence[Caption], transcript: str) -> dict[str, Any]:
    """Return the captions as sentences, in paragraphs between which there is a longer silence."""
    groups: list[list[Caption]] = [[caption] for caption in captions[:1]]
    for before, caption in pairwise(captions):
        if (caption.start - before.end) / SAMPLE_RATE < _PARAGRAPH_S:
            groups[-1].append(caption)
        else:
            groups.append([caption])
    return {
        "transcript": transcript,
        "paragraphs": [
            {
                "sentences": [
                    {
                        "text": " ".join(each.text.split()),
                        "start": each.start / SAMPLE_RATE,
                        "end": each.end / SAMPLE_RATE,
                    }
                    for each in group
                ],
                "num_words": sum(len(each.words) for each in group),
                "start": group[0].start / SAMPLE_RATE,
                "end": group[-1].end / SAMPLE_RATE,
            }
            for group in groups
        ],
    }


def model_uuid(model: str) -> str:
    return str(uuid.uuid5(uuid.NAMESPACE_DNS, model))


def model_info(model: str) -> dict[str, str]:
    return {"name": model, "version": streamtrans.__version__, "arch": "streamtrans"}


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
