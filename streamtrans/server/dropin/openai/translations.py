"""Translation sessions of OpenAI's realtime interface: texts that only grow, of what is said and of what it means.

Nothing is spoken: there are transcripts, and no audio comes back.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from typing import Any

from streamtrans.core import Caption, UnsupportedLanguage, milliseconds
from streamtrans.server.dropin.desk import Said
from streamtrans.server.dropin.openai.events import BadEvent, Events, decoded_audio, part
from streamtrans.server.dropin.sound import Sound
from streamtrans.server.refusal import Refusal, invalid
from streamtrans.text import written
from streamtrans.wire import (
    Frame,
    Reducer,
    ServerMessage,
    StreamOptions,
    config_message,
    end_message,
    payload_of,
    update_message,
)

_SPOKEN = "session.audio.input.transcription"

_FRAME_MS = 200
"""Times are multiples of it."""


class Translations:
    """A session; see :class:`~streamtrans.server.dropin.desk.Dialect`.

    Args:
        session_id: ours.
        model: what the address says.
        most_ms: how old it may get.
    """

    def __init__(self, session_id: str, model: str, most_ms: int) -> None:
        self._about = {
            "id": f"sess_{session_id}",
            "type": "translation",
            "model": model,
            "expires_at": round(time.time() + most_ms / 1000),
        }
        self._language: str | None = None
        """What is to be written."""
        self._transcription: dict[str, Any] | None = None
        self._sound: Sound | None = None
        """Once the call was opened."""
        self._source: tuple[str, ...] = ()
        self._asked = 0
        self._updates: dict[int, tuple[str | None, dict[str, Any] | None]] = {}
        """Number of a change that isn't answered yet → what holds if it is refused."""
        self._at_ms = 0
        self._event = Events()
        self._reducer = Reducer()
        self._lines: dict[str, _Line] = {}
        self._unspaced: frozenset[str] = frozenset()

    def opening(self) -> Iterator[Said]:
        """Yield that there is a session."""
        yield self._event("session.created", session=self._session())

    def heard(self, frame: Frame) -> Iterator[Said]:
        """Return what an event asks for, or why it can't be followed."""
        return self._event.answered(frame, self._follow)

    def idle(self) -> Iterator[Said]:
        """Yield nothing."""
        return iter(())

    def told(self, message: ServerMessage) -> Iterator[str]:
        """Yield the events that a message is for this client."""
        kind = payload_of(message)
        if kind == "started":
            self._unspaced = frozenset(message.started.unspaced_languages)
        elif kind == "config_applied":
            self._updates.pop(message.config_applied.update_id)
            yield self._event("session.updated", session=self._session())
        elif kind == "config_rejected":
            self._language, self._transcription = self._updates.pop(message.config_rejected.update_id)
            yield self._event.refused(invalid([("audio.output.language", message.config_rejected.message)]))
        elif kind == "summary":
            yield self._event("session.closed")
        event = self._reducer.reduce(message)
        if isinstance(event, Caption):
            yield from self._deltas(event, message.caption.committed_append)

    def parting(self, refusal: Refusal) -> Iterator[str]:
        """Yield why the session ends."""
        yield self._event.refused(refusal)

    def _follow(self, event: Mapping[str, Any]) -> Iterator[Said]:
        kind = event.get("type")
        if kind == "session.update":
            yield from self._update(event)
        elif kind == "session.input_audio_buffer.append":
            data = decoded_audio(event)
            if self._sound is None:
                yield self._open()
            assert self._sound is not None, "the call is opened first"
            yield from self._sound.take(data)
        elif kind == "session.close":
            if self._sound is None:
                yield self._open()
            assert self._sound is not None, "the call is opened first"
            yield end_message(self._sound.sequence)
        else:
            known = "session.update, session.input_audio_buffer.append or session.close"
            raise BadEvent(f"{kind!r} isn't taken here; send one of {known}", "type")

    def _update(self, event: Mapping[str, Any]) -> Iterator[Said]:
        """Yield what changes with what the session of ``event`` names; the rest stays."""
        before, held = self._targets, (self._language, self._transcription)
        output, given = part(event, "session", "audio", "output"), part(event, "session", "audio", "input")
        language, transcription = self._language, self._transcription
        if "language" in output:
            language = _code(output["language"], "session.audio.output.language")
        if "transcription" in given:
            transcription = _spoken(given["transcription"])
        if self._sound is not None and transcription and self._source not in ((), (transcription["language"],)):
            raise BadEvent("what is spoken stays as it is once it is known; connect anew", _SPOKEN)
        self._language, self._transcription = language, transcription
        if self._sound is None:
            yield self._event("session.updated", session=self._session())
            if language is not None:
                yield self._open()
            return
        self._asked += 1
        self._updates[self._asked] = held
        added = [each for each in self._targets if each not in before]
        yield update_message(self._asked, added, [each for each in before if each not in self._targets])

    @property
    def _targets(self) -> tuple[str, ...]:
        """The languages that are written."""
        spoken = () if self._transcription is None else (str(self._transcription["language"]),)
        output = () if self._language is None else (self._language,)
        return tuple(dict.fromkeys((*output, *spoken)))

    def _open(self) -> Said:
        """Return the configuration of the call.

        Raises:
            Refusal: nothing says what to write.
        """
        if self._language is None:
            raise invalid([("audio.output.language", "is missing; say what is to be written, such as de")])
        if self._transcription is not None:
            self._source = (str(self._transcription["language"]),)
        options = StreamOptions(self._targets, sample_rate_hertz=24_000, source_languages=self._source, mode="stable")
        self._sound = Sound(options)
        return config_message(options)

    def _deltas(self, caption: Caption, added: str) -> Iterator[str]:
        """Yield what a caption adds, segment after segment."""
        line = self._lines.setdefault(caption.language, _Line("" if caption.language in self._unspaced else " "))
        text = line.add(caption.segment, added, final=caption.final)
        if not text:
            return
        # What closes a segment ends before the silence after it, which has been heard already.
        at_ms = self._at_ms = max(self._at_ms, milliseconds(caption.heard) // _FRAME_MS * _FRAME_MS)
        if caption.language == self._language:
            yield self._event("session.output_transcript.delta", delta=text, elapsed_ms=at_ms)
        else:
            yield self._event("session.input_transcript.delta", delta=text, elapsed_ms=at_ms)

    def _session(self) -> dict[str, Any]:
        given = {"noise_reduction": None, "transcription": self._transcription}
        return {**self._about, "audio": {"input": given, "output": {"language": self._language}}}


class _Line:
    """The text of one language, segment after segment, though the next may have begun before one is done.

    Args:
        joint: what stands between two segments.
    """

    def __init__(self, joint: str) -> None:
        self._joint = joint
        self._segment: int | None = None
        """Which is being told."""
        self._waiting: dict[int, tuple[str, bool]] = {}
        """Segment → what of it isn't told yet, and whether that is all."""
        self._said = False
        self._inside = False

    def add(self, segment: int, added: str, *, final: bool) -> str:
        """Take what is added to a segment, and return what may be told now."""
        if self._segment is None:
            self._segment = segment
        self._waiting[segment] = (self._waiting.get(segment, ("", False))[0] + added, final)
        told = ""
        while self._segment in self._waiting:
            text, done = self._waiting.pop(self._segment)
            if text:
                told += text if self._inside or not self._said else self._joint + text
                self._said = self._inside = True
            if not done:
                break
            self._segment, self._inside = self._segment + 1, False
        return told


def _code(language: Any, param: str) -> str | None:
    """Return a language as captions call it."""
    if not isinstance(language, str | None):
        raise BadEvent(f"{language!r} is no language; send one such as de", param)
    try:
        return None if language is None else written(language)
    except UnsupportedLanguage as problem:
        raise BadEvent(str(problem), param) from problem


def _spoken(transcription: Any) -> dict[str, Any] | None:
    """Return what is said of a transcript, with its language as captions call it."""
    if transcription is None:
        return None
    if not isinstance(transcription, dict):
        raise BadEvent('it is no object; send one such as {"language": "en"}', _SPOKEN)
    language = _code(transcription.get("language") or None, _SPOKEN)
    if language is None:
        problem = "language is missing: this server doesn't find out what is spoken; say it, such as en"
        raise BadEvent(problem, _SPOKEN)
    return {**transcription, "language": language}
