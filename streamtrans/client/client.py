"""The way to a server."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from dataclasses import replace
from types import TracebackType
from typing import Self

import grpc

from streamtrans.client.both import UtteranceEnd, both_ways
from streamtrans.client.carrier import Carrier, Tls, carrier_to
from streamtrans.client.errors import Unavailable
from streamtrans.client.link import Link
from streamtrans.client.stream import Sound, StreamEvent, TranslationStream
from streamtrans.client.watching import watching
from streamtrans.core import Event
from streamtrans.wire import (
    Capabilities,
    ForgetRequest,
    Forgotten,
    Notice,
    StreamOptions,
    WatchRequest,
    WatchResponse,
    capabilities_from_proto,
    forgotten_from_proto,
)

_TIMEOUT_S = 30.0
"""How long a server is waited for that says nothing at all."""

_RESUME_S = 30.0
"""How long a server is tried to be reached again; servers keep broken streams as long, unless they say otherwise."""


class TranslationClient:
    """A connection to one server; use it as an async context manager.

    Args:
        address: ``host:port`` of gRPC, or ``ws://host:port``, ``wss://host:port`` of the port for HTTP.
        tls: encrypts the connection; without it everything but ``wss://`` is sent in plain text, the key too.
        key: shows servers that ask for one who calls.

    Raises:
        BadConfig: there can't be such a connection.
    """

    def __init__(self, address: str, *, tls: Tls | None = None, key: str | None = None) -> None:
        self.address = address
        self._way = carrier_to(address, tls, key)
        self._open = False

    async def __aenter__(self) -> Self:
        """Prepare the connection; it is made when it is first needed."""
        await self._way.open()
        self._open = True
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the connection; streams on it end."""
        await self._carrier.close()
        self._open = False

    def stream(
        self, options: StreamOptions, *, timeout_s: float = _TIMEOUT_S, resume_s: float = _RESUME_S
    ) -> TranslationStream:
        """Return a stream to enter with ``async with``; entering fails where the server says nothing in time.

        With ``options.resumable`` it goes on over another connection when one breaks, which is tried for ``resume_s``.
        """
        return TranslationStream(self._carrier.speak, options, timeout_s, resume_s)

    async def translate(
        self,
        options: StreamOptions,
        sound: Sound | AsyncIterator[Sound | UtteranceEnd],
        *,
        timeout_s: float = _TIMEOUT_S,
        resume_s: float = _RESUME_S,
    ) -> AsyncGenerator[StreamEvent, None]:
        """Send ``sound`` into a stream of its own and yield what comes back, both at once.

        Args:
            options: what is sent, and what is wanted.
            sound: a whole recording, or an asynchronous iterator of its pieces, such as a microphone's; an
                :class:`UtteranceEnd` among them closes the segment there.
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
        self, viewer_token: str, language: str, *, session_id: str = "", resume_s: float = _RESUME_S
    ) -> AsyncGenerator[Event | Notice, None]:
        """Read along with somebody else's stream, in any language; yield complete captions, speech and notices.

        Where the connection breaks, or the stream moves to another server, it goes on where it was: each final comes
        once, and a notice `CAPTIONS_MISSED` says where it was away for too long. In a language that nobody had asked
        for, finals of earlier segments may come after those of later ones.

        Args:
            viewer_token: ``started.viewer_token`` of the speaker's stream, or a signed token with the right `watch`.
            language: BCP-47; it may be one that nobody has asked for yet.
            session_id: which stream, where a signed token is for more than one.
            resume_s: how long a broken connection may be away; 0: a break is an error.

        Raises:
            ClientError: the server refused, or the stream stopped before its end.
        """
        request = WatchRequest(viewer_token=viewer_token, language=language, session_id=session_id)
        async with aclosing(watching(self._watch, request, resume_s)) as events:
            async for event in events:
                yield event

    async def _watch(self, request: WatchRequest) -> AsyncGenerator[WatchResponse, None]:
        link = Link(self._carrier.watch())
        try:
            await link.write(request, last=True)
            while (response := await link.read()) is not None:
                yield response
        finally:
            await link.close()

    async def capabilities(self, *, timeout_s: float = _TIMEOUT_S) -> Capabilities:
        """Ask what the server offers.

        Raises:
            ClientError: the server refused, there is none, or it says nothing in time.
        """
        return capabilities_from_proto(await self._carrier.capabilities(timeout_s))

    async def forget(self, resume_token: str, *, timeout_s: float = _TIMEOUT_S) -> Forgotten:
        """Have all deleted that is kept of a stream, its texts and its recording; one that still runs is ended.

        Args:
            resume_token: ``started.resume_token`` of the stream, however long ago it ended.
            timeout_s: how long the server may say nothing.

        Returns:
            What there was, and isn't any more.

        Raises:
            ClientError: the server refused, there is none, or it says nothing in time.
        """
        return forgotten_from_proto(await self._carrier.forget(ForgetRequest(resume_token=resume_token), timeout_s))

    async def wait_ready(self, timeout_s: float = 60.0) -> None:
        """Wait until the server says that it serves.

        Raises:
            Unavailable: it didn't in time.
            ClientError: what answers is no such server.
        """
        deadline, pause_s, seen = time.monotonic() + timeout_s, 0.02, "no answer"
        while (left_s := deadline - time.monotonic()) > 0:
            missing = await self._carrier.missing(left_s)
            if missing is None:
                return
            seen = missing
            await asyncio.sleep(min(pause_s, max(0.0, deadline - time.monotonic())))
            pause_s = min(2 * pause_s, 0.5)
        raise Unavailable(grpc.StatusCode.UNAVAILABLE, f"{self.address} was not ready within {timeout_s:g} s ({seen})")

    @property
    def _carrier(self) -> Carrier:
        if not self._open:
            raise RuntimeError("the client isn't open; use it in `async with TranslationClient(...) as client`")
        return self._way
