"""One call's messages, and how it ended as the server said it.

Where a failed write is the first to be noticed of a call's end, what is still to be read is read and kept, for the
status comes behind it.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Generic, TypeVar

import grpc
from google.protobuf.message import Message

from streamtrans.client.carrier import Call, CallOver
from streamtrans.client.errors import ClientError, InvalidRequest, error_of

Told = TypeVar("Told", bound=Message)


class Link(Generic[Told]):
    """Write and read the messages of one call; cancelling either does the call no harm."""

    def __init__(self, call: Call[Told]) -> None:
        self.closed = False
        self._call = call
        self._arriving: asyncio.Task[Told | None] | None = None
        self._leaving: asyncio.Task[ClientError | None] | None = None
        self._kept: deque[Told] = deque()
        self._reading = asyncio.Lock()
        self._over = False

    async def clear(self) -> None:
        """Wait until a message is on its way whose writer was cancelled; it is to be awaited before the next one."""
        if self._leaving is not None:
            await asyncio.wait([self._leaving])

    async def write(self, message: Message, *, last: bool = False) -> None:
        """Send ``message``, and say whether it is the last one; waits while the server is behind.

        Who is cancelled has sent it nevertheless, from the first moment on.

        Raises:
            ClientError: the call has ended.
        """
        self._leaving = asyncio.ensure_future(self._send(message, last))
        error = await asyncio.shield(self._leaving)  # gRPC would end the call with a cancelled write
        if error is not None:
            raise error

    async def read(self) -> Told | None:
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
        await self._call.close()
        for task in (self._arriving, self._leaving):
            if task is not None:
                task.cancel()
                await asyncio.wait([task])

    async def _send(self, message: Message, last: bool) -> ClientError | None:
        """Write ``message``; return what it met, for there may be nobody left to catch it."""
        try:
            await self._call.write(message, last=last)
        except CallOver:
            if not self.closed:
                await self._read_to_the_end()
                return await self._failure() or _ended("the server has ended the stream")
        except asyncio.CancelledError:
            if not self.closed:
                raise
        else:
            return None
        return _ended("the stream was left")

    async def _next(self) -> Told | None:
        if self._over:
            return None
        if self._arriving is None:
            self._arriving = asyncio.ensure_future(self._fetch())
        message = await asyncio.shield(self._arriving)  # gRPC would end the call with a cancelled read
        self._arriving = None
        self._over = message is None
        return message

    async def _fetch(self) -> Told | None:
        try:
            return await self._call.read()
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
        code, message, details = await self._call.status()
        return None if code == grpc.StatusCode.OK else error_of(code, message, details)


def _ended(why: str) -> ClientError:
    return InvalidRequest(grpc.StatusCode.FAILED_PRECONDITION, why)
