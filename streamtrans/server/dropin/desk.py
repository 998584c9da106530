"""What an endpoint has of the gateway, and how a conversation in another service's words becomes a call."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import AbstractAsyncContextManager
from typing import Protocol

import grpc
from aiohttp import web

from streamtrans.server.config import ServerConfig
from streamtrans.server.doors import Room
from streamtrans.server.ending import ending
from streamtrans.server.http import peer_of
from streamtrans.server.kept import session_of
from streamtrans.server.link import Metadata
from streamtrans.server.refusal import Refusal
from streamtrans.server.service import TranslationService
from streamtrans.server.sockets import Socket
from streamtrans.wire import ClientMessage, Frame, ServerMessage, payload_of

Said = ClientMessage | str
"""What the call is to hear, or what is answered at once."""

_CLOSING = {
    grpc.StatusCode.OUT_OF_RANGE: 1_011,
    grpc.StatusCode.INTERNAL: 1_011,
    grpc.StatusCode.UNAVAILABLE: 1_012,
    grpc.StatusCode.RESOURCE_EXHAUSTED: 1_013,
}
"""Status → code of a closing frame (RFC 6455, and its registry): a fault, restart, try again later; others are 1008,
against the rules. Clients take none of them for a good end."""

_AGAINST_THE_RULES = 1_008

_IDLE_S = 0.25
"""Without a frame for so long, a client is idle. Larger: what only time tells is told later."""


Opening = Callable[
    [web.Request, tuple[str, ...]], AbstractAsyncContextManager[tuple[Socket | None, web.StreamResponse]]
]
"""Gives the WebSocket that a request asks for, or only the answer that there is none."""


Foreign = Callable[[web.Request], web.Response | None]
"""Turns away what a page of others asks for."""


class Desk:
    """The gateway, as endpoints see it."""

    def __init__(self, config: ServerConfig, service: TranslationService, socket: Opening, foreign: Foreign) -> None:
        self.config = config
        self.service = service
        self.socket = socket
        self.foreign = foreign
        most = config.max_uploads
        self.uploads = Room("uploads", most, max(1, most // 2), config.retry_after_ms)
        """Places of those who send recordings whole."""


class Dialect(Protocol):
    """Another service's messages, one object a conversation."""

    def opening(self) -> Iterable[Said]:
        """Yield what stands before the client's first frame.

        Raises:
            Refusal: what was asked for can't be had.
        """
        ...

    def heard(self, frame: Frame) -> Iterable[Said]:
        """Yield what a frame says.

        Raises:
            Refusal: it can't be gone on with.
        """
        ...

    def idle(self) -> Iterable[Said]:
        """Yield what is to be asked while the client says nothing, now and then."""
        ...

    def told(self, message: ServerMessage) -> Iterable[str]:
        """Yield how the client is told ``message``."""
        ...

    def parting(self, refusal: Refusal) -> Iterable[str]:
        """Yield how the client is told why the call ends."""
        ...


class Conversation:
    """A :class:`~streamtrans.server.link.Link` over a WebSocket, in the words of ``dialect``."""

    def __init__(self, socket: Socket, dialect: Dialect) -> None:
        self._socket = socket
        self._dialect = dialect
        self._waiting: deque[Said] | None = None

    async def read(self) -> ClientMessage:
        """Return the next message; there is always one, or the client has left."""
        if self._waiting is None:
            self._waiting = deque(self._dialect.opening())
        while True:
            while self._waiting:
                said = self._waiting.popleft()
                if isinstance(said, ClientMessage):
                    if payload_of(said) == "end":
                        self._socket.hear_no_more()
                    return said
                await self._socket.write(said)
            self._waiting.extend(await self._next())

    async def _next(self) -> Iterable[Said]:
        try:
            async with asyncio.timeout(_IDLE_S):
                frame = await self._socket.read()
        except TimeoutError:
            return self._dialect.idle()
        return self._dialect.heard(frame)

    async def write(self, message: ServerMessage) -> None:
        """Send what ``message`` says."""
        for frame in self._dialect.told(message):
            await self._socket.write(frame)

    async def close(self, refusal: Refusal | None = None) -> None:
        """Say why the call ends, and close."""
        if refusal is None:
            await self._socket.close(1_000, "")
        else:
            code = _CLOSING.get(refusal.code, _AGAINST_THE_RULES)
            await self._socket.close(code, refusal.message, self._dialect.parting(refusal))


async def converse(
    desk: Desk,
    request: web.Request,
    token: str,
    dialect: Dialect,
    *,
    metadata: Metadata,
    protocols: tuple[str, ...] = (),
) -> web.StreamResponse:
    """Serve a conversation over the WebSocket that is asked for, as the stream of ``token``."""
    async with desk.socket(request, protocols) as (socket, response):
        if socket is not None:
            link = Conversation(socket, dialect)
            async with ending(f"session {session_of(token)}", link):
                await desk.service.stream(token, link, peer_of(request), metadata)
    return response


def refused_at_the_door(desk: Desk, metadata: Metadata) -> Refusal | None:
    """Return why who calls is not served now, whatever he wants: to be said before a WebSocket is opened."""
    try:
        desk.service.capabilities(metadata)
    except Refusal as refusal:
        return refusal
    return None


def bearing(key: str) -> Metadata:
    """Return what says that ``key`` calls; nothing where there is none."""
    return (("authorization", f"Bearer {key}"),) if key else ()
