"""Every way in which a call is refused, and that the server goes on serving."""

import asyncio
import math
import random
import struct

import grpc
import hypothesis.strategies as st
import pytest
from google.rpc import error_details_pb2
from grpc_status import rpc_status
from hypothesis import HealthCheck, given, settings

from streamtrans.client import (
    InvalidRequest,
    Limits,
    Overloaded,
    ServerFault,
    StreamOptions,
    TimedOut,
    Unavailable,
    Unsupported,
)
from streamtrans.core import EngineClosed, Job, UnsupportedLanguage
from streamtrans.wire import ClientMessage, ServiceStub, audio_message, end_utterance_message, silence_message

CODE = grpc.StatusCode


def sound(count=160):
    return audio_message(bytes(2 * count), 1)


def update():
    message = ClientMessage()
    message.update.update_id = 1
    return message


def resume():
    message = ClientMessage()
    message.config.resume.token = "x"
    return message


def many_targets(house):
    return house.opening(targets=("en", "de", "zh", "fr", "it", "es"))


CASES = {
    "audio before config": (lambda h: [sound()], CODE.FAILED_PRECONDITION, "send `config` first"),
    "another script": (
        lambda h: [h.opening(targets=("zh-Hant",))],
        CODE.UNIMPLEMENTED,
        "'zh-Hant' asks for the script Hant",
    ),
    "auto as a language": (
        lambda h: [h.opening(source_languages=("auto",))],
        CODE.UNIMPLEMENTED,
        "leave the spoken language out",
    ),
    "nothing at all": (lambda h: [], CODE.FAILED_PRECONDITION, "ended before it began"),
    "config twice": (lambda h: [h.opening(), h.opening()], CODE.FAILED_PRECONDITION, "came twice"),
    "odd PCM": (lambda h: [h.opening(), audio_message(b"abc", 1)], CODE.INVALID_ARGUMENT, "audio.data"),
    "half a stereo frame": (
        lambda h: [h.opening(channels=2), audio_message(bytes(6), 1)],
        CODE.INVALID_ARGUMENT,
        "frames of 4 bytes",
    ),
    "a chunk of too many bytes": (
        lambda h: [h.opening(), sound(50_001)],
        CODE.INVALID_ARGUMENT,
        "100002 bytes",
    ),
    "a chunk of too much time": (lambda h: [h.opening(), sound(16_160)], CODE.INVALID_ARGUMENT, "1010 ms"),
    "a message beyond all bounds": (
        lambda h: [h.opening(), audio_message(bytes(300_000), 1)],
        CODE.RESOURCE_EXHAUSTED,
        "larger than max",
    ),
    "NaN": (
        lambda h: [h.opening(encoding="pcm_f32le"), audio_message(struct.pack("<f", math.nan), 1)],
        CODE.INVALID_ARGUMENT,
        "NaN",
    ),
    "no silence": (
        lambda h: [h.opening(), silence_message(0, 1)],
        CODE.INVALID_ARGUMENT,
        "silence.duration_ms",
    ),
    "endless silence": (lambda h: [h.opening(), silence_message(10**9, 1)], CODE.INVALID_ARGUMENT, "30000"),
    "no target": (lambda h: [h.opening(targets=())], CODE.INVALID_ARGUMENT, "targets"),
    "six targets": (lambda h: [many_targets(h)], CODE.INVALID_ARGUMENT, "at most 5"),
    "one target twice": (lambda h: [h.opening(targets=("zh", "zh-CN"))], CODE.INVALID_ARGUMENT, "twice"),
    "an unknown language": (
        lambda h: [h.opening(targets=("xx",))],
        CODE.UNIMPLEMENTED,
        "'pt-BR'; toy knows en",
    ),
    "a language the model lacks": (lambda h: [h.opening(targets=("ja",))], CODE.UNIMPLEMENTED, "it knows en"),
    "a source it lacks": (
        lambda h: [h.opening(source_languages=("ja",))],
        CODE.UNIMPLEMENTED,
        "source_languages[0]",
    ),
    "a codec it lacks": (lambda h: [h.opening(encoding="opus")], CODE.UNIMPLEMENTED, "opus"),
    "a rate too low": (lambda h: [h.opening(sample_rate_hertz=4_000)], CODE.INVALID_ARGUMENT, "4000 Hz"),
    "too many channels": (lambda h: [h.opening(channels=99)], CODE.INVALID_ARGUMENT, "99 channels"),
    "an unknown detector": (lambda h: [h.opening(vad="ear")], CODE.INVALID_ARGUMENT, "endpointing.vad"),
    "a segment too long": (
        lambda h: [h.opening(max_segment_ms=90_000)],
        CODE.INVALID_ARGUMENT,
        "endpointing.max_segment_ms",
    ),
    "readings too often": (
        lambda h: [h.opening(min_interval_ms=1)],
        CODE.INVALID_ARGUMENT,
        "reading_interval_ms",
    ),
    "segments too short for the detector": (
        lambda h: [h.opening(max_segment_ms=200)],
        CODE.INVALID_ARGUMENT,
        "endpointing",
    ),
    "a language of 200 KB": (lambda h: [h.opening(targets=("x" * 200_000,))], CODE.INVALID_ARGUMENT, "35 characters"),
    "a language of many bytes": (lambda h: [h.opening(targets=("语" * 35,))], CODE.UNIMPLEMENTED, "语"),
    "a long name of a detector": (lambda h: [h.opening(vad="v" * 20_000)], CODE.INVALID_ARGUMENT, "64 characters"),
    "many wrong fields": (lambda h: [h.opening(source_languages=("",) * 128)], CODE.INVALID_ARGUMENT, "128 fields"),
    "very many languages": (
        lambda h: [h.opening(source_languages=("",) * 50_000)],
        CODE.INVALID_ARGUMENT,
        "source_languages: has 50000 languages; at most 128",
    ),
    "resume": (lambda h: [resume()], CODE.NOT_FOUND, "waits under this token"),
    "an empty first message": (lambda h: [b""], CODE.INVALID_ARGUMENT, "payload"),
    "an empty later message": (lambda h: [h.opening(), b""], CODE.INVALID_ARGUMENT, "payload"),
    "garbage": (lambda h: [b"\xff\xff\xff"], CODE.INVALID_ARGUMENT, "bytes"),
    "garbage later": (lambda h: [h.opening(), b"\xff\xff\xff"], CODE.INVALID_ARGUMENT, "bytes"),
}


@pytest.mark.parametrize("case", CASES)
async def test_wrong_calls_get_their_status_and_the_server_serves_on(house, case):
    messages, code, words = CASES[case]
    async with house.running() as (server, client):
        with pytest.raises(grpc.RpcError) as caught:
            await house.talk(server, *messages(house))
        assert caught.value.code() == code, caught.value.details()
        assert words in caught.value.details()
        assert "Traceback" not in caught.value.details()
        events = await house.collect(client, house.speech(0.2, 0.5))
        assert events[-1].segments == 1
        assert server.active_sessions == 0


async def test_a_pair_that_the_model_does_not_translate_is_refused_at_the_door(house):
    def ask(target, source):
        if source is None:
            raise UnsupportedLanguage("name the spoken language")

    async with house.running(house.served(ask=ask)) as (_, client):
        with pytest.raises(Unsupported, match=r"targets\[0\].language: name the spoken language"):
            await house.collect(client, b"")
        events = await house.collect(client, b"", StreamOptions(("de",), source_languages=("en",)))
        assert events[-1].segments == 0


async def test_wrong_fields_are_listed_in_the_details(house):
    async with house.running() as (server, _):
        with pytest.raises(grpc.RpcError) as caught:
            await house.talk(server, many_targets(house))
    metadata = dict(caught.value.trailing_metadata())
    detail = error_details_pb2.BadRequest()
    status = rpc_status.status_pb2.Status.FromString(metadata["grpc-status-details-bin"])
    assert status.details[0].Unpack(detail)
    assert [violation.field for violation in detail.field_violations] == ["targets"]


SCRIPTS = st.lists(
    st.one_of(
        st.binary(max_size=60),
        st.sampled_from([end_utterance_message(), silence_message(20, 1), update(), resume(), sound()]),
    ),
    max_size=5,
)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(SCRIPTS, st.booleans())
def test_no_bytes_bring_the_server_down(house, script, opened):
    async def play():
        async with house.running() as (server, client):
            outcome = CODE.OK
            try:
                await house.talk(server, *([house.opening()] if opened else []), *script)
            except grpc.RpcError as error:
                outcome = error.code()
            assert (await house.collect(client, house.speech(0.2, 0.5)))[-1].segments == 1
            assert server.active_sessions == 0
            return outcome

    refusals = (CODE.INVALID_ARGUMENT, CODE.FAILED_PRECONDITION, CODE.UNIMPLEMENTED, CODE.NOT_FOUND)
    assert asyncio.run(play()) in ((CODE.OK, *refusals) if opened else refusals)


async def test_beyond_capacity_callers_are_told_when_to_come_again(house):
    async with house.running(config=house.configured(max_sessions=1, retry_after_ms=700)) as (server, client):
        async with client.stream(StreamOptions(("de",))):
            with pytest.raises(Overloaded, match="all 1 sessions are taken") as caught:
                await house.collect(client, b"")
            assert caught.value.retry_after_s == 0.7
            assert server.active_sessions == 1
        await until(lambda: server.active_sessions == 0)
        await house.collect(client, b"")


async def test_a_refused_configuration_takes_no_slot(house):
    async with house.running(config=house.configured(max_sessions=1)) as (_, client):
        for _ in range(3):
            with pytest.raises(Unsupported):
                await house.collect(client, b"", StreamOptions(("ja",)))
        await house.collect(client, b"")


async def test_an_idle_call_is_ended(house):
    limits = Limits(idle_ms=80)
    async with house.running(config=house.configured(limits)) as (server, client):
        with pytest.raises(TimedOut, match="no audio for 80 ms") as caught:
            await house.drain(client, each=lambda stream: stream.ping())  # a ping is no audio
        assert caught.value.code == CODE.OUT_OF_RANGE
        assert server.active_sessions == 0


async def test_a_call_that_says_nothing_is_ended(house):
    async with (
        house.running(config=house.configured(Limits(idle_ms=50))) as (server, _),
        grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel,
    ):
        call = channel.stream_stream("/streamtrans.v1.TranslationService/StreamTranslate")()
        assert await call.code() == CODE.OUT_OF_RANGE


async def test_an_old_call_is_ended(house):
    async with house.running(config=house.configured(Limits(max_connection_ms=80))) as (server, client):
        with pytest.raises(TimedOut, match="maximum age of 80 ms") as caught:
            await house.drain(client)
        assert caught.value.code == CODE.ABORTED
        assert server.active_sessions == 0


async def test_a_fast_sender_is_refused_where_so_configured(house):
    limits = Limits(burst_ms=400)
    async with house.running(config=house.configured(limits, pace="refuse")) as (_, client):
        with pytest.raises(Overloaded, match="faster than 2 times real time") as caught:
            await house.collect(client, house.speech(5))
    assert caught.value.retry_after_s is not None


async def test_a_fast_sender_is_held_otherwise(house):
    limits = Limits(max_real_time_factor=20, burst_ms=100)
    async with house.running(config=house.configured(limits)) as (_, client):
        events = await house.collect(client, house.speech(1, 1))
    assert events[-1].audio_ms == 2_000
    assert events[-1].duration_ms >= 1_900 / 20


async def test_audio_that_nobody_reads_is_refused_where_so_configured(house):
    engine = house.Held(house.instant(), free=8_000)
    config = house.configured(pace="refuse")
    async with house.running(house.served(engine), config) as (_, client):
        with pytest.raises(Overloaded, match="more than 60000 ms of audio wait"):
            await house.collect(client, house.speech(0, 62))


async def test_events_that_nobody_reads_are_bounded(house):
    options = StreamOptions(("de", "fr", "it"))
    async with house.running(config=house.configured(max_unsent_events=2)) as (server, client):
        with pytest.raises(Overloaded, match="read while you send"):
            await house.drain(client, options, audio=house.speech(0.2, 1, 0.6))
        assert server.active_sessions == 0


NOVEL = random.Random(1).randbytes(500_000).hex()  # no word comes twice, or the guard against loops would cut it


async def test_a_client_that_never_reads_frees_its_slot(house):
    class Verbose(house.Words):
        def decode(self, tokens):
            return NOVEL[: 50_000 * len(tokens)]

    config = house.configured(Limits(idle_ms=150, max_real_time_factor=1e6))
    narrow = [("grpc.http2.bdp_probe", 0)]  # keeps the client's window at 64 KB
    async with (
        house.running(house.served(tokenizer=Verbose()), config) as (server, _),
        grpc.aio.insecure_channel(f"127.0.0.1:{server.port}", options=narrow) as channel,
    ):
        call = ServiceStub(channel).StreamTranslate()
        await call.write(house.opening(targets=("de", "fr"), encoding="pcm_f32le"))
        await call.write(audio_message(house.speech(0, 1).tobytes(), 1))
        await call.write(audio_message(house.speech(0, 1).tobytes(), 2))
        await call.done_writing()
        await until(lambda: server.active_sessions == 1)
        await until(lambda: server.active_sessions == 0)
        with pytest.raises(grpc.RpcError) as caught:
            [response async for response in call]
    assert caught.value.code() == CODE.RESOURCE_EXHAUSTED
    assert "nothing was read for 150 ms" in caught.value.details()


async def play(stream, audio):
    await stream.send(audio)
    return [event async for event in stream]


async def test_a_fault_of_ours_tells_an_id_and_nothing_else(house, caplog):
    class Broken(house.Words):
        def decode(self, tokens):
            raise LookupError("secret words")

    async with house.running(house.served(tokenizer=Broken())) as (server, client):
        async with client.stream(StreamOptions(("de",))) as stream:
            session = stream.started.session_id
            with pytest.raises(ServerFault) as caught:
                await play(stream, house.speech(0.2, 1.5, 0.5))
        assert caught.value.code == CODE.INTERNAL
        assert session in caught.value.message
        assert "secret" not in caught.value.message
        assert "LookupError" not in caught.value.message
        assert server.active_sessions == 0
    assert any(session in record.getMessage() for record in caplog.records)


async def test_an_engine_that_closes_makes_calls_unavailable(house):
    class Closing(type(house.instant())):
        def _answer(self, request):
            if isinstance(request, Job) and request.end > 16_000:
                raise EngineClosed("gone")
            return super()._answer(request)

    inner = house.instant()
    inner.__class__ = Closing
    async with house.running(house.served(inner)) as (_, client):
        with pytest.raises(Unavailable, match="the engine has stopped"):
            await house.collect(client, house.speech(0.2, 1.5))


@pytest.mark.parametrize("how", ["cancel", "leave"])
async def test_a_client_that_goes_frees_its_slot(house, how):
    engine = house.Held(house.instant(), free=8_000)
    async with house.running(house.served(engine), house.configured(max_sessions=1)) as (server, client):
        leaving = asyncio.create_task(_stay(client, house.speech(0, 1)))
        await until(lambda: engine.waiting)
        if how == "cancel":
            leaving.cancel()
        else:
            engine.waiting[0][1].cancel()
            leaving.cancel()
        await asyncio.wait([leaving])
        await until(lambda: server.active_sessions == 0)
        await until(lambda: all(future.cancelled() for _, future in engine.waiting))


async def _stay(client, audio):
    async with client.stream(StreamOptions(("de",))) as stream:
        await stream.send(audio)
        await asyncio.sleep(60)


async def until(condition):
    """Wait patiently: a second is promised of slots, but only a benchmark on a quiet machine can tell."""
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.005)


async def test_an_unfinished_stream_cannot_be_sent_to(house):
    async with house.running() as (_, client), client.stream(StreamOptions(("de",))) as stream:
        await stream.end()
        with pytest.raises(InvalidRequest, match="has ended"):
            await stream.send(bytes(320))
