"""Keys: who has none is refused before any work, each holder has quotas of his own, and no key is kept."""

import asyncio
import contextlib
import os
import stat
from datetime import UTC, datetime, timedelta

import grpc
import numpy as np
import pytest
from google.rpc import error_details_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc

from streamtrans.cli import main
from streamtrans.client import Caption, Denied, GoAway, Overloaded, StreamOptions, Summary, TranslationClient
from streamtrans.core import BadConfig
from streamtrans.server import ServerConfig, TranslationServer
from streamtrans.server.keys import Grant, Holder, Keys, add_key, hashed
from streamtrans.server.refusal import Refusal
from streamtrans.wire import SERVICE_NAME, ClientMessage, ServiceStub, config_message
from streamtrans.wire import StreamOptions as Wishes
from tests.server.test_metrics import look

CODE = grpc.StatusCode
METHODS = [
    (method.name, method.client_streaming, method.server_streaming)
    for method in ClientMessage.DESCRIPTOR.file.services_by_name["TranslationService"].methods
]
NO_ENTRY = [
    (),
    (("authorization", ""),),
    (("authorization", "Bearer"),),
    (("authorization", "Bearer st_forged"),),
    (("authorization", "Basic {key}"),),
    (("authorization", "{key}"),),
    (("authorization", "Bearer {key}x"),),
    (("authorization", "Bearer {hash}"),),
    (("authorization", "Bearer {late}"),),
    (("x-api-key", "{key}"),),
    (("authorization", "Bearer {key}"), ("authorization", "Bearer st_forged")),
]


@pytest.fixture
def keys(tmp_path):
    """A file of keys, and the function that adds one to it."""
    path = tmp_path / "keys.toml"

    def add(name="hall", **quotas):
        return add_key(path, name, quotas)

    add.path = path
    return add


def guarded(house, keys, engine=None, **changes):
    return house.running(house.served(engine), house.configured(keys=keys.path, **changes))


def with_key(server, key):
    return TranslationClient(f"127.0.0.1:{server.port}", key=key)


@pytest.mark.parametrize("said", NO_ENTRY)
@pytest.mark.parametrize("called", METHODS, ids=lambda called: called[0])
async def test_who_has_no_key_is_refused_before_any_work(house, keys, called, said):
    method, sends_many, tells_many = called
    key, late = keys(), keys("late", expires="2020-01-01")
    metadata = [(name, value.format(key=key, hash=hashed(key), late=late)) for name, value in said]
    engine = house.instant()
    async with guarded(house, keys, engine, metrics_port=0) as (server, _):
        before = len(engine.requests)
        async with grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel:
            kind = f"{'stream' if sends_many else 'unary'}_{'stream' if tells_many else 'unary'}"
            call = getattr(channel, kind)(f"/{SERVICE_NAME}/{method}")
            opening = house.opening().SerializeToString()
            answer = call(iter([opening]) if sends_many else b"", metadata=metadata)
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                [_ async for _ in answer] if tells_many else await answer
        assert caught.value.code() == CODE.UNAUTHENTICATED
        asked_for = "viewers under this token" if method == "WatchCaptions" else "authorization: Bearer KEY"
        assert asked_for in caught.value.details()
        assert len(engine.requests) == before
        if method == "StreamTranslate":
            assert (await look(server))["streamtrans_streams_refused_total", ("reason", "unauthenticated")] == 1


async def test_who_has_one_is_served_and_health_needs_none(house, keys):
    key = keys()
    async with guarded(house, keys) as (server, stranger), with_key(server, key) as client:
        await stranger.wait_ready(5)
        async with grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel:
            answer = await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest())
        assert answer.status == health_pb2.HealthCheckResponse.SERVING
        assert (await client.capabilities()).model == "toy"
        assert (await house.collect(client, house.speech(0.2, 0.5, 0.5)))[-1].segments == 1
        with pytest.raises(Denied, match="a key that it knows"):
            await stranger.capabilities()
        with pytest.raises(Denied, match="a key that it knows"):
            await house.collect(stranger, b"")


async def test_nobody_is_asked_where_there_are_no_keys(house):
    async with house.running() as (server, _), with_key(server, "whatever") as client:
        await house.collect(client, b"")


async def test_streams_at_once_are_counted_per_key(house, keys):
    hall, other = keys(streams=1), keys("other", streams=1)
    async with (
        guarded(house, keys, metrics_port=0) as (server, _),
        with_key(server, hall) as client,
        with_key(server, other) as neighbour,
    ):
        async with client.stream(StreamOptions(("de",))):
            with pytest.raises(Overloaded, match="hall has used up its 1 streams at once") as caught:
                await house.collect(client, b"")
            assert caught.value.retry_after_s == 1.0
            await house.collect(neighbour, b"")
        async with asyncio.timeout(5):
            while (await look(server))["streamtrans_streams_active",]:
                await asyncio.sleep(0.01)
        await house.collect(client, b"")
        seen = await look(server)
    assert seen["streamtrans_streams_refused_total", ("reason", "key_streams")] == 1


async def test_new_streams_per_minute_are_counted_per_key(house, keys):
    hall, other = keys(streams_per_minute=2), keys("other")
    async with guarded(house, keys) as (server, _), with_key(server, hall) as client:
        await house.collect(client, b"")
        await house.collect(client, b"")
        for _ in range(3):  # who is refused doesn't wait longer for it
            with pytest.raises(Overloaded, match="new streams per minute") as caught:
                await house.collect(client, b"")
            assert 20 < caught.value.retry_after_s <= 30.1
        async with with_key(server, other) as neighbour:
            await house.collect(neighbour, b"")


async def test_minutes_are_counted_while_they_are_heard(house, keys):
    hall, other = keys(minutes_per_day=0.05), keys("other")
    audio = house.speech(0.5, 1.0, 0.5)
    engine = house.instant()
    async with guarded(house, keys, engine) as (server, _), with_key(server, hall) as client:
        await house.collect(client, audio)
        with pytest.raises(Overloaded, match="hall has used up its minutes of audio per day") as caught:
            await house.collect(client, audio)
        assert caught.value.retry_after_s >= 60
        asked = len(engine.requests)
        with pytest.raises(Overloaded, match="minutes of audio"):
            await house.collect(client, audio)
        assert len(engine.requests) == asked
        async with with_key(server, other) as neighbour:
            await house.collect(neighbour, audio)


async def test_what_was_heard_before_the_minutes_ended_is_told(house, keys):
    key = keys(minutes_per_day=0.05)
    audio = house.speech(0.3, 1.0, 1.0, 3.0)
    events = []

    async def read(stream):
        async for event in stream:
            events.append(event)

    config = {"last_words_ms": 3_000, "metrics_port": 0}
    async with guarded(house, keys, **config) as (server, _), with_key(server, key) as client:
        async with client.stream(StreamOptions(("de",))) as stream:
            with contextlib.suppress(Overloaded):
                for piece in np.array_split(audio, 20):
                    await stream.send(piece)
            with pytest.raises(Overloaded, match="minutes of audio per day"):
                await read(stream)
        seen = await look(server)
    finals = [event for event in events if isinstance(event, Caption) and event.final]
    assert {final.segment for final in finals} == {0, 1}
    assert all(final.text for final in finals)
    assert isinstance(events[-1], Summary)
    assert not any(isinstance(event, GoAway) for event in events)
    assert seen["streamtrans_streams_ended_total", ("how", "key_minutes")] == 1


async def test_a_stream_is_resumed_in_its_own_place(house, keys):
    key = keys(streams=1, streams_per_minute=1)
    metadata = (("authorization", f"Bearer {key}"),)
    async with guarded(house, keys) as (server, _):
        target = f"127.0.0.1:{server.port}"
        async with grpc.aio.insecure_channel(target) as first, grpc.aio.insecure_channel(target) as second:
            call = ServiceStub(first).StreamTranslate(metadata=metadata)
            await call.write(config_message(Wishes(("de",), resumable=True)))
            token = (await call.read()).started.resume_token
            again = ServiceStub(second).StreamTranslate(metadata=metadata)  # the first hasn't noticed anything
            opening = ClientMessage()
            opening.config.resume.token = token
            await again.write(opening)
            assert (await again.read()).WhichOneof("event") == "started"
            again.cancel()


async def test_a_stream_goes_on_under_the_key_that_began_it_alone(house, keys):
    mine, other = (f"Bearer {keys(name=name)}" for name in ("hall", "room"))
    async with guarded(house, keys) as (server, _):
        target = f"127.0.0.1:{server.port}"
        async with grpc.aio.insecure_channel(target) as first, grpc.aio.insecure_channel(target) as second:
            call = ServiceStub(first).StreamTranslate(metadata=(("authorization", mine),))
            await call.write(config_message(Wishes(("de",), resumable=True)))
            opening = ClientMessage()
            opening.config.resume.token = (await call.read()).started.resume_token
            for _ in range(2):  # while the call goes on, and when it has broken and waits
                thief = ServiceStub(second).StreamTranslate(metadata=(("authorization", other),))
                await thief.write(opening)
                with pytest.raises(grpc.aio.AioRpcError) as refused:
                    await thief.read()
                assert refused.value.code() == grpc.StatusCode.NOT_FOUND
                call.cancel()
                await asyncio.sleep(0.2)
            again = ServiceStub(second).StreamTranslate(metadata=(("authorization", mine),))
            await again.write(opening)
            assert (await again.read()).WhichOneof("event") == "started"
            again.cancel()


def test_a_refusal_says_which_quota_and_when_to_come_again():
    now = 0.0
    holder = Holder("hall", Grant("0" * 64, streams_per_minute=6), clock=lambda: now)
    for _ in range(6):
        with holder.place(new=True):
            pass
    with pytest.raises(Refusal) as caught, holder.place(new=True):
        pass
    retry, quota = caught.value.details
    assert isinstance(retry, error_details_pb2.RetryInfo)
    assert retry.retry_delay.ToMilliseconds() == pytest.approx(10_000, abs=2)
    assert [violation.subject for violation in quota.violations] == ["key:hall"]
    now = 10.002
    with holder.place(new=True), holder.place(), pytest.raises(Refusal), holder.place(new=True):
        pass


def test_minutes_fill_up_again_over_the_day():
    now = 0.0
    holder = Holder("hall", Grant("0" * 64, minutes_per_day=60), clock=lambda: now)
    holder.heard(3_600 * 16_000)
    with pytest.raises(Refusal):
        holder.heard(16_000)
    now = 3_600.0
    holder.heard(140 * 16_000)
    with pytest.raises(Refusal):
        holder.heard(16 * 16_000)


def test_a_key_ends_at_its_time(keys):
    soon = (datetime.now(UTC) + timedelta(hours=1)).astimezone().isoformat()
    lasting, ended = keys("a", expires=soon), keys("b", expires=(datetime.now(UTC) - timedelta(seconds=1)).isoformat())
    known = Keys(keys.path)
    assert known.holder([("Authorization", f"bearer {lasting}")])
    with pytest.raises(Refusal):
        known.holder([("authorization", f"Bearer {ended}")])


@pytest.mark.skipif(os.name != "posix", reason="modes are POSIX's")
def test_the_file_is_its_owners_alone(keys):
    keys()
    assert stat.S_IMODE(keys.path.stat().st_mode) == 0o600


def test_the_verb_prints_the_key_and_keeps_its_hash(keys, capsys):
    main_arguments = ["key", "hall", "--keys", str(keys.path), "--streams", "3", "--minutes-per-day", "90.5"]
    with pytest.raises(SystemExit) as end:
        main([*main_arguments, "--streams-per-minute", "7", "--expires", "2099-01-31"])
    assert not end.value.code
    key = capsys.readouterr().out.strip()
    text = keys.path.read_text(encoding="utf-8")
    assert key not in text
    assert hashed(key) in text
    assert Keys(keys.path).holder([("authorization", f"Bearer {key}")])
    with pytest.raises(SystemExit) as end:
        main(main_arguments)
    assert end.value.code == 2
    assert "has a key hall; take it out first" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("[hall]", "hall (Grant) lacks sha256"),
        ("[hall]\nsha256 = 'st_plain'", "hall.sha256 must be the key's hash"),
        ("[hall]\nsha256 = '{hash}'\nstreams = 0", "hall.streams is 0; give more than 0"),
        ("[hall]\nsha256 = '{hash}'\nstreams = 1.5", "hall.streams is 1.5, and should be a whole number"),
        ("[hall]\nsha256 = '{hash}'\nminutes_per_day = nan", "hall.minutes_per_day is nan; give more than 0"),
        ("[hall]\nsha256 = '{hash}'\nexpires = 'soon'", "hall.expires is 'soon'; give a time"),
        ("[hall]\nsha256 = '{hash}'\nsteams = 1", "hall (Grant) has no steams"),
        ("[a]\nsha256 = '{hash}'\n[b]\nsha256 = '{hash}'", "two names have one key"),
        ("hall = 3", "hall is 3, and should be an object"),
        ("[hall", "are no TOML"),
    ],
)
def test_a_file_of_keys_that_is_wrong_is_told_before_anybody_calls(house, keys, text, problem):
    keys.path.write_text(text.format(hash=hashed("x")), encoding="utf-8")
    with pytest.raises(BadConfig) as caught:
        TranslationServer(house.configured(keys=keys.path), house.served)
    assert problem in str(caught.value)


def test_a_file_that_is_not_there_is_told(tmp_path):
    with pytest.raises(BadConfig, match="can't be read: No such file"):
        TranslationServer(ServerConfig(keys=tmp_path / "none.toml"), lambda: None)


@pytest.mark.parametrize("name", ["", "a b", "a]\nb", "ü", "a.b"])
def test_a_name_is_one_word(keys, name):
    with pytest.raises(BadConfig, match="can't name a key"):
        keys(name)
    assert not keys.path.exists()


def test_a_wrong_quota_is_told_before_the_key_is_made(keys):
    with pytest.raises(BadConfig, match="streams is -1"):
        keys(streams=-1)
    assert not keys.path.exists()
