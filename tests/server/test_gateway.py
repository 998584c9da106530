"""Over a WebSocket everything is as over gRPC: the same captions, refusals, doors and limits."""

import asyncio
import json
import ssl
import struct

import aiohttp
import grpc
import pytest
from google.rpc import error_details_pb2

from streamtrans.client import Overloaded, StreamOptions
from streamtrans.core import BadConfig
from streamtrans.server import Limits, ServerConfig, Tls, TranslationServer
from streamtrans.server.keys import add_key
from streamtrans.server.origins import Origins
from streamtrans.wire import (
    audio_message,
    authorization_frame,
    end_message,
    payload_of,
    ping_message,
    resume_message,
    silence_message,
)
from tests.certificates import make_certificate
from tests.server.web import JSON, PROTO, connected, get

CODE = {code.name: code.value[0] for code in grpc.StatusCode}
PCM = b"\x00\x10" * 1_600
BOTH = pytest.mark.parametrize("form", [PROTO, JSON])


def gateway(house, limits=None, **changes):
    return house.running(config=house.configured(limits or house.EAGER, http_port=0, **changes))


@BOTH
async def test_a_stream_ends_with_summary_status_and_close(house, form):
    async with gateway(house) as (server, _), connected(server, form) as web:
        await web.send(house.opening(), audio_message(PCM, 1), silence_message(500, 2), end_message(2))
        told = await web.rest()
        assert [message.event_sequence for message in told] == list(range(1, len(told) + 1))
        assert (payload_of(told[0]), payload_of(told[-1])) == ("started", "summary")
        assert (web.status[0], web.socket.close_code) == (0, 1000)


@BOTH
@pytest.mark.parametrize(
    ("messages", "code", "words"),
    [
        ([b""], "INVALID_ARGUMENT", "payload"),
        ([audio_message(PCM, 1)], "FAILED_PRECONDITION", "send `config` first"),
        (["config", "config"], "FAILED_PRECONDITION", "twice"),
        (["config", audio_message(b"\1", 1)], "INVALID_ARGUMENT", "audio.data"),
        (["config", audio_message(PCM, 7)], "INVALID_ARGUMENT", "audio.sequence"),
        (["config", silence_message(-4, 1)], "INVALID_ARGUMENT", "silence.duration_ms"),
        (["config", "oversized"], "RESOURCE_EXHAUSTED", "at most"),
        (["other language"], "UNIMPLEMENTED", "toy doesn't know"),
    ],
)
async def test_what_is_wrong_is_refused_as_over_grpc(house, form, messages, code, words):
    named = {"config": house.opening(), "other language": house.opening(targets=("sw",)), "oversized": b"x" * 300_000}
    if form == JSON and messages == [b""]:
        messages = ["{}"]
    async with gateway(house) as (server, _), connected(server, form) as web:
        await web.send(*(named.get(message, message) if isinstance(message, str) else message for message in messages))
        await web.rest()
        number, told, details = web.status
        assert (number, web.socket.close_code) == (CODE[code], 4000 + CODE[code])
        assert words in told
        if code == "INVALID_ARGUMENT":
            assert details[0].Is(error_details_pb2.BadRequest.DESCRIPTOR)


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "3", "null", "[" * 50_000, '{"ping": {}, "ping": {}}', '{"nonsense": 1}',
     '{"ping": {"clientTimeMs": "x"}}', '{"audio": {"data": "!!!!"}}', '{"audio": {"data": 5}}',
     '{"ping": {}, "end": {}}', '{"config": {"sourceLanguages": ["\\ud800"]}}',
     '{"ping": {"clientTimeMs": ' + "9" * 5_000 + "}}", '{"ping": {"clientTimeMs": NaN}}', '{"authorization": 5}'],
)  # fmt: skip
async def test_json_that_is_no_message_is_refused_by_place(house, text, caplog):
    async with gateway(house) as (server, _), connected(server) as web:
        await web.send(text)
        await web.rest()
        assert web.status[0] == CODE["INVALID_ARGUMENT"], web.status
        assert web.status[2]
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


@pytest.mark.parametrize("frame", [b"\xff\xff\xff", "text", b"\x12\x80\x80"])
async def test_bytes_that_are_no_message_are_refused(house, frame):
    async with gateway(house) as (server, _), connected(server, PROTO) as web:
        await web.send(frame)
        await web.rest()
        assert web.status[0] == CODE["INVALID_ARGUMENT"]


async def test_what_is_far_too_large_is_cut_off_before_it_is_kept(house):
    async with gateway(house) as (server, _), connected(server, PROTO) as web:
        await web.send(b"x" * 600_000)
        await web.rest()
        assert web.socket.close_code == 1009


async def test_audio_in_binary_frames_is_numbered_and_a_broken_stream_goes_on(house):
    async with gateway(house) as (server, _):
        async with connected(server) as web:
            await web.send(house.opening(resumable=True), *[PCM] * 12)
            told = [await web.read() for _ in range(1)]
            while payload_of(told[-1]) != "checkpoint":
                told.append(await web.read())
            token, heard = told[-1].checkpoint.resume_token, told[-1].checkpoint.acknowledged_sequence
            assert 10 <= heard <= 12
            web.socket._response.connection.transport.abort()
        async with connected(server) as web:
            await web.send(resume_message(token, told[-1].event_sequence))
            while payload_of(started := await web.read()) != "started":
                pass
            assert started.started.acknowledged_sequence in range(10, 13)
            await web.send(PCM, end_message(started.started.acknowledged_sequence + 1))
            told = await web.rest()
            assert told[-1].summary.audio_ms == 100 * (started.started.acknowledged_sequence + 1)


@BOTH
async def test_keys_come_in_a_header_or_in_the_first_message_never_elsewhere(house, tmp_path, form):
    path = tmp_path / "keys.toml"
    key = add_key(path, "hall", {})
    async with gateway(house, keys=path) as (server, _):
        async with connected(server, form, {"Authorization": f"Bearer {key}"}) as web:
            await web.send(house.opening())
            assert payload_of(await web.read()) == "started"
        async with connected(server, form) as web:
            await web.send(authorization_frame(f"Bearer {key}"), house.opening())
            assert payload_of(await web.read()) == "started"
        for first in (house.opening(), authorization_frame("Bearer st_guess")):
            async with connected(server, form) as web:
                await web.send(first, house.opening())
                assert await web.rest() == []
                assert (web.status[0], web.socket.close_code) == (16, 4016)
        answer, told = await get(server, f"/v1/capabilities?key={key}")
        assert (answer.status, told["status"]["name"]) == (401, "UNAUTHENTICATED")
        answer, told = await get(server, "/v1/capabilities", headers={"Authorization": f"Bearer {key}"})
        assert (answer.status, told["model"]) == (200, "toy")


async def test_who_needs_no_key_may_say_one(house):
    async with gateway(house) as (server, _), connected(server) as web:
        await web.send(authorization_frame("Bearer x"), house.opening())
        assert payload_of(await web.read()) == "started"


@pytest.mark.parametrize(
    ("origin", "host", "allowed", "listening", "admitted"),
    [
        (None, "localhost:80", (), "127.0.0.1", True),
        ("http://localhost:8080", "localhost:8080", (), "127.0.0.1", True),
        ("http://localhost:8081", "localhost:8080", (), "127.0.0.1", False),
        ("https://evil.example", "localhost:8080", (), "127.0.0.1", False),
        ("http://rebound.example:8080", "rebound.example:8080", (), "127.0.0.1", False),
        ("https://talks.example", "talks.example", (), "0.0.0.0", True),
        ("https://talks.example", "127.0.0.1:8080", ("https://talks.example",), "127.0.0.1", True),
        ("https://talks.example.evil", "talks.example", ("https://talks.example",), "0.0.0.0", False),
        ("null", "localhost:8080", (), "127.0.0.1", False),
        ("https://any.example", "localhost", ("*",), "127.0.0.1", True),
    ],
)
def test_only_its_own_pages_may_call_unless_others_are_allowed(origin, host, allowed, listening, admitted):
    assert Origins(allowed, listening).admit(origin, host) is admitted


@pytest.mark.parametrize("text", ["talks.example", "https://talks.example/path", "ftp://talks.example", "https://"])
def test_what_is_no_origin_is_named(text):
    with pytest.raises(BadConfig, match="no origin"):
        Origins([text], "127.0.0.1")


async def test_pages_of_others_and_other_subprotocols_are_refused(house):
    async with gateway(house, allow_origin="https://talks.example") as (server, _):
        for origin, status in (("https://evil.example", 403), ("https://talks.example", None)):
            if status is None:
                async with connected(server, headers={"Origin": origin}) as web:
                    await web.send(house.opening())
                    assert payload_of(await web.read()) == "started"
                continue
            with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
                async with connected(server, headers={"Origin": origin}):
                    pass
            assert caught.value.status == status
        async with aiohttp.ClientSession() as session:
            with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
                await session.ws_connect(f"http://localhost:{server.http_port}/v1/stream", protocols=["chat"])
            assert caught.value.status == 400


async def test_pages_say_what_this_is_and_run_nothing_of_others(house):
    async with gateway(house) as (server, _):
        answer, text = await get(server, "/")
        assert answer.status == 200
        assert "Live captions" in text
        policy = answer.headers["Content-Security-Policy"]
        assert policy.startswith("default-src 'none'")
        assert "unsafe" not in policy
        assert "frame-ancestors 'none'" in policy
        assert "Set-Cookie" not in answer.headers
        for path in ("/%2e%2e/gateway.py", "/page/index.html", "/index.htm", "/v1"):
            assert (await get(server, path))[0].status == 404


async def test_health_and_readiness_mean_it(house):
    async with gateway(house) as (server, _):
        assert [(await get(server, path))[0].status for path in ("/healthz", "/readyz")] == [200, 200]
        server._service.draining = True
        assert [(await get(server, path))[0].status for path in ("/healthz", "/readyz")] == [200, 503]
        server._service.failed.set()
        assert (await get(server, "/healthz"))[0].status == 503


async def test_places_are_those_of_grpc(house):
    async with gateway(house, max_sessions=1, retry_after_ms=700) as (server, client):
        async with connected(server) as web:
            await web.send(house.opening())
            await web.read()
            with pytest.raises(Overloaded, match="all 1 sessions"):
                await house.collect(client, b"")
        async with asyncio.timeout(5):
            while server.active_sessions:
                await asyncio.sleep(0.01)
        async with client.stream(StreamOptions(("de",))), connected(server) as web:
            await web.send(house.opening())
            await web.rest()
            assert web.status[0] == CODE["RESOURCE_EXHAUSTED"]
            retry = error_details_pb2.RetryInfo()
            assert web.status[2][0].Unpack(retry)
            assert retry.retry_delay.ToMilliseconds() == 700


@pytest.mark.parametrize("after_end", [False, True])
async def test_a_client_that_goes_frees_its_place(house, after_end):
    engine = house.Held(house.instant(), 8_000)
    config = house.configured(http_port=0)
    async with house.running(house.served(engine), config) as (server, _):
        async with connected(server) as web:
            await web.send(
                house.opening(), *[b"\x00\x20\x00\xe0" * 1_600] * 3, *([end_message(3)] if after_end else [])
            )
            await web.read()
            await asyncio.sleep(0.05)
            assert server.active_sessions == 1
            web.socket._response.connection.transport.abort()
            async with asyncio.timeout(1):
                while server.active_sessions:
                    await asyncio.sleep(0.005)
        engine.let_go()


async def test_who_says_nothing_or_asks_nothing_is_not_waited_for(house):
    async with gateway(house, first_message_ms=100) as (server, _):
        async with connected(server) as web:
            await web.rest()
            assert web.status[0] == CODE["OUT_OF_RANGE"]
        reader, writer = await asyncio.open_connection("localhost", server.http_port)
        writer.write(b"GET / HT")
        async with asyncio.timeout(5):
            assert await reader.read() == b""
        writer.close()


async def test_connections_are_counted(house):
    async with gateway(house, max_web_connections=1) as (server, _), connected(server):
        with pytest.raises(aiohttp.ClientError):
            async with connected(server):
                pass


async def test_a_server_that_leaves_says_so_and_waits_for_last_words(house):
    async with gateway(house, grace_ms=3_000) as (server, _), connected(server) as web:
        await web.send(house.opening(), PCM)
        await web.read()
        stopping = asyncio.create_task(server.stop(3_000))
        told = await web.rest()
        await stopping
        kinds = [payload_of(message) for message in told]
        assert "go_away" in kinds
        assert kinds[-1] == "summary"
        assert (web.status[0], web.socket.close_code) == (CODE["UNAVAILABLE"], 4014)


async def test_who_does_not_read_is_ended(house):
    limits = Limits(idle_ms=300, max_real_time_factor=1e6, burst_ms=10**7)
    async with gateway(house, limits, max_messages_per_s=1e6, burst_messages=10**6) as (server, _):
        _, writer = await asyncio.open_connection("localhost", server.http_port, limit=1_024)
        writer.write(
            b"GET /v1/stream HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
            b"Sec-WebSocket-Protocol: streamtrans.v1+json\r\n\r\n"
        )
        ping = _masked(json.dumps({"ping": {"clientTimeMs": "1"}}).encode())
        writer.write(_masked(json.dumps({"config": {"audioFormat": {"encoding": 1, "sampleRateHertz": 16000},
                                                    "targets": [{"language": "de"}]}}).encode()))  # fmt: skip
        async with asyncio.timeout(20):
            while server.active_sessions == 0:
                await asyncio.sleep(0.01)
            while server.active_sessions:
                writer.write(ping * 200)
                await asyncio.sleep(0.005)
        writer.transport.abort()


def _masked(data):
    return (
        b"\x81"
        + (bytes([0x80 | len(data)]) if len(data) < 126 else struct.pack(">BH", 0xFE, len(data)))
        + bytes(4)
        + data
    )


async def test_tls_is_that_of_grpc(house, tmp_path):
    cert, key = make_certificate(tmp_path)
    async with TranslationServer(house.configured(tls=Tls(cert, key), http_port=0), house.served) as server:
        await server.ready()
        context = ssl.create_default_context(cafile=str(cert))
        async with connected(server, scheme="https", ssl=context) as web:
            await web.send(house.opening(), ping_message(7))
            assert [payload_of(await web.read()) for _ in range(2)] == ["started", "pong"]


async def test_a_taken_port_is_refused(house):
    async with gateway(house) as (server, _):
        with pytest.raises(BadConfig, match="can't listen"):
            async with TranslationServer(house.configured(http_port=server.http_port), house.served):
                pass
    with pytest.raises(BadConfig, match="max_web_connections"):
        ServerConfig(max_web_connections=0)
