"""What a call needs of the wire that it comes over; gRPC is one, see ``grpc_link.py``."""

from __future__ import annotations

from typing import Protocol

from streamtrans.server.refusal import Refusal
from streamtrans.wire import ClientMessage, ServerMessage


class LinkLost(Exception):
    """The client has left, so nobody needs to be told anything."""


class Link(Protocol):
    """Messages of one call, one way and the other, and how it ends."""

    async def read(self) -> ClientMessage | None:
        """Wait for the next message; ``None`` once the client has sent its last.

        Raises:
            Refusal: what came is no message.
            LinkLost: nothing comes any more.
        """
        ...

    async def write(self, message: ServerMessage) -> None:
        """Send ``message``; waits while the client doesn't read.

        Raises:
            LinkLost: nobody is there to read it.
        """
        ...

    async def close(self, refusal: Refusal | None = None) -> None:
        """End the call: well, or as ``refusal`` says."""
        ...
