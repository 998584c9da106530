"""People who talk with each other, each in their own language: who speaks is heard alone, who reads reads their own.

Law: every speaker has a stream of their own, and it writes the languages of all who read, from when they come until
they leave; every caption says who said it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from types import TracebackType
from typing import Self

from streamtrans.client import (
    Caption,
    ConfigRejected,
    Started,
    StreamEvent,
    StreamOptions,
    TranslationClient,
)
from streamtrans_clients.bots.speaker import SpeakerStream, Trouble
from streamtrans_clients.options import explained


class RoomError(Exception):
    """Somebody asked for what the room can't give; the message says what it can."""


@dataclass(frozen=True, slots=True)
class Line:
    """A caption of somebody's, and who is to see it."""

    key: str
    """The same for all readings of one segment in one language, and of no other, in whatever stream."""
    who: str
    name: str
    caption: Caption
    readers: tuple[str, ...]
    """Those who read its language."""
    everybody: bool
    """Whether its language was asked for on behalf of all."""


@dataclass(slots=True)
class _Person:
    name: str
    reads: str | None = None
    stream: SpeakerStream | None = None
    session: str = ""
    shown: set[tuple[int, str]] = field(default_factory=set)
    """Segments and languages of which something is seen that isn't final."""
    leaving: bool = False
    """Whether only their last captions are awaited; who comes back meanwhile is somebody new."""


class Room:
    """Who is there, what each reads, and a stream for each who speaks; an async context manager.

    Args:
        client: the way to the server.
        options: the form of the sound, what is spoken, and as targets what everybody reads; there may be none.
        show: awaited with every caption.
        tell: awaited with a sentence where something is wrong.
    """

    def __init__(
        self,
        client: TranslationClient,
        options: StreamOptions,
        show: Callable[[Line], Awaitable[None]],
        tell: Callable[[str], Awaitable[None]],
    ) -> None:
        self._client = client
        self._base = options
        self._show = show
        self._tell = tell
        self._people: dict[str, _Person] = {}

    async def __aenter__(self) -> Self:
        """Open it; nobody is there yet."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Await the last captions of all who speak."""
        await asyncio.gather(*(self.leave(who) for who in list(self._people)))

    def enter(self, who: str, name: str) -> None:
        """Let somebody in who speaks, or take down another name of theirs."""
        person = self._people.get(who)
        if person is None or person.leaving:
            person = self._people[who] = _Person(name)
        person.name = name

    async def join(self, who: str, name: str, reads: str | None = None) -> None:
        """Let somebody in who reads, or take down another name or language of theirs.

        Raises:
            RoomError: the server doesn't write that language, or no more of them; the message names those that it does.
            ClientError: the server refused, or there is none.
        """
        if reads is not None:
            served = await self._client.capabilities()
            if reads not in served.languages:
                raise RoomError(f"there are no captions in {reads!r}; there are some in {', '.join(served.languages)}")
            written = self._written(without=who)
            if reads not in written and len(written) >= served.limits.max_targets:
                raise RoomError(f"no more languages than {', '.join(written)} can be written here; read one of those")
        self.enter(who, name)
        self._people[who].reads = reads
        await self._retarget()

    async def leave(self, who: str) -> None:
        """Let somebody go, once the last captions of theirs have come; who isn't there may go too."""
        if (person := self._people.get(who)) is None:
            return
        person.leaving = True
        try:
            if person.stream is not None:
                await person.stream.close()
        finally:
            if self._people.get(who) is person:
                del self._people[who]
        await self._retarget()

    def hear(self, who: str, sound: bytes) -> None:
        """Take sound of somebody who is there; others aren't heard, and nobody is while nobody reads."""
        if (person := self._people.get(who)) is None or not self.options.targets:
            return
        if person.stream is None:
            person.stream = SpeakerStream(self._client, lambda: self.options, *self._listeners(who, person))
        person.stream.hear(sound)

    @property
    def options(self) -> StreamOptions:
        """What is asked of every stream now."""
        return replace(self._base, targets=self._written())

    def _written(self, without: str | None = None) -> tuple[str, ...]:
        read = [person.reads for who, person in self._people.items() if person.reads is not None and who != without]
        return tuple(dict.fromkeys((*self._base.targets, *read)))

    async def _retarget(self) -> None:
        streams = [person.stream for person in self._people.values() if person.stream is not None]
        await asyncio.gather(*(stream.retarget() for stream in streams))

    def _listeners(
        self, who: str, person: _Person
    ) -> tuple[Callable[[StreamEvent], Awaitable[None]], Callable[[Trouble], Awaitable[None]]]:
        async def show(event: StreamEvent) -> None:
            match event:
                case Started():
                    person.session = event.session_id
                case Caption():
                    key = event.segment, event.language
                    if event.text.strip() or key in person.shown:  # also a reading that comes to nothing
                        (person.shown.discard if event.final else person.shown.add)(key)
                        await self._show(self._line(who, person, event))
                case ConfigRejected():
                    await self._tell(event.message)
                case _:
                    pass

        async def fail(error: Trouble) -> None:
            await self._tell(f"{person.name}: {explained(error, self._client.address)}")

        return show, fail

    def _line(self, who: str, person: _Person, caption: Caption) -> Line:
        return Line(
            key=f"{person.session}-{caption.segment}-{caption.language}",
            who=who,
            name=person.name,
            caption=caption,
            readers=tuple(each for each, reader in self._people.items() if reader.reads == caption.language),
            everybody=caption.language in self._base.targets,
        )
