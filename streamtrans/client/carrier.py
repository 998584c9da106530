"""What a client needs of the way to a server: gRPC (``over_grpc.py``) or WebSockets (``over_web.py``)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, TypeAlias, TypeVar

import grpc
from google.protobuf.any_pb2 import Any as Box
from google.protobuf.message import Message

from streamtrans.core import BadConfig, needs
from streamtrans.wire import (
    CapabilitiesResponse,
    ForgetRequest,
    ForgetResponse,
    Frame,
    ServerMessage,
    StatsResponse,
    WatchResponse,
)

Status: TypeAlias = tuple[grpc.StatusCode, str, tuple[Box, ...]]
"""How a call ended: code, message, details."""

Told_co = TypeVar("Told_co", bound=Message, covariant=True)

_WEB = ("ws", "wss")


class CallOver(Exception):
    """The call takes nothing more; its status says why."""


class Call(Protocol[Told_co]):
    """One call, message by message."""

    async def write(self, message: Message | Frame, *, last: bool = False) -> None:
        """Send ``message``, or a frame as it is, and say whether it is the last; waits while the server is behind.

        Raises:
            CallOver: it isn't sent.
        """
        ...

    async def read(self) -> Told_co | None:
        """Return the next message; ``None`` at the end, whichever it is."""
        ...

    async def status(self) -> Status:
        """Return how the call ended, once :meth:`read` has come to its end."""
        ...

    async def close(self) -> None:
        """End the call; one that is over is left as it is."""
        ...


class Carrier(Protocol):
    """A connection to one server, or as many as it takes."""

    async def open(self) -> None:
        """Prepare it; connections are made when they are first needed."""
        ...

    async def close(self) -> None:
        """Close everything; calls end."""
        ...

    def speak(self) -> Call[ServerMessage]:
        """Begin a call of a speaker."""
        ...

    def watch(self) -> Call[WatchResponse]:
        """Begin a call of a viewer."""
        ...

    async def capabilities(self, timeout_s: float) -> CapabilitiesResponse:
        """Ask what is offered.

        Raises:
            ClientError: the server refuses, there is none, or it says nothing in time.
        """
        ...

    async def stats(self, timeout_s: float) -> StatsResponse:
        """Ask how one's streams are getting on; raises what :meth:`capabilities` does."""
        ...

    async def forget(self, request: ForgetRequest, timeout_s: float) -> ForgetResponse:
        """Have a stream deleted; raises what :meth:`capabilities` does."""
        ...

    async def missing(self, timeout_s: float) -> str | None:
        """Return what a server lacks to be ready, ``None`` where it is.

        Raises:
            ClientError: what answers is no such server.
        """
        ...


@dataclass(frozen=True, slots=True)
class Tls:
    """PEM bytes for an encrypted connection."""

    root_certificates: bytes | None = None
    """Who may sign the server's certificate; ``None`` takes the system's list."""
    private_key: bytes | None = None
    """With ``certificate_chain``: identifies the client to servers that ask for it."""
    certificate_chain: bytes | None = None


def carrier_to(address: str, tls: Tls | None = None, key: str | None = None) -> Carrier:
    """Return the way to ``address``: ``host:port`` over gRPC, ``ws://…`` or ``wss://…`` over WebSockets.

    Raises:
        BadConfig: it is none of these, ``ws://`` isn't what ``tls`` wants, or a package is missing.
    """
    scheme, mark, _ = address.partition("://")
    if scheme in _WEB and mark:
        if tls is not None and scheme == "ws":
            raise BadConfig(f"{address} isn't encrypted, and TLS is asked for: write wss://")
        try:
            from streamtrans.client.over_web import WebCarrier
        except ImportError as error:
            raise BadConfig(needs(address, error.name or "aiohttp", "gateway")) from error
        return WebCarrier(address, tls, key)
    if scheme in ("http", "https") and mark:
        raise BadConfig(f"{address} is no address of a server: write ws{scheme[4:]}://…, or host:port for gRPC")
    from streamtrans.client.over_grpc import GrpcCarrier

    return GrpcCarrier(address, tls, key)
