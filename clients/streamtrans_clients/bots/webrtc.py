"""Captions for WebRTC: a bot that is called like any peer, hears its caller, and answers over a data channel.

    python -m streamtrans_clients.bots.webrtc --server localhost:50051 --port 8081

A peer sends its SDP offer by HTTP, as WHIP has it: ``POST /?name=Ada&reads=de`` with ``application/sdp`` is answered by
201, the answer, and a ``Location`` that ``DELETE`` ends; ICE candidates are in the offer. All peers of a bot are in one
room. On the data channel ``captions`` of the offer each hears of everything that is said, in their own language:

    {"type": "caption", "id": "…", "speaker": "Bo", "language": "de", "committed": "Guten Tag", "tentative": " allen",
     "final": false}
    {"type": "trouble", "message": "…"}

Law: a caption is sent whole; one that has the ``id`` of an earlier one replaces it, and ``committed`` only ever grows.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import uuid
from collections.abc import AsyncIterator, Coroutine, Sequence
from contextlib import asynccontextmanager, suppress
from types import TracebackType
from typing import Any, Self

import av
from aiohttp import web
from aiortc import RTCDataChannel, RTCPeerConnection, RTCSessionDescription
from aiortc.mediastreams import MediaStreamError, MediaStreamTrack

from streamtrans.client import ClientError, StreamOptions, TranslationClient
from streamtrans_clients.bots.hall import listening
from streamtrans_clients.bots.rooms import Line, Room, RoomError
from streamtrans_clients.options import (
    add_captions,
    add_languages,
    add_server,
    client,
    done,
    explained,
    on_ending,
    program,
    served,
    wishes,
)

CHANNEL = "captions"
"""Label of the data channel that captions are sent on."""

_RATE = 16_000

_MOST_WAITING = 1 << 16
"""Bytes that may wait on a channel; readings that may still change are left out meanwhile."""

_PARTING_S = 1.0
"""How long the last captions are waited for that are on their way to one who leaves."""

_MOST = 100
"""Peers at once: each takes a decoder, and a share of the bot's uplink."""

_MOST_SDP = 1 << 16
"""Bytes of an offer."""

_BAD_OFFER = (AssertionError, AttributeError, LookupError, TypeError, ValueError)
"""What aiortc raises of an offer that isn't as it takes for granted."""

EXAMPLES = """\
examples:
  python -m streamtrans_clients.bots.webrtc --to en    everybody reads English, and who asks for it another language too
  python -m streamtrans_clients.bots.webrtc --to ''    each peer reads what it asks for: POST /?name=Ada&reads=de
"""


class Peers:
    """All who have called, in one room; use it as an async context manager.

    Args:
        client: the way to the streamtrans server.
        options: what is wanted; as targets what everybody reads. The form of the sound is WebRTC's.
    """

    def __init__(self, client: TranslationClient, options: StreamOptions) -> None:
        self._room = Room(client, options, self._show, self._tell)
        self._connections: dict[str, RTCPeerConnection] = {}
        self._channels: dict[str, RTCDataChannel] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        """Open the room."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Hang up on all, once everybody has the last captions."""
        await self._room.__aexit__(kind, error, trace)
        await asyncio.gather(*(self.leave(who) for who in list(self._connections)))
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def join(self, offer: str, name: str, reads: str | None = None) -> tuple[str, str]:
        """Answer a peer's SDP offer; return who it is from now on, and the SDP answer.

        Raises:
            RoomError: the server doesn't write that language, the offer is none, or the bot is full; the message says
                what is right.
            ClientError: the server refused, or there is none.
        """
        who = uuid.uuid4().hex
        await self._room.join(who, name, reads)
        if len(self._connections) >= _MOST:
            await self._room.leave(who)
            raise RoomError(f"{_MOST} are here already; call again once somebody has left")
        connection = RTCPeerConnection()
        self._connections[who] = connection

        @connection.on("track")
        def on_track(track: MediaStreamTrack) -> None:
            if track.kind == "audio":
                self._later(self._hear(who, track))

        @connection.on("datachannel")
        def on_datachannel(channel: RTCDataChannel) -> None:
            if channel.label == CHANNEL:
                self._channels[who] = channel

        @connection.on("connectionstatechange")
        def on_connectionstatechange() -> None:
            if connection.connectionState in ("failed", "closed"):
                self._later(self.leave(who))

        try:
            await connection.setRemoteDescription(RTCSessionDescription(offer, "offer"))
            if connection.sctp is None:
                raise ValueError(f"it has no data channel; make one of the label {CHANNEL!r} first")
            await connection.setLocalDescription(await connection.createAnswer())
        except _BAD_OFFER as error:
            await self.leave(who)
            raise RoomError(f"that is no offer that can be answered: {str(error) or 'it is no SDP'}") from error
        return who, connection.localDescription.sdp

    async def leave(self, who: str) -> None:
        """Let a peer go, once its last captions are sent; who isn't there may go too."""
        if (connection := self._connections.pop(who, None)) is None:
            return
        await self._room.leave(who)
        channel = self._channels.pop(who, None)
        with suppress(TimeoutError):
            async with asyncio.timeout(_PARTING_S):
                while channel is not None and channel.readyState == "open" and channel.bufferedAmount:
                    await asyncio.sleep(0.01)
        await connection.close()

    async def _hear(self, who: str, track: MediaStreamTrack) -> None:
        resampler = av.AudioResampler(format="s16", layout="mono", rate=_RATE)
        while True:
            try:
                frame = await track.recv()
            except MediaStreamError:  # it has ended
                return
            assert isinstance(frame, av.AudioFrame)
            for part in resampler.resample(frame):
                self._room.hear(who, part.to_ndarray().tobytes())

    async def _show(self, line: Line) -> None:
        caption = line.caption
        message = {
            "type": "caption",
            "id": line.key,
            "speaker": line.name,
            "language": caption.language,
            "committed": caption.committed.lstrip(),
            "tentative": caption.tentative if caption.committed else caption.tentative.lstrip(),
            "final": caption.final,
        }
        for who in self._connections if line.everybody else line.readers:
            self._send(who, message, urgent=caption.final)

    async def _tell(self, sentence: str) -> None:
        for who in self._connections:
            self._send(who, {"type": "trouble", "message": sentence}, urgent=True)

    def _send(self, who: str, message: dict[str, Any], *, urgent: bool) -> None:
        channel = self._channels.get(who)
        if channel is None or channel.readyState != "open":
            return
        if urgent or channel.bufferedAmount < _MOST_WAITING:
            channel.send(json.dumps(message, ensure_ascii=False))

    def _later(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


@asynccontextmanager
async def called(peers: Peers, address: str, host: str, port: int) -> AsyncIterator[str]:
    """Answer offers over HTTP, and yield where; ``address`` is the streamtrans server's, for sentences about it."""

    async def offered(request: web.Request) -> web.Response:
        if request.content_type != "application/sdp":
            return web.Response(status=415, text="send an SDP offer, as application/sdp\n")
        name = request.query.get("name", "").strip() or "somebody"
        try:
            who, answer = await peers.join(await request.text(), name, request.query.get("reads"))
        except RoomError as error:
            return web.Response(status=422, text=f"{error}\n")
        except ClientError as error:
            return web.Response(status=503, text=f"{explained(error, address)}\n")
        headers = {"Location": f"/{who}"}
        return web.Response(status=201, text=answer, content_type="application/sdp", headers=headers)

    async def left(request: web.Request) -> web.Response:
        await peers.leave(request.match_info["who"])
        return web.Response()

    routes = web.post("/", offered), web.delete("/{who}", left)
    async with listening(routes, host, port, most_bytes=_MOST_SDP) as place:
        yield f"http://{place}"


async def answering(options: argparse.Namespace, stop: asyncio.Event) -> None:
    """Answer offers until ``stop`` is set; prints where.

    Raises:
        SourceError: a server of our own doesn't start.
        OSError: the port is taken.
    """
    async with served(options) as address:
        way = client(options, address)
        async with (
            way,
            Peers(way, wishes(options)) as peers,
            called(peers, address, options.host, options.port) as place,
        ):
            print(f"ready: {place}", flush=True)
            await stop.wait()


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the bot; ends with 0 at Ctrl-C, or with 2 and one line about what is wrong."""
    reader = program("webrtc", "Caption whoever calls by WebRTC, live, in other languages.", EXAMPLES)
    for add in (add_languages, add_server, add_captions):
        add(reader)
    reader.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    reader.add_argument("--port", type=int, default=8081, help="port to listen on (default: %(default)s; 0: any)")

    async def run(options: argparse.Namespace) -> None:
        stop = asyncio.Event()
        on_ending(stop.set)
        await answering(options, stop)

    done(reader, arguments, run)


if __name__ == "__main__":
    main()
