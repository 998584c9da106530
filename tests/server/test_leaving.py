"""Whatever ends a call in good order, for its age or because the server leaves: first come its last captions."""

import asyncio
import os
import signal
import subprocess
import sys

import pytest

from streamtrans.client import Caption, StreamOptions, Summary, TimedOut, Unavailable
from streamtrans.server import Limits, serve
from streamtrans.stream import Recording, Session, rerun


async def speak_on(stream, audio, seen, *, pace_s=0.002):
    """Send ``audio`` in pieces of 20 ms until the call ends, and read along; raise what it ends with."""

    async def send():
        for start in range(0, len(audio), 320):
            await stream.send(audio[start : start + 320])
            await asyncio.sleep(pace_s)

    sending = asyncio.create_task(send())
    try:
        async for event in stream:
            seen.append(event)
    finally:
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)


def shown(events):
    """Return the newest caption of each segment."""
    return list({event.segment: event for event in events if isinstance(event, Caption)}.values())


def check_last_words(events):
    assert isinstance(events[-1], Summary)
    last = shown(events)
    assert last
    assert all(caption.final for caption in last)
    assert any(caption.text for caption in last)
    assert events[-1].finals == len(last)
    assert events[-1].audio_ms > 0


async def test_a_server_that_leaves_lets_everybody_finish_the_sentence(house):
    streams, seen = 5, [[] for _ in range(5)]
    async with house.running(config=house.configured(last_words_ms=400)) as (server, client):

        async def talk(events):
            async with client.stream(StreamOptions(("de",))) as stream:
                with pytest.raises(Unavailable, match="shutting down") as caught:
                    await speak_on(stream, house.speech(0.2, 60), events)
            return caught.value.retry_after_s

        talking = [asyncio.create_task(talk(events)) for events in seen]
        while not all(shown(events) for events in seen):
            await asyncio.sleep(0.01)
        await server.stop(800)
        assert await asyncio.gather(*talking) == [1.0] * streams
    for events in seen:
        check_last_words(events)


async def test_a_call_that_grows_old_comes_to_its_last_words(house):
    """It grows so old once something was said, however busy the machine is."""
    seen = []
    async with (
        asyncio.timeout(30),
        house.running(config=house.configured(Limits(max_connection_ms=60_000, max_real_time_factor=1e6))) as (
            server,
            client,
        ),
        client.stream(StreamOptions(("de",))) as stream,
    ):
        talking = asyncio.create_task(speak_on(stream, house.speech(0.2, 60), seen))
        while not shown(seen):
            await asyncio.sleep(0.01)
        [call] = server._service._calls
        assert 55 < call._until - asyncio.get_running_loop().time() < 60
        call._schedule(0.6)
        with pytest.raises(TimedOut, match="maximum age of 60000 ms"):
            await talking
        assert server.active_sessions == 0
    check_last_words(seen)


async def test_what_is_not_read_in_time_is_final_as_it_was_shown(house, tmp_path):
    engine, seen = house.Held(house.instant(), free=8_000), []
    config = house.configured(last_words_ms=300, record=tmp_path)
    async with (
        house.running(house.served(engine), config) as (server, client),
        client.stream(StreamOptions(("de",))) as stream,
    ):
        engine.free = 7_680
        talking = asyncio.create_task(speak_on(stream, house.speech(0, 8), seen))
        while not shown(seen):
            engine.let_go()
            await asyncio.sleep(0.005)
        await server.stop(600)
        with pytest.raises(Unavailable):
            await talking
    check_last_words(seen)
    assert shown(seen)[0].text.split()[:1] == next(e for e in seen if isinstance(e, Caption)).text.split()[:1]
    with next(tmp_path.iterdir()).open("rb") as file:
        recording = Recording(file)
        session = Session(recording.config, house.Words(), window=recording.window)
        told = [event for _, events in rerun(recording, session) for event in events]
    assert recording.problem is None
    assert shown(told)[-1].text == shown(seen)[-1].text


async def test_a_server_that_leaves_does_not_wait_for_who_does_not_read(house):
    class Verbose(house.Words):
        def decode(self, tokens):
            return "".join(f"{token:09}" * 2_000 for token in tokens)

    async with (
        house.running(house.served(tokenizer=Verbose()), house.configured(last_words_ms=200)) as (
            server,
            client,
        ),
        client.stream(StreamOptions(("de",))) as stream,
    ):
        await stream.send(house.speech(0, 2))
        async with asyncio.timeout(10):
            await server.stop(400)
        with pytest.raises(Unavailable):
            [event async for event in stream]


async def test_who_comes_while_the_server_leaves_is_sent_away(house):
    async with house.running() as (server, client):
        opening = client.stream(StreamOptions(("de",)))
        async with client.stream(StreamOptions(("de",))) as running:
            server._service.leave(5_000)
            with pytest.raises(Unavailable, match="shutting down"):
                await opening.__aenter__()
            await running.end()
            assert isinstance([event async for event in running][-1], Summary)


async def test_the_first_signal_says_what_is_waited_for(house):
    told, before = [], {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def on_ready(_):
        os.kill(os.getpid(), signal.SIGINT)

    try:
        async with asyncio.timeout(10):
            await serve(house.configured(), house.served, on_ready=on_ready, on_stopping=told.append)
        assert len(told) == 1
        assert signal.getsignal(signal.SIGINT) == signal.SIG_DFL  # so the next one ends the process
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


STUCK = """
import asyncio, time
from streamtrans.server import ServerConfig, serve
def load():
    print("loading", flush=True)
    time.sleep(600)
asyncio.run(serve(ServerConfig(port=0), load, on_stopping=lambda server: print("stopping", flush=True)))
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_a_second_signal_ends_what_hangs(number):
    child = await asyncio.create_subprocess_exec(sys.executable, "-c", STUCK, stdout=subprocess.PIPE)
    async with asyncio.timeout(30):
        assert await child.stdout.readline() == b"loading\n"
        child.send_signal(number)
        assert await child.stdout.readline() == b"stopping\n"
        await asyncio.sleep(0.3)
        assert child.returncode is None
        child.send_signal(number)
        assert await child.wait() == -number
