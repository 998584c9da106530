"""A call that comes over gRPC."""

from __future__ import annotations

import asyncio
from typing import Any, TypeAlias

import grpc
from google.protobuf.message import DecodeError, Message

from streamtrans.server.link import LinkLost, Metadata
from streamtrans.server.refusal import Refusal, invalid
from streamtrans.wire import ClientMessage

Context: TypeAlias = grpc.aio.ServicerContext[Any, Any]
"""What gRPC gives us for a call of any method."""

_GONE_S = 0.05
"""From the end of a vanished client's messages to the news that it is gone; who only half-closes waits so long."""


def metadata_of(context: Context) -> Metadata:
    """Return what came beside the messages of a call."""
    return tuple((name, value) for name, value in context.invocation_metadata() or ())


class GrpcLink:
    """A :class:`~streamtrans.server.link.Link` over the context of a method that reads and writes by itself."""

    def __init__(self, context: Context) -> None:
        self._context = context

    async def read(self) -> ClientMessage | None:
        """Return the next message; flow control holds a client that sends before it was asked."""
        try:
            message = await self._context.read()
        except DecodeError as error:
            raise invalid([("message", "the bytes are no StreamTranslateRequest")]) from error
        except grpc.aio.InternalError as error:
            raise LinkLost from error
        if isinstance(message, ClientMessage):
            return message
        # Of a client that is gone gRPC may tell the end of its messages first: then it cancels this task in a moment.
        await asyncio.sleep(_GONE_S)
        return None

    async def write(self, message: Message) -> None:
        """Send ``message``."""
        try:
            await self._context.write(message)
        except grpc.aio.InternalError as error:
            raise LinkLost from error

    async def close(self, refusal: Refusal | None = None) -> None:
        """Set the status that gRPC sends when the method returns, OK without a refusal.

        gRPC's own ``abort`` raises an exception that it keeps with the call: that holds the frames which it came
        through, which hold the call, until the garbage collector finds the ring.
        """
        if refusal is not None:
            status = refusal.status()
            self._context.set_code(status.code)
            self._context.set_details(status.details)
            self._context.set_trailing_metadata(status.trailing_metadata)
