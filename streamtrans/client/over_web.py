"""The way to a server over WebSockets, one for each call, and HTTP for what is asked once."""

from __future__ import annotations

import asyncio
import ssl
import tempfile
from collections.abc import Callable, Coroutine, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Generic, TypeVar

import aiohttp
import grpc
from google.protobuf.message import DecodeError, Message

from streamtrans.client.carrier import CallOver, Status, Tls
from streamtrans.client.errors import Unavailable, error_of
from streamtrans.core import BadConfig
from streamtrans.wire import (
    BadFields,
    CapabilitiesResponse,
    ForgetRequest,
    ForgetResponse,
    Form,
    Frame,
    ProtoForm,
    ServerMessage,
    StatsResponse,
    WatchResponse,
    status_in,
)

Told = TypeVar("Told", bound=Message)

_SILENT_S = 45.0
"""A server pings every 20 s; of whom nothing comes for longer is gone."""

_PARTING_S = 0.5
"""How long a server may take to close its side of what is left."""

_APPLICATION_CODES = 4_000
"""Closing codes from here on: this and a status code."""

_TOO_BIG = 1_009
"""The closing code for a message that is far too long (RFC 6455, 7.4.1)."""

_OK = 200

_PROTOBUF = "application/x-protobuf"

_CODES: dict[int, grpc.StatusCode] = {code.value[0]: code for code in grpc.StatusCode}

_HTTP = {
    401: grpc.StatusCode.UNAUTHENTICATED,
    403: grpc.StatusCode.PERMISSION_DENIED,
    400: grpc.StatusCode.UNIMPLEMENTED,
    404: grpc.StatusCode.UNIMPLEMENTED,
}
"""Answers of what is no such server, or stands before one; all others may pass."""

_SCHEMES = {"ws": "http", "wss": "https"}


class WebCarrier:
    """A :class:`~streamtrans.client.carrier.Carrier` to ``ws://host:port``, or ``wss://`` with any path before ours.

    Raises:
        BadConfig: the address is none, or certificates can't be read.
    """

    def __init__(self, address: str, tls: Tls | None, key: str | None) -> None:
        scheme, _, rest = address.partition("://")
        if not rest.strip("/"):
            raise BadConfig(f"{address} names no server: write {scheme}://host:port")
        self._base = f"{_SCHEMES[scheme]}://{rest.rstrip('/')}"
        self._address = address
        self._ssl = _context(tls or Tls()) if scheme == "wss" else None
        self._headers = {} if key is None else {"Authorization": f"Bearer {key}"}
        self.form: Callable[[], Form] = ProtoForm
        """How messages are framed."""
        self._session: aiohttp.ClientSession

    async def open(self) -> None:
        """Prepare what connections are made with."""
        connector = aiohttp.TCPConnector(limit=0, ssl=self._ssl or True)
        self._session = aiohttp.ClientSession(connector=connector, headers=self._headers)

    async def close(self) -> None:
        """Close all connections."""
        await self._session.close()

    def speak(self) -> WebCall[ServerMessage]:
        """Begin a call of a speaker."""
        return self._call("stream", ServerMessage)

    def watch(self) -> WebCall[WatchResponse]:
        """Begin a call of a viewer."""
        return self._call("watch", WatchResponse)

    async def capabilities(self, timeout_s: float) -> CapabilitiesResponse:
        """Ask what is offered."""
        return await self._ask("capabilities", CapabilitiesResponse, timeout_s)

    async def stats(self, timeout_s: float) -> StatsResponse:
        """Ask how one's streams are getting on."""
        return await self._ask("stats", StatsResponse, timeout_s)

    async def forget(self, request: ForgetRequest, timeout_s: float) -> ForgetResponse:
        """Have a stream deleted."""
        return await self._ask("forget", ForgetResponse, timeout_s, request)

    async def missing(self, timeout_s: float) -> str | None:
        """Return what ``/readyz`` says but yes."""
        try:
            async with asyncio.timeout(timeout_s):
                status, said = await self.get("/readyz")
        except (Unavailable, TimeoutError) as error:
            return str(error) or "no answer"
        if status in _HTTP:
            raise error_of(*_http(self._address, status))
        return None if status == _OK else said.decode(errors="replace").strip()

    def _call(self, path: str, kind: type[Told]) -> WebCall[Told]:
        form = self.form()
        return WebCall(self._connect(path, form.subprotocol), form, kind, self._address)

    async def _connect(self, path: str, subprotocol: str) -> aiohttp.ClientWebSocketResponse:
        return await self._session.ws_connect(
            f"{self._base}/v1/{path}",
            protocols=(subprotocol,),
            timeout=aiohttp.ClientWSTimeout(ws_receive=_SILENT_S, ws_close=_PARTING_S),
        )

    async def get(self, path: str, headers: Mapping[str, str] | None = None) -> tuple[int, bytes]:
        """Return status and body of what HTTP answers.

        Raises:
            ClientError: nothing does.
        """
        return await self._request("GET", path, headers)

    async def _request(
        self, method: str, path: str, headers: Mapping[str, str] | None, body: bytes | None = None
    ) -> tuple[int, bytes]:
        try:
            async with self._session.request(method, self._base + path, headers=headers, data=body) as answer:
                return answer.status, await answer.read()
        except (aiohttp.ClientError, ConnectionError) as error:
            raise error_of(*_unreachable(self._address, error)) from error

    async def _ask(self, path: str, kind: type[Told], timeout_s: float, asked: Message | None = None) -> Told:
        """Return the answer to what needs no message, or to ``asked``."""
        method, sent = ("GET", None) if asked is None else ("POST", asked.SerializeToString())
        headers = {"Accept": _PROTOBUF, "Content-Type": _PROTOBUF}
        try:
            async with asyncio.timeout(timeout_s):
                status, body = await self._request(method, f"/v1/{path}", headers, sent)
        except TimeoutError as error:
            problem = f"{self._address} said nothing within {timeout_s:g} s"
            raise error_of(grpc.StatusCode.DEADLINE_EXCEEDED, problem, ()) from error
        if status == _OK:
            try:
                return kind.FromString(body)
            except DecodeError as error:
                raise error_of(*_nonsense(self._address, str(error))) from error
        said = status_in(body.decode(errors="replace"))
        raise error_of(*(_http(self._address, status) if said is None else _status(*said)))


class WebCall(Generic[Told]):
    """A :class:`~streamtrans.client.carrier.Call` over a WebSocket that ``connecting`` opens."""

    def __init__(
        self,
        connecting: Coroutine[Any, Any, aiohttp.ClientWebSocketResponse],
        form: Form,
        kind: type[Told],
        address: str,
    ) -> None:
        self._opening = asyncio.ensure_future(connecting)
        self._form, self._kind, self._address = form, kind, address
        self._status: Status | None = None

    async def write(self, message: Message | Frame, *, last: bool = False) -> None:  # noqa: ARG002 - messages say it
        """Send ``message``."""
        if self._status is not None:
            raise CallOver
        socket = await self._socket()
        frame = self._form.frame(message) if isinstance(message, Message) else message
        try:
            await (socket.send_str(frame) if isinstance(frame, str) else socket.send_bytes(frame))
        except (aiohttp.ClientError, ConnectionError) as error:
            raise CallOver from error

    async def read(self) -> Told | None:
        """Return the next message."""
        try:
            return await self._next()
        except CallOver:
            return None

    async def status(self) -> Status:
        """Return how the call ended."""
        while self._status is None:
            await self.read()
        return self._status

    async def closed(self) -> int | None:
        """Return the code that the connection closes with, once the call is over; ``None``: with none."""
        socket = await self._socket()
        while (await socket.receive()).type in (aiohttp.WSMsgType.TEXT, aiohttp.WSMsgType.BINARY):
            pass
        return socket.close_code

    async def close(self) -> None:
        """Close the connection."""
        if not self._opening.done():
            self._opening.cancel()
            await asyncio.wait([self._opening])
        if self._opening.cancelled() or self._opening.exception() is not None:
            return
        with suppress(TimeoutError):
            async with asyncio.timeout(_PARTING_S):
                await self._opening.result().close()

    async def _next(self) -> Told:
        if self._status is not None:
            raise CallOver
        socket = await self._socket()
        try:
            frame = await socket.receive()
        except TimeoutError as error:
            raise self._over(_unreachable(self._address, error)) from error
        if frame.type not in (aiohttp.WSMsgType.TEXT, aiohttp.WSMsgType.BINARY):
            raise self._over(_closed(self._address, socket.close_code, frame))
        if (said := status_in(frame.data)) is not None:
            raise self._over(_status(*said))
        try:
            return self._form.message(frame.data, self._kind)
        except BadFields as error:
            raise self._over(_nonsense(self._address, str(error))) from error

    async def _socket(self) -> aiohttp.ClientWebSocketResponse:
        """Wait until the connection is made.

        Raises:
            CallOver: it can't be.
        """
        try:
            socket = await asyncio.shield(self._opening)
        except aiohttp.WSServerHandshakeError as error:
            raise self._over(_http(self._address, error.status)) from error
        except (aiohttp.ClientError, OSError) as error:
            raise self._over(_unreachable(self._address, error)) from error
        if socket.protocol != self._form.subprotocol:
            raise self._over((grpc.StatusCode.UNIMPLEMENTED, f"{self._address} doesn't speak as we do", ()))
        return socket

    def _over(self, status: Status) -> CallOver:
        self._status = status
        return CallOver()


def _status(number: int, message: str, details: tuple[Any, ...]) -> Status:
    return _CODES.get(number, grpc.StatusCode.UNKNOWN), message, details


def _closed(address: str, code: int | None, frame: aiohttp.WSMessage) -> Status:
    """Return what the end of a connection means before which no status came."""
    number = (code or 0) - _APPLICATION_CODES
    if number in _CODES:
        return _CODES[number], str(frame.extra or ""), ()
    if code == _TOO_BIG:
        return grpc.StatusCode.RESOURCE_EXHAUSTED, f"a message is too long for {address}", ()
    return grpc.StatusCode.UNAVAILABLE, f"the connection to {address} broke, and no status came", ()


def _unreachable(address: str, error: Exception) -> Status:
    why = str(error) or "it says nothing"
    return grpc.StatusCode.UNAVAILABLE, f"{address} can't be reached: {why}", ()


def _http(address: str, status: int) -> Status:
    code = _HTTP.get(status, grpc.StatusCode.UNAVAILABLE)
    return code, f"{address} takes no such call: it answers HTTP {status}", ()


def _nonsense(address: str, problem: str) -> Status:
    return grpc.StatusCode.INTERNAL, f"{address} sends what is no message: {problem}", ()


def _context(tls: Tls) -> ssl.SSLContext:
    """Return how connections are encrypted, and who is believed.

    Raises:
        BadConfig: there is something that can't be read.
    """
    try:
        context = ssl.create_default_context(cadata=tls.root_certificates.decode() if tls.root_certificates else None)
        if tls.certificate_chain is not None:
            with tempfile.TemporaryDirectory() as folder:  # ssl reads files only
                path = Path(folder, "client.pem")
                path.touch(mode=0o600)
                path.write_bytes(tls.certificate_chain + b"\n" + (tls.private_key or b""))
                context.load_cert_chain(path, password="")
    except (OSError, ValueError) as error:
        raise BadConfig(f"a TLS certificate or key can't be read: {error}") from error
    return context
