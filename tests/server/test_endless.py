"""Law: however long a stream goes on, what its rooms keep of it doesn't grow."""

import asyncio
import gc
import tracemalloc

import pytest

from streamtrans.core import Caption, SpeechEnded, SpeechStarted
from streamtrans.server.capacity import Capacity
from streamtrans.server.keys import Holder
from streamtrans.server.live import LiveSession
from streamtrans.server.metrics import Metrics
from streamtrans.server.opening import open_stream
from streamtrans.server.reader import Reader
from streamtrans.wire import Encoder, Reducer, StreamOptions

SEGMENTS = 400


def weigh():
    gc.collect()
    return tracemalloc.get_traced_memory()[0]


@pytest.fixture
def traced():
    tracemalloc.start()
    yield
    tracemalloc.stop()


def test_encoder_and_reducer_forget_what_is_long_final(traced):
    encoder, reducer = Encoder(), Reducer()

    def say(first):
        for segment in range(first, first + SEGMENTS):
            text = f" {segment}" * 50
            for event in (
                SpeechStarted(segment, 0),
                Caption(segment, 1, "de", "", text, False, 0, 16, 16),
                SpeechEnded(segment, 16),
                Caption(segment, 2, "de", text, "", True, 0, 16, 16),
            ):
                reducer.reduce(encoder.encode(event))

    say(0)
    before = weigh()
    say(SEGMENTS)
    assert weigh() - before < 20_000  # it would be 400 texts of 200 bytes and more, twice


async def test_a_live_session_and_its_reader_keep_nothing_of_a_long_stream(house, traced):
    config = house.configured()
    opening = open_stream(house.opening(), house.served(), config)
    engine = house.instant()
    capacity = Capacity(config.load, 480, 1_000)
    live = LiveSession(
        "s", opening, house.served(engine), config, metrics=Metrics(), holder=Holder(), capacity=capacity, token="t"
    )
    reader = Reader(live, 100)
    piece = house.speech(0.1, 0.5, 0.4)
    told = []

    async def read():
        while (message := await reader.take()) is not None:
            told.append(reader.seal(message).event_sequence)

    reading = asyncio.create_task(read())

    async def talk(times):
        for _ in range(times):
            for start in range(0, len(piece), 1_600):
                live.hear(piece[start : start + 1_600])
            while live.cursors.decoded < live.cursors.received - 16_000:
                await asyncio.sleep(0)
            engine.requests.clear()
            engine.jobs.clear()
            told.clear()

    try:
        await talk(100)
        before = weigh()
        await talk(200)
        assert live.arrivals.segments >= 299
        assert weigh() - before < 40_000
    finally:
        live.end()
        await reading
        await live.close()


@pytest.mark.parametrize("kept", [False, True])
async def test_a_call_keeps_nothing_of_a_long_stream(house, traced, tmp_path, kept):
    """Each of many small messages is counted; only what a store may be asked for is remembered, until it is settled."""
    piece = house.speech(0.1, 0.5, 0.4)
    config = house.configured(store=str(tmp_path) if kept else None, max_unsent_events=100)
    engine = house.instant()
    async with (
        house.running(house.served(engine), config) as (server, client),
        client.stream(StreamOptions(("de",), resumable=kept)) as stream,
    ):

        async def read():
            async for _ in stream:
                pass

        async def talk(times):
            for _ in range(times):
                for start in range(0, len(piece), 320):
                    await stream.send(piece[start : start + 320])
                await stream.send_silence(20)
            live = next(iter(server._service._calls))._live
            async with asyncio.timeout(30):
                while live.cursors.decoded < live.cursors.received - 16_000 or live.arrivals.segments < heard:
                    await asyncio.sleep(0.01)
            engine.requests.clear()
            engine.jobs.clear()

        reading = asyncio.create_task(read())
        heard = 95  # more than late readers are told of
        await talk(100)
        before = weigh()
        heard = 190
        await talk(100)
        assert weigh() - before < 120_000  # of 5100 messages, at 80 bytes and more for each
        await stream.end()
        await reading
