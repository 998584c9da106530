"""What is counted for Prometheus: all that happens, and nothing of what is said or by whom."""

import asyncio
import re
import urllib.request
from contextlib import asynccontextmanager

import pytest
from prometheus_client.parser import text_string_to_metric_families

from streamtrans.client import ClientError, Overloaded, StreamOptions, TranslationClient, Unavailable
from streamtrans.core import BadConfig, StreamtransError
from streamtrans.engine.stats import EngineStats
from streamtrans.server import ServerConfig, TranslationServer

LABELS = {"reason", "how", "le"}
"""Those that may be: others would need a look at what they tell."""


async def look(server):
    """Return name and labels → value, as Prometheus would read them."""

    def get():
        with urllib.request.urlopen(f"http://127.0.0.1:{server.metrics_port}/metrics", timeout=5) as answer:
            return answer.read().decode()

    families = text_string_to_metric_families(await asyncio.to_thread(get))
    return {(each.name, *sorted(each.labels.items())): each.value for family in families for each in family.samples}


@asynccontextmanager
async def counted(house, what=None, **changes):
    async with house.running(what, house.configured(metrics_port=0, **changes)) as (server, client):
        yield server, client


async def test_a_stream_is_counted_from_its_audio_to_its_end(house):
    audio = house.speech(0.5, 1.0, 0.5, 1.0, 0.5)
    async with counted(house) as (server, client):
        events = await house.collect(client, audio)
        seen = await look(server)
    summary = events[-1]
    assert seen["streamtrans_audio_seconds_total",] == pytest.approx(len(audio) / 16_000)
    assert seen["streamtrans_segments_total",] == summary.segments == 2
    assert seen["streamtrans_readings_total",] > 2
    assert seen["streamtrans_tokens_total",] > 8
    assert seen["streamtrans_readings_failed_total",] == 0
    assert seen["streamtrans_streams_active",] == 0
    assert seen["streamtrans_streams_ended_total", ("how", "ok")] == 1
    assert seen["streamtrans_first_caption_seconds_count",] == 2
    assert seen["streamtrans_lag_seconds_count",] == pytest.approx(100, abs=40)  # cells of 20 ms of two seconds
    assert seen["streamtrans_serving",] == 1


async def test_streams_are_active_while_they_run_and_refused_with_the_reason(house):
    async with (
        counted(house, max_sessions=1) as (server, client),
        client.stream(StreamOptions(("de",))) as stream,
    ):
        assert (await look(server))["streamtrans_streams_active",] == 1
        with pytest.raises(Overloaded):
            await house.collect(client, b"")
        await stream.end()
        [_ async for _ in stream]
        with pytest.raises(ClientError):
            await house.collect(client, b"", StreamOptions(("xx",)))
        seen = await look(server)
    assert seen["streamtrans_streams_active",] == 0
    assert seen["streamtrans_streams_refused_total", ("reason", "all_taken")] == 1
    assert seen["streamtrans_streams_refused_total", ("reason", "unimplemented")] == 1


async def test_a_client_that_goes_away_is_no_longer_active(house):
    async with counted(house) as (server, client):
        async with client.stream(StreamOptions(("de",))):
            pass
        async with asyncio.timeout(5):
            while (seen := await look(server))["streamtrans_streams_active",]:
                await asyncio.sleep(0.01)
    assert seen["streamtrans_streams_ended_total", ("how", "client_gone")] == 1


async def test_failed_readings_are_counted(house):
    def broken(job, target):
        if job.segment == 0 and len(job.audio) != 8_000:  # the one that warms up is of 8,000
            raise StreamtransError("broken")
        return house.grow(job, target)

    async with counted(house, house.served(house.instant(broken))) as (server, client):
        await house.collect(client, house.speech(0.5, 1.0, 0.5, 1.0, 0.5))
        assert (await look(server))["streamtrans_readings_failed_total",] >= 1


async def test_the_engine_and_the_health_are_shown_as_they_are_when_asked(house):
    engine = house.instant()
    stats = EngineStats(passes=3, forwards=12, busy_s=1.5, waiting=2)
    async with counted(house, house.served(engine, stats=lambda: stats)) as (server, _):
        seen = await look(server)
        assert seen["streamtrans_engine_passes_total",] == 3
        assert seen["streamtrans_engine_forwards_total",] == 12
        assert seen["streamtrans_engine_busy_seconds_total",] == 1.5
        assert seen["streamtrans_engine_waiting_jobs",] == 2
        assert seen["process_resident_memory_bytes",] > 1e7
        engine.close()
        await server.failed.wait()
        async with asyncio.timeout(5):
            while (await look(server))["streamtrans_serving",]:
                await asyncio.sleep(0.01)


async def test_who_comes_too_early_is_counted_as_such(house):
    gate = asyncio.Event()

    def load():
        asyncio.run_coroutine_threadsafe(gate.wait(), loop).result(5)
        return house.served()

    loop = asyncio.get_running_loop()
    async with TranslationServer(house.configured(metrics_port=0), load) as server:
        with pytest.raises(Unavailable):
            async with TranslationClient(f"127.0.0.1:{server.port}") as client:
                await house.collect(client, b"")
        seen = await look(server)
        assert seen["streamtrans_streams_refused_total", ("reason", "loading")] == 1
        assert seen["streamtrans_serving",] == 0
        gate.set()
        await server.ready()


async def test_labels_are_words_of_ours(house):
    async with counted(house) as (server, client):
        await house.collect(client, house.speech(0.5, 1.0, 0.5))
        with pytest.raises(ClientError):
            await house.collect(client, b"", StreamOptions(("de",), vad="my-private-detector"))
        for labels in [key[1:] for key in await look(server)]:
            for name, value in labels:
                assert name in LABELS
                assert name == "le" or re.fullmatch(r"[a-z_]+", value)
                assert "private" not in value


async def test_nothing_is_listened_on_unless_it_is_asked_for(house):
    async with house.running() as (server, _):
        assert server.metrics_port is None


async def test_a_port_that_is_taken_is_told_and_the_server_can_be_started_elsewhere(house):
    async with counted(house) as (server, _):
        with pytest.raises(BadConfig, match="can't listen for metrics on"):
            async with TranslationServer(house.configured(metrics_port=server.metrics_port), house.served):
                pass
    with pytest.raises(BadConfig, match="metrics_port is 70000"):
        ServerConfig(metrics_port=70_000)


async def test_the_port_is_free_once_the_server_has_gone(house):
    async with counted(house) as (server, _):
        port = server.metrics_port
    async with house.running(None, house.configured(metrics_port=port)) as (server, _):
        assert (await look(server))["streamtrans_serving",] == 1
