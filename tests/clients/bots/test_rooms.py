"""Several speakers, each their own stream; several readers, each their own language."""

import asyncio
import threading
from contextlib import asynccontextmanager

import pytest
from streamtrans_clients.bots import speaker
from streamtrans_clients.bots.rooms import Room, RoomError
from streamtrans_clients.bots.speaker import SpeakerStream

from streamtrans.client import (
    BadConfig,
    Caption,
    ConfigRejected,
    Started,
    StreamOptions,
    Summary,
    TranslationClient,
    Unavailable,
)
from streamtrans.server import TranslationServer
from tests.clients.bots.conftest import TALK, settled
from tests.server.conftest import configured, served, speech

OTHER = (speech(0.2, 0.8, 0.5, seed=9) * 32_767).astype("<i2").tobytes()


@asynccontextmanager
async def entered(address, targets=()):
    lines, told = [], []

    async def show(line):
        lines.append(line)

    async def tell(sentence):
        told.append(sentence)

    async with TranslationClient(address) as client, Room(client, StreamOptions(targets), show, tell) as room:
        yield room, lines, told


def finals(lines, who):
    texts = {}
    for line in lines:
        if line.who == who and line.caption.final:
            texts.setdefault(line.caption.language, []).append(line.caption.text.strip())
    return texts


async def said(room, who, sound, pace_s=0.0):
    for at in range(0, len(sound), 3_200):
        room.hear(who, sound[at : at + 3_200])
        await asyncio.sleep(pace_s)


async def test_each_speaker_is_heard_alone_and_each_reader_reads_their_own(house, over_grpc, unhurried):
    async with house() as address:
        expected = await over_grpc(address), await over_grpc(address, OTHER)
        async with entered(address) as (room, lines, told):
            await room.join("1", "Ada", "fr")
            await room.join("2", "Bo", "de")
            await asyncio.gather(said(room, "1", TALK, 0.002), said(room, "2", OTHER, 0.002))
            await room.leave("1")
            await room.leave("2")
    assert (finals(lines, "1"), finals(lines, "2")) == expected
    assert {(line.who, line.name) for line in lines} == {("1", "Ada"), ("2", "Bo")}
    assert told == []
    # Whoever has left reads no more; before, each read what both said, in a language of their own.
    assert {(line.caption.language, line.readers) for line in lines} <= {("fr", ("1",)), ("de", ("2",)), ("fr", ())}
    assert not any(line.everybody for line in lines)
    for line in lines:
        same = [each for each in lines if each.key == line.key]
        assert len({(each.who, each.caption.segment, each.caption.language) for each in same}) == 1
        assert [each.caption.final for each in same].count(True) == 1


async def test_the_server_starts_anew_in_the_middle_and_nothing_is_lost(restarted, over_grpc):
    expected = await over_grpc(restarted.address)
    async with entered(restarted.address, ("de", "fr")) as (room, lines, told):
        await room.join("1", "Ada")
        speaking = asyncio.create_task(said(room, "1", TALK, 0.08))
        await asyncio.sleep(1.2)
        await restarted.again()
        await speaking
    assert finals(lines, "1") == expected
    assert told == []
    assert len({line.key.partition("-")[0] for line in lines}) == 1


async def test_a_server_that_forgot_the_stream_is_a_clear_end_and_then_a_new_beginning(
    house, over_grpc, nowhere, monkeypatch, unhurried
):
    monkeypatch.setattr(speaker, "_AGAIN_S", 0.1)
    port = int(nowhere.rpartition(":")[2])
    async with entered(nowhere, ("de", "fr")) as (room, lines, told):
        async with house(port=port):
            await room.join("1", "Ada")
            await said(room, "1", TALK[:32_000], 0.02)
        async with house(port=port) as address:
            async with asyncio.timeout(10):
                while not told:
                    await said(room, "1", bytes(3_200), 0.02)
            before = len(lines)
            await said(room, "1", TALK)
            await room.leave("1")
            expected = await over_grpc(address)
    [sentence] = told
    assert sentence.startswith("Ada: ")
    assert "the server is shutting down" in sentence
    assert finals(lines[before:], "1") == expected


async def test_who_comes_later_reads_from_then_on_and_who_leaves_is_written_for_no_more(house):
    async with house() as address, entered(address) as (room, lines, told):
        await room.join("1", "Ada", "de")
        await said(room, "1", TALK, 0.01)
        async with asyncio.timeout(10):
            while not any(line.caption.final for line in lines):
                await asyncio.sleep(0.01)
        await room.join("2", "Bo", "it")
        await said(room, "1", TALK, 0.01)
        await room.leave("2")
        before = len(lines)
        await said(room, "1", TALK, 0.01)
        await room.leave("1")
    assert told == []
    assert "it" in {line.caption.language for line in lines}
    assert [line.readers for line in lines[:before] if line.caption.language == "it"].count(("2",)) > 1
    late = [line for line in lines[before:] if line.caption.language == "it"]
    assert len({line.key for line in late}) <= 1  # a segment that was open when they left
    assert len({line.key.partition("-")[0] for line in lines}) == 1  # one stream all the way


async def test_languages_for_all(house):
    async with house() as address, entered(address, ("fr",)) as (room, lines, _):
        await room.join("1", "Ada")
        await said(room, "1", OTHER)
    assert {(line.caption.language, line.everybody) for line in lines} == {("fr", True)}


async def test_while_nobody_reads_nothing_is_sent(house):
    async with house() as address, entered(address) as (room, lines, told):
        await room.join("1", "Ada")
        await said(room, "1", OTHER)
    assert lines == told == []


async def test_a_language_that_is_not_there_is_told_those_that_are(house):
    async with house() as address, entered(address) as (room, _, _):
        with pytest.raises(RoomError, match="no captions in 'ru'; there are some in en, de, zh, fr, it, es"):
            await room.join("1", "Ada", "ru")


async def test_no_server_is_a_sentence_told_once(nowhere, monkeypatch):
    monkeypatch.setattr(speaker, "_AGAIN_S", 0.05)
    async with entered(nowhere, ("de",)) as (room, lines, told):
        with pytest.raises(Unavailable):
            await room.join("1", "Ada", "de")
        await room.join("1", "Ada")
        for _ in range(4):
            await said(room, "1", OTHER[:3_200])
            await asyncio.sleep(0.1)
    assert lines == []
    [sentence] = told
    assert sentence.startswith(f"Ada: {nowhere} isn't serving")
    assert "streamtrans serve" in sentence


async def test_who_pauses_ends_a_segment_and_who_is_long_silent_a_stream(house):
    events, failed = [], []

    async def show(event):
        events.append(event)

    async def fail(error):
        failed.append(error)

    loud = TALK[int(0.3 * 32_000) : int(1.2 * 32_000)]  # no silence at its end
    async with house() as address, TranslationClient(address) as client:
        made = SpeakerStream(client, lambda: StreamOptions(("de",)), show, fail, quiet_s=0.05, idle_s=0.2)
        async with asyncio.timeout(10), made:
            for _ in range(2):
                made.hear(loud)
                before = len(events)
                while not any(isinstance(event, Caption) and event.final for event in events[before:]):
                    await asyncio.sleep(0.01)
                while not isinstance(events[-1], Summary):
                    await asyncio.sleep(0.01)
    assert failed == []
    assert [type(event) for event in events if isinstance(event, Started | Summary)] == [Started, Summary] * 2


async def test_sound_that_can_wait_no_longer_is_an_error(house, monkeypatch):
    monkeypatch.setattr(speaker, "_WAITING_S", 0.5)
    failed = []

    async def show(event):
        pass

    async def fail(error):
        failed.append(error)

    async with house() as address, TranslationClient(address) as client:
        async with SpeakerStream(client, lambda: StreamOptions(("de",)), show, fail) as made:
            for _ in range(10):
                made.hear(bytes(3_200))
        assert [type(error) for error in failed] == [speaker.BehindError]
        assert "sound was lost" in str(failed[0])


async def test_while_a_server_refuses_at_opening_no_word_is_lost(over_grpc, unhurried):
    """One that loads, or drains, names a time after which to come again."""
    loaded = threading.Event()

    def load():
        loaded.wait()
        return served()

    async with TranslationServer(configured(), load) as server:
        address = f"127.0.0.1:{server.port}"
        async with entered(address, ("de", "fr")) as (room, lines, told):
            room.enter("1", "Ada")
            speaking = asyncio.create_task(said(room, "1", TALK, 0.02))
            try:
                await settled(lambda: told)
                await asyncio.sleep(0.3)  # refused, and spoken on
            finally:
                loaded.set()
            await speaking
            await server.ready()
            expected = await over_grpc(address)
            await room.leave("1")
    assert finals(lines, "1") == expected
    [sentence] = told
    assert sentence.startswith("Ada: ")


async def test_what_is_said_while_the_server_is_gone_is_heard_by_the_next_one(house, over_grpc, nowhere, unhurried):
    port = int(nowhere.rpartition(":")[2])
    async with entered(nowhere, ("de", "fr")) as (room, lines, told):
        async with house(port=port):
            room.enter("1", "Ada")
            await said(room, "1", TALK[:32_000], 0.02)
            await settled(lambda: lines)
        await settled(lambda: told)
        before = len(lines)
        await said(room, "1", TALK)
        async with house(port=port) as address:
            await room.leave("1")
            expected = await over_grpc(address)
    assert finals(lines[before:], "1") == expected


async def test_law_a_line_whose_stream_broke_is_final_with_what_was_promised(house, nowhere, unhurried):
    port = int(nowhere.rpartition(":")[2])
    async with entered(nowhere, ("de",)) as (room, lines, told):
        async with house(port=port):
            room.enter("1", "Ada")
            await said(room, "1", TALK[: 32 * 1_200], 0.02)
            await settled(lambda: lines and lines[-1].caption.committed.strip())
            assert not any(line.caption.final for line in lines)
        await settled(lambda: told)
        *_, before, last = lines
    assert (last.key, last.caption.final, last.caption.tentative) == (before.key, True, "")
    assert last.caption.text == before.caption.committed
    assert last.caption.revision > before.caption.revision


async def test_who_can_wait_no_longer_for_a_server_is_told_so(nowhere, monkeypatch):
    monkeypatch.setattr(speaker, "_AGAIN_S", 0.05)
    monkeypatch.setattr(speaker, "_WAITING_S", 0.5)
    async with entered(nowhere, ("de",)) as (room, _, told):
        room.enter("1", "Ada")
        await said(room, "1", bytes(32_000))
        await settled(lambda: any("sound was lost" in sentence for sentence in told))
        assert room._people["1"].stream._waiting == speaker.deque()


async def test_who_reads_no_more_while_somebody_speaks_ends_no_speaker(house, over_grpc, unhurried):
    wanted, shown, failed = [StreamOptions(())], [], []

    async def show(event):
        shown.append(event)

    async def fail(error):
        failed.append(error)

    async with house() as address, TranslationClient(address) as client:
        async with SpeakerStream(client, lambda: wanted[0], show, fail) as made:
            made.hear(TALK)  # and nobody reads
            await settled(lambda: not made._waiting)
            wanted[0] = StreamOptions(("de",), mode="no such mode")
            made.hear(TALK)
            await settled(lambda: failed)
            wanted[0], made._deaf_until = StreamOptions(("de",)), 0.0
            made.hear(TALK)
        expected = await over_grpc(address, TALK, ("de",))
    assert [isinstance(error, BadConfig) for error in failed] == [True]
    assert [each.text.strip() for each in shown if isinstance(each, Caption) and each.final] == expected["de"]


async def test_who_comes_back_while_their_last_captions_come_is_heard(house, over_grpc, unhurried):
    async with house() as address, entered(address, ("de", "fr")) as (room, lines, told):
        expected = await over_grpc(address)
        room.enter("1", "Ada")
        await said(room, "1", OTHER)
        leaving = asyncio.create_task(room.leave("1"))
        await asyncio.sleep(0)
        room.enter("1", "Ada again")
        await said(room, "1", TALK)
        await leaving
        await room.leave("1")
    assert told == []
    assert finals([line for line in lines if line.name == "Ada again"], "1") == expected


async def test_whoever_leaves_is_gone_whatever_their_stream_ended_in(house):
    async def show(line):
        raise RuntimeError("nowhere to show it")

    async with house() as address, TranslationClient(address) as client:
        room = Room(client, StreamOptions(("de",)), show, show)
        room.enter("1", "Ada")
        await said(room, "1", TALK)
        with pytest.raises(RuntimeError, match="nowhere to show it"):
            await room.leave("1")
        assert room._people == {}


async def test_a_rejected_language_is_asked_for_again_once_there_is_room(house):
    wanted, events = [StreamOptions(("en", "de", "zh", "fr", "it"))], []

    async def show(event):
        events.append(event)

    async with house() as address, TranslationClient(address) as client:
        async with SpeakerStream(client, lambda: wanted[0], show, show) as made:
            made.hear(TALK[:32_000])
            await settled(lambda: any(isinstance(event, Started) for event in events))
            wanted[0] = StreamOptions((*wanted[0].targets, "es"))
            await made.retarget()
            await settled(lambda: any(isinstance(event, ConfigRejected) for event in events))
            wanted[0] = StreamOptions(("de", "es"))
            await made.retarget()
            made.hear(TALK)
        finals = {event.language for event in events if isinstance(event, Caption) and event.final}
    assert "es" in finals
    assert sum(isinstance(event, ConfigRejected) for event in events) == 1


async def test_more_languages_than_the_server_writes_are_told_those_that_are_written(house):
    async with house() as address, entered(address) as (room, _, _):
        for at, language in enumerate(("en", "de", "zh", "fr", "it")):
            await room.join(str(at), f"reader {at}", language)
        with pytest.raises(RoomError, match="no more languages than en, de, zh, fr, it can be written here"):
            await room.join("6", "Bo", "es")
        await room.join("6", "Bo", "de")
        await room.join("0", "reader 0", "es")  # instead of English
        assert set(room.options.targets) == {"de", "zh", "fr", "it", "es"}
