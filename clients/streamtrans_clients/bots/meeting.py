"""People who speak in somebody else's meeting or call, each with a stream and languages of their own.

Law: captions of all of them are those of one recording, the meeting: every segment of everybody has a number of its
own, and times count from the first sound that anybody made.
"""

from __future__ import annotations

import asyncio
import time
from bisect import bisect_left
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from types import TracebackType
from typing import Self

from streamtrans.client import (
    Caption,
    ConfigRejected,
    Notice,
    Started,
    StreamEvent,
    StreamOptions,
    TranslationClient,
)
from streamtrans_clients.bots.speaker import SpeakerStream, Trouble, bytes_per_s
from streamtrans_clients.options import explained

_RATE = 16_000
"""Samples per second of a caption's times."""

_GAP_S = 0.5
"""Sound that comes later than this after what came before belongs later; what the network holds up is shorter."""

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
    offset: int = 0
    """Of the sound that was taken from them, what came before the stream that is open, in samples."""
    came: list[tuple[int, int]] = field(default_factory=list)
    """Samples of theirs that were taken, and the moment of the meeting then, in samples: where they began to speak, and
    behind each gap, for a microphone that is muted sends nothing."""
    languages: dict[str, str] = field(default_factory=dict)
    """As captions name them → as they were asked for."""
    numbers: dict[int, int] = field(default_factory=dict)
    """Segment of the open stream → its number in the meeting."""

    def came_at(self, taken: int, moment: int) -> None:
        """Learn when the next sound came, behind ``taken`` samples."""
        if not self.came or moment - self.came[-1][1] > taken - self.came[-1][0] + _GAP_S * _RATE:
            self.came.append((taken, moment))

    def later(self, taken: int) -> int:
        """Return how much is to be added to a time of the open stream, for what ends at ``taken`` samples."""
        within = taken - _RATE // 20  # ends are rounded; what begins behind a gap is longer than this
        began, moment = self.came[max(0, bisect_left(self.came, (within, 0)) - 1)]
        return self.offset + moment - began


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
        taken = round(speaker.stream.heard * _RATE / bytes_per_s(options))
        if speaker.stream.hear(sound):
            speaker.came_at(taken, round(self.seconds * _RATE))

    async def leave(self, who: str) -> None:
        """Let somebody go, once their last captions have come."""
        speaker = self._speakers.pop(who, None)  # who comes back while the last ones come is somebody new
        if speaker is not None and speaker.stream is not None:
            await speaker.stream.close()

    def _joined(self, speaker: Speaker) -> Speaker:
        async def show(event: StreamEvent) -> None:
            await self._heed(speaker, event)

        async def fail(error: Trouble) -> None:
            self._note(f"{speaker.name}: {explained(error, self._client.address)}")

        speaker.stream = SpeakerStream(self._client, lambda: speaker.options, show, fail)
        return speaker

    async def _heed(self, speaker: Speaker, event: StreamEvent) -> None:
        match event:
            case Started():
                assert speaker.stream is not None
                speaker.offset = round(speaker.stream.began * _RATE / bytes_per_s(speaker.options))
                speaker.numbers.clear()
                speaker.languages = dict(zip(event.options.targets, speaker.options.targets, strict=False))
            case Caption():
                await self._show(speaker, self._moved(speaker, event))
            case ConfigRejected() | Notice():
                self._note(f"{speaker.name}: {event.message}")
            case _:
                pass

    def _moved(self, speaker: Speaker, caption: Caption) -> Caption:
        if caption.segment not in speaker.numbers:
            speaker.numbers[caption.segment] = self._segments
            self._segments += 1
        later = speaker.later(caption.end + speaker.offset)  # no segment goes on beyond a gap
        return replace(
            caption,
            segment=speaker.numbers[caption.segment],
            language=speaker.languages.get(caption.language, caption.language),
            start=max(0, caption.start + later),
            end=caption.end + later,
            heard=caption.heard + later,
            words=(),  # their times would be another recording's
        )

    def _note(self, sentence: str) -> None:
        if sentence not in self._told:
            self._told.add(sentence)
            self._tell(sentence)
