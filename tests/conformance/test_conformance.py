"""Our server keeps its protocol over each carrier, and each check finds a server that doesn't."""

import asyncio
import json
from contextlib import asynccontextmanager

import grpc
import pytest
import soundfile
from aiohttp import web
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2

from streamtrans.client import StreamOptions
from streamtrans.conformance import CHECKS, chosen, kit_for, outcome
from streamtrans.core import BadConfig
from streamtrans.server import Limits
from streamtrans.wire import (
    CapabilitiesResponse,
    ServerMessage,
    StatsResponse,
    WatchResponse,
    end_message,
    payload_of,
    status_frame,
)
from tests.conformance.spoiled import Spoil, spoiled
from tests.server.conftest import configured, running, speech

CODE = grpc.StatusCode
SOUND = (speech(0.3, 1.5, 0.7, 1.2, 0.3) * 32_767).astype("<i2").tobytes()
SHORT = Limits(max_real_time_factor=1e6, burst_ms=10**7, idle_ms=600, max_connection_ms=2_500)
TIMED = ("limits.idle", "lasting.go_away")
WEB = ("serving.readiness", "serving.json_answers", "serving.origins", "serving.closing")
GRPC = ("promises.half_close", "serving.health", "serving.reflection")


async def outcomes(address, only=(), patience_s=15.0, **how):
    async with kit_for(address, SOUND, patience_s=patience_s, **how) as kit:
        return {(each := await outcome(check, kit)).name: each for check in chosen(only)}


def failed(seen):
    return {each.name: each.seen for each in seen.values() if each.verdict == "fail"}


@pytest.mark.parametrize("over", ["gRPC", "proto", "json"])
async def test_our_server_passes(over):
    async with running(config=configured(http_port=0)) as (server, _):
        if over == "gRPC":
            seen = await outcomes(f"127.0.0.1:{server.port}")
        else:
            seen = await outcomes(f"ws://127.0.0.1:{server.http_port}", form=over)
    assert failed(seen) == {}
    untried = {name for name, each in seen.items() if each.verdict == "not tried"}
    assert untried == {*TIMED, *(WEB if over == "gRPC" else GRPC)}
    assert all(each.says.endswith(".") and each.seen for each in seen.values())


async def test_our_server_is_in_time():
    async with running(config=configured(SHORT, last_words_ms=400, go_away_ms=400)) as (server, _):
        seen = await outcomes(f"127.0.0.1:{server.port}", ["limits.idle"])
        assert failed(seen) == {}
    longer = Limits(max_real_time_factor=1e6, burst_ms=10**7, max_connection_ms=1_500)
    async with running(config=configured(longer, last_words_ms=400, go_away_ms=400)) as (server, _):
        seen |= await outcomes(f"127.0.0.1:{server.port}", ["lasting.go_away"])
    assert failed(seen) == {}
    assert {each.verdict for each in seen.values()} == {"pass"}


def at(kind, change):
    """Change a message of this kind in place."""

    def spoil(message):
        if payload_of(message) == kind if isinstance(message, ServerMessage) else message.HasField(kind):
            change(getattr(message, kind))
        return [message]

    return spoil


def without(kind, which=lambda _: True):
    def spoil(message):
        return [] if payload_of(message) == kind and which(getattr(message, kind)) else [message]

    return spoil


def twice(kind):
    return lambda message: [message] * (2 if payload_of(message) == kind else 1)


def put(path, value):
    """Return what sets a field, such as ``config.mode``."""
    *way, last = path.split(".")

    def change(message):
        for name in way:
            message = getattr(message, name)
        setattr(message, last, value(getattr(message, last)) if callable(value) else value)

    return change


def told(spoil, kind=ServerMessage):
    return Spoil(answers={kind: spoil})


def every(change):
    def spoil(message):
        change(message)
        return [message]

    return spoil


def more(message):
    message.encodings.append(5)
    return [message]


def nobody(message):
    del message.streams[:]
    return [message]


def unlisted(message):
    del message.list_services_response.service[:]
    return [message]


def unended(message):
    return None if payload_of(message) == "end_utterance" else message


def staying(message):
    return end_message(0) if message.end.leave else message


BAD, WORSE = CODE.INVALID_ARGUMENT, CODE.INTERNAL
WRONG_STATUS = {
    name: Spoil(status={right: WORSE})
    for name, right in {
        "opening.no_target": BAD,
        "opening.unknown_language": CODE.UNIMPLEMENTED,
        "opening.config_first": CODE.FAILED_PRECONDITION,
        "opening.config_once": CODE.FAILED_PRECONDITION,
        "opening.empty_message": BAD,
        "opening.no_message": BAD,
        "limits.half_sample": BAD,
        "limits.chunk_duration": BAD,
        "limits.message_size": CODE.RESOURCE_EXHAUSTED,
        "limits.silence_duration": BAD,
        "limits.message_numbers": BAD,
        "limits.idle": CODE.OUT_OF_RANGE,
        "lasting.superseded": CODE.ABORTED,
        "lasting.unknown_token": CODE.NOT_FOUND,
        "lasting.lost_events": CODE.DATA_LOSS,
        "viewers.own_right": CODE.UNAUTHENTICATED,
        "viewers.unknown_language": CODE.UNIMPLEMENTED,
    }.items()
}
SPOILED = WRONG_STATUS | {
    "opening.started": told(every(put("event_sequence", lambda number: number + 1))),
    "opening.effective": told(at("started", put("config.endpointing.vad", ""))),
    "opening.limits": told(at("started", put("limits.idle_ms", 7))),
    "opening.encodings": told(more, CapabilitiesResponse),
    "opening.modes": told(at("started", put("config.mode", 1))),
    "opening.wrong_fields": Spoil(details=False),
    "promises.sequence": told(twice("pong")),
    "promises.session": told(every(lambda m: put("cursors.received_ms", 10**6 - m.event_sequence)(m))),
    "promises.committed": told(at("caption", put("revision", lambda number: number + 1))),
    "promises.finals": told(without("summary")),
    "promises.summary": told(at("summary", put("captions", lambda number: number + 1))),
    "promises.speech": told(without("speech", lambda event: event.type == 2)),
    "promises.stable": told(at("caption", lambda caption: put("tentative", "" if caption.final else "x")(caption))),
    "promises.final_only": told(at("caption", put("final", False))),
    "promises.pong": told(at("pong", put("client_time_ms", 1))),
    "promises.utterance": Spoil(asks=unended),
    "promises.silence": told(at("summary", put("audio_ms", 0))),
    "promises.half_close": told(without("summary")),
    "promises.leaving": Spoil(asks=staying),
    "updates.applied": told(twice("config_applied")),
    "updates.added": told(without("caption", lambda caption: caption.language == "de")),
    "updates.rejected": told(at("config_rejected", put("message", ""))),
    "lasting.checkpoints": told(at("checkpoint", put("acknowledged_sequence", 10**6))),
    "lasting.resumed": told(at("summary", put("audio_ms", lambda ms: ms - 100))),
    "lasting.go_away": told(without("go_away")),
    "viewers.same_text": told(at("caption", put("committed_append", "x")), WatchResponse),
    "viewers.late": told(at("caption", put("snapshot", False)), WatchResponse),
    "viewers.figures": told(nobody, StatsResponse),
    "serving.health": told(every(put("status", 2)), health_pb2.HealthCheckResponse),
    "serving.reflection": told(unlisted, reflection_pb2.ServerReflectionResponse),
}
"""Check → what it has to find."""

TAKES_BACK = {
    "a caption after the final one": told(lambda m: [m] * (1 + (payload_of(m) == "caption" and m.caption.final))),
    "a final with a tail": told(at("caption", put("tentative", "x"))),
    "more withdrawn than there was": told(at("caption", put("withdrawn", 999))),
    "a snapshot that lacks text": told(at("caption", put("snapshot", True))),
}
"""Ways of breaking promises, all of which one check finds."""


def test_every_check_is_shown_to_fail():
    assert {*SPOILED, *WEB} == set(CHECKS)


@asynccontextmanager
async def right_server(name):
    if name == "limits.idle":
        config = configured(SHORT)
    elif name == "lasting.go_away":
        config = configured(Limits(max_real_time_factor=1e6, burst_ms=10**7, max_connection_ms=900), last_words_ms=200)
    else:
        config = configured()
    async with running(config=config) as (server, _):
        yield server.port


async def test_what_is_not_spoiled_passes():
    async with running() as (server, _), spoiled(server.port, Spoil()) as address:
        assert failed(await outcomes(address)) == {}


@pytest.mark.parametrize("name", SPOILED)
async def test_a_spoiled_server_fails(name):
    patience_s = 10.0 if name in TIMED else 1.5
    async with right_server(name) as port, spoiled(port, SPOILED[name]) as address:
        seen = await outcomes(address, [name], patience_s=patience_s)
    assert seen[name].verdict == "fail", seen[name]
    assert seen[name].seen


@pytest.mark.parametrize("how", TAKES_BACK)
async def test_a_broken_promise_is_found(how):
    async with running() as (server, _), spoiled(server.port, TAKES_BACK[how]) as address:
        seen = await outcomes(address, ["promises.committed"], patience_s=5.0)
    assert "segment" in failed(seen)["promises.committed"]


async def test_a_wrong_gateway_fails():
    async def offers(_request):
        told = CapabilitiesResponse(model="toy", languages=["en", "de"])
        return web.Response(body=told.SerializeToString())

    async def ill(_request):
        return web.Response(status=500)

    async def stream(request):
        socket = web.WebSocketResponse(protocols=("streamtrans.v1+proto",))
        await socket.prepare(request)
        await socket.receive()
        await socket.send_str(status_frame(0, "OK"))
        await socket.close(code=1011)
        return socket

    app = web.Application()
    for path, answer in (("/v1/capabilities", offers), ("/healthz", ill), ("/readyz", ill), ("/v1/stream", stream)):
        app.router.add_get(path, answer)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        seen = await outcomes(f"ws://127.0.0.1:{runner.addresses[0][1]}", WEB, patience_s=5.0)
    finally:
        await runner.cleanup()
    assert failed(seen).keys() == set(WEB)


async def test_the_program_prints_a_table_or_json_and_its_status_says_it(run):
    async with running() as (server, _), spoiled(server.port, SPOILED["promises.pong"]) as address:
        only = ("--only", "promises.pong", "--only", "opening.started", "--only", "serving.closing")
        status, out, _ = await asyncio.to_thread(run, "conformance", address, *only)
        assert status == 1
        assert "fail      promises.pong  `pong.client_time_ms` is 1" in out
        assert "`ping` is answered by `pong` with the client's time." in out
        assert "1 passed, 1 failed, 1 not tried" in out
        status, out, _ = await asyncio.to_thread(run, "conformance", address, *only, "--json")
        told = json.loads(out)
        assert status == 1
        assert told["verdicts"] == {"pass": 1, "fail": 1, "not tried": 1}
        assert [each["verdict"] for each in told["checks"]] == ["pass", "fail", "not tried"]
        assert told["checks"][1]["name"] == "promises.pong"
        status, _, _ = await asyncio.to_thread(run, "conformance", address, "--only", "opening.started")
        assert status == 0


def test_what_is_asked_wrongly_is_told_what_would_be_right(run, tmp_path):
    short = tmp_path / "short.wav"
    soundfile.write(short, speech(0.1, 0.2), 16_000)
    for words, problem in (
        (("127.0.0.1:1",), "isn't serving"),
        (("ws://127.0.0.1:1",), "isn't serving"),
        (("localhost:1", "--only", "nonsense"), "no check 'nonsense'; there are opening.started"),
        (("localhost:1", "--form", "xml"), "use proto or json"),
        (("localhost:1", "--form", "json"), "write ws://"),
        (("localhost:1", "--tls-key", short), "needs both"),
        (("localhost:1", "--key", tmp_path / "none"), "can't be read"),
        (("localhost:1", "--file", short), "shorter than a second"),
    ):
        status, _, err = run("conformance", *words)
        assert status == 2, words
        assert problem in err


async def test_a_server_of_one_language_needs_two_names():
    async with running() as (server, _), spoiled(server.port, told(one_language, CapabilitiesResponse)) as address:
        with pytest.raises(BadConfig, match="--to"):
            await outcomes(address)


async def test_a_full_server_is_asked_again_when_it_says_and_then_judged_no_further():
    async with running(config=configured(max_sessions=1, retry_after_ms=300)) as (server, client):
        address = f"127.0.0.1:{server.port}"
        async with client.stream(StreamOptions(("de",))) as stream:
            checking = asyncio.create_task(outcomes(address, ["promises.pong"], patience_s=10.0))
            await asyncio.sleep(0.5)
            await stream.end()
            async for _ in stream:
                pass
        assert (await checking)["promises.pong"].verdict == "pass"
    async with running(config=configured(max_sessions=1, retry_after_ms=300)) as (server, client):
        address = f"127.0.0.1:{server.port}"
        async with client.stream(StreamOptions(("de",))):
            seen = (await outcomes(address, ["promises.pong"], patience_s=1.0))["promises.pong"]
        assert seen.verdict == "not tried"
        assert "all 1 sessions are taken" in seen.seen


def one_language(message):
    del message.languages[1:]
    return [message]
