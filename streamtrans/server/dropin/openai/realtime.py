"""Transcription sessions of OpenAI's realtime interface: one item for each segment, one part of it for each language.

What is promised comes as deltas, so they only grow; what is tentative isn't told.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from typing import Any

from streamtrans.core import SAMPLE_RATE, Caption, SpeechEnded, SpeechStarted, milliseconds
from streamtrans.server.dropin.desk import Said
from streamtrans.server.dropin.openai.events import BadEvent, Events, decoded_audio
from streamtrans.server.dropin.openai.shapes import seconds
from streamtrans.server.dropin.sound import Sound
from streamtrans.server.refusal import Refusal, invalid, unsupported
from streamtrans.wire import (
    Frame,
    Reducer,
    ServerMessage,
    StreamOptions,
    config_message,
    end_utterance_message,
    payload_of,
    ping_message,
)

_FORMATS = {"audio/pcm": ("pcm_s16le", 24_000), "audio/pcmu": ("mulaw", 8_000), "audio/pcma": ("alaw", 8_000)}
"""Their name → our encoding and the rate."""

_LEAST_SILENCE_MS, _NEVER_MS = 200, 600_000
"""Shorter silences are within words; so long a one ends nothing."""

_REACH_MS = 1_000
"""So far back from the newest audio speech may yet be found to have begun."""

_TRANSCRIPTION = "conversation.item.input_audio_transcription"


class Realtime:
    """A session; see :class:`~streamtrans.server.dropin.desk.Dialect`.

    Args:
        session_id: ours.
        intent: what the address says.
        most_ms: how old it may get.
    """

    def __init__(self, session_id: str, intent: str, most_ms: int) -> None:
        self._session_id = session_id
        self._intent = intent
        self._expires_at = round(time.time() + most_ms / 1000)
        self._input: dict[str, Any] = {
            "format": {"type": "audio/pcm", "rate": 24_000},
            "noise_reduction": None,
            "transcription": None,
            "turn_detection": {"type": "server_vad", "silence_duration_ms": 500},
        }
        self._options: StreamOptions | None = None
        """Once the call was opened with them."""
        self._targets: tuple[str, ...] = ()
        self._reducer = Reducer()
        self._event = Events()
        self._sound: Sound | None = None
        self._appended = False
        """Whether audio came since what was committed last."""
        self._last_item: str | None = None
        self._committed_ms: int | None = None
        """Where the client committed, until it is told what that was."""
        self._unfinished: dict[int, int] = {}
        """Segment that was begun → languages in which it isn't final yet."""

    def opening(self) -> Iterator[Said]:
        """Yield that there is a session."""
        if self._intent != "transcription":
            raise unsupported("intent: only transcription is offered here: connect with ?intent=transcription")
        yield self._event("session.created", session=self._session())

    def heard(self, frame: Frame) -> Iterator[Said]:
        """Return what an event asks for, or why it can't be followed."""
        return self._event.answered(frame, self._follow)

    def idle(self) -> Iterator[Said]:
        """Yield the question how far it is heard where the client waits for what it committed: it may be silence."""
        if self._committed_ms is not None:
            yield ping_message(self._committed_ms)

    def told(self, message: ServerMessage) -> Iterator[str]:
        """Yield the events that a message is for this client."""
        kind = payload_of(message)
        if kind == "started":
            self._targets = tuple(target.language for target in message.started.config.targets)
        elif kind == "pong" and message.pong.client_time_ms == self._committed_ms and not self._unfinished:
            yield from self._silence(message.cursors.final_ms)
        event = self._reducer.reduce(message)
        if isinstance(event, Caption):
            yield from self._caption(event, message.caption.committed_append)
        elif isinstance(event, SpeechStarted):
            self._unfinished[event.segment] = len(self._targets)
            if self._input["turn_detection"]:
                at = {"audio_start_ms": milliseconds(event.start), "item_id": self._item(event.segment)}
                yield self._event("input_audio_buffer.speech_started", **at)
        elif isinstance(event, SpeechEnded):
            item = self._item(event.segment)
            if self._input["turn_detection"]:
                yield self._event(
                    "input_audio_buffer.speech_stopped", audio_end_ms=milliseconds(event.end), item_id=item
                )
            yield self._committed(item)

    def parting(self, refusal: Refusal) -> Iterator[str]:
        """Yield why the session ends."""
        yield self._event.refused(refusal)

    def _follow(self, event: Mapping[str, Any]) -> Iterator[Said]:
        kind = event.get("type")
        if kind == "session.update":
            self._update(event.get("session"))
            yield self._event("session.updated", session=self._session())
            if self._options is None and self._input["transcription"]:
                yield self._open()
        elif kind == "input_audio_buffer.append":
            data = decoded_audio(event)
            if self._sound is None:
                yield self._open()
            assert self._sound is not None, "the call is opened first"
            self._appended = self._appended or bool(data)
            yield from self._sound.take(data)
        elif kind == "input_audio_buffer.commit":
            if self._sound is None or not self._appended:
                raise BadEvent("nothing was appended since the last commit, so there is nothing to commit")
            self._appended = False
            self._committed_ms = int(self._sound.heard_ms)
            yield end_utterance_message()
        else:
            known = "session.update, input_audio_buffer.append or input_audio_buffer.commit"
            raise BadEvent(f"{kind!r} isn't taken here; send one of {known}", "type")

    def _update(self, session: Any) -> None:
        """Take over what ``session`` names; the rest stays."""
        given = session.get("audio", {}) if isinstance(session, dict) else None
        given = given.get("input", {}) if isinstance(given, dict) else None
        if not isinstance(given, dict) or not isinstance(session, dict) or session.get("type") != "transcription":
            example = '{"type": "transcription", "audio": {"input": {"transcription": {"language": "en"}}}}'
            raise BadEvent(f"the session is no transcription session; send one such as {example}", "session")
        changed = self._input | {name: value for name, value in given.items() if name in self._input}
        try:
            options = _options(changed) if changed["transcription"] else None
        except Refusal as refusal:
            raise BadEvent(refusal.message, "session") from refusal
        if self._options not in (None, options):
            raise BadEvent(
                "audio, languages and turns stay as they are once a session is begun; connect anew", "session"
            )
        self._input = changed

    def _open(self) -> Said:
        """Return the configuration of the call."""
        self._options = _options(self._input)
        self._sound = Sound(self._options)
        return config_message(self._options)

    def _caption(self, caption: Caption, added: str) -> Iterator[str]:
        place = {"item_id": self._item(caption.segment), "content_index": self._targets.index(caption.language)}
        if added:
            yield self._event(f"{_TRANSCRIPTION}.delta", **place, delta=added)
        if caption.final:
            used = seconds((caption.end - caption.start) / SAMPLE_RATE)
            yield self._event(f"{_TRANSCRIPTION}.completed", **place, transcript=caption.text, usage=used)
            self._unfinished[caption.segment] = self._unfinished.get(caption.segment, 1) - 1
            if self._unfinished[caption.segment] <= 0:
                del self._unfinished[caption.segment]

    def _silence(self, final_ms: int) -> Iterator[str]:
        """Yield that nothing was said in what was committed, once all of it is heard."""
        assert self._committed_ms is not None, "there is nothing to answer"
        if final_ms < self._committed_ms - _REACH_MS:
            return
        item = f"item_{self._session_id[:16]}_until_{self._committed_ms}"
        yield self._committed(item)
        for index in range(len(self._targets)):
            place = {"item_id": item, "content_index": index}
            yield self._event(f"{_TRANSCRIPTION}.completed", **place, transcript="", usage=seconds(0))

    def _committed(self, item: str) -> str:
        before, self._last_item, self._committed_ms = self._last_item, item, None
        return self._event("input_audio_buffer.committed", item_id=item, previous_item_id=before)

    def _item(self, segment: int) -> str:
        return f"item_{self._session_id[:16]}_{segment}"

    def _session(self) -> dict[str, Any]:
        return {
            "id": f"sess_{self._session_id}",
            "object": "realtime.transcription_session",
            "type": "transcription",
            "expires_at": self._expires_at,
            "audio": {"input": self._input},
            "include": None,
        }


def _options(given: Mapping[str, Any]) -> StreamOptions:
    """Return what a session asks for.

    Raises:
        Refusal: something in it is wrong, or missing.
    """
    form, transcription = given["format"], given["transcription"] or {}
    kind = form.get("type") if isinstance(form, dict) else None
    if not isinstance(kind, str) or kind not in _FORMATS:
        raise invalid([("audio.input.format", f"use one of the types {', '.join(_FORMATS)}")])
    encoding, rate = _FORMATS[kind]
    if form.get("rate", rate) != rate:
        raise invalid([("audio.input.format.rate", f"is {form['rate']!r}; {kind} has {rate}")])
    source = _texts(transcription, "language") or _texts(transcription, "languages")
    targets = _texts(transcription, "to") or (source if len(source) == 1 else ())
    if not targets:
        path = "audio.input.transcription.language"
        raise invalid([(path, "is missing; this server doesn't find out what is spoken: say it, such as en")])
    return StreamOptions(
        targets,
        encoding=encoding,
        sample_rate_hertz=rate,
        source_languages=source,
        mode="stable",
        min_silence_ms=_silence(given["turn_detection"]),
    )


def _texts(transcription: Any, name: str) -> tuple[str, ...]:
    """Return one text or several."""
    path = f"audio.input.transcription.{name}"
    if not isinstance(transcription, dict):
        raise invalid([("audio.input.transcription", 'is no object; send one such as {"language": "en"}')])
    value = transcription.get(name) or ()
    values = (value,) if isinstance(value, str) else value
    if not isinstance(values, list | tuple) or not all(isinstance(each, str) for each in values):
        raise invalid([(path, f"{value!r} is no language; send one such as de, or a list of them")])
    return tuple(values)


def _silence(turns: Any) -> int | None:
    """Return how much silence ends a turn, in ms; ``None``: the server's choice."""
    if turns is None:
        return _NEVER_MS
    given = turns.get("silence_duration_ms") if isinstance(turns, dict) else None
    if given is not None and (isinstance(given, bool) or not isinstance(given, int) or not 0 <= given < 2**31):
        raise invalid([("audio.input.turn_detection.silence_duration_ms", f"{given!r} is no whole number of ms")])
    return None if given is None else max(_LEAST_SILENCE_MS, given)
