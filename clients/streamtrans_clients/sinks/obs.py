"""OBS Studio, by obs-websocket 5: a text source, or captions inside the stream (CEA-608).

https://github.com/obsproject/obs-websocket/blob/master/docs/generated/protocol.md
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
from types import TracebackType
from typing import Any, Self
from urllib.parse import unquote, urlsplit

import aiohttp

from streamtrans.client import Caption
from streamtrans_clients.sinks.lines import Pieces, Roll
from streamtrans_clients.sinks.sink import PAUSES_S, Place, Sink, SinkError

_HELLO, _IDENTIFY, _IDENTIFIED, _REQUEST, _ANSWER = 0, 1, 2, 6, 7
"""Kinds of messages (``WebSocketOpCode``)."""

_VERSION = 1
"""Of the calls that we know."""

_AUTHENTICATION_FAILED = 4009
"""With what OBS closes the connection where the password is wrong."""

_NO_SUCH_SOURCE, _OUTPUT_NOT_RUNNING = 600, 501
"""Status of a request."""

_ANSWER_S = 5.0

_NO_EVENTS = 0


class Obs(Sink):
    """A connection to OBS at ``ws://:PASSWORD@HOST:PORT/…``; one that breaks is made again with the next text."""

    def __init__(self, place: Place, language: str) -> None:
        super().__init__(place, language)
        parts = urlsplit(place.text if "//" in place.text else f"ws://{place.text}")
        if parts.scheme not in ("ws", "wss") or not parts.hostname:
            raise SinkError(f"{place.kind} needs an address such as ws://localhost:4455/Captions")
        self._address = f"{parts.scheme}://{parts.hostname}:{parts.port or 4455}"
        self._password = unquote(parts.password or "")
        self._source = unquote(parts.path.strip("/"))
        self._asked = 0
        self._socket: aiohttp.ClientWebSocketResponse | None = None

    async def __aenter__(self) -> Self:
        """Connect."""
        self._session = aiohttp.ClientSession()
        try:
            await self._connected()
        except SinkError:
            await self._session.close()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the connection."""
        await self._leave()
        await self._session.close()

    async def request(self, kind: str, data: dict[str, Any]) -> dict[str, Any]:
        """Ask OBS to do something; return the status of its answer. A connection that breaks is made again.

        Raises:
            SinkError: OBS is gone.
        """
        for pause_s in PAUSES_S:
            try:
                async with asyncio.timeout(_ANSWER_S):
                    return await self._answer(kind, data)
            except (TimeoutError, ConnectionError, aiohttp.ClientError, SinkError) as error:
                problem = error
            await self._leave()
            await asyncio.sleep(pause_s)
        raise SinkError(f"OBS at {self._address} answers no more ({problem})")

    async def _answer(self, kind: str, data: dict[str, Any]) -> dict[str, Any]:
        socket = await self._connected()
        self._asked += 1
        number = str(self._asked)
        await socket.send_json({"op": _REQUEST, "d": {"requestType": kind, "requestId": number, "requestData": data}})
        while (answer := await _message(socket)) is not None:
            if answer["op"] != _ANSWER or answer["d"].get("requestId", number) != number:
                continue
            match answer["d"].get("requestStatus"):
                case {"code": int(), "result": bool()} as status:
                    return dict(status)
            raise SinkError("it answers otherwise than obs-websocket of version 5 does")
        raise ConnectionError("the connection has ended")

    async def _leave(self) -> None:
        if self._socket is not None:
            await self._socket.close()
            self._socket = None

    async def _connected(self) -> aiohttp.ClientWebSocketResponse:
        if self._socket is not None and not self._socket.closed:
            return self._socket
        try:
            async with asyncio.timeout(_ANSWER_S):
                self._socket = await self._session.ws_connect(self._address, protocols=("obswebsocket.json",))
                await self._identify(self._socket)
        except (TimeoutError, aiohttp.ClientError) as error:
            await self._leave()
            raise SinkError(
                f"no OBS answers at {self._address}: is it running, with Tools → WebSocket Server Settings → Enable"
                " WebSocket server?"
            ) from error
        except SinkError:
            await self._leave()
            raise
        return self._socket

    async def _identify(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        hello = await _message(socket)
        if hello is None or hello["op"] != _HELLO:
            raise SinkError(f"{self._address} is no obs-websocket of version 5; OBS has it since version 28")
        asked: dict[str, Any] = {"rpcVersion": _VERSION, "eventSubscriptions": _NO_EVENTS}
        challenge = hello["d"].get("authentication")
        if challenge is not None:
            if not self._password:
                raise SinkError(
                    f"OBS at {self._address} wants a password: ws://:PASSWORD@…, kept in a file and given as @FILE"
                )
            match challenge:
                case {"salt": str(salt), "challenge": str(text)}:
                    asked["authentication"] = proof(self._password, salt, text)
                case _:
                    raise SinkError(
                        f"{self._address} asks for a password otherwise than obs-websocket of version 5 does"
                    )
        await socket.send_json({"op": _IDENTIFY, "d": asked})
        answer = await _message(socket)
        if answer is None and socket.close_code == _AUTHENTICATION_FAILED:
            raise SinkError(f"OBS at {self._address} refuses the password; it is in Tools → WebSocket Server Settings")
        if answer is None or answer["op"] != _IDENTIFIED:
            raise SinkError(f"OBS at {self._address} refuses us (it closes with {socket.close_code})")


class ObsText(Obs):
    """The newest two lines in a text source, ``ws://localhost:4455/NAME``; what may still change is shown too.

    Options: ``lines`` (2) and ``columns`` (42) of what is shown.
    """

    def __init__(self, place: Place, language: str) -> None:
        super().__init__(place, language)
        if not self._source:
            raise SinkError(f"{place.kind} needs the name of a text source behind the address: {self._address}/NAME")
        size = place.numbers(lines=2, columns=42)
        self._roll = Roll(max(1, round(size["lines"])), max(1, round(size["columns"])))
        self._seen: str | None = None

    async def __aenter__(self) -> Self:
        """Connect, and clear the source."""
        await super().__aenter__()
        try:
            await self._set("")
        except SinkError:
            await self.__aexit__(None, None, None)
            raise
        return self

    async def show(self, caption: Caption, speaker: str) -> None:
        """Set the text of the source, where it changes."""
        await self._set(self._roll.show(caption, speaker))

    async def _set(self, text: str) -> None:
        if text == self._seen:
            return
        data = {"inputName": self._source, "inputSettings": {"text": text}, "overlay": True}
        status = await self.request("SetInputSettings", data)
        if status["code"] == _NO_SUCH_SOURCE:
            raise SinkError(f"OBS has no source {self._source!r}: add a text source of that name to a scene")
        if not status["result"]:
            raise SinkError(f"OBS can't set the text of {self._source!r}: {status.get('comment', status['code'])}")
        self._seen = text


class ObsCaptions(Obs):
    """Captions that viewers of the stream turn on and off themselves; promised text alone, for they can't be changed.

    While OBS isn't streaming there is nowhere for them to go, and they are left out.
    """

    def __init__(self, place: Place, language: str) -> None:
        super().__init__(place, language)
        place.numbers()
        self._pieces = Pieces(32)  # columns of CEA-608

    async def show(self, caption: Caption, speaker: str) -> None:
        """Send what is newly promised, a line each."""
        for piece in self._pieces.of(caption, speaker):
            status = await self.request("SendStreamCaption", {"captionText": piece})
            if not status["result"] and status["code"] != _OUTPUT_NOT_RUNNING:
                raise SinkError(f"OBS takes no captions: {status.get('comment', status['code'])}")


def proof(password: str, salt: str, challenge: str) -> str:
    """Return what shows that one knows the password, without telling it."""
    secret = base64.b64encode(hashlib.sha256((password + salt).encode()).digest()).decode()
    return base64.b64encode(hashlib.sha256((secret + challenge).encode()).digest()).decode()


async def _message(socket: aiohttp.ClientWebSocketResponse) -> dict[str, Any] | None:
    """Return the next message, ``None`` where the connection has ended."""
    frame = await socket.receive()
    if frame.type is not aiohttp.WSMsgType.TEXT:
        return None
    try:
        message = json.loads(frame.data)
    except ValueError:
        return None
    return message if isinstance(message, dict) and isinstance(message.get("d"), dict) and "op" in message else None
