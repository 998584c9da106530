"""The service: who is let in, and how every call ends with a status."""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn, TypeVar

import grpc

import streamtrans
from streamtrans import audio
from streamtrans.core import EngineClosed
from streamtrans.server.call import Call, read
from streamtrans.server.config import Served, ServerConfig
from streamtrans.server.grpc_link import Context, GrpcLink
from streamtrans.server.link import Link
from streamtrans.server.live import LiveSession
from streamtrans.server.opening import open_stream
from streamtrans.server.refusal import Refusal, exhausted, internal, refusal_in, unavailable
from streamtrans.wire import (
    MODES,
    Capabilities,
    CapabilitiesRequest,
    CapabilitiesResponse,
    capabilities_to_proto,
)

Asked = TypeVar("Asked")
Told = TypeVar("Told")

_log = logging.getLogger(__name__)


class TranslationService:
    """The methods of ``streamtrans.v1.TranslationService``, under the names that gRPC looks for."""

    def __init__(self, config: ServerConfig) -> None:
        self.served: Served | None = None
        """Set once the model is warm."""
        self.draining = False
        """Set before the server stops: no new call is admitted."""
        self.failed = asyncio.Event()
        """Set when the engine is found to have stopped though nobody stopped the server; it stays so."""
        self.active_sessions = 0
        self._config = config

    async def StreamTranslate(self, _messages: object, context: Context) -> None:
        """Serve one stream."""
        session_id, link = uuid.uuid4().hex, GrpcLink(context)
        try:
            await self._stream(session_id, link)
        except Exception as error:  # the RPC boundary: whatever it is, the client gets a status
            await _end(session_id, error, link)

    async def ListCapabilities(
        self,
        _request: CapabilitiesRequest,
        context: grpc.aio.ServicerContext[CapabilitiesRequest, CapabilitiesResponse],
    ) -> CapabilitiesResponse:
        """Say what is offered."""
        try:
            served = self._ready()
        except Refusal as refusal:
            await _abort(refusal, context)
        return capabilities_to_proto(
            Capabilities(
                model=served.model_name,
                languages=served.languages,
                encodings=audio.ENCODINGS,
                vads=served.vads,
                modes=tuple(MODES),
                limits=self._config.limits,
                min_sample_rate_hertz=audio.MIN_RATE,
                max_sample_rate_hertz=audio.MAX_RATE,
                max_channels=audio.MAX_CHANNELS,
                server_version=streamtrans.__version__,
                translations=served.translations,
            )
        )

    async def _stream(self, session_id: str, link: Link) -> None:
        served = self._ready()
        limits = self._config.limits
        self._refuse_when_full()  # a client that is turned away should hear it before it says anything
        deadline = asyncio.get_running_loop().time() + limits.idle_ms / 1000
        opening = open_stream(await read(link, limits, deadline), served, self._config)
        with self._slot():
            _log.info("session %s: %s → %s", session_id, opening.session.source, opening.session.targets)
            live = LiveSession(session_id, opening, served, self._config)
            try:
                await Call(live, link, self._config).run()
            except* EngineClosed:
                raise self._stopped() from None
            finally:
                await live.close()

    def _ready(self) -> Served:
        if self.failed.is_set():
            raise self._stopped()
        if self.draining:
            raise unavailable("the server is shutting down", self._config.retry_after_ms)
        if self.served is None:
            raise unavailable("the model is not warm yet", self._config.retry_after_ms)
        return self.served

    def _stopped(self) -> Refusal:
        """Say why the engine answers no more; unless the server is leaving, it has failed, which is noted once."""
        retry_after_ms = self._config.retry_after_ms
        if not self.failed.is_set():
            if self.draining:
                return unavailable("the server is shutting down", retry_after_ms)
            _log.error("the engine has stopped by itself; every call is refused until the server is restarted")
            self.failed.set()
        return unavailable("the engine has stopped; call again once the server has been restarted", retry_after_ms)

    def _refuse_when_full(self) -> None:
        config = self._config
        if self.active_sessions >= config.max_sessions:
            raise exhausted(f"all {config.max_sessions} sessions are taken", config.retry_after_ms)

    @contextmanager
    def _slot(self) -> Iterator[None]:
        self._refuse_when_full()
        self.active_sessions += 1
        try:
            yield
        finally:
            self.active_sessions -= 1


async def _end(session_id: str, error: Exception, link: Link) -> None:
    """End a call that failed: as a refusal says, or, for anything else, without a word of what happened."""
    if link.gone:
        _log.info("session %s: the client went away", session_id)
        return
    refusal = refusal_in(error)
    if refusal is None:
        _log.error("session %s failed", session_id, exc_info=error)
        refusal = internal(session_id)
    else:
        _log.info("session %s: %s, %s", session_id, refusal.code.name, refusal.message)
    await link.close(refusal)


async def _abort(refusal: Refusal, context: grpc.aio.ServicerContext[Asked, Told]) -> NoReturn:
    status = refusal.status()
    await context.abort(status.code, status.details, status.trailing_metadata)
