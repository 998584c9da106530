"""What checks of a server are made of: a way to it, calls that are read while they are written, and verdicts.

A check is an async function of a :class:`Kit`. Its docstring is what the protocol says; it returns what was seen, or
raises :class:`Broken` with it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from inspect import cleandoc
from typing import Generic, Literal, TypeVar

import grpc
from google.protobuf.message import Message
from google.rpc import error_details_pb2  # type: ignore[import-untyped]  # ships none

from streamtrans.client.carrier import Call, CallOver, Carrier, Status
from streamtrans.client.errors import ClientError, client_error, error_of
from streamtrans.wire import (
    CapabilitiesResponse,
    ClientMessage,
    Frame,
    ServerMessage,
    StreamOptions,
    WatchRequest,
    WatchResponse,
    audio_message,
    config_message,
)

CODE = grpc.StatusCode
RATE = 16_000
CHUNK_MS = 100

Told = TypeVar("Told", bound=Message)
Verdict = Literal["pass", "fail", "not tried"]


class Broken(Exception):
    """The server doesn't do what the protocol says; the message is what was seen."""


class NotTried(Exception):
    """The check says nothing about this server; the message says why."""


Check = Callable[["Kit"], Awaitable[str]]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of one check."""

    name: str
    says: str
    """What the protocol says."""
    verdict: Verdict
    seen: str
    seconds: float


def expect(holds: object, seen: str) -> None:
    """Go on where something ``holds``.

    Raises:
        Broken: it doesn't.
    """
    if not holds:
        raise Broken(seen)


class Talk(Generic[Told]):
    """One call that is being read all the time."""

    def __init__(self, call: Call[Told]) -> None:
        self.told: list[Told] = []
        self.status: Status | None = None
        """Once the call is over."""
        self.call = call
        self._news = asyncio.Event()
        self._reading = asyncio.create_task(self._read())

    async def say(self, *messages: Message | Frame, last: bool = False) -> None:
        """Send ``messages``; where the call is over, its status says why."""
        with suppress(CallOver):
            for message in messages:
                await self.call.write(message, last=last)

    async def until(self, kind: str, count: int = 1) -> Told:
        """Return the newest message of this kind, once so many of them have come.

        Raises:
            Broken: the call ended before.
        """
        while len(found := self.of(kind)) < count:
            expect(self.status is None, f"the call ended with {self.ending} before `{kind}` came")
            await self._change()
        return found[-1]

    async def rest(self) -> Status:
        """Wait for the end of the call, and return how it ended."""
        while self.status is None:
            await self._change()
        return self.status

    async def ends_with(self, *codes: grpc.StatusCode, field: str | None = None) -> str:
        """Wait for the end of the call; say how it ended where that is right.

        Raises:
            Broken: it ended with another code, or its details name no such field.
        """
        code, _, details = await self.rest()
        wanted = " or ".join(each.name for each in codes)
        expect(code in codes, f"the call ended with {self.ending}, not with {wanted}")
        if field is not None:
            named = fields_in(details)
            expect(field in named, f"the details of {self.ending} name {', '.join(named) or 'no field'}, not {field}")
        return self.ending

    async def leave(self) -> None:
        """Break the call off, as a client does that vanishes."""
        await self.call.close()
        self._reading.cancel()
        await asyncio.wait([self._reading])

    def of(self, *kinds: str) -> list[Told]:
        """Return the messages of some kinds so far."""
        return [each for each in self.told if each.WhichOneof("event") in kinds]

    @property
    def ending(self) -> str:
        """The status in words."""
        if self.status is None:
            return "no status"
        code, message, _ = self.status
        return f"{code.name} ({message})" if message else code.name

    async def _read(self) -> None:
        while (message := await self.call.read()) is not None:
            self.told.append(message)
            self._ring()
        self.status = await self.call.status()
        self._ring()

    def _ring(self) -> None:
        self._news.set()
        self._news = asyncio.Event()

    async def _change(self) -> None:
        await self._news.wait()


@dataclass(frozen=True, slots=True)
class Kit:
    """A server, and what it is asked with.

    Args:
        carrier: the way to it.
        over: what that is.
        offers: what it says that it offers.
        sound: somebody speaks: 16-bit samples at 16 kHz, in whole chunks of 100 ms.
        targets: two languages that it can make of that.
        source: what is spoken; empty: any.
        patience_s: how long anything may take.
    """

    carrier: Carrier
    over: Literal["gRPC", "WebSocket, protobuf", "WebSocket, JSON"]
    offers: CapabilitiesResponse
    sound: bytes
    targets: tuple[str, str]
    source: tuple[str, ...] = ()
    patience_s: float = 40.0

    @asynccontextmanager
    async def call(self) -> AsyncIterator[Talk[ServerMessage]]:
        """Give a call in which nothing was said."""
        talk = Talk(self.carrier.speak())
        try:
            yield talk
        finally:
            await talk.leave()

    @asynccontextmanager
    async def stream(self, mode: str = "live", **wishes: bool) -> AsyncIterator[Talk[ServerMessage]]:
        """Give a call that was begun; a server that is full for now is asked again when it says.

        Raises:
            NotTried: it is full for longer.
        """
        talk = await self._begun(config_message(self.options(mode=mode, **wishes)))
        try:
            yield talk
        finally:
            await talk.leave()

    async def _begun(self, config: ClientMessage) -> Talk[ServerMessage]:
        clock = asyncio.get_running_loop().time
        until = clock() + self.patience_s / 2
        while True:
            talk = Talk(self.carrier.speak())
            try:
                await talk.say(config)
                await talk.until("started")
            except Broken:
                await talk.leave()
                wait_s = None if talk.status is None else error_of(*talk.status).retry_after_s
                if wait_s is None:
                    raise
                if clock() + wait_s > until:
                    raise NotTried(f"the server is full: {talk.ending}") from None
                await asyncio.sleep(wait_s)
            except asyncio.CancelledError:
                await talk.leave()
                raise
            else:
                return talk

    @asynccontextmanager
    async def viewer(self, token: str, language: str) -> AsyncIterator[Talk[WatchResponse]]:
        """Give the call of a viewer who has asked."""
        talk = Talk(self.carrier.watch())
        try:
            await talk.say(WatchRequest(viewer_token=token, language=language), last=True)
            yield talk
        finally:
            await talk.leave()

    def options(self, **changes: object) -> StreamOptions:
        """Return what is usually asked for, with ``changes``."""
        return StreamOptions(**({"targets": self.targets, "source_languages": self.source} | changes))  # type: ignore[arg-type]

    def speech(self, first: int = 1, share: float = 1.0) -> list[ClientMessage]:
        """Return the sound, or its beginning, as messages that are numbered from ``first`` on."""
        size = RATE * CHUNK_MS // 1000 * 2
        chunks = [self.sound[at : at + size] for at in range(0, len(self.sound), size)]
        return [audio_message(data, first + index) for index, data in enumerate(chunks[: round(share * len(chunks))])]


def fields_in(details: Sequence[Message]) -> list[str]:
    """Return the fields that the details of a status say are wrong."""
    named = []
    for detail in details:
        bad = error_details_pb2.BadRequest()
        if detail.Unpack(bad):  # type: ignore[attr-defined]  # each is an Any
            named += [violation.field for violation in bad.field_violations]
    return named


def name_of(check: Check) -> str:
    """Return the name of a check: its group and what it looks at."""
    return f"{check.__module__.rpartition('.')[2]}.{check.__name__}"  # type: ignore[attr-defined]  # all are functions


async def outcome(check: Check, kit: Kit) -> Outcome:
    """Return what comes of ``check``."""
    clock = asyncio.get_running_loop().time
    began, verdict = clock(), "pass"
    try:
        async with asyncio.timeout(kit.patience_s):
            seen = await check(kit)
    except Broken as broken:
        verdict, seen = "fail", str(broken)
    except NotTried as why:
        verdict, seen = "not tried", str(why)
    except TimeoutError:
        verdict, seen = "fail", f"what is due didn't come within {kit.patience_s:g} s"
    except ClientError as error:
        verdict, seen = "fail", str(error)
    except grpc.aio.AioRpcError as error:
        verdict, seen = "fail", str(client_error(error))
    return Outcome(name_of(check), " ".join(cleandoc(check.__doc__ or "").split()), verdict, seen, clock() - began)  # type: ignore[arg-type]
