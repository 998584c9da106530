"""Who is let in: places for each kind of call, so that one kind, or one client, can't take those of the others.

```
StreamTranslate ──▶ anteroom ──its config──▶ a place of a session
health checks   ──▶ always answered
watchers, reflection, listings ──▶ a place each of their kind, for a while
```
Places are counted here and not by gRPC, which counts a call as running until its client has taken the status, and
answers nobody else meanwhile.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, TypeAlias, TypeVar

import grpc
from google.protobuf.message import DecodeError

from streamtrans.server.config import ServerConfig
from streamtrans.server.ending import ending
from streamtrans.server.grpc_link import Context, GrpcLink
from streamtrans.server.refusal import exhausted, idle, invalid, too_old
from streamtrans.wire import SERVICE_NAME

_BRIEF_MS = 10_000
"""For what takes no time, unless its client doesn't read."""

T = TypeVar("T")

Handler: TypeAlias = Any
"""A method as gRPC calls it; its published type is that of servers with threads."""


class Room:
    """Places for calls of one kind.

    Args:
        what: whose places they are, in the plural.
        places: all of them.
        per_connection: those that calls of one connection may have at once.
        retry_after_ms: what is told to who finds none.
    """

    def __init__(self, what: str, places: int, per_connection: int, retry_after_ms: int) -> None:
        self._what = what
        self._places = places
        self._per_connection = per_connection
        self._retry_after_ms = retry_after_ms
        self._taken: Counter[str] = Counter()

    def __len__(self) -> int:
        """Places that are taken."""
        return self._taken.total()

    def refuse_when_full(self, peer: str) -> None:
        """Turn away who could have no place now.

        Raises:
            Refusal: all are taken, or all that the connection ``peer`` may have.
        """
        if len(self) >= self._places:
            raise exhausted(f"all {self._places} {self._what} are taken", self._retry_after_ms, "all_taken")
        if self._taken[peer] >= self._per_connection:
            problem = f"one connection may have {self._per_connection} {self._what} at once, and this one has them"
            raise exhausted(problem, self._retry_after_ms, "connection_full")

    @contextmanager
    def place(self, peer: str) -> Iterator[None]:
        """Hold a place for the connection ``peer``; raises what :meth:`refuse_when_full` does."""
        self.refuse_when_full(peer)
        self._taken[peer] += 1
        try:
            yield
        finally:
            self._taken[peer] -= 1
            self._taken += Counter()  # forgets who has none


class Anteroom:
    """Where calls wait for their own first message; where it is full, who has most waiting loses the oldest of them.

    An honest client's message comes with its call, so it waits for no time, however many there are who say nothing.
    """

    def __init__(self, places: int, patience_ms: int, retry_after_ms: int) -> None:
        self._places = places
        self._patience_ms = patience_ms
        self._retry_after_ms = retry_after_ms
        self._waiting: dict[asyncio.Timeout, str] = {}
        """Patience with a call → its connection, in the order of coming."""

    async def wait(self, read: Callable[[], Awaitable[T]], peer: str) -> T:
        """Return what the client says first, which ``read`` waits for.

        Raises:
            Refusal: it doesn't come in time, or others need the place.
        """
        ousted = False
        try:
            async with asyncio.timeout(self._patience_ms / 1000) as patience:
                self._make_room()
                self._waiting[patience] = peer
                try:
                    return await read()
                finally:
                    ousted = self._waiting.pop(patience, None) is None
        except TimeoutError as error:
            if ousted:
                problem = "too many calls wait for their first message; send `config` as soon as you call"
                raise exhausted(problem, self._retry_after_ms, "said_nothing") from error
            raise idle(self._patience_ms) from error

    def _make_room(self) -> None:
        if len(self._waiting) < self._places:
            return
        [(crowd, _)] = Counter(self._waiting.values()).most_common(1)
        oldest = next(patience for patience, peer in self._waiting.items() if peer == crowd)
        del self._waiting[oldest]
        if not oldest.expired():
            oldest.reschedule(asyncio.get_running_loop().time())


@dataclass(frozen=True, slots=True)
class Kind:
    """How calls of one method are bounded."""

    room: Room | None
    """``None``: always let in."""
    most_ms: int
    """An older one is ended."""


class Doors(grpc.aio.ServerInterceptor):  # type: ignore[type-arg]  # not generic when it runs
    """Every method but those that see to it themselves: a place for each call, an end, and a status in any case.

    Args:
        kinds: method → its bounds; other methods are left alone.
    """

    def __init__(self, kinds: dict[str, Kind]) -> None:
        self._kinds = kinds

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Handler]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler:
        """Return the handler of a call with our bounds around it."""
        handler = await continuation(handler_call_details)
        method = handler_call_details.method
        kind = self._kinds.get(method)
        return handler if handler is None or kind is None else _bounded(handler, kind, method)


def kinds(config: ServerConfig) -> dict[str, Kind]:
    """Return the bounds of all methods but ``StreamTranslate``, whose places the service itself gives out."""
    retry_after_ms = config.retry_after_ms
    health, reflection = "/grpc.health.v1.Health", "/grpc.reflection.v1alpha.ServerReflection"
    return {
        f"/{SERVICE_NAME}/ListCapabilities": Kind(Room("listings", 64, 32, retry_after_ms), _BRIEF_MS),
        f"/{SERVICE_NAME}/GetStats": Kind(Room("askers of figures", 64, 32, retry_after_ms), _BRIEF_MS),
        f"/{SERVICE_NAME}/ForgetStream": Kind(Room("deletions", 64, 32, retry_after_ms), _BRIEF_MS),
        f"/{SERVICE_NAME}/WatchCaptions": Kind(
            Room("viewers", config.max_viewers, config.max_viewers, retry_after_ms), config.limits.max_connection_ms
        ),
        f"{health}/Check": Kind(None, _BRIEF_MS),
        f"{health}/Watch": Kind(Room("health watchers", 256, 64, retry_after_ms), config.limits.max_connection_ms),
        f"{reflection}/ServerReflectionInfo": Kind(Room("reflection calls", 128, 64, retry_after_ms), _BRIEF_MS),
    }


def _bounded(handler: Handler, kind: Kind, method: str) -> Handler:
    """Return ``handler`` with a place, an end and a status around it; it is given only what could be parsed."""

    async def one(raw: bytes, context: Context) -> Any:
        async with ending(method, GrpcLink(context)), admitted(kind, context.peer()):
            return await handler.unary_unary(_parsed(handler, raw), context)
        return None  # the status says why

    async def told(raw: bytes, context: Context) -> None:
        async with ending(method, GrpcLink(context)), admitted(kind, context.peer()):
            await handler.unary_stream(_parsed(handler, raw), context)

    async def talk(_: object, context: Context) -> None:
        async with ending(method, GrpcLink(context)), admitted(kind, context.peer()):
            async for answer in handler.stream_stream(_messages(handler, context), context):
                await context.write(answer)

    if handler.request_streaming:
        return grpc.stream_stream_rpc_method_handler(talk, None, handler.response_serializer)
    if handler.response_streaming:
        return grpc.unary_stream_rpc_method_handler(told, None, handler.response_serializer)
    return grpc.unary_unary_rpc_method_handler(one, None, handler.response_serializer)


@asynccontextmanager
async def admitted(kind: Kind, peer: str) -> AsyncIterator[None]:
    """Give the block a place and no more than its time.

    Raises:
        Refusal: there is no place, or the time is over.
    """
    with nullcontext() if kind.room is None else kind.room.place(peer):
        try:
            async with asyncio.timeout(kind.most_ms / 1000):
                yield
        except TimeoutError as error:
            raise too_old(kind.most_ms) from error


def _parsed(handler: Handler, raw: bytes) -> Any:
    try:
        return handler.request_deserializer(raw)
    except DecodeError as error:
        raise invalid([("message", "the bytes are no message of this method")]) from error


async def _messages(handler: Handler, context: Context) -> AsyncIterator[Any]:
    while (raw := await context.read()) is not grpc.aio.EOF:  # type: ignore[attr-defined]  # it is there
        yield _parsed(handler, raw)
