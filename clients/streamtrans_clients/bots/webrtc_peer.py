"""A peer that calls the WebRTC bot: it plays a recording into the call, and prints the captions that come back.

python -m streamtrans_clients.bots.webrtc_peer http://localhost:8081 talk.wav --name Ada --reads de
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from collections.abc import Callable, Sequence
from typing import Any

import aiohttp
from aiortc import RTCPeerConnection, RTCSessionDescription
from aiortc.contrib.media import MediaPlayer
from aiortc.mediastreams import MediaStreamTrack

from streamtrans_clients.boards import printable

_LAST_S = 3.0
"""How long after the sound the last captions are waited for."""


class CallError(Exception):
    """The bot didn't take the call; the message is its own."""


class Peer:
    """A call: ``hear`` is called with every message of the bot's; a track is what is said, ``None`` says nothing."""

    def __init__(self, url: str, hear: Callable[[dict[str, Any]], None], track: MediaStreamTrack | None) -> None:
        self.place = ""
        """What ends the call, by DELETE."""
        self._url = url
        self._connection = RTCPeerConnection()
        self._channel = self._connection.createDataChannel("captions")
        self._channel.on("message", lambda text: hear(json.loads(text)))
        if track is not None:
            self._connection.addTrack(track)

    async def call(self, **query: str) -> None:
        """Call; ``name`` and ``reads`` say who it is, and which language is read.

        Raises:
            CallError: the bot refused.
        """
        await self._connection.setLocalDescription(await self._connection.createOffer())
        offer, headers = self._connection.localDescription.sdp, {"Content-Type": "application/sdp"}
        async with (
            aiohttp.ClientSession() as session,
            session.post(self._url, params=query, data=offer, headers=headers) as answer,
        ):
            text = await answer.text()
            if answer.status != 201:
                raise CallError(text.strip())
            self.place = answer.headers["Location"]
        await self._connection.setRemoteDescription(RTCSessionDescription(text, "answer"))

    async def leave(self) -> None:
        """Hang up."""
        if self.place:
            async with aiohttp.ClientSession() as session, session.delete(self._url.rstrip("/") + self.place):
                pass
        await self._connection.close()


def show(message: dict[str, Any]) -> None:
    """Print final captions and troubles."""
    if message["type"] == "caption" and message["final"]:
        print(f"{message['speaker']} {message['language']}: {printable(message['committed'])}", flush=True)
    elif message["type"] == "trouble":
        print(printable(message["message"]), file=sys.stderr)


async def play(options: argparse.Namespace) -> None:
    """Call, play the recording to its end, and print what comes back."""
    player, ended = MediaPlayer(options.file), asyncio.Event()
    if player.audio is None:
        raise CallError(f"{options.file} holds no sound")
    player.audio.on("ended", ended.set)
    peer = Peer(options.url, show, player.audio)
    try:
        await peer.call(name=options.name, **({"reads": options.reads} if options.reads else {}))
        await ended.wait()
        await asyncio.sleep(_LAST_S)
    finally:
        await peer.leave()


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the program; ends with 0, or with 2 and one line about what is wrong."""
    reader = argparse.ArgumentParser(prog="webrtc_peer", description="Call the WebRTC bot, and print what it says.")
    reader.add_argument("url", help="where the bot answers, such as http://localhost:8081")
    reader.add_argument("file", help="a recording")
    reader.add_argument("--name", default="somebody", help="who speaks")
    reader.add_argument("--reads", metavar="LANGUAGE", help="the language to read, such as de")
    options = reader.parse_args(arguments)
    try:
        asyncio.run(play(options))
    except (CallError, OSError, aiohttp.ClientError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
