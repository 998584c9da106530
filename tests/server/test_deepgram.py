"""Deepgram's own client talks to our server once its address is changed, and reads what a gRPC client reads."""

import asyncio
import hashlib
import io
import json
import tempfile
import uuid
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from types import SimpleNamespace

import aiohttp
import numpy as np
import pytest
import soundfile

import streamtrans
from streamtrans.client import Caption, SpeechEnded, SpeechStarted, StreamOptions
from streamtrans.server import Limits
from streamtrans.server.keys import add_key
from tests.proxy import Proxy

pytest.importorskip("deepgram", reason="deepgram-sdk is not installed")
from deepgram import AsyncDeepgramClient
from deepgram.core.api_error import ApiError
from deepgram.environment import DeepgramClientEnvironment
from httpx import AsyncClient, ConnectError
from websockets.exceptions import ConnectionClosedError

pytestmark = pytest.mark.filterwarnings("ignore:websockets:DeprecationWarning")  # the client's affair

RATE = 16_000
MODEL = str(uuid.uuid5(uuid.NAMESPACE_DNS, "toy"))


def spoken(house, *pieces, seed=0):
    """Return 16-bit samples as bytes."""
    return (house.speech(*pieces, seed=seed) * 32_767).astype("<i2").tobytes()


@asynccontextmanager
async def shop(house, what=None, limits=None, **changes):
    config = house.configured(limits or house.EAGER, http_port=0, **changes)
    async with house.running(what, config) as (server, client):
        yield server, client


def deepgram(server, key="unused", **more):
    host = f"localhost:{server.http_port}"
    places = {"base": f"http://{host}", "production": f"ws://{host}", "agent": "", "agent_rest": ""}
    return AsyncDeepgramClient(api_key=key, environment=DeepgramClientEnvironment(**places), **more)


def live(server, key="unused", to=None, **options):
    """Return a connection; what is said of the audio by default is what the tests send."""
    more = {"request_options": {"additional_query_parameters": {"to": to}}} if to else {}
    given = {"model": "nova-3", "encoding": "linear16", "sample_rate": RATE, "language": "en"} | options | more
    return deepgram(server, key).listen.v1.connect(
        **{name: value for name, value in given.items() if value is not None}
    )


async def say(connection, data, size=3_201):
    """Send audio in pieces that end within samples."""
    for at in range(0, len(data), size):
        await connection.send_media(data[at : at + size])


async def heard(server, data, *, size=3_201, **options):
    """Return all messages of a conversation that ends well."""
    async with live(server, **options) as connection:
        await say(connection, data, size)
        await connection.send_close_stream()
        return [message async for message in connection]


def of(messages, kind):
    return [message for message in messages if message.type == kind]


async def over_grpc(house, client, data, *targets, **options):
    asked = StreamOptions(targets, source_languages=("en",), **options)
    return await house.collect(client, data, asked)


def finals(events, language):
    return [each for each in events if isinstance(each, Caption) and each.final and each.language == language]


async def test_results_are_the_captions_of_grpc_field_by_field(house):
    data = spoken(house, 0.5, 1.5, 0.7, 1.2, 0.6)
    async with shop(house) as (server, client):
        began = datetime.now(UTC)
        messages = await heard(server, data, to="de,fr", interim_results=True, vad_events=True)
        events = await over_grpc(house, client, data, "de", "fr")
    *told, end = messages
    results = of(told, "Results")
    for channel, language in enumerate(("de", "fr")):
        theirs = finals(events, language)
        ours = [each for each in results if each.is_final and each.channel_index == [channel, 2]]
        assert [each.channel.alternatives[0].transcript for each in ours] == [each.text for each in theirs]
        assert [(each.start, each.duration) for each in ours] == [
            (each.start / RATE, (each.end - each.start) / RATE) for each in theirs
        ]
    for each in results:
        assert each.speech_final == each.is_final
        assert each.from_finalize is False
        [reading] = each.channel.alternatives
        assert reading.languages == [("de", "fr")[each.channel_index[0]]]
        assert reading.confidence == pytest.approx(0.5 if each.is_final else reading.confidence)
        assert reading.words == []  # the toy can't tell when it listened to what
        assert each.metadata.model_uuid == MODEL
        assert each.metadata.model_info.dict() == {
            "name": "toy", "version": streamtrans.__version__, "arch": "streamtrans",
        }  # fmt: skip
        assert each.metadata.request_id == end.request_id
    assert any(not each.is_final for each in results)
    starts = [event.start / RATE for event in events if isinstance(event, SpeechStarted)]
    assert [(each.channel, each.timestamp) for each in of(told, "SpeechStarted")] == [([0, 2], at) for at in starts]
    assert end.type == "Metadata"
    assert (end.transaction_key, end.duration, end.channels) == ("deprecated", 4.5, 2)
    assert end.sha256 == hashlib.sha256(data).hexdigest()
    assert uuid.UUID(end.request_id)
    assert abs((datetime.fromisoformat(end.created) - began).total_seconds()) < 60
    assert (end.models, list(end.model_info)) == ([MODEL], [MODEL])


async def test_only_what_was_asked_for_is_told(house):
    data = spoken(house, 0.5, 1.5, 0.7, 1.2, 0.6)
    async with shop(house) as (server, client):
        messages = await heard(server, data)
        events = await over_grpc(house, client, data, "en", mode="final")
    assert {message.type for message in messages} == {"Results", "Metadata"}
    results = of(messages, "Results")
    assert all(each.is_final for each in results)
    assert [each.channel.alternatives[0].transcript for each in results] == [each.text for each in finals(events, "en")]
    assert results[0].channel_index == [0, 1]


@pytest.mark.parametrize("size", [3, 999, 20_000, 200_000])
async def test_frames_of_any_size_are_the_same_audio(house, size):
    data = spoken(house, 0.3, 0.6, 0.5) if size < 10 else spoken(house, 0.3, 1.5, 0.7, 3.0, 0.6)
    async with shop(house, max_messages_per_s=1e6) as (server, client):
        messages = await heard(server, data, size=size, to="de")
        events = await over_grpc(house, client, data, "de", mode="final")
    assert [each.channel.alternatives[0].transcript for each in of(messages, "Results")] == [
        each.text for each in finals(events, "de")
    ]
    assert of(messages, "Metadata")[0].duration == len(data) // 2 / RATE


@pytest.mark.parametrize(
    ("encoding", "ours", "rate", "channels"),
    [("linear16", "pcm_s16le", 8_000, 2), ("linear32", "pcm_f32le", 24_000, 1), ("mulaw", "mulaw", None, None),
     ("alaw", "alaw", 16_000, 1)],
)  # fmt: skip
async def test_audio_is_read_as_it_is_said_to_be_encoded(house, encoding, ours, rate, channels):
    random = np.random.default_rng(1)
    data = random.integers(0, 256, 48_000, np.uint8).tobytes()
    if ours == "pcm_f32le":
        data = random.normal(0, 0.1, 36_000).astype("<f4").tobytes()
    async with shop(house) as (server, client):
        messages = await heard(server, data, encoding=encoding, sample_rate=rate, channels=channels)
        options = {"encoding": ours, "sample_rate_hertz": rate or 8_000, "channels": channels or 1, "mode": "final"}
        events = await over_grpc(house, client, data, "en", **options)
    texts = [each.channel.alternatives[0].transcript for each in of(messages, "Results")]
    assert texts == [each.text for each in finals(events, "en")] != []


async def test_finalize_closes_what_is_open_and_says_so(house):
    async with shop(house) as (server, _), live(server, to="de,fr") as connection:
        await say(connection, spoken(house, 0.5, 2.0))
        await connection.send_finalize()
        told = [await connection.recv() for _ in range(2)]
        assert [(each.from_finalize, each.is_final, each.speech_final) for each in told] == [(True, True, True)] * 2
        assert told[0].start + told[0].duration == pytest.approx(2.5, abs=0.1)
        await say(connection, spoken(house, 0.6, 1.0, 0.8, seed=1))
        await connection.send_close_stream()
        later = of([message async for message in connection], "Results")
    assert later
    assert not any(each.from_finalize for each in later)


async def test_silence_after_the_last_word_is_told_to_who_asks(house):
    data = spoken(house, 0.5, 1.5, 1.9, 1.2, 0.2)
    async with shop(house) as (server, client):
        messages = await heard(server, data, utterance_end_ms="1000", vad_events=True)
        patient = await heard(server, data, utterance_end_ms="5000")
        events = await over_grpc(house, client, data, "en", mode="final")
    [end] = of(messages, "UtteranceEnd")
    assert (end.channel, end.last_word_end) == ([0, 1], finals(events, "en")[0].end / RATE)
    assert len([event for event in events if isinstance(event, SpeechEnded)]) == 2
    assert of(patient, "UtteranceEnd") == []


async def test_who_keeps_alive_is_waited_for_and_who_says_nothing_is_not(house):
    limits = Limits(idle_ms=300, max_real_time_factor=1e6, burst_ms=10**7)
    async with shop(house, limits=limits) as (server, _):
        async with live(server) as connection:
            await say(connection, spoken(house, 0.3, 0.8))
            for _ in range(6):
                await asyncio.sleep(0.1)
                await connection.send_keep_alive()
            await connection.send_close_stream()
            messages = [message async for message in connection]
        assert of(messages, "Metadata")[0].duration == pytest.approx(1.106)
        async with live(server) as connection:
            error = await connection.recv()
            assert (error.type, error.variant) == ("Error", "OUT_OF_RANGE")
            assert error.description.startswith("no audio for 300 ms")
            with pytest.raises(ConnectionClosedError, match=r"1011.*no audio for 300 ms"):
                await connection.recv()


async def test_messages_that_are_none_are_answered_and_the_stream_goes_on(house):
    async with shop(house) as (server, _), live(server) as connection:
        for text in ("{", "[]", '{"type": 5}', '{"type": "Nonsense"}', "[" * 30_000):
            await connection._websocket.send(text)
            error = await connection.recv()
            assert (error.type, error.variant, error.message) == ("Error", "SchemaError", text)
            assert "KeepAlive" in error.description
        await connection._websocket.send(json.dumps({"type": "Configure", "features": {"numerals": True}}))
        assert (await connection.recv()).type == "ConfigureSuccess"
        await connection._websocket.send(json.dumps({"type": "Configure", "keyterms": ["Anna"]}))
        refused = await connection.recv()
        assert (refused.type, refused.code) == ("ConfigureFailure", "CONFIGURE_KEYTERMS_NOT_SUPPORTED")
        assert "no keyterms" in refused.description
        await connection.send_media(b"")  # the old way to close
        assert (await connection.recv()).type == "Metadata"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"language": "sw"}, "toy doesn't know 'sw'; it knows en, de, zh, fr, it, es"),
        ({"to": "de,sw"}, "toy doesn't know 'sw'; it knows en, de, zh, fr, it, es"),
        ({"language": "multi"}, "name it, such as to=en"),
        ({"encoding": None}, "encoding: is missing here; use one of linear16, linear32, mulaw, alaw"),
        ({"encoding": "opus"}, "encoding: 'opus' isn't decoded here; use one of linear16"),
        ({"sample_rate": None}, "sample_rate: is missing"),
        ({"sample_rate": "much"}, "sample_rate: 'much' is no positive whole number"),
        ({"sample_rate": 700}, "audio_format"),
        ({"interim_results": "often"}, "interim_results: 'often' is neither true nor false"),
        ({"endpointing": "-3"}, "endpointing: '-3' is no positive whole number"),
        ({"redact": "pci"}, "redact: isn't offered here"),
        ({"callback": "http://x"}, "callback: isn't offered here"),
        ({"multichannel": True}, "multichannel: isn't offered here; open a connection for each channel"),
    ],
    ids=str,
)
async def test_what_cannot_be_had_is_refused_with_what_can(house, options, words):
    async with shop(house) as (server, _), live(server, **options) as connection:
        error = await connection.recv()
        assert error.type == "Error"
        assert error.variant in ("INVALID_ARGUMENT", "UNIMPLEMENTED")
        assert words in error.description
        with pytest.raises(ConnectionClosedError, match="received 1008"):
            await connection.recv()


@pytest.mark.parametrize("endpointing", ["10", "0", "300", "false", "true"])
async def test_silence_that_ends_an_utterance_can_be_chosen(house, endpointing):
    least = {"10": 200, "0": 200, "300": 300, "false": None, "true": 320}[endpointing]
    data = spoken(house, 0.3, 0.6, 0.27, 0.6, 0.9)
    async with shop(house, session=house.configured().session) as (server, _):
        results = of(await heard(server, data, endpointing=endpointing), "Results")
    assert len(results) == (2 if least == 200 else 1)


async def test_a_page_shows_its_key_by_subprotocols_and_others_pages_may_not_call(house, tmp_path):
    path = tmp_path / "keys.toml"
    key = add_key(path, "hall", {})
    async with shop(house, keys=path) as (server, _), aiohttp.ClientSession() as session:
        address = f"http://localhost:{server.http_port}/v1/listen?encoding=linear16&sample_rate=16000"
        async with session.ws_connect(address, protocols=["token", key]) as socket:
            assert socket.protocol == "token"
            await socket.send_str('{"type": "CloseStream"}')
            assert (await socket.receive_json())["type"] == "Metadata"
        with pytest.raises(aiohttp.WSServerHandshakeError, match="401"):
            await session.ws_connect(address, protocols=["token", "st_guess"])
        with pytest.raises(aiohttp.WSServerHandshakeError, match="403"):
            await session.ws_connect(address, protocols=["token", key], origin="https://elsewhere.example")


async def test_keys_quotas_and_places_are_those_of_everybody(house, tmp_path):
    path = tmp_path / "keys.toml"
    key = add_key(path, "hall", {"streams": 1})
    async with shop(house, keys=path) as (server, _):
        for wrong in ("unused", "st_guess"):
            with pytest.raises(ApiError) as refused:
                async with live(server, key=wrong):
                    pass
            assert (refused.value.status_code, "credentials" in refused.value.body) == (401, True)
            with pytest.raises(ApiError) as refused:
                await transcribed(server, b"x", wrong)
            assert (refused.value.status_code, refused.value.body["err_code"]) == (401, "INVALID_AUTH")
            assert "asks for a key" in refused.value.body["err_msg"]
        async with live(server, key=key, vad_events=True) as first:
            await say(first, spoken(house, 0.3, 0.8))
            assert (await first.recv()).type == "SpeechStarted"
            async with live(server, key=key) as second:
                error = await second.recv()
                assert error.variant == "RESOURCE_EXHAUSTED"
                with pytest.raises(ConnectionClosedError, match="1013"):
                    await second.recv()
            with pytest.raises(ApiError) as refused:
                await transcribed(server, wav(spoken(house, 0.3)), key)
            assert (refused.value.status_code, refused.value.body["err_code"]) == (429, "TOO_MANY_REQUESTS")
            assert int(refused.value.headers["retry-after"]) >= 1


async def test_a_server_that_goes_says_so_and_an_absent_one_is_noticed(house):
    async with shop(house) as (server, _), live(server, vad_events=True) as connection:
        await say(connection, spoken(house, 0.3, 0.8))
        assert (await connection.recv()).type == "SpeechStarted"
        await server.stop(200)
        with pytest.raises(ConnectionClosedError, match=r"1012.*the server is shutting down"):
            [message async for message in connection]
    with pytest.raises(OSError, match="Connect call failed"):
        async with live(server):
            pass
    with pytest.raises(ConnectError):
        await transcribed(server, b"x")


async def test_a_connection_that_breaks_ends_and_another_begins_anew(house):
    async with shop(house) as (server, _), Proxy(server.http_port) as proxy:
        reached = SimpleNamespace(http_port=int(proxy.address.rpartition(":")[2]))
        async with live(reached, vad_events=True) as connection:
            await say(connection, spoken(house, 0.3, 0.8))
            assert (await connection.recv()).type == "SpeechStarted"
            proxy.cut()
            with pytest.raises(ConnectionClosedError, match="no close frame received"):
                await connection.recv()
        assert of(await heard(reached, spoken(house, 0.3, 0.8, 0.9)), "Results")


async def test_a_client_that_goes_frees_its_place(house):
    async with shop(house) as (server, _):
        async with live(server, vad_events=True) as connection:
            await say(connection, spoken(house, 0.3, 0.8))
            await connection.recv()
            assert server.active_sessions == 1
        async with asyncio.timeout(2):
            while server.active_sessions:
                await asyncio.sleep(0.01)


def wav(data, rate=RATE):
    file = io.BytesIO()
    soundfile.write(file, np.frombuffer(data, "<i2"), rate, format="WAV")
    return file.getvalue()


async def transcribed(server, body, key="unused", **options):
    """Ask for a recording's text; what the client has no name for goes into the address."""
    more = {name: options.pop(name) for name in ("to", "sample_rate") if name in options}
    asked = {"additional_query_parameters": more, "max_retries": 0}
    async with AsyncClient() as http:
        media = deepgram(server, key, httpx_client=http).listen.v1.media
        return await media.transcribe_file(request=body, request_options=asked, **options)


async def test_a_recording_is_read_as_over_grpc_field_by_field(house):
    data = spoken(house, 0.5, 1.5, 2.7, 1.2, 0.6)
    async with shop(house) as (server, client):
        began = datetime.now(UTC)
        asked = {"language": "en", "utterances": True, "paragraphs": True, "smart_format": True}
        answer = await transcribed(server, wav(data), to="de,zh-CN", **asked)
        samples = (np.frombuffer(data, "<i2") / np.float32(32_768)).astype("<f4").tobytes()
        events = await over_grpc(house, client, samples, "de", "zh", encoding="pcm_f32le", mode="final")
    metadata, results = answer.metadata, answer.results
    assert (metadata.transaction_key, metadata.duration, metadata.channels) == ("deprecated", 6.5, 2)
    assert metadata.sha256 == hashlib.sha256(wav(data)).hexdigest()
    assert abs((metadata.created - began).total_seconds()) < 60
    assert uuid.UUID(metadata.request_id)
    assert (metadata.models, metadata.model_info[MODEL]["name"]) == ([MODEL], "toy")
    for index, (channel, language) in enumerate(zip(results.channels, ("de", "zh"), strict=True)):
        captions = finals(events, language)
        [reading] = channel.alternatives
        joint = "" if language == "zh" else " "
        assert reading.transcript == joint.join(each.text for each in captions)
        assert (reading.languages, reading.confidence, reading.words) == ([language], pytest.approx(0.5), [])
        groups = reading.paragraphs.paragraphs
        assert reading.paragraphs.transcript == reading.transcript
        assert [[each.text for each in group.sentences] for group in groups] == [[each.text] for each in captions]
        assert [(group.start, group.end) for group in groups] == [
            (each.start / RATE, each.end / RATE) for each in captions
        ]
        assert [(group.sentences[0].start, group.sentences[0].end) for group in groups] == [
            (group.start, group.end) for group in groups
        ]
        assert [group.num_words for group in groups] == [len(each.text.split()) for each in captions]
        said = [each for each in results.utterances if each.channel == index]
        assert [(each.transcript, each.start, each.end) for each in said] == [
            (each.text, each.start / RATE, each.end / RATE) for each in captions
        ]
        assert all(each.confidence == pytest.approx(0.5) for each in said)
        assert all(uuid.UUID(each.id) for each in said)


async def test_a_recording_without_a_header_is_read_as_it_is_said_to_be(house):
    data = spoken(house, 0.5, 1.5, 0.7)
    async with shop(house) as (server, client):
        answer = await transcribed(server, data, encoding="linear16", language="en", sample_rate=8_000)
        events = await over_grpc(house, client, data, "en", sample_rate_hertz=8_000, mode="final")
    assert answer.metadata.duration == len(data) / 2 / 8_000
    [reading] = answer.results.channels[0].alternatives
    assert reading.transcript == " ".join(each.text for each in finals(events, "en")) != ""
    assert answer.results.utterances is None
    assert reading.paragraphs is None


@pytest.mark.parametrize(
    ("body", "options", "words"),
    [
        (b"", {}, "file: is empty"),
        (b"Dear Sir or Madam" * 30, {}, "file: not audio that can be read"),
        ("torn", {}, "file: the file is truncated"),
        ("good", {"language": "sw"}, "toy doesn't know 'sw'; it knows en, de, zh, fr, it, es"),
        ("good", {"language": "multi"}, "name it, such as to=en"),
        ("good", {"redact": "pci"}, "redact: isn't offered here"),
        ("large", {}, "file: has more than 1 MB"),
        ("long", {}, "file: is longer than 0.1 minutes"),
    ],
    ids=str,
)
async def test_a_recording_that_cannot_be_read_is_refused_with_the_reason(house, body, options, words):
    whole = wav(spoken(house, 0.5, 1.0))
    long = io.BytesIO()
    soundfile.write(long, np.zeros(8 * RATE), RATE, format="FLAC")
    bodies = {"good": whole, "torn": whole[:-20_000], "large": bytes(1_000_001), "long": long.getvalue()}
    async with shop(house, max_upload_mb=1, max_upload_ms=6_000) as (server, _):
        with pytest.raises(ApiError) as refused:
            await transcribed(server, bodies.get(body, body), **options)
        assert (refused.value.status_code, refused.value.body["err_code"]) == (400, "Bad Request")
        assert words in refused.value.body["err_msg"]
        assert refused.value.headers["dg-error"] == refused.value.body["err_msg"]
        assert refused.value.headers["dg-request-id"] == refused.value.body["request_id"]
        async with AsyncClient() as http:
            with pytest.raises(ApiError, match="fetches nothing"):
                await deepgram(server, httpx_client=http).listen.v1.media.transcribe_url(url="http://localhost/x.wav")
        assert server.active_sessions == 0


async def test_of_a_recording_nothing_stays_and_too_many_at_once_are_refused(house, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    gate, seen = asyncio.Event(), []

    async def slowly():
        yield wav(spoken(house, 0.5, 1.0))
        seen.append([path.name for path in tmp_path.iterdir()])
        await gate.wait()

    async with shop(house, max_uploads=2) as (server, _), aiohttp.ClientSession() as session:
        address = f"http://localhost:{server.http_port}/v1/listen"
        first = asyncio.create_task(session.post(address, data=slowly()))
        while not seen:
            await asyncio.sleep(0.01)
        second = await session.post(address, data=wav(spoken(house, 0.5)))
        assert (second.status, (await second.json())["err_msg"]) == (
            429, "one connection may have 1 uploads at once, and this one has them",
        )  # fmt: skip
        gate.set()
        assert (await first).status == 200
        assert seen == [[]]  # where files may be without a name, this one is
    assert list(tmp_path.iterdir()) == []


async def test_who_stops_sending_a_recording_is_not_waited_for(house):
    async def never():
        yield b"RIFF"
        await asyncio.sleep(30)

    limits = Limits(idle_ms=200)
    async with shop(house, limits=limits) as (server, _), aiohttp.ClientSession() as session:
        answer = await session.post(f"http://localhost:{server.http_port}/v1/listen", data=never())
        assert (await answer.json())["err_msg"].startswith("no audio for 200 ms")


async def test_recordings_come_faster_than_speech_as_far_as_the_server_lets_them(house):
    data, loop = spoken(house, 0.5, 1.5, 10.0), asyncio.get_running_loop()
    async with shop(house, limits=Limits(burst_ms=1_000), upload_real_time_factor=10.0) as (server, _):
        began = loop.time()
        await transcribed(server, wav(data))
        assert 1.0 < loop.time() - began < 5.0
