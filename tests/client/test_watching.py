"""Whatever breaks, a viewer reads what he would read unbroken, or in bounded time why not."""

import asyncio
import random
import time
from dataclasses import replace

import grpc
import pytest

from streamtrans.client import (
    Caption,
    DataLost,
    Denied,
    Notice,
    SpeechEnded,
    SpeechStarted,
    StreamOptions,
    TranslationClient,
    Unavailable,
)
from streamtrans.server import TranslationServer
from streamtrans.wire import ServiceBase, WatchResponse, add_service
from tests.proxy import Proxy
from tests.server.conftest import EAGER, configured, running, served, speech
from tests.server.test_processes import free_ports

TALK = speech(0.3, 1.5, 0.7, 1.2, 0.4, 0.9, 0.5, 1.1, 0.6, 1.3, 0.5, seed=3)
LANGUAGES = ("de", "it")  # the speaker's, and one that only the viewer asks for


async def speak(stream, pace_s=0.0, sound=TALK):
    """Say it all, and return the finals that the speaker was told."""

    async def send():
        for start in range(0, len(sound), 1_600):
            await stream.send(sound[start : start + 1_600])
            await asyncio.sleep(pace_s)
        await stream.end()

    sending = asyncio.create_task(send())
    events = [event async for event in stream]
    await sending
    return lines(events)


def lines(events):
    """Return segment → final text; nothing may come twice, and what was promised stays."""
    committed, finals, speech_told = {}, {}, []
    for event in events:
        if isinstance(event, Caption):
            assert event.segment not in finals, "something came behind a final"
            assert event.committed.startswith(committed.get(event.segment, ""))
            committed[event.segment] = event.committed
            if event.final:
                finals[event.segment] = event.committed
        elif isinstance(event, SpeechStarted | SpeechEnded):
            speech_told.append((type(event), event.segment))
    assert len(set(speech_told)) == len(speech_told)
    return finals


async def watched(client, token, language, seen, **how):
    async for event in client.watch(token, language, **how):
        seen.append(event)
    return lines(seen)


@pytest.fixture(scope="module")
def unbroken():
    async def listen(language):
        async with running() as (_, client), client.stream(StreamOptions((language,))) as stream:
            return await speak(stream)

    return {language: asyncio.run(listen(language)) for language in LANGUAGES}


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("seed", range(4))
async def test_cut_at_any_byte_a_viewer_reads_what_he_reads_unbroken(unbroken, language, seed):
    dice = random.Random(seed)
    cuts = [2_000, *(dice.choice((dice.randrange(1, 400), dice.randrange(400, 2_000))) for _ in range(12))]
    async with (
        asyncio.timeout(30),
        running() as (server, client),
        client.stream(StreamOptions(("de",))) as stream,
        Proxy(server.port, cuts) as proxy,
        TranslationClient(proxy.address) as others,
    ):
        watching = asyncio.create_task(watched(others, stream.started.viewer_token, language, []))
        await speak(stream, 0.03)
        assert await watching == unbroken[language]
        assert proxy.killed >= 2


@pytest.mark.parametrize("language", LANGUAGES)
async def test_who_was_away_goes_on_in_the_middle_of_a_segment(unbroken, language):
    async with (
        asyncio.timeout(30),
        running() as (server, client),
        client.stream(StreamOptions(("de",))) as stream,
        Proxy(server.port) as proxy,
        TranslationClient(proxy.address) as others,
    ):
        seen = []
        watching = asyncio.create_task(watched(others, stream.started.viewer_token, language, seen))
        speaking = asyncio.create_task(speak(stream, 0.03))
        while not any(isinstance(event, Caption) and event.committed and not event.final for event in seen):
            await asyncio.sleep(0.005)
        proxy.refusing = True
        proxy.cut()
        await asyncio.sleep(0.8)
        proxy.refusing = False
        await speaking
        assert await watching == unbroken[language]


@pytest.mark.parametrize("language", LANGUAGES)
async def test_a_call_that_grows_old_is_left_before_it_is_ended(unbroken, language):
    config = configured(replace(EAGER, max_connection_ms=2_000))
    async with (
        asyncio.timeout(30),
        running(config=config) as (server, client),
        TranslationClient(f"127.0.0.1:{server.port}") as others,
        client.stream(StreamOptions(("de",), resumable=True)) as stream,
    ):
        token, calls, watch = stream.started.viewer_token, [], others._watch

        def counted(request):
            calls.append(request)
            return watch(request)

        others._watch = counted
        watching = asyncio.create_task(watched(others, token, language, [], resume_s=0))  # a break would be an error
        await speak(stream, 0.05)
        assert await watching == unbroken[language]
        assert len(calls) >= 2


@pytest.mark.parametrize("language", LANGUAGES)
async def test_viewers_follow_a_stream_to_another_server(unbroken, tmp_path, language):
    ports = free_ports(2)
    address = "ipv4:" + ",".join(f"127.0.0.1:{port}" for port in ports)
    both = [
        TranslationServer(configured(port=port, store=str(tmp_path / "store"), grace_ms=3_000), served)
        for port in ports
    ]
    async with (
        asyncio.timeout(40),
        both[0] as first,
        TranslationClient(address) as client,
        TranslationClient(address) as others,
    ):
        await first.ready()
        async with client.stream(StreamOptions(("de",), resumable=True)) as stream:
            seen = []
            watching = asyncio.create_task(watched(others, stream.started.viewer_token, language, seen))
            speaking = asyncio.create_task(speak(stream, 0.05))
            while not any(isinstance(event, Caption) and event.final for event in seen):
                await asyncio.sleep(0.005)
            async with both[1] as second:
                await second.ready()
                await first.stop(3_000)
                assert await speaking == unbroken["de"]
                assert await watching == unbroken[language]


async def test_who_was_away_at_the_end_reads_it_for_a_while(unbroken):
    language, config = "it", configured(replace(EAGER, resume_ms=4_000))
    async with (
        asyncio.timeout(30),
        running(config=config) as (server, client),
        Proxy(server.port) as proxy,
        TranslationClient(proxy.address) as others,
    ):
        async with client.stream(StreamOptions(("de",))) as stream:
            seen, token = [], stream.started.viewer_token
            watching = asyncio.create_task(watched(others, token, language, seen))
            speaking = asyncio.create_task(speak(stream, 0.01))
            while not any(isinstance(event, Caption) and event.final for event in seen):
                await asyncio.sleep(0.005)
            proxy.refusing = True
            proxy.cut()
            await speaking
        await asyncio.sleep(0.2)
        proxy.refusing = False
        assert await watching == unbroken[language]
        while server._service._over:
            await asyncio.sleep(0.05)
        with pytest.raises(Denied):
            await watched(others, token, language, [])


async def test_what_is_kept_no_more_is_told_to_who_comes_back():
    sound = speech(0.3, *(0.4, 0.5) * 14)
    async with (
        asyncio.timeout(30),
        running() as (server, client),
        client.stream(StreamOptions(("de",))) as stream,
        Proxy(server.port) as proxy,
        TranslationClient(proxy.address) as others,
    ):
        seen = []
        watching = asyncio.create_task(watched(others, stream.started.viewer_token, "de", seen))
        speaking = asyncio.create_task(speak(stream, 0.01, sound))
        while not any(isinstance(event, Caption) and event.final for event in seen):
            await asyncio.sleep(0.005)
        proxy.refusing = True
        proxy.cut()
        [live] = server._service._viewable.values()
        while live.stats.segments < 12:
            await asyncio.sleep(0.01)
        proxy.refusing = False
        told, held = await speaking, await watching
    missed = [event.message for event in seen if isinstance(event, Notice) and event.code == "CAPTIONS_MISSED"]
    first, last = min(set(told) - set(held)), max(set(told) - set(held))
    assert missed == [f"the segments {first} to {last} are kept no more"]
    assert held == {number: text for number, text in told.items() if not first <= number <= last}


async def test_a_speaker_who_leaves_without_an_end_is_told():
    async with asyncio.timeout(20), running() as (_, client):
        async with client.stream(StreamOptions(("de",))) as stream:
            watching = asyncio.create_task(watched(client, stream.started.viewer_token, "de", []))
            await stream.send(TALK[:16_000])
            await asyncio.sleep(0.3)
        with pytest.raises(DataLost, match="has left without an end"):
            await watching


async def test_who_may_not_watch_asks_once_and_a_server_that_is_gone_is_an_error_within_the_bound():
    async with asyncio.timeout(20), running() as (server, client):
        began = time.monotonic()
        with pytest.raises(Denied):
            await watched(client, "guess", "de", [])
        assert time.monotonic() - began < 2
        async with (
            Proxy(server.port) as proxy,
            TranslationClient(proxy.address) as others,
            client.stream(StreamOptions(("de",))) as stream,
        ):
            seen = []
            watching = asyncio.create_task(watched(others, stream.started.viewer_token, "de", seen, resume_s=0.6))
            await stream.send(TALK[:16_000])
            while not seen:
                await asyncio.sleep(0.01)
            proxy.refusing = True
            proxy.cut()
            with pytest.raises(Unavailable, match=r"couldn't be watched again within 0\.6 s"):
                await watching


async def test_a_call_that_ends_without_a_word_is_a_loss():
    class Mute(ServiceBase):
        async def WatchCaptions(self, _request, _context):
            yield WatchResponse(started={"language": "de"})

    server = grpc.aio.server()
    add_service(Mute(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with TranslationClient(f"127.0.0.1:{port}") as client:
        with pytest.raises(DataLost, match="without a word of the stream's end"):
            await watched(client, "t", "de", [])
    await server.stop(0)
