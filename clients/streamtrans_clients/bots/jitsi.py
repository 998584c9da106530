"""Jitsi: an endpoint as Skynet's, so that Jigasi can send what is said here and read captions of it.

    org.jitsi.jigasi.transcription.customService=org.jitsi.jigasi.transcription.WhisperTranscriptionService
    org.jitsi.jigasi.transcription.whisper.websocket_url=ws://HOST:8000/streaming-whisper/ws/

A frame is 60 bytes, ``PARTICIPANT|LANGUAGE`` and zeros, and samples (16 bits, 16 kHz) behind; a frame of one zero ends
the meeting. The language is the one that captions are wanted in. Captions go back as JSON.
"""

from __future__ import annotations

import argparse
import uuid
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import jwt
from aiohttp import WSCloseCode, WSMsgType, web

from streamtrans.client import Caption
from streamtrans_clients.bots.hall import Hall, reader, run
from streamtrans_clients.bots.meeting import Meeting, Speaker
from streamtrans_clients.options import tell
from streamtrans_clients.sinks import SinkError

_HEADER = 60

_END = b"\0"

_RATE = 16_000

EXAMPLES = """\
examples:
  python -m streamtrans_clients.bots.jitsi --listen 0.0.0.0:8000 --token-key jigasi.pem
  python -m streamtrans_clients.bots.jitsi --to de 'de=minutes-{meeting}.vtt'
                           also subtitles of those whose captions are German
"""


class Jitsi:
    """What Jigasi calls."""

    def __init__(self, hall: Hall) -> None:
        self._hall = hall
        key: Path | None = hall.options.token_key
        self._key = None if key is None else key.read_bytes()

    def routes(self) -> Iterable[web.RouteDef]:
        """Return where it is called."""
        yield web.get("/streaming-whisper/ws/{meeting}", self.call)
        yield web.get("/healthz", _healthy)

    async def call(self, request: web.Request) -> web.StreamResponse:
        """Hear a meeting to its end."""
        if not self._trusted(request):
            raise web.HTTPUnauthorized(
                text="the token isn't signed with the key that --token-key names, or has expired\n"
            )
        socket = web.WebSocketResponse(heartbeat=20.0)
        await socket.prepare(request)
        name = request.match_info["meeting"]
        answers = Answers()

        async def show(speaker: Speaker, caption: Caption) -> None:
            answer = answers.of(speaker, caption, meeting.epoch)
            if answer is not None and not socket.closed:
                with suppress(ConnectionError):  # who has left reads no more
                    await socket.send_json(answer)

        code, why = WSCloseCode.OK, b""
        try:
            async with self._hall.meeting(name, show) as meeting:
                await self._hall.until_closing(self._listen(socket, meeting))
        except SinkError as error:
            tell(f"{name}: {error}")
            code, why = WSCloseCode.INTERNAL_ERROR, b"captions have no place to go"
        await socket.close(code=WSCloseCode.GOING_AWAY if self._hall.closing.is_set() else code, message=why)
        return socket

    async def _listen(self, socket: web.WebSocketResponse, meeting: Meeting) -> None:
        """Take frames until the meeting ends; one that is malformed is told, and no other suffers."""
        odd: set[str] = set()
        async for frame in socket:
            if frame.type is not WSMsgType.BINARY:
                problem = "a frame of text came; frames are binary"
            elif frame.data == _END:
                return
            else:
                problem = await self._hear(frame.data, meeting)
            if problem and problem not in odd:
                odd.add(problem)
                tell(f"a frame is left out: {problem}")

    async def _hear(self, frame: bytes, meeting: Meeting) -> str:
        head, sound = frame[:_HEADER], frame[_HEADER:]
        who, bar, language = head.rstrip(b"\0").decode(errors="replace").rpartition("|")
        if not bar or not who or not language:
            return "it doesn't begin with 60 bytes of PARTICIPANT|LANGUAGE"
        if len(sound) % 2:
            return f"{len(sound)} bytes are no 16-bit samples"
        if sound:
            options = replace(self._hall.wanted(who), targets=(language.strip(),))
            await meeting.hear(who, who, options, sound)
        return ""

    def _trusted(self, request: web.Request) -> bool:
        if self._key is None:
            return True
        bearer = request.headers.get("Authorization", "").removeprefix("Bearer ")
        try:
            jwt.decode(
                bearer or request.query.get("auth_token", ""),
                self._key,
                algorithms=["RS256"],
                options={"require": ["exp"], "verify_aud": False},
            )
        except jwt.InvalidTokenError:
            return False
        return True


class Answers:
    """Captions as Jigasi reads them: each utterance has an identifier, the same for all readings of it."""

    def __init__(self) -> None:
        self._open: dict[tuple[int, str], str] = {}

    def of(self, speaker: Speaker, caption: Caption, epoch: float) -> dict[str, object] | None:
        """Return the message for a caption, ``None`` for one without words; ``epoch`` is when its times begin."""
        key = caption.segment, caption.language
        ident = self._open.setdefault(key, str(uuid.uuid4()))
        if caption.final:
            del self._open[key]
        if not caption.text.strip():
            return None
        return {
            "id": ident,
            "participant_id": speaker.who,
            "ts": round((epoch + caption.start / _RATE) * 1000),
            "text": caption.text.strip(),
            "audio": "",
            "type": "final" if caption.final else "interim",
            "variance": 1.0 if caption.final else round(caption.stability, 3),
        }


async def _healthy(_request: web.Request) -> web.Response:
    return web.Response(text="ok\n")


def parser() -> argparse.ArgumentParser:
    """Return what reads the command line."""
    made = reader(
        "python -m streamtrans_clients.bots.jitsi",
        "Caption Jitsi meetings: what Jigasi's Skynet would do.",
        EXAMPLES,
        8000,
    )
    made.add_argument(
        "--token-key",
        type=Path,
        metavar="PEM",
        help="public key (RS256) that Jigasi's tokens are signed for; else all may call",
    )
    return made


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the program."""
    run(parser(), arguments, lambda hall: Jitsi(hall).routes())


if __name__ == "__main__":
    main()
