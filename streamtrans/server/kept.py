"""What a store holds of a stream: all that another server needs to go on with it, and no audio.

Law: a client that goes on elsewhere holds, once it has caught up, what it would hold had nothing broken: of what was
told it gets nothing twice, and of what wasn't it misses nothing.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import secrets
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Self

from google.protobuf.message import DecodeError

from streamtrans.core import BadConfig, Caption, Event, SpeechEnded, SpeechStarted, StreamtransError
from streamtrans.foreign.values import BadValue, typed
from streamtrans.stream import Memory, Spellers, spelling
from streamtrans.wire import ClientMessage, Summary

_VERSION = 1

FORGOTTEN = b"forgotten"
"""What a store holds of a stream that was deleted, until it would have aged out: nobody who had it writes it again."""

Told = Mapping[object, int]
"""Key of an event, see :func:`key_of`, → number of the response that told it."""


class NotOurs(StreamtransError):
    """What a store gave is nothing that a server like this one wrote."""


@dataclass(slots=True)
class Said:
    """What was said of one segment so far."""

    started: SpeechStarted
    ended: SpeechEnded | None
    captions: dict[str, Caption]

    @property
    def finished(self) -> bool:
        """Whether all is said; the finals of segments come in order, and those of one segment before the next one's."""
        captions = self.captions.values()
        return self.ended is not None and bool(captions) and all(caption.final for caption in captions)

    @property
    def events(self) -> list[Event]:
        """All of it, in order."""
        ended = [] if self.ended is None else [self.ended]
        return [self.started, *ended, *self.captions.values()]


@dataclass(frozen=True, slots=True)
class KeptSaid:
    """What was said of one segment, and under which numbers the client was told; 0: not yet."""

    started: SpeechStarted
    started_at: int
    ended: SpeechEnded | None
    ended_at: int
    captions: tuple[Caption, ...]
    told_at: tuple[int, ...]
    """Of each caption that is final."""

    @classmethod
    def of(cls, said: Said, told: Told) -> Self:
        """Return what is to be kept: what was only believed is not."""
        captions = tuple(replace(each, tentative="", words=(), moved="") for each in said.captions.values())
        return cls(
            said.started,
            told.get(key_of(said.started), 0),
            said.ended,
            0 if said.ended is None else told.get(key_of(said.ended), 0),
            captions,
            tuple(told.get(key_of(each), 0) if each.final else 0 for each in captions),
        )

    @property
    def said(self) -> Said:
        """For a hub that goes on."""
        return Said(self.started, self.ended, {caption.language: caption for caption in self.captions})

    @property
    def told(self) -> dict[object, int]:
        """For a reader that goes on."""
        numbers = {key_of(self.started): self.started_at}
        if self.ended is not None:
            numbers[key_of(self.ended)] = self.ended_at
        numbers |= {key_of(each): at for each, at in zip(self.captions, self.told_at, strict=True)}
        return {key: at for key, at in numbers.items() if at}


@dataclass(frozen=True, slots=True)
class Kept:
    """One stream; times are in milliseconds since 1970."""

    version: int
    session_id: str
    config: str
    """``SessionConfig`` of the protocol as it is in effect, in base64."""
    memory: Memory
    said: tuple[KeptSaid, ...]
    forgotten_at: int
    """Number of the newest response of which nothing is kept here."""
    sequence: int
    """Of the last message whose audio needn't be sent again."""
    frames: int
    """Of audio, up to that message."""
    heard: int
    """Of the last message that was heard."""
    began_ms: int
    captions: int
    finals: int
    withdrawn: int

    @classmethod
    def read(cls, data: bytes) -> Kept:
        """Return what ``data`` holds.

        Raises:
            NotOurs: that is nothing of ours, or of another version.
        """
        try:
            kept: Kept = typed(cls, json.loads(data), "stream")
            if kept.version != _VERSION:
                raise NotOurs(f"it is of version {kept.version}, and this is {_VERSION}")
            if any(len(each.captions) != len(each.told_at) for each in kept.said):
                raise NotOurs("its captions and their numbers don't match")
            kept.opening()
        except (DecodeError, BadConfig, BadValue, ValueError, RecursionError) as error:
            raise NotOurs(str(error)) from error
        return kept

    def opening(self) -> ClientMessage:
        """Return the message that would open the stream as it is now."""
        message = ClientMessage()
        message.config.ParseFromString(base64.b64decode(self.config, validate=True))
        return message

    def check(self, spellers: Spellers) -> None:
        """See to it that the kept tokens spell the kept text.

        Raises:
            NotOurs: they don't, so another model wrote them.
        """
        shown = {(e.segment, e.language): e.committed for said in self.said for e in said.captions}
        sources = self.opening().config.source_languages
        source = sources[0] if len(sources) == 1 else None
        for segment in self.memory.pending:
            for line in segment.lines:
                if line.hidden or not line.tokens:
                    continue
                text = spelling(spellers, line.language, source).decode(line.tokens)
                if text != shown.get((segment.number, line.language), ""):
                    raise NotOurs("its tokens don't spell its text: another model wrote them")

    @property
    def told(self) -> Summary:
        """What the client was told, all in all."""
        return Summary(captions=self.captions, finals=self.finals, withdrawn=self.withdrawn)

    def packed(self) -> bytes:
        """Return the bytes that :meth:`read` takes."""
        return json.dumps(asdict(self), ensure_ascii=False, separators=(",", ":")).encode()


def kept(
    *,
    session_id: str,
    config: bytes,
    memory: Memory,
    said: tuple[KeptSaid, ...],
    forgotten_at: int,
    place: tuple[int, int],
    heard: int,
    began_ms: int,
    told: Summary,
) -> Kept:
    """Put together what is kept; ``place`` is the number of a message, and the frames of audio up to it."""
    return Kept(
        version=_VERSION,
        session_id=session_id,
        config=base64.b64encode(config).decode(),
        memory=memory,
        said=said,
        forgotten_at=forgotten_at,
        sequence=place[0],
        frames=place[1],
        heard=heard,
        began_ms=began_ms,
        captions=told.captions,
        finals=told.finals,
        withdrawn=told.withdrawn,
    )


def key_of(event: Event) -> object:
    """Return what names ``event`` for good: the captions of a line share a name."""
    if isinstance(event, Caption):
        return event.segment, event.language
    return ("started" if isinstance(event, SpeechStarted) else "ended"), event.segment


def name_of(token: str, holder: str, model: str) -> str:
    """Return the name under which a store keeps a stream: nobody gets back from it to the token.

    Who has another key, or serves another model, looks under another name, and disturbs nobody.
    """
    return hashlib.sha256("\0".join((token, holder, model)).encode()).hexdigest()


def new_token() -> str:
    """Return the right to go on with a stream: nobody can guess it, nor find it by the id of the session."""
    return secrets.token_urlsafe(24)


def session_of(token: str) -> str:
    """Return the id of the session of ``token``: whoever has the token has named all that is kept under the id."""
    return hashlib.sha256(f"session {token}".encode()).hexdigest()[:32]


def viewer_token(token: str) -> str:
    """Return what opens the stream of ``token`` for viewers, on every server; nobody gets back from it either."""
    return base64.urlsafe_b64encode(hmac.digest(token.encode(), b"streamtrans viewer", "sha256")[:24]).decode()
