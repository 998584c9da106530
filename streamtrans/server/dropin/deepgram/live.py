"""Deepgram's live messages, one way and the other."""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Iterator, Mapping
from typing import Any

from multidict import MultiMapping

from streamtrans.core import SAMPLE_RATE, Caption, SpeechStarted, milliseconds
from streamtrans.server.dropin.deepgram.shapes import about, alternative, model_info, model_uuid, now, words
from streamtrans.server.dropin.deepgram.wishes import LEAST_SILENCE_MS, Wish
from streamtrans.server.dropin.desk import Said
from streamtrans.server.dropin.sound import Sound
from streamtrans.server.refusal import Refusal
from streamtrans.wire import (
    Frame,
    Reducer,
    ServerMessage,
    config_message,
    end_message,
    end_utterance_message,
    payload_of,
)


class Live:
    """A live conversation; see :class:`~streamtrans.server.dropin.desk.Dialect`."""

    def __init__(self, session_id: str, query: MultiMapping[str]) -> None:
        self._session_id = session_id
        self._query = query
        self._created = now()
        self._wish: Wish | None = None
        self._targets: tuple[str, ...] = ()
        self._model = ""
        self._reducer = Reducer()
        self._sound: Sound | None = None
        self._digest = hashlib.sha256()
        self._finalized_ms: float | None = None
        """Where the client asked for what is final, until it was told."""
        self._last_word: float | None = None
        """The end of the last word that was said before a silence that goes on, in seconds."""

    def opening(self) -> Iterator[Said]:
        """Yield what the parameters ask for."""
        self._wish = Wish.read(self._query, live=True)
        self._sound = Sound(self._wish.options)
        yield config_message(self._wish.options)

    def heard(self, frame: Frame) -> Iterator[Said]:
        """Yield audio, or what a message asks for."""
        if isinstance(frame, bytes):
            self._digest.update(frame)
            yield from self._heard.take(frame) if frame else [end_message(self._heard.sequence)]
            yield from self._utterance_end()
            return
        try:
            message = json.loads(frame)
            kind = message["type"]
        except (ValueError, TypeError, KeyError, RecursionError):
            kind = None
        if kind == "KeepAlive":
            yield self._heard.silence(1)
        elif kind == "Finalize":
            self._finalized_ms = self._heard.heard_ms
            yield end_utterance_message()
        elif kind == "CloseStream":
            yield end_message(self._heard.sequence)
        elif kind == "Configure":
            yield self._configured(message)
        else:
            known = "KeepAlive, Finalize, CloseStream or Configure"
            yield _frame("Error", variant="SchemaError", description=f"send one of {known}, or audio", message=frame)

    def idle(self) -> Iterator[Said]:
        """Yield nothing."""
        return iter(())

    def told(self, message: ServerMessage) -> Iterator[str]:
        """Yield results, and what else there is to tell."""
        kind = payload_of(message)
        if kind == "started":
            self._targets = tuple(target.language for target in message.started.config.targets)
            self._model = message.started.model
        elif kind == "summary":
            yield self._metadata(message.summary.audio_ms / 1000)
        event = self._reducer.reduce(message)
        if isinstance(event, Caption):
            yield from self._result(event)
            yield from self._utterance_end()
        elif isinstance(event, SpeechStarted):
            self._last_word = None
            if self._asked.vad_events:
                yield _frame("SpeechStarted", channel=[0, len(self._targets)], timestamp=event.start / SAMPLE_RATE)

    def parting(self, refusal: Refusal) -> Iterator[str]:
        """Yield why the call ends."""
        yield _frame("Error", variant=refusal.code.name, description=refusal.message)

    @property
    def _asked(self) -> Wish:
        assert self._wish is not None, "the parameters are read first"
        return self._wish

    @property
    def _heard(self) -> Sound:
        assert self._sound is not None, "the parameters are read first"
        return self._sound

    def _result(self, caption: Caption) -> Iterator[str]:
        if not caption.final and not caption.text.strip():
            return
        finalized = caption.final and self._is_what_was_finalized(caption)
        channel = self._targets.index(caption.language)
        if caption.final and not channel and caption.text.strip():
            said = words(caption)
            self._last_word = said[-1]["end"] if said else caption.end / SAMPLE_RATE
        yield _frame(
            "Results",
            channel_index=[channel, len(self._targets)],
            start=caption.start / SAMPLE_RATE,
            duration=(caption.end - caption.start) / SAMPLE_RATE,
            is_final=caption.final,
            speech_final=caption.final,
            from_finalize=finalized,
            channel={"alternatives": [alternative([caption], " ")]},
            metadata={
                "request_id": str(uuid.UUID(self._session_id)),
                "model_uuid": model_uuid(self._model),
                "model_info": model_info(self._model),
            },
        )

    def _is_what_was_finalized(self, caption: Caption) -> bool:
        """Say whether a caption ends where the client asked for it; of several languages all do."""
        asked = self._finalized_ms
        if asked is None or milliseconds(caption.start) > asked:
            return False
        return milliseconds(caption.heard) + LEAST_SILENCE_MS >= asked

    def _utterance_end(self) -> Iterator[str]:
        """Yield that nothing was said for as long as the client wants to know."""
        wait_ms = self._asked.utterance_end_ms
        if wait_ms is None or self._last_word is None or self._heard.heard_ms < self._last_word * 1000 + wait_ms:
            return
        yield _frame("UtteranceEnd", channel=[0, len(self._targets)], last_word_end=self._last_word)
        self._last_word = None

    def _configured(self, message: Mapping[str, Any]) -> str:
        request_id = str(uuid.UUID(self._session_id))
        if message.get("keyterms"):
            code, why = "CONFIGURE_KEYTERMS_NOT_SUPPORTED", "this server's models take no keyterms"
            return _frame("ConfigureFailure", request_id=request_id, code=code, description=why)
        return _frame("ConfigureSuccess", request_id=request_id)

    def _metadata(self, duration_s: float) -> str:
        return _frame(
            "Metadata",
            **about(self._session_id, self._digest.hexdigest(), self._created, self._model),
            duration=duration_s,
            channels=len(self._targets),
        )


def _frame(kind: str, **fields: Any) -> str:
    return json.dumps({"type": kind, **fields}, ensure_ascii=False)
