"""The life of a server: warm-up, health, reflection, TLS, shutdown, and clients that are killed."""

import asyncio
import gc
import os
import signal
import subprocess
import sys
import threading
import weakref

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from streamtrans.client import Tls, TranslationClient, Unavailable
from streamtrans.core import BadConfig, BadModel, EngineClosed
from streamtrans.server import Limits, ServerConfig, TranslationServer, serve
from streamtrans.server import Tls as ServerTls
from streamtrans.wire import SERVICE_NAME, StreamOptions
from tests.certificates import make_certificate

STATUS = health_pb2.HealthCheckResponse


async def health(server, service):
    async with grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        request = health_pb2.HealthCheckRequest(service=service)
        return (await health_pb2_grpc.HealthStub(channel).Check(request)).status


async def test_nothing_is_served_until_the_model_is_warm(house):
    gate = threading.Event()

    def load():
        gate.wait(10)
        return house.served()

    async with (
        TranslationServer(house.configured(), load) as server,
        TranslationClient(f"127.0.0.1:{server.port}") as client,
    ):
        for service in ("", SERVICE_NAME):
            assert await health(server, service) == STATUS.NOT_SERVING
        with pytest.raises(Unavailable, match="not warm") as caught:
            await house.collect(client, b"")
        assert caught.value.retry_after_s == 1.0
        with pytest.raises(Unavailable, match="not warm"):
            await client.capabilities()
        with pytest.raises(Unavailable, match="NOT_SERVING"):
            await client.wait_ready(0.05)
        gate.set()
        await client.wait_ready(5)
        for service in ("", SERVICE_NAME):
            assert await health(server, service) == STATUS.SERVING
        await house.collect(client, b"")


async def test_warming_up_uses_detector_and_model(house):
    engine = house.instant()
    async with house.running(house.served(engine)):
        assert [type(request).__name__ for request in engine.requests] == ["Detect", *["Job"] * 15]


async def test_a_model_that_does_not_load_is_told(house):
    def load():
        raise BadModel("no weights here")

    async with TranslationServer(house.configured(), load) as server:
        with pytest.raises(BadModel, match="no weights"):
            await server.ready()
        assert await health(server, "") == STATUS.NOT_SERVING
    with pytest.raises(BadModel, match="no weights"):
        await serve(house.configured(), load)


async def test_a_model_that_hangs_while_warming_up_is_closed(house):
    engine = house.Held(house.instant())
    async with TranslationServer(house.configured(warm_timeout_ms=20), lambda: house.served(engine)) as server:
        with pytest.raises(TimeoutError):
            await server.ready()
    assert engine.engine._closed


async def test_a_server_can_leave_while_its_model_loads(house):
    engine, begun, gate = house.instant(), threading.Event(), threading.Event()

    def load():
        begun.set()
        gate.wait(10)
        return house.served(engine)

    async with TranslationServer(house.configured(), load):
        await asyncio.to_thread(begun.wait, 10)
    gate.set()
    async with asyncio.timeout(5):
        while not engine._closed:
            await asyncio.sleep(0.005)


async def test_reflection_names_the_services(house):
    async with (
        house.running() as (server, _),
        grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel,
    ):
        call = reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo()
        await call.write(reflection_pb2.ServerReflectionRequest(list_services=""))
        response = await call.read()
        call.cancel()
    names = {service.name for service in response.list_services_response.service}
    assert {SERVICE_NAME, "grpc.health.v1.Health"} <= names


async def test_a_taken_port_is_refused(house):
    async with house.running() as (server, _):
        with pytest.raises(BadConfig, match="can't listen"):
            async with TranslationServer(house.configured(port=server.port), house.served):
                pass


async def test_a_stopped_server_closes_its_engine_and_ends_calls(house):
    engine = house.instant()
    async with house.running(house.served(engine)) as (server, client):
        async with client.stream(StreamOptions(("de",))) as stream:
            stopping = asyncio.create_task(server.stop(0))
            with pytest.raises(Unavailable):
                async for _ in stream:
                    pass
            await stopping
        assert engine._closed
        with pytest.raises(Unavailable):
            await house.collect(client, b"")


async def test_running_calls_may_finish_within_the_grace(house):
    async with house.running() as (server, client), client.stream(StreamOptions(("de",))) as stream:
        await stream.send(house.speech(0.2, 1))
        stopping = asyncio.create_task(server.stop(5_000))
        await asyncio.sleep(0.02)
        assert not stopping.done()
        await stream.end()
        events = [event async for event in stream]
        await stopping
    assert events[-1].finals == 1


async def test_serve_runs_until_it_is_asked_to_stop(house):
    ports = []

    def on_ready(server):
        ports.append(server.port)
        os.kill(os.getpid(), signal.SIGTERM)

    engine = house.instant()
    async with asyncio.timeout(10):
        await serve(house.configured(), lambda: house.served(engine), on_ready=on_ready)
    assert len(ports) == 1
    assert engine._closed


async def speak(stream, audio):
    await stream.send(audio)
    return [event async for event in stream]


async def test_an_engine_that_stops_ends_the_service(house, caplog):
    engine = house.instant()
    config = house.configured(grace_ms=60_000)  # more than anybody should wait for
    async with (
        asyncio.timeout(30),
        house.running(house.served(engine), config) as (server, client),
        client.stream(StreamOptions(("de",))) as first,
        client.stream(StreamOptions(("de",))) as second,
    ):
        engine.close()
        for stream in (first, second):
            with pytest.raises(Unavailable, match="the engine has stopped; call again") as caught:
                await speak(stream, house.speech(0.2, 1))
            assert caught.value.retry_after_s == 1.0
        assert server.failed.is_set()
        for service in ("", SERVICE_NAME):
            assert await health(server, service) == STATUS.NOT_SERVING
        with pytest.raises(Unavailable, match="the engine has stopped"):
            await house.collect(client, b"")
        with pytest.raises(Unavailable, match="the engine has stopped"):
            await client.capabilities()
    errors = [record for record in caplog.records if record.levelname == "ERROR"]
    assert ["stopped by itself" in record.getMessage() for record in errors] == [True]
    assert errors[0].exc_info is None


async def test_an_engine_that_closes_with_its_server_is_no_failure(house, caplog):
    caplog.set_level("INFO", logger="streamtrans")
    engine = house.instant()
    async with house.running(house.served(engine)) as (server, client):
        async with client.stream(StreamOptions(("de",))) as stream:
            stopping = asyncio.create_task(server.stop(5_000))
            await asyncio.sleep(0.02)
            engine.close()
            with pytest.raises(
                Unavailable
            ):  # its words may be lost: the connection closes while the client still writes
                await speak(stream, house.speech(0.2, 1))
        await stopping
        assert any("the server is shutting down" in record.getMessage() for record in caplog.records)
        assert not server.failed.is_set()


async def test_serve_ends_with_an_error_when_the_engine_stops(house):
    engine, told = house.instant(), []

    async def call(port):
        async with TranslationClient(f"127.0.0.1:{port}") as client:
            await client.capabilities()  # connected before the server notices
            engine.close()
            with pytest.raises(Unavailable) as caught:
                await house.collect(client, house.speech(0.2, 1))
            told.append(caught.value.message)

    def on_ready(server):
        calls.append(asyncio.create_task(call(server.port)))

    calls = []
    async with asyncio.timeout(20):
        with pytest.raises(EngineClosed, match="start the server again"):
            await serve(house.configured(grace_ms=5_000), lambda: house.served(engine), on_ready=on_ready)
        await asyncio.gather(*calls)
    assert "the engine has stopped" in told[0]


async def test_what_was_served_is_let_go(house):
    made = []

    def load():
        engine = house.instant()
        engine.itself = engine  # only the collector finds it
        made.append(weakref.ref(engine))
        return house.served(engine)

    def on_ready(_):
        os.kill(os.getpid(), signal.SIGINT)

    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        async with asyncio.timeout(20):
            await serve(house.configured(), load, on_ready=on_ready)
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    gc.collect()
    assert made[0]() is None


KILLED = """
import asyncio, sys
from streamtrans.client import StreamOptions, TranslationClient
async def main():
    async with TranslationClient(sys.argv[1]) as client, client.stream(StreamOptions(("de",))) as stream:
        await stream.send(bytes(3200))
        print("sent", flush=True)
        await asyncio.sleep(60)
asyncio.run(main())
"""


async def test_killing_a_client_frees_its_slot(house):
    async with house.running(config=house.configured(max_sessions=1)) as (server, client):
        address = f"127.0.0.1:{server.port}"
        child = await asyncio.create_subprocess_exec(
            sys.executable, "-c", KILLED, address, stdout=asyncio.subprocess.PIPE
        )
        assert await child.stdout.readline() == b"sent\n"
        assert server.active_sessions == 1
        child.kill()
        async with asyncio.timeout(10):  # benchmarks measure the delay; a busy machine says nothing about it
            while server.active_sessions:
                await asyncio.sleep(0.005)
        await child.wait()
        await house.collect(client, b"")


@pytest.fixture
def certificate(tmp_path):
    return make_certificate(tmp_path)


async def test_tls_both_ways(house, certificate):
    cert, key = certificate
    config = house.configured(tls=ServerTls(cert, key, client_roots=cert))
    pem = cert.read_bytes()
    async with TranslationServer(config, house.served) as server:
        await server.ready()
        address = f"localhost:{server.port}"
        async with TranslationClient(address, tls=Tls(pem, key.read_bytes(), pem)) as client:
            assert (await client.capabilities()).model == "toy"
        async with TranslationClient(address) as plain:
            with pytest.raises(Unavailable):
                await plain.capabilities()


async def test_a_missing_tls_file_is_named(house, tmp_path):
    config = house.configured(tls=ServerTls(tmp_path / "nowhere.pem", tmp_path / "key.pem"))
    with pytest.raises(BadConfig, match="TLS file"):
        async with TranslationServer(config, house.served):
            pass


async def test_a_tls_file_that_is_no_pem_is_suspected(house, tmp_path):
    pem = tmp_path / "cert.pem"
    pem.write_text("no certificate at all")
    with pytest.raises(BadConfig, match="certificate and key"):
        async with TranslationServer(house.configured(tls=ServerTls(pem, pem)), house.served):
            pass


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"pace": "hurry"}, "pace"),
        ({"port": 70_000}, "port"),
        ({"max_sessions": 0}, "max_sessions"),
        ({"grace_ms": -1}, "grace_ms"),
        ({"behind_ms": 0}, "behind_ms"),
    ],
)
def test_wrong_settings_are_named(changes, words):
    with pytest.raises(BadConfig, match=words):
        ServerConfig(**changes)


def test_published_limits_are_the_documented_ones():
    limits = Limits()
    assert (limits.max_chunk_bytes, limits.max_chunk_ms) == (100_000, 1_000)
    assert (limits.max_real_time_factor, limits.burst_ms) == (2, 5_000)
    assert (limits.idle_ms, limits.max_connection_ms) == (30_000, 3_600_000)
    assert (limits.max_targets, limits.max_message_bytes) == (5, 262_144)


def test_importing_client_and_server_loads_no_torch():
    code = "import sys, streamtrans.client, streamtrans.server; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
