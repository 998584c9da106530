"""What a call needs of the wire that it comes over: gRPC (``grpc_link.py``) or a WebSocket (``web_link.py``)."""

from __future__ import annotations

import asyncio
from typing import Protocol

from streamtrans.server.refusal import Refusal, idle
from streamtrans.wire import ClientMessage, Limits, ServerMessage

Metadata = tuple[tuple[str, str | bytes], ...]
"""What comes beside the messages of a call, such as who calls."""


class LinkLost(Exception):
    """The client has left, so nobody needs to be told anything."""


class Left(LinkLost):
    """The client has said that it wants nothing more, and is there to be told that it is over."""


class Closing(Protocol):
    """What can be ended with a status."""

    async def close(self, refusal: Refusal | None = None) -> None:
        """End the call: well, or as ``refusal`` says."""
        ...


class Link(Closing, Protocol):
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


async def read(link: Link, limits: Limits, deadline: float) -> ClientMessage | None:
    """Return the next message, ``None`` at the end; ``deadline`` is a time of the event loop.

    Raises:
        Refusal: nothing came in time, or what came is no message.
    """
    try:
        async with asyncio.timeout_at(deadline):
            return await link.read()
    except TimeoutError as error:
        raise idle(limits.idle_ms) from error
