"""A call that comes over gRPC."""

from __future__ import annotations

import grpc
from google.protobuf.message import DecodeError

from streamtrans.server.refusal import Refusal, invalid
from streamtrans.wire import ClientMessage, ServerMessage

Context = grpc.aio.ServicerContext[ClientMessage, ServerMessage]


class GrpcLink:
    """A :class:`~streamtrans.server.link.Link` over the context of a method that reads and writes by itself."""

    def __init__(self, context: Context) -> None:
        self._context = context

    @property
    def gone(self) -> bool:
        """Whether the client has cancelled the call, or its connection broke."""
        return bool(self._context.cancelled())

    async def read(self) -> ClientMessage | None:
        """Return the next message; flow control holds a client that sends before it was asked."""
        try:
            message = await self._context.read()
        except DecodeError as error:
            raise invalid([("message", "the bytes are no StreamTranslateRequest")]) from error
        return message if isinstance(message, ClientMessage) else None

    async def write(self, message: ServerMessage) -> None:
        """Send ``message``."""
        await self._context.write(message)

    async def close(self, refusal: Refusal | None = None) -> None:
        """Send the status of ``refusal``; without one gRPC sends OK when the method returns.

        Raises:
            grpc.aio.AbortError: always with a refusal; it ends the method.
        """
        if refusal is not None:
            status = refusal.status()
            await self._context.abort(status.code, status.details, status.trailing_metadata)
