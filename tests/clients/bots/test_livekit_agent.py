"""Captions of a LiveKit room: real tracks, real frames; a recording stands for the server that carries text streams."""

import asyncio
from types import SimpleNamespace

import pytest
from livekit import rtc
from streamtrans_clients.bots import livekit_agent
from streamtrans_clients.bots.livekit_agent import RoomCaptions

from streamtrans.client import StreamOptions, TranslationClient
from tests.clients.bots.conftest import TALK, settled


class Written:
    """A text stream of LiveKit's, taken down."""

    def __init__(self, **header):
        self.header, self.text, self.closed = header, "", False

    async def write(self, text):
        assert not self.closed
        self.text += text

    async def aclose(self):
        self.closed = True


class Local:
    identity = "captions"

    def __init__(self):
        self.streams, self.chat = [], []

    async def stream_text(self, **header):
        self.streams.append(Written(**header))
        return self.streams[-1]

    async def send_text(self, text, **header):
        self.chat.append((text, header))


class Room(rtc.EventEmitter):
    """LiveKit's room as far as an agent touches it; its events are sent by LiveKit's own emitter."""

    def __init__(self):
        super().__init__()
        self.local_participant = Local()
        self.remote_participants = {}

    def come(self, identity, name="", **attributes):
        participant = SimpleNamespace(identity=identity, name=name, attributes=attributes, track_publications={})
        self.remote_participants[identity] = participant
        self.emit("participant_connected", participant)
        return participant


def microphone():
    source = rtc.AudioSource(16_000, 1)
    return source, rtc.LocalAudioTrack.create_audio_track("microphone", source)


async def speak(source, pcm=TALK):
    for at in range(0, len(pcm), 640):
        piece = pcm[at : at + 640]
        await source.capture_frame(rtc.AudioFrame(piece, 16_000, 1, len(piece) // 2))


def last(room, language):
    """Return the final captions in a language."""
    final = [each for each in room.local_participant.streams if each.header["attributes"]["language"] == language]
    return [each for each in final if each.header["attributes"]["lk.transcription_final"] == "true"]


async def test_every_reader_gets_text_streams_with_every_field(house, heard, over_grpc):
    room = Room()
    ada = room.come("ada-1", "Ada", captions="fr")
    source, track = microphone()
    async with house() as address, TranslationClient(address) as client:
        async with RoomCaptions(room, client, StreamOptions(("de",))):
            room.come("bo-2", captions="fr")
            room.emit("track_subscribed", track, None, ada)
            await speak(source)
            await settled(lambda: len(last(room, "de")) == len(last(room, "fr")) == 2)
        expected = await over_grpc(address, heard["ada-1"])
    streams = room.local_participant.streams
    assert all(each.closed for each in streams)
    assert all(each.header["topic"] == "lk.transcription" for each in streams)
    assert all(each.header["sender_identity"] == "ada-1" for each in streams)
    for each in streams:
        attributes = each.header["attributes"]
        assert attributes.keys() == {
            "lk.segment_id", "lk.transcribed_track_id", "lk.transcription_final", "language", "speaker", "committed",
        }  # fmt: skip
        assert attributes["lk.transcribed_track_id"] == track.sid
        assert attributes["speaker"] == "Ada"
        assert each.text.startswith(attributes["committed"])
        to_all = attributes["language"] == "de"
        assert each.header["destination_identities"] == (None if to_all else ["ada-1", "bo-2"])
    for language in ("de", "fr"):
        assert [each.text for each in last(room, language)] == expected[language]
        assert len({each.header["attributes"]["lk.segment_id"] for each in last(room, language)}) == 2
    assert {each.header["attributes"]["lk.transcription_final"] for each in streams} == {"true", "false"}
    assert room.local_participant.chat == []


async def test_a_wrong_language_is_told_to_whom_it_concerns(house):
    room = Room()
    async with (
        house() as address,
        TranslationClient(address) as client,
        RoomCaptions(room, client, StreamOptions(("de",))),
    ):
        room.come("bo-2", "Bo", captions="ru")
        await settled(lambda: room.local_participant.chat)
    [(sentence, header)] = room.local_participant.chat
    assert sentence == "Bo: there are no captions in 'ru'; there are some in en, de, zh, fr, it, es"
    assert header == {"topic": "lk.chat", "destination_identities": ["bo-2"]}


async def test_no_server_is_told_the_room(nowhere):
    room = Room()
    ada = room.come("ada-1", "Ada", captions="fr")
    source, track = microphone()
    async with TranslationClient(nowhere) as client, RoomCaptions(room, client, StreamOptions(("de",))):
        room.emit("track_subscribed", track, None, ada)
        await speak(source, TALK[:9_600])
        await settled(lambda: room.local_participant.chat)
    [(sentence, header)] = room.local_participant.chat
    assert sentence.startswith(f"Ada: {nowhere} isn't serving")
    assert "streamtrans serve" in sentence
    assert header == {"topic": "lk.chat", "destination_identities": None}


async def test_a_room_that_takes_no_texts_is_told_once_and_ends_no_speaker(house, monkeypatch, capsys):
    room, refused = Room(), []
    ada = room.come("ada-1", "Ada")
    source, track = microphone()
    write = Local.stream_text

    async def stream_text(self, **header):
        if len(refused) < 2:
            refused.append(header)
            raise rtc.StreamError("the data channel is closed")
        return await write(self, **header)

    monkeypatch.setattr(Local, "stream_text", stream_text)
    async with (
        house() as address,
        TranslationClient(address) as client,
        RoomCaptions(room, client, StreamOptions(("de",))),
    ):
        room.emit("track_subscribed", track, None, ada)
        await speak(source)
        await settled(lambda: len(last(room, "de")) == 2)
    told = capsys.readouterr().err
    assert told.count("can't be sent to the room") == 1
    assert "the data channel is closed" in told


async def test_languages_change_and_people_leave_while_it_runs(house):
    room = Room()
    ada = room.come("ada-1", "Ada")
    source, track = microphone()
    async with (
        house() as address,
        TranslationClient(address) as client,
        RoomCaptions(room, client, StreamOptions(("de",))) as captions,
    ):
        room.emit("track_subscribed", track, None, ada)
        await speak(source)
        ada.attributes["captions"] = "it"
        room.emit("participant_attributes_changed", {"captions": "it"}, ada)
        await speak(source)
        await settled(lambda: last(room, "it"))
        room.emit("participant_disconnected", ada)
        await settled(lambda: not captions._people._people)
    assert last(room, "it")[0].header["destination_identities"] == ["ada-1"]


async def test_a_job_lasts_until_livekit_ends_it(house):
    room, ending, connected = Room(), [], []

    async def connect(**how):
        connected.append(how)

    async with house() as address:
        context = SimpleNamespace(room=room, connect=connect, add_shutdown_callback=ending.append)
        options = livekit_agent.read(livekit_agent.reader(), ["--server", address, "--to", ""])
        running = asyncio.create_task(livekit_agent.job(options, context))
        ada = room.come("ada-1", "Ada", captions="de")
        source, track = microphone()
        await settled(lambda: room._events.get("track_subscribed"))
        room.emit("track_subscribed", track, None, ada)
        await speak(source)
        await ending[0]()
        await running
    assert connected == [{"auto_subscribe": "audio_only"}]
    assert [each.header["destination_identities"] for each in last(room, "de")] == [["ada-1"]] * 2


def test_no_livekit_server_is_one_line(monkeypatch):
    for name in ("LIVEKIT_URL", "LIVEKIT_API_KEY", "LIVEKIT_API_SECRET"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(SystemExit, match=r"error: .*LIVEKIT_URL"):
        livekit_agent.main(["--to", "de"])
