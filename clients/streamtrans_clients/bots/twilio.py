"""Twilio: a phone call, by its media streams, with captions for whoever is to read them.

    <Response><Start><Stream url="wss://HOST/twilio" track="both_tracks">
      <Parameter name="inbound_to" value="de"/><Parameter name="outbound_to" value="en"/>
    </Stream></Start><Dial>+15550100</Dial></Response>

https://www.twilio.com/docs/voice/media-streams/websocket-messages

Each track is somebody with a stream of their own: ``inbound`` the one who called, ``outbound`` the one who is called.
Parameters: ``to`` and ``from`` (languages) and ``name``, for both, or behind ``inbound_`` or ``outbound_`` for one.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import hmac
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from aiohttp import WSCloseCode, WSMsgType, web

from streamtrans.client import StreamOptions
from streamtrans_clients.bots.hall import Hall, reader, run
from streamtrans_clients.options import languages, tell
from streamtrans_clients.sinks import SinkError

_RATE = 8_000

_FORM = {"encoding": "audio/x-mulaw", "sampleRate": _RATE, "channels": 1}
"""Of the sound: all that Twilio sends."""

_NAMES = {"inbound": "caller", "outbound": "called"}

EXAMPLES = """\
examples:
  python -m streamtrans_clients.bots.twilio --to de --auth-token twilio.token 'call-{meeting}.srt'
                           subtitles of each call; twilio.token holds the account's auth token
  python -m streamtrans_clients.bots.twilio --to en obs:@obs.txt
                           a caller on air
"""


class CallError(Exception):
    """What comes is no call that can be heard; the message says why."""


class Twilio:
    """What Twilio calls."""

    def __init__(self, hall: Hall) -> None:
        self._hall = hall
        token: Path | None = hall.options.auth_token
        self._token = None if token is None else token.read_text(encoding="utf-8").strip().encode()

    def routes(self) -> Iterable[web.RouteDef]:
        """Return where it is called."""
        yield web.get("/twilio", self.call)

    async def call(self, request: web.Request) -> web.StreamResponse:
        """Hear a call to its end."""
        if self._token is not None and not trusted(request, self._token):
            raise web.HTTPForbidden(text="the signature isn't that of the account whose token --auth-token names\n")
        socket = web.WebSocketResponse(heartbeat=20.0)
        await socket.prepare(request)
        code, why = WSCloseCode.OK, ""
        try:
            await self._hear(socket)
        except (CallError, SinkError) as error:
            tell(f"a call is left: {error}")
            code, why = WSCloseCode.UNSUPPORTED_DATA, str(error)
        await socket.close(code=code, message=why.encode()[:120])
        return socket

    async def _hear(self, socket: web.WebSocketResponse) -> None:
        start = await _started(socket)
        if start is None:
            return
        wanted = {track: self._wanted(track, start.get("customParameters") or {}) for track in _NAMES}
        async with self._hall.meeting(start["callSid"]) as meeting:

            async def listen() -> None:
                async for frame in socket:
                    message = _message(frame.data if frame.type is WSMsgType.TEXT else "")
                    if message.get("event") == "stop":
                        return
                    if message.get("event") == "media":
                        track, sound = _sound(message)
                        name, options = wanted[track]
                        await meeting.hear(track, name, options, sound)

            await self._hall.until_closing(listen())

    def _wanted(self, track: str, parameters: Mapping[str, str]) -> tuple[str, StreamOptions]:
        """Return how somebody is called, and what is asked of their stream."""

        def said(what: str) -> str:
            return parameters.get(f"{track}_{what}", parameters.get(what, ""))

        name = said("name") or _NAMES[track]
        options = self._hall.wanted(name)
        return name, replace(
            options,
            encoding="mulaw",
            sample_rate_hertz=_RATE,
            targets=languages([said("to")]) or options.targets,
            source_languages=languages([said("from")]) or options.source_languages,
        )


async def _started(socket: web.WebSocketResponse) -> dict[str, Any] | None:
    """Return what the message ``start`` tells, ``None`` where none comes."""
    async for frame in socket:
        message = _message(frame.data if frame.type is WSMsgType.TEXT else "")
        match message.get("event"):
            case "connected":
                pass
            case "start":
                start: dict[str, Any] = message.get("start", {})
                form = start.get("mediaFormat")
                if form != _FORM or not isinstance(start.get("callSid"), str):
                    raise CallError(f"the sound of {start.get('callSid')} is {form}; it has to be {_FORM}")
                said = start.get("customParameters") or {}
                if not isinstance(said, dict) or not all(isinstance(each, str) for each in said.values()):
                    raise CallError(f"the parameters {said} aren't names and texts")
                return start
            case other:
                raise CallError(f"{other!r} comes before the start of a stream")
    return None


def _message(text: str) -> dict[str, Any]:
    try:
        message = json.loads(text)
    except ValueError:
        message = None
    if not isinstance(message, dict) or not isinstance(message.get("start", {}), dict):
        raise CallError("what comes isn't JSON as Twilio sends it")
    return message


def _sound(message: dict[str, Any]) -> tuple[str, bytes]:
    try:
        track, sound = message["media"]["track"], base64.b64decode(message["media"]["payload"], validate=True)
    except (KeyError, TypeError, ValueError) as error:
        raise CallError(f"a piece of sound is malformed: {error!r}") from error
    if not isinstance(track, str) or track not in _NAMES:
        raise CallError(f"there is no track {track!r}; there are {', '.join(_NAMES)}")
    return track, sound


def trusted(request: web.Request, token: bytes) -> bool:
    """Say whether Twilio signed the address that it calls, with the token of the account.

    Before a proxy the address is another one: the proxy has to pass ``Host`` on, and ``X-Forwarded-Proto``.
    """
    secure = request.secure or request.headers.get("X-Forwarded-Proto") in ("https", "wss")
    scheme = "wss" if secure else "ws"
    address = f"{scheme}://{request.host}{request.path_qs}"
    proof = base64.b64encode(hmac.digest(token, address.encode(), hashlib.sha1)).decode()
    return hmac.compare_digest(proof, request.headers.get("X-Twilio-Signature", ""))


def parser() -> argparse.ArgumentParser:
    """Return what reads the command line."""
    made = reader(
        "python -m streamtrans_clients.bots.twilio", "Caption phone calls that Twilio streams.", EXAMPLES, 8001
    )
    made.add_argument(
        "--auth-token", type=Path, metavar="FILE", help="the account's auth token, in a file: only Twilio may call"
    )
    return made


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the program."""
    run(parser(), arguments, lambda hall: Twilio(hall).routes())


if __name__ == "__main__":
    main()
