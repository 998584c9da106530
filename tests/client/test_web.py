"""Over WebSockets the client is the same client: the same captions, errors, patience and resume."""

import asyncio
import random
import sys
from contextlib import asynccontextmanager, suppress

import grpc
import pytest
from aiohttp import web

from streamtrans.client import (
    BlockingStream,
    Caption,
    Denied,
    InvalidRequest,
    Overloaded,
    Resumed,
    ServerFault,
    Started,
    StreamOptions,
    Summary,
    TimedOut,
    Tls,
    TranslationClient,
    Unavailable,
    Unsupported,
)
from streamtrans.client.over_web import WebCarrier
from streamtrans.core import BadConfig
from streamtrans.server import Tls as ServerTls
from streamtrans.server import TranslationServer
from streamtrans.server.keys import add_key
from streamtrans.wire import JsonForm, ProtoForm, WatchRequest, config_message, end_message, payload_of
from tests.certificates import make_certificate
from tests.client.test_resume import OPTIONS, TALK, lines, pieces, told
from tests.proxy import Proxy, through_proxy
from tests.server.conftest import configured, running, served, speech

CODE = grpc.StatusCode


@asynccontextmanager
async def over_web(**changes):
    async with (
        asyncio.timeout(25),
        running(config=configured(http_port=0, **changes)) as (server, over_grpc),
        TranslationClient(f"ws://localhost:{server.http_port}") as client,
    ):
        yield server, client, over_grpc


@pytest.fixture(scope="module")
def unbroken():
    async def listen():
        async with running() as (_, client):
            return lines(await told(client, TALK))

    return asyncio.run(listen())


async def test_a_stream_says_what_it_says_over_grpc(unbroken):
    async with over_web() as (_, client, over_grpc):
        await client.wait_ready(5)
        assert lines(await told(client, pieces(TALK))) == unbroken
        assert await client.capabilities() == await over_grpc.capabilities()


async def test_a_viewer_reads_along(unbroken):
    async with over_web() as (server, client, _), client.stream(OPTIONS) as stream:
        seen = []

        async def watch():
            async for event in client.watch(stream.started.viewer_token, "fr"):
                seen.append(event)

        watching = asyncio.create_task(watch())
        [live] = server._service._viewable.values()
        while not len(live.audience):
            await asyncio.sleep(0.01)
        await stream.send(TALK)
        await stream.end()
        async for _ in stream:
            pass
        await watching
        assert lines(seen) == {key: text for key, text in unbroken.items() if key[1] == "fr"}
        with pytest.raises(Denied, match="no stream is open to viewers"):
            async for _ in client.watch("guess", "de"):
                pass


@pytest.mark.parametrize("seed", range(6))
async def test_cut_at_any_byte_a_stream_says_what_it_says_unbroken(unbroken, seed):
    dice = random.Random(seed)
    cuts = [
        dice.randrange(3_000, 30_000),
        *(dice.choice((dice.randrange(1, 400), dice.randrange(400, 60_000))) for _ in range(6)),
    ]
    async with through_proxy(cuts, "ws") as (proxy, client, _):
        events = await told(client, pieces(TALK))
        assert proxy.killed >= 1
        assert sum(isinstance(event, Resumed) for event in events) >= 1
        assert lines(events) == unbroken


async def test_a_program_without_an_event_loop_uses_the_same_address():
    async with over_web() as (server, _, _):

        def speak():
            seen = []
            with BlockingStream(f"ws://localhost:{server.http_port}", StreamOptions(("de",)), seen.append) as stream:
                stream.send(speech(0.3, 1.2, 0.6))
            return seen

        seen = await asyncio.to_thread(speak)
        assert isinstance(seen[0], Started)
        assert isinstance(seen[-1], Summary)
        assert any(isinstance(event, Caption) and event.final for event in seen)


async def test_refusals_have_their_names_fields_and_times(tmp_path):
    key = add_key(tmp_path / "keys.toml", "hall", {})
    async with over_web(keys=tmp_path / "keys.toml", max_sessions=1, retry_after_ms=700) as (server, nobody, _):
        for asking in (nobody.capabilities(), nobody.stream(OPTIONS).__aenter__()):
            with pytest.raises(Denied):
                await asking
        async with TranslationClient(f"ws://localhost:{server.http_port}", key=key) as client:
            assert (await client.capabilities()).model == "toy"
            with pytest.raises(Unsupported, match="toy doesn't know 'sw'"):
                await client.stream(StreamOptions(("sw",))).__aenter__()
            async with client.stream(StreamOptions(("de",))) as stream:
                with pytest.raises(Overloaded) as caught:
                    await client.stream(StreamOptions(("de",))).__aenter__()
                assert caught.value.retry_after_s == 0.7
                await stream.send(b"\x00" * 3)
                await stream.update(add=["xx-too-long-for-a-language"])
                stream._sequence = 7
                await stream.send(b"\x00" * 3)
                with pytest.raises(InvalidRequest) as caught:
                    async for _ in stream:
                        pass
                [(field, _)] = caught.value.fields
                assert field == "audio.sequence"
                with pytest.raises(InvalidRequest, match=r"audio\.sequence"):
                    await stream.send(b"\x00" * 3)


async def test_who_cancels_reading_or_writing_goes_on(unbroken):
    async with over_web() as (_, client, _), client.stream(OPTIONS) as stream:
        for _ in range(3):
            with suppress(TimeoutError):
                async with asyncio.timeout(0.05):
                    async for _ in stream:
                        pass
        await stream.send(TALK)
        await stream.end()
        assert lines([event async for event in stream]) == unbroken


async def test_leaving_frees_the_place_and_keeps_nothing():
    async with over_web() as (server, client, _):
        async with client.stream(OPTIONS) as stream:
            await stream.send(TALK[:1_600])
        async with asyncio.timeout(2):
            while server.active_sessions:
                await asyncio.sleep(0.01)
        assert not list(server._service.registry)


async def test_nobody_there_and_nobody_of_ours():
    async with running() as (server, _), TranslationClient("ws://127.0.0.1:1") as client:
        with pytest.raises(Unavailable, match="can't be reached"):
            await client.capabilities()
        with pytest.raises(Unavailable, match="can't be reached"):
            await client.stream(OPTIONS).__aenter__()
        with pytest.raises(Unavailable, match="not ready within"):
            await client.wait_ready(0.1)
        async with TranslationClient(f"ws://127.0.0.1:{server.port}") as wrong, asyncio.timeout(10):
            with pytest.raises((Unavailable, Unsupported)):
                await wrong.capabilities()


async def test_a_server_that_is_silent_is_an_error_in_time():
    async with Proxy(0) as proxy, asyncio.timeout(10):
        proxy.silent = True
        async with TranslationClient(f"ws://{proxy.address}") as client:
            with pytest.raises(TimedOut, match="nothing within"):
                await client.capabilities(timeout_s=0.2)
            with pytest.raises(TimedOut, match="nothing within"):
                await client.stream(OPTIONS, timeout_s=0.2).__aenter__()
            with pytest.raises(Unavailable):
                await client.wait_ready(0.2)


@asynccontextmanager
async def strange(answer):
    """A client of a server whose WebSockets do what ``answer`` does."""

    async def stream(request):
        socket = web.WebSocketResponse(protocols=("streamtrans.v1+proto",))
        await socket.prepare(request)
        await socket.receive()
        await answer(socket)
        return socket

    async def page(_request):
        return web.Response(text="a page", status=500 if answer is None else 404)

    app = web.Application()
    app.router.add_get("/v1/stream", stream)
    app.router.add_get("/v1/watch", page)
    app.router.add_get("/readyz", page)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        async with TranslationClient(f"ws://127.0.0.1:{runner.addresses[0][1]}") as client, asyncio.timeout(10):
            yield client
    finally:
        await runner.cleanup()


ENDS = {
    "a status in other words": (
        lambda socket: socket.send_str('{ "status" : {"message": "why", "code": 9, "newer": 1} }'),
        InvalidRequest,
        "FAILED_PRECONDITION: why",
    ),
    "a code without a status": (lambda socket: socket.close(code=4008, message=b"full"), Overloaded, "full"),
    "too large": (lambda socket: socket.close(code=1009), Overloaded, "too long"),
    "no status": (lambda socket: socket.close(), Unavailable, "no status came"),
    "no message": (lambda socket: socket.send_bytes(b"\xff\xff"), ServerFault, "no message"),
    "text where bytes are due": (lambda socket: socket.send_str("hello"), ServerFault, "no message"),
    "an unknown code": (lambda socket: socket.send_str('{"status": {"code": 99}}'), ServerFault, "UNKNOWN"),
}


@pytest.mark.parametrize("how", ENDS)
async def test_whatever_a_server_ends_with_is_named(how):
    answer, kind, words = ENDS[how]
    async with strange(answer) as client:
        with pytest.raises(kind, match=words):
            await client.stream(StreamOptions(("de",))).__aenter__()


async def test_what_is_no_such_server_is_named():
    async with strange(None) as client:
        with pytest.raises(Unavailable, match="HTTP 500"):
            async for _ in client.watch("token", "de"):
                pass
        with pytest.raises(Unsupported, match="HTTP 404"):
            await client.capabilities()
    async with strange(print) as client:
        with pytest.raises(Unsupported, match="HTTP 404"):
            await client.wait_ready(1)


@pytest.mark.parametrize(
    ("address", "tls", "words"),
    [
        ("http://talks.example", None, "write ws://"),
        ("https://talks.example", None, "write wss://"),
        ("ws://", None, "names no server"),
        ("ws://talks.example", Tls(), "write wss://"),
        ("wss://talks.example", Tls(b"no certificate"), "can't be read"),
        ("wss://talks.example", Tls(certificate_chain=b"none"), "can't be read"),
    ],
)
def test_an_address_that_is_none_is_refused_with_what_would_be_right(address, tls, words):
    with pytest.raises(BadConfig, match=words):
        TranslationClient(address, tls=tls)


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "aiohttp", None)
    monkeypatch.delitem(sys.modules, "streamtrans.client.over_web")
    with pytest.raises(BadConfig, match="pip install aiohttp"):
        TranslationClient("ws://localhost")


async def test_tls_both_ways(tmp_path):
    cert, key = make_certificate(tmp_path)
    config = configured(tls=ServerTls(cert, key, client_roots=cert), http_port=0)
    async with TranslationServer(config, served) as server, asyncio.timeout(20):
        await server.ready()
        address, pem = f"wss://localhost:{server.http_port}", cert.read_bytes()
        async with TranslationClient(address, tls=Tls(pem, key.read_bytes(), pem)) as client:
            assert (await client.capabilities()).model == "toy"
            assert lines(await told(client, TALK))
        for tls in (None, Tls(pem)):  # who signed the server, or the client, isn't known
            async with TranslationClient(address, tls=tls) as client:
                with pytest.raises(Unavailable):
                    await client.capabilities()


@pytest.mark.parametrize("form", [ProtoForm, JsonForm])
async def test_either_form_carries_calls(form):
    async with running(config=configured(http_port=0)) as (server, _), asyncio.timeout(10):
        carrier = WebCarrier(f"ws://localhost:{server.http_port}", None, None)
        carrier.form = form
        await carrier.open()
        speaking = carrier.speak()
        await speaking.write(config_message(StreamOptions(("de",))))
        started = await speaking.read()
        watching = carrier.watch()
        await watching.write(WatchRequest(viewer_token=started.started.viewer_token, language="de"))
        assert (await watching.read()).HasField("started")
        assert (await carrier.stats(5)).active == 1
        await speaking.write(end_message(0))
        kinds = []
        while (message := await speaking.read()) is not None:
            kinds.append(payload_of(message))
        assert kinds[-1] == "summary"
        assert await speaking.status() == (CODE.OK, "", ())
        await watching.close()
        await speaking.close()
        await carrier.close()
