"""One call's messages, and how it ended as the server said it.

A write that fails because the server has just ended the call makes gRPC replace the server's status by an
INTERNAL of its own (grpc/grpc#36066). So the status is taken down the moment it arrives; where the
failed write is the first to be noticed, what is still to be read is read and kept, for the status comes
behind it.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Coroutine
from typing import Any, TypeVar

import grpc

from streamtrans.client.errors import ClientError, InvalidRequest, error_of
from streamtrans.wire import ClientMessage, ServerMessage

T = TypeVar("T")
StreamCall = grpc.aio.StreamStreamCall[ClientMessage, ServerMessage]
Status = tuple[grpc.StatusCode, str, tuple[tuple[str, str | bytes], ...]]

MADE_UP = (grpc.StatusCode.INTERNAL, "Internal error from Core")
"""What gRPC says of a call whose end it doesn't know."""

_PATIENCE_S = 1.0
"""The true status follows a failed write within moments, if there is one."""


class Link:
    """Write and read the messages of one call; cancelling either does the call no harm."""

    def __init__(self, call: StreamCall) -> None:
        self.closed = False
        self._call = call
        self._responses = aiter(call)
        self._arriving: asyncio.Task[ServerMessage | None] | None = None
        self._leaving: asyncio.Task[ClientError | None] | None = None
        self._kept: deque[ServerMessage] = deque()
        self._reading = asyncio.Lock()
        self._over = False
        self._status: Status | None = None
        call.add_done_callback(self._note)

    async def clear(self) -> None:
        """Wait until a message is on its way whose writer was cancelled; it is to be awaited before the next one."""
        if self._leaving is not None:
            await asyncio.wait([self._leaving])

    async def write(self, message: ClientMessage, *, last: bool = False) -> None:
        """Send ``message``, and say whether it is the last one; waits while the server is behind.

        Who is cancelled has sent it nevertheless, from the first moment on.

        Raises:
            ClientError: the call has ended.
        """
        self._leaving = asyncio.ensure_future(self._send(message, last))
        error = await asyncio.shield(self._leaving)  # gRPC would end the call with a cancelled write
        if error is not None:
            raise error

    async def read(self) -> ServerMessage | None:
        """Return the next message, ``None`` once the call has ended well or was closed.

        Raises:
            ClientError: the call has ended otherwise.
        """
        async with self._reading:
            if self._kept:
                return self._kept.popleft()
            message = await self._next()
        if message is None and not self.closed:
            failure = await self._failure()
            if failure is not None:
                raise failure
        return message

    async def close(self) -> None:
        """End the call; one that has come to its end is left as it is."""
        self.closed = True
        self._call.cancel()
        for task in (self._arriving, self._leaving):
            if task is not None:
                task.cancel()
                await asyncio.wait([task])

    async def _send(self, message: ClientMessage, last: bool) -> ClientError | None:
        """Write ``message``; return what it met, for there may be nobody left to catch it."""
        try:
            await self._call.write(message)
            if last:
                await self._call.done_writing()
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
            if not self.closed:
                await self._read_to_the_end()
                return await self._failure() or _ended("the server has ended the stream")
        except asyncio.CancelledError:
            if not self.closed:
                raise
        else:
            return None
        return _ended("the stream was left")

    async def _next(self) -> ServerMessage | None:
        if self._over:
            return None
        if self._arriving is None:
            self._arriving = asyncio.ensure_future(self._fetch())
        message = await asyncio.shield(self._arriving)  # gRPC would end the call with a cancelled read
        self._arriving = None
        self._over = message is None
        return message

    async def _fetch(self) -> ServerMessage | None:
        try:
            return await anext(self._responses, None)
        except grpc.aio.AioRpcError:
            return None  # the status says why
        except asyncio.CancelledError:
            if self.closed:
                return None
            raise

    async def _read_to_the_end(self) -> None:
        while not self._over:
            async with self._reading:
                message = await self._next()
                if message is not None:
                    self._kept.append(message)

    async def _failure(self) -> ClientError | None:
        """Return the error that the ended call ended with, ``None`` where it ended well."""
        deadline = asyncio.get_running_loop().time() + _PATIENCE_S
        while self._status is None:
            status = await _status(self._call)
            if status[:2] != MADE_UP or asyncio.get_running_loop().time() > deadline:
                self._status = status
                break
            await asyncio.sleep(0.005)
        code, message, metadata = self._status
        return None if code == grpc.StatusCode.OK else error_of(code, message, metadata)

    def _note(self, call: StreamCall) -> None:
        """Take down the status of a call that is done, before anything can replace it."""
        status = _at_once(_status(call))
        if self._status is None and status is not None and status[:2] != MADE_UP:
            self._status = status


def _ended(why: str) -> ClientError:
    return InvalidRequest(grpc.StatusCode.FAILED_PRECONDITION, why)


async def _status(call: StreamCall) -> Status:
    metadata = tuple((key, value) for key, value in await call.trailing_metadata() or ())
    return await call.code(), await call.details() or "", metadata


def _at_once(coroutine: Coroutine[Any, Any, T]) -> T | None:
    """Return the result of a coroutine that needn't wait; ``None`` where it would have to."""
    try:
        coroutine.send(None)
    except StopIteration as done:
        result: T = done.value
        return result
    coroutine.close()
    return None
