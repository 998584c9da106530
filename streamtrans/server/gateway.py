"""Calls over WebSockets, and the pages beside them: the same service, doors and limits as over gRPC.

```
/v1/stream         WebSocket: StreamTranslate     /v1/capabilities   GET: ListCapabilities
/v1/watch          WebSocket: WatchCaptions       /v1/stats          GET: GetStats
/v1/forget         POST: ForgetStream             /readyz            whether it takes streams now
/healthz           whether the process is well
/                  the pages of the folder page/   /page.json         where others find them
```
What GET answers is JSON, or protobuf where ``Accept: application/x-protobuf`` asks for it.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from functools import partial
from typing import Any

from aiohttp import web
from google.protobuf import json_format
from google.protobuf.message import Message

from streamtrans.core import BadConfig
from streamtrans.server.config import ServerConfig, Tls
from streamtrans.server.doors import Anteroom, Kind, admitted
from streamtrans.server.dropin import Desk, dropin_routes
from streamtrans.server.ending import ending
from streamtrans.server.http import Answer, metadata_of, peer_of
from streamtrans.server.kept import new_token, session_of
from streamtrans.server.link import Metadata
from streamtrans.server.listening import bound
from streamtrans.server.origins import Origins
from streamtrans.server.pages import page_routes
from streamtrans.server.refusal import invalid
from streamtrans.server.service import TranslationService
from streamtrans.server.sockets import Socket
from streamtrans.server.web_link import WebLink
from streamtrans.wire import FORMS, BadFields, ForgetRequest, JsonForm, ProtoForm, WatchRequest

_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "microphone=(self), camera=(), geolocation=()",
    "Referrer-Policy": "no-referrer",
    "Server": "streamtrans",
    "X-Content-Type-Options": "nosniff",
}
"""Of every answer. Scripts and styles come from here alone, and nobody may put the page into one of his."""

_RECEIVED_BYTES = 65_536
"""What the system keeps of a client that is held; larger lets it run further ahead of what is heard."""

_UNSENT_BYTES = 16_384
"""Beyond what the system takes, a message waits until its reader has read so far."""

_KEEPALIVE = {"TCP_KEEPIDLE": 20, "TCP_KEEPINTVL": 5, "TCP_KEEPCNT": 4}
"""Finds clients whose network vanished within 40 seconds, in seconds and tries; where the system can be told."""

_PING_S = 20.0
"""Who stands between cuts connections on which nothing is said, often after 60 s."""

_KEPT_OPEN_S = 15.0
"""How long a connection of pages is kept for the next request."""

_PROTOBUF = "application/x-protobuf"
"""How a message as protobuf is called where HTTP asks."""

_MOST_BODY_BYTES = 10_000

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Gateway:
    """What listens on the HTTP port of a server; enter it to listen.

    Args:
        config: where, and whom to admit.
        service: what is called.
        kinds: the places of short calls, which gRPC's callers have too.
        serving: whether streams are taken now.
    """

    def __init__(
        self,
        config: ServerConfig,
        service: TranslationService,
        kinds: dict[str, Kind],
        serving: Callable[[], bool],
    ) -> None:
        self.port = 0
        """Set once it listens."""
        self._config = config
        self._service = service
        self._kinds = kinds
        self._serving = serving
        self._origins = Origins(filter(None, map(str.strip, config.allow_origin.split(","))), config.http_host)
        self._sockets: dict[Socket, asyncio.Event] = {}
        """Those that are open, and what is set when they are over."""
        self._silent: set[asyncio.BaseProtocol] = set()
        """Connections that have asked for nothing yet."""
        self._undo = AsyncExitStack()
        self._pinging: asyncio.Task[None] | None = None

    async def listen(self) -> None:
        """Begin.

        Raises:
            BadConfig: the address can't be listened on, or a TLS file can't be read.
        """
        app = web.Application(middlewares=[self._note])
        app.on_response_prepare.append(_dress)
        app.router.add_get("/healthz", self._health)
        app.router.add_get("/readyz", self._ready)
        app.router.add_get("/v1/capabilities", self._capabilities)
        app.router.add_get("/v1/stats", self._stats)
        app.router.add_post("/v1/forget", self._forget)
        app.router.add_get("/v1/stream", self._stream)
        app.router.add_get("/v1/watch", self._watch)
        app.router.add_routes(dropin_routes(Desk(self._config, self._service, self._open, self._foreign)))
        app.router.add_routes(page_routes(self._config, lambda: self.port))
        runner = web.AppRunner(
            app, access_log=None, handler_cancellation=True, keepalive_timeout=_KEPT_OPEN_S, handle_signals=False
        )
        tls = _tls(self._config.tls) if self._config.tls is not None else None
        listener = bound(self._config.http_host, self._config.http_port or 0)
        _tune(listener)
        self.port = listener.getsockname()[1]
        await runner.setup()
        self._undo.push_async_callback(runner.cleanup)
        made = runner.server
        assert made is not None
        loop = asyncio.get_running_loop()
        server = await loop.create_server(lambda: self._connection(made), sock=listener, ssl=tls)
        self._undo.callback(server.close)
        self._pinging = asyncio.create_task(self._ping())
        self._undo.callback(self._pinging.cancel)

    async def close(self, within_s: float) -> None:
        """Let the calls that are open come to their ends within ``within_s``, then close everything."""
        with suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                while self._sockets:
                    await next(iter(self._sockets.values())).wait()
        await self._undo.aclose()

    def _connection(self, server: web.Server) -> asyncio.Protocol:
        """Return who serves a new connection: nobody where there are too many, and not for long who asks nothing."""
        if len(server.connections) >= self._config.max_web_connections:
            return _Full()
        handler = server()
        self._silent.add(handler)
        asyncio.get_running_loop().call_later(self._config.first_message_ms / 1000, self._look, handler)
        return handler

    def _look(self, handler: web.RequestHandler) -> None:
        if handler in self._silent:
            self._silent.discard(handler)
            handler.force_close()

    @web.middleware
    async def _note(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        self._silent.discard(request.protocol)
        return await handler(request)

    async def _health(self, _request: web.Request) -> web.Response:
        well = not self._service.failed.is_set()
        return web.Response(text="well\n" if well else "the engine has stopped\n", status=200 if well else 503)

    async def _ready(self, _request: web.Request) -> web.Response:
        ready = self._serving() and not self._service.draining
        return web.Response(text="ready\n" if ready else "not ready\n", status=200 if ready else 503)

    async def _capabilities(self, request: web.Request) -> web.Response:
        return await self._brief(request, "ListCapabilities", _at_once(self._service.capabilities))

    async def _stats(self, request: web.Request) -> web.Response:
        return await self._brief(request, "GetStats", _at_once(self._service.stats))

    async def _forget(self, request: web.Request) -> web.Response:
        """Delete what is kept of a stream. Its token comes in the body: addresses are written into logs."""
        if (refused := self._foreign(request)) is not None:
            return refused

        async def answer(metadata: Metadata) -> Message:
            asked = await self._anteroom.wait(partial(_asked, request), peer_of(request))
            return await self._service.forget(asked, metadata)

        return await self._brief(request, "ForgetStream", answer)

    async def _brief(
        self, request: web.Request, method: str, answer: Callable[[Metadata], Awaitable[Message]]
    ) -> web.Response:
        """Answer what takes no time, within the places that gRPC's callers have too."""
        told = Answer()
        name, kind = self._bounds(method)
        async with ending(name, told), admitted(kind, peer_of(request)):
            message = await answer(metadata_of(request) or ())
            if _PROTOBUF in request.headers.get("Accept", ""):
                return web.Response(body=message.SerializeToString(), content_type=_PROTOBUF)
            text = json_format.MessageToJson(message, indent=None, ensure_ascii=False)
            return web.Response(text=text, content_type="application/json")
        return told.response()

    async def _stream(self, request: web.Request) -> web.StreamResponse:
        async with self._socket(request) as (link, response):
            if link is not None:
                token = new_token()
                async with ending(f"session {session_of(token)}", link):
                    metadata = await self._who(request, link)
                    await self._service.stream(token, link, peer_of(request), metadata)
        return response

    async def _watch(self, request: web.Request) -> web.StreamResponse:
        async with self._socket(request) as (link, response):
            if link is not None:
                name, kind = self._bounds("WatchCaptions")
                async with ending(name, link), admitted(kind, peer_of(request)):
                    metadata = await self._who(request, link)
                    asked = await self._anteroom.wait(partial(link.request, WatchRequest), peer_of(request))
                    await self._service.watch(asked, link.write, metadata)
        return response

    async def _who(self, request: web.Request, link: WebLink) -> Metadata:
        """Return who calls, by the headers or by what he says first where that is asked for."""
        metadata = metadata_of(request)
        if metadata is None and self._service.asks_for_keys:
            metadata = await self._anteroom.wait(link.introduction, peer_of(request))
        return metadata or ()

    def _bounds(self, method: str) -> tuple[str, Kind]:
        return next((name, kind) for name, kind in self._kinds.items() if name.endswith(f"/{method}"))

    @property
    def _anteroom(self) -> Anteroom:
        return self._service.anteroom

    @asynccontextmanager
    async def _socket(self, request: web.Request) -> AsyncIterator[tuple[WebLink | None, web.StreamResponse]]:
        """Give a link over the WebSocket that is asked for, or only the answer that there is none, and why."""
        refused = self._refused(request)
        if refused is not None:
            yield None, refused
            return
        async with self._open(request, tuple(FORMS)) as (opened, response):
            protocol = response.ws_protocol if isinstance(response, web.WebSocketResponse) else None
            yield (None if opened is None else WebLink(opened, FORMS[protocol or ""]())), response

    @asynccontextmanager
    async def _open(
        self, request: web.Request, protocols: tuple[str, ...]
    ) -> AsyncIterator[tuple[Socket | None, web.StreamResponse]]:
        """Give the WebSocket that is asked for, or only the answer that there is none, and why."""
        refused = self._foreign(request)
        transport = request.transport
        if refused is not None or transport is None:
            yield None, refused or web.Response(status=400)
            return
        most = self._config.limits.max_message_bytes
        response = web.WebSocketResponse(
            protocols=protocols, compress=False, max_msg_size=2 * most, writer_limit=_UNSENT_BYTES, decode_text=False
        )
        await response.prepare(request)
        opened = Socket(response, transport, most)
        over = self._sockets[opened] = asyncio.Event()
        try:
            yield opened, response
        finally:
            del self._sockets[opened]
            over.set()

    def _foreign(self, request: web.Request) -> web.Response | None:
        """Turn away what a page of others asks for."""
        if not self._origins.admit(request.headers.get("Origin"), request.host):
            problem = f"pages of {request.headers['Origin']} may not call here; who runs the server may allow them"
            return web.Response(text=problem + " (--allow-origin)\n", status=403)
        return None

    def _refused(self, request: web.Request) -> web.Response | None:
        """Say why there can be no WebSocket, where that is so."""
        if (refused := self._foreign(request)) is not None:
            return refused
        offered = [name.strip() for name in request.headers.get("Sec-WebSocket-Protocol", "").split(",")]
        if not any(name in FORMS for name in offered):
            return web.Response(text=f"offer one of the subprotocols {', '.join(FORMS)}\n", status=400)
        return None

    async def _ping(self) -> None:
        while True:
            await asyncio.sleep(_PING_S)
            for each in tuple(self._sockets):
                await each.ping()


class _Full(asyncio.Protocol):
    """Who closes a connection at once."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport.close()


def _at_once(answer: Callable[[Metadata], Message]) -> Callable[[Metadata], Awaitable[Message]]:
    async def answered(metadata: Metadata) -> Message:
        return answer(metadata)

    return answered


async def _asked(request: web.Request) -> ForgetRequest:
    """Read what is to be forgotten.

    Raises:
        Refusal: the body is no such message.
    """
    if request.content_length is None or request.content_length > _MOST_BODY_BYTES:
        problem = f"a body of at most {_MOST_BODY_BYTES} bytes is expected, and its length in the headers"
        raise invalid([("message", problem)])
    body = await request.read()
    try:
        if request.content_type == _PROTOBUF:
            return ProtoForm().message(body, ForgetRequest)
        return JsonForm().message(body.decode(), ForgetRequest)
    except UnicodeDecodeError as error:
        raise invalid([("message", "the text is no UTF-8")]) from error
    except BadFields as error:
        raise invalid(error.fields) from error


async def _dress(_request: web.Request, response: web.StreamResponse) -> None:
    response.headers.update(_HEADERS)


def _tls(tls: Tls) -> ssl.SSLContext:
    """Return the context for files that gRPC has taken already."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    try:
        context.load_cert_chain(tls.certificate, tls.key, password="")
        if tls.client_roots is not None:
            context.load_verify_locations(tls.client_roots)
            context.verify_mode = ssl.CERT_REQUIRED
    except (OSError, ValueError) as error:
        raise BadConfig(f"a TLS file can't be read: {error}") from error
    context.set_alpn_protocols(["http/1.1"])
    return context


def _tune(listener: socket.socket) -> None:
    """Let what is accepted keep little, and find out who is gone."""
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVED_BYTES)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    options: Any = vars(socket)
    for name, value in _KEEPALIVE.items():
        if name in options:
            listener.setsockopt(socket.IPPROTO_TCP, options[name], value)
