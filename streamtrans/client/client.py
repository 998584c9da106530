"""The way to a server."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Self

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from streamtrans.client.both import both_ways
from streamtrans.client.errors import Unavailable, client_error
from streamtrans.client.stream import Metadata, Sound, StreamEvent, TranslationStream
from streamtrans.core import Event
from streamtrans.wire import (
    SERVICE_NAME,
    Capabilities,
    CapabilitiesRequest,
    Notice,
    Reducer,
    ServiceStub,
    StreamOptions,
    WatchRequest,
    capabilities_from_proto,
    notice_from_proto,
)

_CHANNEL_OPTIONS = (
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.http2.max_pings_without_data", 0),  # a speaker may be silent for minutes
    ("grpc.initial_reconnect_backoff_ms", 100),  # a broken stream is missed every second
    ("grpc.max_reconnect_backoff_ms", 2_000),
)

_TIMEOUT_S = 30.0
"""How long a server is waited for that says nothing at all."""

_RESUME_S = 30.0
"""How long a server is tried to be reached again; servers keep broken streams as long, unless they say otherwise."""

_WAITING = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.NOT_FOUND)
"""Answers of the health service that may yet change."""


@dataclass(frozen=True, slots=True)
class Tls:
    """PEM bytes for an encrypted connection."""

    root_certificates: bytes | None = None
    """Who may sign the server's certificate; ``None`` takes the system's list."""
    private_key: bytes | None = None
    """With ``certificate_chain``: identifies the client to servers that ask for it."""
    certificate_chain: bytes | None = None


class TranslationClient:
    """A connection to one server; use it as an async context manager.

    Args:
        address: ``host:port``.
        tls: encrypts the connection; without it everything is sent in plain text, the key too.
        key: shows servers that ask for one who calls.
    """

    def __init__(self, address: str, *, tls: Tls | None = None, key: str | None = None) -> None:
        self.address = address
        self._tls = tls
        self._metadata: Metadata = () if key is None else (("authorization", f"Bearer {key}"),)
        self._open: tuple[grpc.aio.Channel, ServiceStub] | None = None

    async def __aenter__(self) -> Self:
        """Prepare the connection; it is made when it is first needed."""
        if self._tls is None:
            channel = grpc.aio.insecure_channel(self.address, options=_CHANNEL_OPTIONS)
        else:
            credentials = grpc.ssl_channel_credentials(
                self._tls.root_certificates, self._tls.private_key, self._tls.certificate_chain
            )
            channel = grpc.aio.secure_channel(self.address, credentials, options=_CHANNEL_OPTIONS)
        self._open = (channel, ServiceStub(channel))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the connection; streams on it end."""
        await self._connection[0].close(None)
        self._open = None

    def stream(
        self, options: StreamOptions, *, timeout_s: float = _TIMEOUT_S, resume_s: float = _RESUME_S
    ) -> TranslationStream:
        """Return a stream to enter with ``async with``; entering fails where the server says nothing in time.

        With ``options.resumable`` it goes on over another connection when one breaks, which is tried for ``resume_s``.
        """
        return TranslationStream(self._connection[1], options, timeout_s, resume_s, self._metadata)

    async def translate(
        self,
        options: StreamOptions,
        sound: Sound | AsyncIterator[Sound],
        *,
        timeout_s: float = _TIMEOUT_S,
        resume_s: float = _RESUME_S,
    ) -> AsyncGenerator[StreamEvent, None]:
        """Send ``sound`` into a stream of its own and yield what comes back, both at once.

        Args:
            options: what is sent, and what is wanted.
            sound: a whole recording, or an asynchronous iterator of its pieces, such as a microphone's.
            timeout_s: how long the server may say nothing before it admits the stream.
            resume_s: how long a broken connection may be away before the stream fails; 0: a break ends it.

        Yields:
            :class:`Started` first, :class:`Summary` last; :class:`Resumed` where the connection was broken.

        Raises:
            ClientError: the server refused or ended the stream.
            Exception: whatever ``sound`` raised, at once.
        """
        lasting = replace(options, resumable=resume_s > 0)
        stream = self.stream(lasting, timeout_s=timeout_s, resume_s=resume_s)
        async with stream, aclosing(both_ways(stream, sound)) as events:
            async for event in events:
                yield event

    async def watch(
        self, viewer_token: str, language: str, *, session_id: str = ""
    ) -> AsyncGenerator[Event | Notice, None]:
        """Read along with somebody else's stream, in any language; yield complete captions, speech and notices.

        Args:
            viewer_token: ``started.viewer_token`` of the speaker's stream, or a signed token with the right `watch`.
            language: BCP-47; it may be one that nobody has asked for yet.
            session_id: which stream, where a signed token is for more than one.

        Raises:
            ClientError: the server refused, or ended the call before the stream was over.
        """
        call = self._connection[1].WatchCaptions(
            WatchRequest(viewer_token=viewer_token, language=language, session_id=session_id),
            metadata=self._metadata,
        )
        reducer = Reducer()
        try:
            async for response in call:
                if response.WhichOneof("event") == "notice":
                    yield notice_from_proto(response.notice)
                elif (event := reducer.reduce(response)) is not None:
                    yield event
        except grpc.aio.AioRpcError as error:
            raise client_error(error) from error
        finally:
            call.cancel()

    async def capabilities(self, *, timeout_s: float = _TIMEOUT_S) -> Capabilities:
        """Ask what the server offers.

        Raises:
            ClientError: the server refused, there is none, or it says nothing in time.
        """
        try:
            response = await self._connection[1].ListCapabilities(
                CapabilitiesRequest(), timeout=timeout_s, metadata=self._metadata
            )
        except grpc.aio.AioRpcError as error:
            raise client_error(error) from error
        return capabilities_from_proto(response)

    async def wait_ready(self, timeout_s: float = 60.0) -> None:
        """Wait until the server's health service says SERVING.

        Raises:
            Unavailable: it didn't in time.
            ClientError: what answers is no such server.
        """
        health = health_pb2_grpc.HealthStub(self._connection[0])
        request = health_pb2.HealthCheckRequest(service=SERVICE_NAME)
        deadline, pause_s, seen = time.monotonic() + timeout_s, 0.02, "no answer"
        while (left_s := deadline - time.monotonic()) > 0:
            try:
                status = (await health.Check(request, timeout=left_s, wait_for_ready=True)).status
            except grpc.aio.AioRpcError as error:
                if error.code() not in _WAITING:
                    raise client_error(error) from error
                seen = error.details() or error.code().name
            else:
                if status == health_pb2.HealthCheckResponse.SERVING:
                    return
                seen = health_pb2.HealthCheckResponse.ServingStatus.Name(status)
            await asyncio.sleep(min(pause_s, max(0.0, deadline - time.monotonic())))
            pause_s = min(2 * pause_s, 0.5)
        raise Unavailable(grpc.StatusCode.UNAVAILABLE, f"{self.address} was not ready within {timeout_s:g} s ({seen})")

    @property
    def _connection(self) -> tuple[grpc.aio.Channel, ServiceStub]:
        if self._open is None:
            raise RuntimeError("the client isn't open; use it in `async with TranslationClient(...) as client`")
        return self._open
