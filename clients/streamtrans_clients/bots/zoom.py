"""Zoom: what is said in a meeting, by Realtime Media Streams, with captions for its participants.

A Zoom app with RTMS is granted by the host; Zoom then calls ``POST /zoom`` (``meeting.rtms_started``), and this program
calls Zoom back: a signaling connection, which leads to a media connection, over which each participant's sound comes.

https://developers.zoom.us/docs/rtms/event-reference/
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import hashlib
import hmac
import json
import time
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp import web

from streamtrans_clients.bots.hall import Hall, reader, run
from streamtrans_clients.bots.meeting import Meeting
from streamtrans_clients.options import tell
from streamtrans_clients.sinks import SinkError
from streamtrans_clients.sources import SourceError


class _Kind(IntEnum):
    """Of messages (``RTMS_MESSAGE_TYPE``)."""

    SIGNALING = 1
    SIGNALED = 2
    MEDIA = 3
    MEDIATED = 4
    READY = 7
    STATE = 8
    ALIVE_ASKED = 12
    ALIVE = 13
    SOUND = 14
    LEAVE = 21


_TERMINATED = 4
"""A state of the stream (``RTMS_STREAM_STATE``)."""

_SOUND_ALONE = 1
"""``MEDIA_DATA_TYPE``"""

_FORM = {"content_type": 2, "sample_rate": 1, "channel": 1, "codec": 1, "data_opt": 2, "send_rate": 100}
"""Raw samples of 16 bits at 16 kHz, one channel, of each participant alone, every 100 ms."""

_ANSWER_S = 10.0

_AWAY_S = 60.0
"""How long Zoom keeps a stream whose connection has broken, and the sound meanwhile."""

_SILENCE_S = 65.0
"""After so long without a word a connection is to be made again, says Zoom."""

_PAUSE_S = 1.0
"""Before a broken connection is made again."""

_STALE_S = 300.0
"""A call of Zoom's that is older may be somebody's who has listened."""

_STATUS = {
    "2": "Zoom doesn't know the stream any more",
    "3": "Zoom refuses our signature: are client_id and client_secret those of the app?",
    "8": "another program hears this meeting for the same app",
    "16": "another program hears this meeting for the same app",
}
"""``RTMS_STATUS_CODE``"""

EXAMPLES = """\
examples:
  python -m streamtrans_clients.bots.zoom --app zoom.toml --to de zoom:@address.txt
                           German captions in the meeting; address.txt holds the API
                           token that the host copied, zoom.toml the app's client_id,
                           client_secret and secret_token
  python -m streamtrans_clients.bots.zoom --app zoom.toml --to en --reads Anna=de \\
    'en={meeting}.vtt'
                           subtitles of each meeting
"""


class RtmsError(Exception):
    """A meeting can't be heard; the message says why."""


@dataclass(frozen=True, slots=True)
class App:
    """What Zoom knows an app by, from its page in Zoom's marketplace."""

    client_id: str
    client_secret: str
    secret_token: str

    @classmethod
    def of(cls, path: Path) -> App:
        """Read a file of three lines, such as ``client_id = "…"``.

        Raises:
            SourceError: it isn't one.
        """
        try:
            found = tomllib.loads(path.read_text(encoding="utf-8"))
            return cls(found["client_id"], found["client_secret"], found["secret_token"])
        except (tomllib.TOMLDecodeError, KeyError) as error:
            raise SourceError(
                f'{path} has to hold client_id = "…", client_secret = "…" and secret_token = "…" ({error})'
            ) from error

    def signature(self, meeting: str, stream: str) -> str:
        """Return what opens a stream."""
        return hmac.new(
            self.client_secret.encode(), f"{self.client_id},{meeting},{stream}".encode(), hashlib.sha256
        ).hexdigest()

    def proof(self, message: str) -> str:
        """Return what only Zoom and we can say of a message."""
        return hmac.new(self.secret_token.encode(), message.encode(), hashlib.sha256).hexdigest()


class Zoom:
    """What Zoom calls, and the meetings that are heard."""

    def __init__(self, hall: Hall) -> None:
        self._hall = hall
        self._app = App.of(hall.options.app)
        self._heard: dict[str, asyncio.Task[None]] = {}

    def routes(self) -> Iterable[web.RouteDef]:
        """Return where it is called."""
        yield web.post("/zoom", self.call)

    async def call(self, request: web.Request) -> web.Response:
        """Take an event; who isn't Zoom is refused."""
        body = (await request.read()).decode(errors="replace")
        stamp = request.headers.get("x-zm-request-timestamp", "")
        proof = f"v0={self._app.proof(f'v0:{stamp}:{body}')}"
        fresh = stamp.isdigit() and abs(time.time() - _seconds(int(stamp))) < _STALE_S
        if not fresh or not hmac.compare_digest(proof, request.headers.get("x-zm-signature", "")):
            raise web.HTTPUnauthorized(text="the signature isn't Zoom's, for the secret_token in --app\n")
        try:
            message = json.loads(body)
            event, payload = message["event"], message["payload"]
            about = payload.get("object", payload)
            if event == "endpoint.url_validation":
                token = payload["plainToken"]
                return web.json_response({"plainToken": token, "encryptedToken": self._app.proof(token)})
            if event.endswith(".rtms_started"):
                self._begin(about["meeting_uuid"], about["rtms_stream_id"], about["server_urls"].split(",")[0])
            elif event.endswith(".rtms_stopped") and (task := self._heard.get(about["rtms_stream_id"])) is not None:
                task.cancel()
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise web.HTTPBadRequest(text=f"the event is malformed: {error!r}\n") from error
        return web.Response()

    def _begin(self, meeting: str, stream: str, address: str) -> None:
        if not isinstance(meeting, str) or not isinstance(stream, str):
            raise TypeError("meeting_uuid and rtms_stream_id are texts")
        if stream not in self._heard:  # Zoom calls again where it missed our answer
            task = self._heard[stream] = self._hall.begin(self._attend(meeting, stream, address))
            task.add_done_callback(lambda _: self._heard.pop(stream, None))

    async def _attend(self, name: str, stream: str, address: str) -> None:
        with suppress(asyncio.CancelledError):
            try:
                async with self._hall.meeting(name) as meeting:
                    rtms = Rtms(self._app, name, stream, self._hall, meeting)
                    await self._hall.until_closing(rtms.attend(address))
            except (RtmsError, SinkError) as error:
                tell(f"{name}: {error}")


class Rtms:
    """One stream: the sound of a meeting, over as many connections as it takes."""

    def __init__(self, app: App, meeting_uuid: str, stream: str, hall: Hall, meeting: Meeting) -> None:
        self._app = app
        self._who = {
            "meeting_uuid": meeting_uuid,
            "rtms_stream_id": stream,
            "signature": app.signature(meeting_uuid, stream),
        }
        self._stream = stream
        self._hall = hall
        self._meeting = meeting
        self._over = False

    async def attend(self, address: str) -> None:
        """Hear the stream to its end; a connection that breaks is made again.

        Raises:
            RtmsError: Zoom refuses, or isn't there for a minute.
        """
        broken = time.monotonic()
        async with aiohttp.ClientSession() as session:
            while not self._over:
                try:
                    await self._connect(session, address)
                    broken = time.monotonic()  # it was heard until now
                except (TimeoutError, aiohttp.ClientError, ConnectionError) as error:
                    if time.monotonic() - broken > _AWAY_S:
                        raise RtmsError(f"Zoom's media server can't be reached ({type(error).__name__})") from error
                if not self._over:
                    await asyncio.sleep(_PAUSE_S)

    async def _connect(self, session: aiohttp.ClientSession, address: str) -> None:
        """Shake hands twice, and hear until a connection ends."""
        async with session.ws_connect(address, timeout=_CLOSE) as signaling:
            hello = {"msg_type": _Kind.SIGNALING, "protocol_version": 1, "sequence": 1, **self._who}
            place = _media_server(await _asked(signaling, hello, _Kind.SIGNALED))
            async with session.ws_connect(place, timeout=_CLOSE) as media:
                wanted = {"media_type": _SOUND_ALONE, "payload_encryption": False, "media_params": {"audio": _FORM}}
                hello = {"msg_type": _Kind.MEDIA, "protocol_version": 1, "sequence": 0, **self._who, **wanted}
                given = _form(await _asked(media, hello, _Kind.MEDIATED))
                if any(given.get(each, value) != value for each, value in _FORM.items() if each != "send_rate"):
                    raise RtmsError(f"Zoom sends sound of another form: {given}")
                await signaling.send_json({"msg_type": _Kind.READY, "rtms_stream_id": self._stream})
                try:
                    await self._hear(signaling, media)
                finally:
                    if self._hall.closing.is_set():
                        await signaling.send_json({"msg_type": _Kind.LEAVE, "rtms_stream_id": self._stream})

    async def _hear(self, *sockets: aiohttp.ClientWebSocketResponse) -> None:
        """Take what comes over either connection until one of them ends."""
        tasks = [asyncio.create_task(self._take(socket)) for socket in sockets]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            ended = await asyncio.gather(*tasks, return_exceptions=True)
        for error in ended:
            if isinstance(error, Exception):
                raise error

    async def _take(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        while not self._over and (message := await _next(socket)) is not None:
            match message.get("msg_type"):
                case _Kind.ALIVE_ASKED:
                    await socket.send_json({"msg_type": _Kind.ALIVE, "timestamp": message.get("timestamp")})
                case _Kind.SOUND:
                    await self._sound(message.get("content"))
                case _Kind.STATE:
                    self._over = message.get("state") == _TERMINATED
                case _:
                    pass

    async def _sound(self, content: object) -> None:
        if not isinstance(content, dict):
            raise RtmsError(f"a piece of sound is malformed: {content!r}")
        name = str(content.get("user_name") or "")
        try:
            sound = base64.b64decode(content.get("data") or "", validate=True)
        except (ValueError, TypeError) as error:
            raise RtmsError("a piece of sound isn't Base64") from error
        await self._meeting.hear(str(content.get("user_id", 0)), name, self._hall.wanted(name), sound)


async def _asked(socket: aiohttp.ClientWebSocketResponse, message: Mapping[str, Any], answer: int) -> dict[str, Any]:
    """Say hello, and return the answer.

    Raises:
        RtmsError: it is a refusal.
        ConnectionError: the connection ends.
    """
    await socket.send_json(message)
    async with asyncio.timeout(_ANSWER_S):
        while (answered := await _next(socket)) is not None:
            if answered.get("msg_type") == answer:
                status = answered.get("status_code", 0)
                if status:
                    raise RtmsError(
                        _STATUS.get(str(status), f"Zoom refuses the stream: {answered.get('reason') or status}")
                    )
                return answered
    raise ConnectionError("the connection has ended")


def _media_server(answer: Mapping[str, Any]) -> str:
    """Return where the sound of the participants is to be had."""
    match answer:
        case {"media_server": {"server_urls": {"audio": str(place)}}} if place:
            return place
        case {"media_server": {"server_urls": {"all": str(place)}}}:
            return place
    raise RtmsError(f"Zoom names no media server: {answer.get('media_server')!r}")


def _form(answer: Mapping[str, Any]) -> dict[str, Any]:
    """Return in what form the sound comes; where nothing is said, as it was asked for."""
    given = answer.get("media_params") or {}
    form = given.get("audio", _FORM) if isinstance(given, dict) else given
    if not isinstance(form, dict):
        raise RtmsError(f"Zoom sends sound of another form: {form!r}")
    return form


async def _next(socket: aiohttp.ClientWebSocketResponse) -> dict[str, Any] | None:
    """Return the next message, ``None`` at the end of the connection.

    Raises:
        TimeoutError: Zoom, which asks every ten seconds whether we are alive, says nothing for too long.
    """
    async with asyncio.timeout(_SILENCE_S):
        frame = await socket.receive()
    if frame.type not in (aiohttp.WSMsgType.TEXT, aiohttp.WSMsgType.BINARY):
        return None
    try:
        message = json.loads(frame.data)
    except ValueError as error:
        raise RtmsError("what Zoom sends isn't JSON") from error
    return message if isinstance(message, dict) else {}


_CLOSE = aiohttp.ClientWSTimeout(ws_close=2.0)


def _seconds(stamp: int) -> float:
    """Return a time stamp in seconds: Zoom writes seconds in some places, and milliseconds in others."""
    return stamp / 1000 if stamp > 10**11 else stamp


def parser() -> argparse.ArgumentParser:
    """Return what reads the command line."""
    made = reader("python -m streamtrans_clients.bots.zoom", "Caption Zoom meetings.", EXAMPLES, 8002)
    made.add_argument(
        "--app", type=Path, required=True, metavar="TOML", help="file with client_id, client_secret and secret_token"
    )
    return made


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the program."""
    run(parser(), arguments, lambda hall: Zoom(hall).routes())


if __name__ == "__main__":
    main()
