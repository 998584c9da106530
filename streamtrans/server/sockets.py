"""Frames of one WebSocket, one way and the other, whatever is agreed to be said in them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from contextlib import suppress

import grpc
from aiohttp import WSMsgType, web

from streamtrans.server.link import LinkLost
from streamtrans.server.refusal import Refusal, invalid
from streamtrans.wire import Frame

_PARTING_S = 2.0
"""How long a client may take to read how its call ended, and to close its side."""

_LONGEST_REASON = 123
"""Bytes of the reason that a closing frame can carry (RFC 6455, 5.5)."""


class Socket:
    """A prepared WebSocket, in the task that serves it: while nobody reads, it is paused, so TCP holds its client.

    Args:
        response: text isn't decoded on it; messages of twice ``most_bytes`` it refuses by itself.
        transport: below it.
        most_bytes: of one message.
    """

    def __init__(self, response: web.WebSocketResponse, transport: asyncio.Transport, most_bytes: int) -> None:
        self._response = response
        self._transport = transport
        self._most_bytes = most_bytes
        self._owner = asyncio.current_task()
        self._waiting: asyncio.Task[None] | None = None
        transport.pause_reading()

    async def read(self) -> Frame:
        """Return the next frame; there is always one, or the client has left.

        Raises:
            Refusal: it is too large, or text that is no UTF-8.
            LinkLost: nothing comes any more.
        """
        self._transport.resume_reading()
        try:
            message = await self._response.receive()
        finally:
            self._transport.pause_reading()
        if message.type not in (WSMsgType.TEXT, WSMsgType.BINARY):
            raise LinkLost
        data: bytes = message.data
        if len(data) > self._most_bytes:
            problem = f"a message of {len(data)} bytes came; at most {self._most_bytes} are taken"
            raise Refusal(grpc.StatusCode.RESOURCE_EXHAUSTED, problem)
        if message.type is WSMsgType.BINARY:
            return data
        try:
            return data.decode()
        except UnicodeDecodeError as error:
            raise invalid([("message", "the text is no UTF-8")]) from error

    async def write(self, frame: Frame) -> None:
        """Send ``frame``; waits while the client doesn't read.

        Raises:
            LinkLost: nobody is there to read it.
        """
        try:
            if isinstance(frame, str):
                await self._response.send_str(frame)
            else:
                await self._response.send_bytes(frame)
        except ConnectionError as error:
            raise LinkLost from error

    async def ping(self) -> None:
        """Let who stands between know that the call is alive; waits for nothing."""
        with suppress(ConnectionError, TimeoutError):
            async with asyncio.timeout(0):
                await self._response.ping()

    def hear_no_more(self) -> None:
        """Read on, though nothing more is heard, to learn when the client is gone; then nobody needs the call."""
        self._waiting = asyncio.create_task(self._leave_with_client())

    async def close(self, code: int, reason: str, last: Iterable[Frame] = ()) -> None:
        """Send the ``last`` frames, then close with ``code`` and as much of ``reason`` as it can carry."""
        await self._stop_waiting()
        try:
            async with asyncio.timeout(_PARTING_S):
                self._transport.resume_reading()
                with suppress(LinkLost):
                    for frame in last:
                        await self.write(frame)
                    clipped = reason.encode()[:_LONGEST_REASON].decode(errors="ignore").encode()
                    await self._response.close(code=code, message=clipped)
        except TimeoutError:
            self._transport.abort()  # closing would wait for what the client doesn't read

    async def _leave_with_client(self) -> None:
        self._transport.resume_reading()
        while (await self._response.receive()).type in (WSMsgType.TEXT, WSMsgType.BINARY):
            await asyncio.sleep(0)
        if self._owner is not None:
            self._owner.cancel()

    async def _stop_waiting(self) -> None:
        if self._waiting is not None:
            self._waiting.cancel()
            await asyncio.wait([self._waiting])
            self._waiting = None
