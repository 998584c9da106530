"""Nobody keeps others out: whatever is held open, health is answered and an honest stream is served."""

import asyncio
import contextlib
import logging
import time
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from streamtrans.client import Overloaded, StreamOptions, Summary
from streamtrans.core import BadConfig
from streamtrans.server import Limits, ServerConfig, app
from streamtrans.server.doors import Anteroom, Doors, Kind, Room
from streamtrans.server.ending import ending
from streamtrans.server.grpc_link import GrpcLink
from streamtrans.server.link import LinkLost
from streamtrans.server.refusal import Refusal
from streamtrans.wire import SERVICE_NAME, ServiceStub, WatchRequest
from tests.attack.raw import RawClient

CODE = grpc.StatusCode
OWN = [("grpc.use_local_subchannel_pool", 1)]  # a connection of its own
CHECK = "/grpc.health.v1.Health/Check"
WATCH = "/grpc.health.v1.Health/Watch"
REFLECTION = "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"
LISTING = f"/{SERVICE_NAME}/ListCapabilities"


def connected(server):
    return grpc.aio.insecure_channel(f"127.0.0.1:{server.port}", options=OWN)


async def status_of(server):
    async with connected(server) as channel:
        return (await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=5)).status


async def watch(channel, house):
    call = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest())
    await call.read()
    return call


async def reflect(channel, house):
    call = reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo()
    await call.write(reflection_pb2.ServerReflectionRequest(list_services=""))
    return call


async def say_nothing(channel, house):
    await channel.channel_ready()
    return channel.stream_stream(house.METHOD)()


async def be_admitted(channel, house):
    call = channel.stream_stream(house.METHOD)()
    with contextlib.suppress(grpc.aio.AioRpcError):  # where there was no place for it
        await call.write(house.opening().SerializeToString())
    return call


@contextlib.asynccontextmanager
async def held(server, house, way, count, connections):
    """Hold ``count`` calls open on each of some connections."""
    async with contextlib.AsyncExitStack() as stack:
        channels = [await stack.enter_async_context(connected(server)) for _ in range(connections)]
        calls = [await way(channel, house) for channel in channels for _ in range(count)]
        await asyncio.sleep(0.3)
        yield calls
        for call in calls:
            call.cancel()


async def emptied(server, within_s=5.0):
    async with asyncio.timeout(within_s):
        while server.active_sessions:
            await asyncio.sleep(0.01)


@pytest.mark.parametrize(("way", "most"), [(watch, 120), (reflect, 120), (say_nothing, 8), (be_admitted, 16)])
async def test_whatever_is_held_open_health_and_an_honest_stream_are_served(house, way, most):
    config = house.configured(max_sessions=20, max_waiting=8, max_sessions_per_connection=8)
    async with house.running(config=config) as (server, client), held(server, house, way, 60, 2) as calls:
        async with asyncio.timeout(10):
            while sum(not call.done() for call in calls) > most:
                await asyncio.sleep(0.05)
        assert sum(not call.done() for call in calls) == most
        assert await status_of(server) == health_pb2.HealthCheckResponse.SERVING
        assert isinstance((await house.collect(client, house.speech(0.2, 0.5)))[-1], Summary)


async def test_who_finds_no_place_on_his_connection_is_told_when_to_come_again(house):
    config = house.configured(max_sessions=20, max_sessions_per_connection=2, retry_after_ms=700)
    async with house.running(config=config) as (server, client), contextlib.AsyncExitStack() as stack:
        for _ in range(2):
            await stack.enter_async_context(client.stream(StreamOptions(("de",))))
        with pytest.raises(Overloaded, match="one connection may have 2 sessions at once") as caught:
            await stack.enter_async_context(client.stream(StreamOptions(("de",))))
        assert caught.value.retry_after_s == 0.7
        assert server.active_sessions == 2


async def test_who_says_nothing_is_ended_long_before_who_sends_no_audio(house):
    config = house.configured(Limits(idle_ms=30_000), first_message_ms=150)
    async with house.running(config=config) as (server, _), connected(server) as channel:
        began = time.monotonic()
        call = await say_nothing(channel, house)
        assert await call.code() == CODE.OUT_OF_RANGE
        assert time.monotonic() - began < 3


async def test_of_many_who_say_nothing_the_oldest_of_the_largest_crowd_goes():
    class Silent:
        async def read(self):
            await asyncio.Event().wait()

    class Prompt:
        async def read(self):
            return "config"

    room = Anteroom(3, 60_000, 500)
    tasks = []
    for peer in "abb":
        tasks.append(asyncio.create_task(room.wait(Silent().read, peer)))
        await asyncio.sleep(0)
    assert await room.wait(Prompt().read, "a") == "config"
    await asyncio.wait([tasks[1]], timeout=5)
    assert [task.done() for task in tasks] == [False, True, False]
    with pytest.raises(Refusal, match="send `config` as soon as you call"):
        await tasks[1]
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)


def test_a_place_comes_back_and_nothing_is_kept_of_who_had_it():
    room = Room("seats", 2, 1, 500)
    for number in range(100):
        with room.place(f"peer {number}"), pytest.raises(Refusal, match="one connection may have 1 seats"):
            room.refuse_when_full(f"peer {number}")
    with room.place("a"), room.place("b"), pytest.raises(Refusal, match="all 2 seats are taken"):
        room.refuse_when_full("c")
    assert len(room) == len(room._taken) == 0


async def test_of_a_full_kind_the_next_call_is_refused_with_the_time_to_wait(house):
    async with (
        house.running(config=house.configured(max_viewers=1, retry_after_ms=700)) as (server, client),
        client.stream(StreamOptions(("de",))) as stream,
        connected(server) as channel,
    ):
        asked = WatchRequest(viewer_token=stream.started.viewer_token, language="de")
        first = ServiceStub(channel).WatchCaptions(asked)
        assert (await first.read()).HasField("started")
        second = ServiceStub(channel).WatchCaptions(asked)
        assert await second.code() == CODE.RESOURCE_EXHAUSTED
        assert "all 1 viewers are taken" in await second.details()
        assert b"RetryInfo" in dict(await second.trailing_metadata())["grpc-status-details-bin"]
        first.cancel()


async def test_clients_that_open_no_window_lose_their_places(house):
    config = house.configured(max_sessions=6, max_sessions_per_connection=6, first_message_ms=300)
    async with house.running(config=config) as (server, client):
        began = time.monotonic()
        async with RawClient(server.port) as raw:
            for _ in range(3):  # wave after wave
                for _ in range(6):
                    raw.open(house.METHOD, house.opening().SerializeToString())
                for _ in range(20):
                    raw.open(WATCH, b"")
                await asyncio.sleep(0.1)
                assert await status_of(server) == health_pb2.HealthCheckResponse.SERVING
                await emptied(server)
                assert isinstance((await house.collect(client, house.speech(0.2, 0.5)))[-1], Summary)
    assert time.monotonic() - began < 15  # nor do they hold up the server when it stops


async def test_who_watches_without_reading_keeps_no_change_from_others(house):
    async with house.running() as (server, _), RawClient(server.port) as raw, connected(server) as channel:
        raw.open(WATCH, b"")
        call = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest())
        told = [(await call.read()).status]
        async with connected(server) as other:
            gone = health_pb2_grpc.HealthStub(other).Watch(health_pb2.HealthCheckRequest())
            await gone.read()
        server._service.failed.set()
        async with asyncio.timeout(5):
            told.append((await call.read()).status)
        assert told == [health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING]


@pytest.mark.parametrize(("interval_ms", "sent_away"), [(50, False), (300_000, True)])
async def test_clients_may_ping_while_they_wait(house, monkeypatch, interval_ms, sent_away):
    """The longer interval is gRPC's own, which a misspelt option would leave in force."""
    monkeypatch.setattr(app, "_PINGS_MS", interval_ms)
    async with house.running() as (server, _), RawClient(server.port, 65_535) as raw:
        raw.open(house.METHOD, house.opening().SerializeToString())
        for _ in range(8):
            await asyncio.sleep(0.1)
            raw.ping()
        await asyncio.sleep(0.2)
        assert raw.sent_away is sent_away


def test_grpc_knows_every_option_that_is_set():
    """A misspelt one is ignored in silence."""
    core = Path(grpc._cython.cygrpc.__file__).read_bytes()
    for name, _ in app._options(ServerConfig()):
        assert name.encode() + b"\0" in core, name
    assert b"grpc.http2.min_recv_ping_interval_without_data_ms" not in core


@pytest.mark.parametrize("method", [CHECK, WATCH, REFLECTION, LISTING])
async def test_bytes_that_are_no_message_are_the_callers_fault_whatever_the_method(house, method, caplog):
    async with house.running() as (server, _), connected(server) as channel:
        call = channel.stream_stream(method)()
        await call.write(b"\xff\xff\xff")
        await call.done_writing()
        with contextlib.suppress(grpc.aio.AioRpcError):
            while await call.read() is not grpc.aio.EOF:
                pass
        assert await call.code() == CODE.INVALID_ARGUMENT
        assert await call.details() == "message: the bytes are no message of this method"
        assert await status_of(server) == health_pb2.HealthCheckResponse.SERVING
    assert [record for record in caplog.records if record.levelno >= logging.ERROR] == []


async def test_a_fault_of_ours_says_nothing_of_what_happened_whatever_the_method(house, caplog):
    async with house.running() as (server, _), connected(server) as channel:
        served, server._service.served = server._service.served, object()
        with pytest.raises(grpc.aio.AioRpcError, match="internal error; the server's log has it") as caught:
            await channel.unary_unary(LISTING)(b"")
        server._service.served = served
        assert caught.value.code() == CODE.INTERNAL
        assert "attribute" not in caught.value.details()
    assert "AttributeError" in caplog.text


async def test_a_brief_call_that_is_held_open_is_ended():
    class Asking:
        request_streaming = response_streaming = False
        request_deserializer = response_serializer = bytes

        async def unary_unary(self, _message, _context):
            await asyncio.Event().wait()

    class Talk:
        def peer(self):
            return "a"

        def set_code(self, code):
            self.code = code

        def set_details(self, details):
            self.details = details

        def set_trailing_metadata(self, metadata):
            self.metadata = metadata

    async def found(_details):
        return Asking()

    class Details:
        method = "/x"

    handler = await Doors({"/x": Kind(Room("seats", 1, 1, 5), 30)}).intercept_service(found, Details())
    talk = Talk()
    assert await handler.unary_unary(b"", talk) is None
    assert talk.code == CODE.ABORTED
    assert "30 ms" in talk.details


async def test_a_client_that_vanishes_in_mid_write_is_no_fault_of_ours(house, caplog):
    caplog.set_level(logging.INFO)

    class Broken:
        async def write(self, *_message):
            raise grpc.aio.InternalError("Failed grpc_call_start_batch")

        read = write

    async def call():
        async with ending("session 7", GrpcLink(Broken())), asyncio.TaskGroup() as tasks:
            tasks.create_task(GrpcLink(Broken()).write(None))

    with pytest.raises(asyncio.CancelledError):  # gRPC takes it in silence
        await call()
    assert caplog.messages == ["session 7: the client went away"]
    with pytest.raises(LinkLost):
        await GrpcLink(Broken()).read()
    caplog.clear()
    async with house.running() as (server, _):
        for _ in range(5):
            async with RawClient(server.port, 300) as raw:
                raw.open(house.METHOD, house.opening().SerializeToString())
                await asyncio.sleep(0.05)
        await emptied(server)
    assert [record for record in caplog.records if record.levelno >= logging.ERROR] == []


def test_a_connection_without_places_is_refused():
    with pytest.raises(BadConfig, match="max_sessions_per_connection"):
        ServerConfig(max_sessions_per_connection=0)
    assert ServerConfig().sessions_per_connection == 32
    assert ServerConfig(max_sessions=4).sessions_per_connection == 8
