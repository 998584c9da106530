"""A call that comes over a WebSocket.

```
client ──{"authorization": …}?──messages──▶ link       read one at a time; meanwhile the socket is paused,
client ◀──messages──{"status": …}──close── link        so TCP holds a client that is too fast
```
There is no half-close: who means it says ``end``, and who closes without it has left.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TypeVar

import grpc
from aiohttp import WSMsgType, web
from google.protobuf.message import Message

from streamtrans.server.link import LinkLost, Metadata
from streamtrans.server.refusal import Refusal, invalid
from streamtrans.wire import (
    BadFields,
    ClientMessage,
    Form,
    Frame,
    authorization_in,
    payload_of,
    status_frame,
)

_PARTING_S = 2.0
"""How long a client may take to read how its call ended, and to close its side."""

_LONGEST_REASON = 123
"""Bytes of the reason that a closing frame can carry (RFC 6455, 5.5)."""

_APPLICATION_CODES = 4_000
"""Closing codes from here on are ours: this and the status code, such as 4003 for INVALID_ARGUMENT."""

M = TypeVar("M", bound=Message)


class WebLink:
    """A :class:`~streamtrans.server.link.Link` over a prepared WebSocket, in the task that serves it.

    Args:
        socket: text isn't decoded on it; messages of twice ``most_bytes`` it refuses by itself.
        transport: below it.
        form: what its subprotocol says.
        most_bytes: of one message.
    """

    def __init__(
        self, socket: web.WebSocketResponse, transport: asyncio.Transport, form: Form, most_bytes: int
    ) -> None:
        self._socket = socket
        self._transport = transport
        self._form = form
        self._most_bytes = most_bytes
        self._owner = asyncio.current_task()
        self._first: Frame | None = None
        self._introduced = False
        self._waiting: asyncio.Task[None] | None = None
        transport.pause_reading()

    async def introduction(self) -> Metadata:
        """Return what the client says of itself before its first message, if it does.

        Raises:
            Refusal: what came is no message.
            LinkLost: nothing comes any more.
        """
        frame = await self._frame()
        self._introduced = True
        try:
            said = authorization_in(frame)
        except BadFields as error:
            raise invalid(error.fields) from error
        if said is None:
            self._first = frame
            return ()
        return (("authorization", said),)

    async def read(self) -> ClientMessage:
        """Return the next message; there is always one, or the client has left."""
        message = await self._message(ClientMessage)
        if payload_of(message) == "end":
            self._wait()
        return message

    async def request(self, kind: type[M]) -> M:
        """Return the one message of a client that only reads from then on.

        Raises:
            Refusal: what came is no such message.
            LinkLost: nothing comes any more.
        """
        message = await self._message(kind)
        self._wait()
        return message

    async def write(self, message: Message) -> None:
        """Send ``message``."""
        await self._send(self._form.frame(message))

    async def ping(self) -> None:
        """Let who stands between know that the call is alive; waits for nothing."""
        with suppress(ConnectionError, TimeoutError):
            async with asyncio.timeout(0):
                await self._socket.ping()

    async def close(self, refusal: Refusal | None = None) -> None:
        """Tell the status, then close with the code that says the same."""
        await self._stop_waiting()
        if refusal is None:
            text = status_frame(0, grpc.StatusCode.OK.name)
            code, reason = 1_000, b""
        else:
            number: int = refusal.code.value[0]
            text = status_frame(number, refusal.code.name, refusal.message, refusal.details)
            code, reason = _APPLICATION_CODES + number, _clip(refusal.message)
        try:
            async with asyncio.timeout(_PARTING_S):
                self._transport.resume_reading()
                with suppress(LinkLost):
                    await self._send(text)
                    await self._socket.close(code=code, message=reason)
        except TimeoutError:
            self._transport.abort()  # closing would wait for what the client doesn't read

    async def _message(self, kind: type[M]) -> M:
        if not self._introduced:
            await self.introduction()
        frame, self._first = self._first, None
        if frame is None:
            frame = await self._frame()
        try:
            return self._form.message(frame, kind)
        except BadFields as error:
            raise invalid(error.fields) from error

    def _wait(self) -> None:
        self._waiting = asyncio.create_task(self._leave_with_client())

    async def _frame(self) -> Frame:
        self._transport.resume_reading()
        try:
            message = await self._socket.receive()
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

    async def _send(self, frame: Frame) -> None:
        try:
            if isinstance(frame, str):
                await self._socket.send_str(frame)
            else:
                await self._socket.send_bytes(frame)
        except ConnectionError as error:
            raise LinkLost from error

    async def _leave_with_client(self) -> None:
        """Read on, though nothing more is heard, to learn when the client is gone; then nobody needs the call."""
        self._transport.resume_reading()
        while (await self._socket.receive()).type in (WSMsgType.TEXT, WSMsgType.BINARY):
            await asyncio.sleep(0)
        if self._owner is not None:
            self._owner.cancel()

    async def _stop_waiting(self) -> None:
        if self._waiting is not None:
            self._waiting.cancel()
            await asyncio.wait([self._waiting])
            self._waiting = None


def _clip(text: str) -> bytes:
    return text.encode()[:_LONGEST_REASON].decode(errors="ignore").encode()
