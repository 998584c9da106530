"""An agent that captions a LiveKit room: each speaker by name, each reader in their own language.

    export LIVEKIT_URL=wss://… LIVEKIT_API_KEY=… LIVEKIT_API_SECRET=…
    python -m streamtrans_clients.bots.livekit_agent --server localhost:50051 --to en

Captions are text streams of the topic ``lk.transcription``, as LiveKit's own transcripts are: their sender is who
spoke, every reading of a caption is a stream of its own with the whole text, and ``lk.transcription_final`` says which
is the last. A participant whose attribute ``captions`` names a language reads that one; those of ``--to`` everybody
reads.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Callable, Coroutine, Sequence
from contextlib import aclosing
from functools import partial
from types import TracebackType
from typing import Any, Self

from livekit import rtc
from livekit.agents import AgentServer, AutoSubscribe, JobContext
from livekit.agents.types import (
    ATTRIBUTE_TRANSCRIPTION_FINAL,
    ATTRIBUTE_TRANSCRIPTION_SEGMENT_ID,
    ATTRIBUTE_TRANSCRIPTION_TRACK_ID,
    TOPIC_CHAT,
    TOPIC_TRANSCRIPTION,
)
from livekit.rtc.room import EventTypes

from streamtrans.client import ClientError, StreamOptions, TranslationClient
from streamtrans_clients.bots.rooms import Line, Room, RoomError
from streamtrans_clients.options import (
    ADDRESS,
    add_captions,
    add_languages,
    add_server,
    client,
    program,
    read,
    tell,
    wishes,
)

READS = "captions"
"""The attribute of a participant that names the language in which they read."""

_RATE = 16_000
_FRAME_MS = 50

EXAMPLES = """\
examples:
  python -m streamtrans_clients.bots.livekit_agent --to en,de   everybody reads English and German
  python -m streamtrans_clients.bots.livekit_agent --to ''      each participant reads the language of their attribute
                                                                "captions", and nobody any other
LIVEKIT_URL, LIVEKIT_API_KEY and LIVEKIT_API_SECRET say which LiveKit server, as for all of its agents.
"""


class RoomCaptions:
    """Captions of all who speak in a LiveKit room, from entering it as a context manager until leaving it.

    Args:
        room: one that is connected, and subscribes to what is spoken.
        client: the way to the streamtrans server.
        options: what is wanted; as targets what everybody reads. The form of the sound is LiveKit's.
    """

    def __init__(self, room: rtc.Room, client: TranslationClient, options: StreamOptions) -> None:
        self._room = room
        self._people = Room(client, options, self._show, self._tell)
        self._tracks: dict[str, str] = {}
        self._unsent = False
        self._tasks: set[asyncio.Task[None]] = set()
        self._door = asyncio.Lock()
        """Who comes first is in first."""
        self._watched: dict[EventTypes, Callable[..., None]] = {
            "participant_connected": self._come,
            "participant_name_changed": lambda participant, *_: self._come(participant),
            "participant_attributes_changed": lambda _changed, participant: self._come(participant),
            "participant_disconnected": lambda participant: self._later(self._leave(participant.identity)),
            "track_subscribed": lambda track, _publication, participant: self._subscribed(track, participant),
        }

    async def __aenter__(self) -> Self:
        """Begin with who is there already."""
        for event, heard in self._watched.items():
            self._room.on(event, heard)
        for participant in self._room.remote_participants.values():
            self._come(participant)
            for publication in participant.track_publications.values():
                if publication.track is not None:
                    self._subscribed(publication.track, participant)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Hear no more, and await the last captions."""
        for event, heard in self._watched.items():
            self._room.off(event, heard)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._people.__aexit__(kind, error, trace)

    def _come(self, participant: rtc.RemoteParticipant) -> None:
        if participant.identity != self._room.local_participant.identity:
            self._later(self._join(participant))

    def _subscribed(self, track: rtc.Track, participant: rtc.RemoteParticipant) -> None:
        if track.kind == rtc.TrackKind.KIND_AUDIO:
            self._later(self._hear(track, participant))

    async def _join(self, participant: rtc.RemoteParticipant) -> None:
        who, name = participant.identity, participant.name or participant.identity
        async with self._door:
            try:
                await self._people.join(who, name, participant.attributes.get(READS))
            except RoomError as error:
                await self._people.join(who, name)
                await self._chat(f"{name}: {error}", [who])
            except ClientError:
                await self._people.join(who, name)  # what is wrong is told once they speak

    async def _leave(self, who: str) -> None:
        async with self._door:
            pass
        await self._people.leave(who)

    async def _hear(self, track: rtc.Track, participant: rtc.RemoteParticipant) -> None:
        await self._join(participant)
        self._tracks[participant.identity] = track.sid
        sound = rtc.AudioStream.from_track(track=track, sample_rate=_RATE, num_channels=1, frame_size_ms=_FRAME_MS)
        async with aclosing(sound):
            async for event in sound:
                self._people.hear(participant.identity, event.frame.data.tobytes())

    async def _show(self, line: Line) -> None:
        if not line.everybody and not line.readers:
            return
        try:
            await self._write(line)
        except rtc.StreamError as error:
            self._lost(error)

    async def _write(self, line: Line) -> None:
        writer = await self._room.local_participant.stream_text(
            topic=TOPIC_TRANSCRIPTION,
            sender_identity=line.who,
            destination_identities=None if line.everybody else list(line.readers),
            attributes={
                ATTRIBUTE_TRANSCRIPTION_SEGMENT_ID: line.key,
                ATTRIBUTE_TRANSCRIPTION_TRACK_ID: self._tracks.get(line.who, ""),
                ATTRIBUTE_TRANSCRIPTION_FINAL: "true" if line.caption.final else "false",
                "language": line.caption.language,
                "speaker": line.name,
                "committed": line.caption.committed.strip(),
            },
        )
        await writer.write(line.caption.text.strip())
        await writer.aclose()

    async def _tell(self, sentence: str) -> None:
        await self._chat(sentence, None)

    async def _chat(self, sentence: str, to: list[str] | None) -> None:
        try:
            await self._room.local_participant.send_text(sentence, topic=TOPIC_CHAT, destination_identities=to)
        except rtc.StreamError as error:
            self._lost(error)

    def _lost(self, error: rtc.StreamError) -> None:
        if not self._unsent:
            tell(f"a caption can't be sent to the room, of which there may be more: {error}")
        self._unsent = True

    def _later(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


async def job(options: argparse.Namespace, context: JobContext) -> None:
    """Caption one room, until LiveKit ends the job."""
    left, done = asyncio.Event(), asyncio.Event()

    async def leave() -> None:
        left.set()
        await done.wait()

    context.add_shutdown_callback(leave)
    await context.connect(auto_subscribe=AutoSubscribe.AUDIO_ONLY)
    try:
        way = client(options, options.server or ADDRESS)
        async with way, RoomCaptions(context.room, way, wishes(options)):
            await left.wait()
    finally:
        done.set()


def reader() -> argparse.ArgumentParser:
    """Return what reads the command line."""
    made = program("livekit_agent", "Caption the rooms of a LiveKit server, live, in other languages.", EXAMPLES)
    add_languages(made)
    add_server(made)
    add_captions(made)
    return made


def main(arguments: Sequence[str] | None = None) -> None:
    """Serve a LiveKit server's rooms; ends with one line where it can't."""
    options = read(reader(), arguments)
    agent = AgentServer()
    agent.rtc_session(partial(job, options))
    try:
        asyncio.run(agent.run())
    except (KeyboardInterrupt, asyncio.CancelledError):
        sys.exit(130)
    except ValueError as error:  # what LiveKit raises where its address or keys are missing
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
