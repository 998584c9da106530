"""People who speak in somebody else's meeting or call, each with a stream and languages of their own.

Law: captions of all of them are those of one recording, the meeting: every segment of everybody has a number of its
own, and times count from the first sound that anybody made.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from types import TracebackType
from typing import Self

from streamtrans.client import (
    Caption,
    ClientError,
    ConfigRejected,
    Notice,
    Started,
    StreamEvent,
    StreamOptions,
    Summary,
    TranslationClient,
)
from streamtrans_clients.bots.speaker import BehindError, SpeakerStream
from streamtrans_clients.options import explained

_RATE = 16_000
"""Samples per second of a caption's times."""

_MOST = 500
"""Who speak in a meeting: more is a caller that has gone wrong."""

Show = Callable[["Speaker", Caption], Awaitable[None]]
"""Takes who said something, and what is read of it so far."""


@dataclass(slots=True)
class Speaker:
    """Somebody in a meeting: what identifies them, how they are called, what is written of what they say."""

    who: str
    name: str
    options: StreamOptions
    stream: SpeakerStream | None = None
    began: float | None = None
    """When the first sound of the stream came, that is or is to be open; seconds since the meeting began."""
    offset: int = 0
    """That moment, in samples, for the stream that is open."""
    languages: dict[str, str] = field(default_factory=dict)
    """As captions name them → as they were asked for."""
    numbers: dict[int, int] = field(default_factory=dict)
    """Segment of the open stream → its number in the meeting."""


class Meeting:
    """Hears who speaks; an asynchronous context manager, which awaits the last captions.

    Args:
        client: the way to the server.
        show: awaited with every caption, in order for each speaker.
        tell: takes a sentence where something is wrong.
    """

    def __init__(self, client: TranslationClient, show: Show, tell: Callable[[str], None]) -> None:
        self._client = client
        self._show = show
        self._tell = tell
        self._speakers: dict[str, Speaker] = {}
        self._began: float | None = None
        self.epoch = time.time()
        """When the first sound came, in seconds of the world's clock."""
        self._segments = 0
        self._told: set[str] = set()

    async def __aenter__(self) -> Self:
        """Begin; nobody is there yet."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Await the last captions of everybody."""
        await asyncio.gather(*(self.leave(who) for who in list(self._speakers)))

    @property
    def seconds(self) -> float:
        """How long it has lasted, since the first sound."""
        return 0.0 if self._began is None else time.monotonic() - self._began

    async def hear(self, who: str, name: str, options: StreamOptions, sound: bytes) -> None:
        """Take sound of somebody; whoever is new joins, and languages that have changed are changed.

        ``options`` are what is asked of a stream of theirs; the form of the sound is not to change.
        """
        if self._began is None:
            self._began, self.epoch = time.monotonic(), time.time()
        speaker = self._speakers.get(who)
        if speaker is None:
            if len(self._speakers) >= _MOST:
                self._note(f"{_MOST} speak already; {name} isn't heard")
                return
            speaker = self._speakers[who] = self._joined(Speaker(who, name, options))
        speaker.name = name
        assert speaker.stream is not None
        if options != speaker.options:
            speaker.options = options
            await speaker.stream.retarget()
        if speaker.began is None:
            speaker.began = self.seconds
        speaker.stream.hear(sound)

    async def leave(self, who: str) -> None:
        """Let somebody go, once their last captions have come."""
        speaker = self._speakers.get(who)
        if speaker is not None and speaker.stream is not None:
            await speaker.stream.close()
            if self._speakers.get(who) is speaker:
                del self._speakers[who]

    def _joined(self, speaker: Speaker) -> Speaker:
        async def show(event: StreamEvent) -> None:
            await self._heed(speaker, event)

        async def fail(error: ClientError | BehindError) -> None:
            speaker.began = None
            self._note(f"{speaker.name}: {explained(error, self._client.address)}")

        speaker.stream = SpeakerStream(self._client, lambda: speaker.options, show, fail)
        return speaker

    async def _heed(self, speaker: Speaker, event: StreamEvent) -> None:
        match event:
            case Started():
                speaker.offset = round((self.seconds if speaker.began is None else speaker.began) * _RATE)
                speaker.numbers.clear()
                speaker.languages = dict(zip(event.options.targets, speaker.options.targets, strict=False))
            case Caption():
                await self._show(speaker, self._moved(speaker, event))
            case ConfigRejected() | Notice():
                self._note(f"{speaker.name}: {event.message}")
            case Summary():
                speaker.began = None
            case _:
                pass

    def _moved(self, speaker: Speaker, caption: Caption) -> Caption:
        if caption.segment not in speaker.numbers:
            speaker.numbers[caption.segment] = self._segments
            self._segments += 1
        return replace(
            caption,
            segment=speaker.numbers[caption.segment],
            language=speaker.languages.get(caption.language, caption.language),
            start=caption.start + speaker.offset,
            end=caption.end + speaker.offset,
            heard=caption.heard + speaker.offset,
            words=(),  # their times would be another recording's
        )

    def _note(self, sentence: str) -> None:
        if sentence not in self._told:
            self._told.add(sentence)
            self._tell(sentence)
