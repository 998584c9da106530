"""OpenAI's own client talks to our server once its address is changed, and reads what a gRPC client reads."""

import asyncio
import base64
import contextlib
import io
import json
import math
import time
import zlib
from contextlib import asynccontextmanager
from types import SimpleNamespace

import aiohttp
import numpy as np
import pytest
import soundfile

from streamtrans.client import Caption, SpeechEnded, SpeechStarted, StreamOptions
from streamtrans.server import Limits
from streamtrans.server.keys import add_key
from streamtrans.text.subtitles import cue, srt, vtt
from tests.proxy import Proxy

pytest.importorskip("openai", reason="openai is not installed")
from openai import (
    APIConnectionError,
    APIError,
    AsyncOpenAI,
    AuthenticationError,
    BadRequestError,
    InternalServerError,
    RateLimitError,
)
from websockets.exceptions import ConnectionClosedError, ConnectionClosedOK, InvalidStatus

pytestmark = pytest.mark.filterwarnings("ignore:deprecated:DeprecationWarning")  # so the client calls translations

RATE = 24_000
PREFIX = "conversation.item.input_audio_transcription"
TRANSCRIPTS = {"model": "whisper-1", "language": "en"}


@asynccontextmanager
async def shop(house, what=None, limits=None, key="unused", **changes):
    """Give a server, a gRPC client and OpenAI's."""
    config = house.configured(limits or house.EAGER, http_port=0, **changes)
    async with house.running(what, config) as (server, client), openai(server, key) as theirs:
        yield server, client, theirs


def openai(server, key="unused"):
    return AsyncOpenAI(base_url=f"http://localhost:{server.http_port}/v1", api_key=key, max_retries=0)


def recording(house, *pieces, rate=16_000, seed=0, form="WAV"):
    """Return a file, and its samples as float32."""
    samples = (house.speech(*pieces, rate=rate, seed=seed) * 32_767).astype("<i2")
    file = io.BytesIO()
    soundfile.write(file, samples, rate, format=form)
    return (f"talk.{form.lower()}", file.getvalue()), (samples / np.float32(32_768)).astype("<f4").tobytes()


async def finals(house, client, data, target, source="en", **options):
    options = {"encoding": "pcm_f32le", "mode": "final"} | options
    asked = StreamOptions((target,), source_languages=(source,) if source else (), **options)
    return [each for each in await house.collect(client, data, asked) if isinstance(each, Caption) and each.final]


def joined(captions, joint=" "):
    return joint.join(caption.text for caption in captions)


async def test_a_transcript_is_that_of_grpc_in_every_form(house):
    file, data = recording(house, 0.5, 1.5, 0.7, 1.2, 0.6)
    async with shop(house) as (_, client, theirs):
        captions = await finals(house, client, data, "en", word_times=True)
        create = theirs.audio.transcriptions.create
        plain = await create(file=file, **TRANSCRIPTS)
        forms = {form: await create(file=file, response_format=form, **TRANSCRIPTS) for form in ("text", "srt", "vtt")}
        verbose = await create(file=file, response_format="verbose_json", temperature=0.2, prompt="x", **TRANSCRIPTS)
        worded = await create(
            file=file, response_format="verbose_json", timestamp_granularities=["word"], **TRANSCRIPTS
        )
    text = joined(captions)
    assert (plain.text, plain.usage.type, plain.usage.seconds) == (text, "duration", 5)
    cues = [cue(caption) for caption in captions]
    assert forms == {"text": text + "\n", "srt": srt(cues), "vtt": vtt(cues)}
    assert (verbose.task, verbose.language, verbose.duration, verbose.text) == ("transcribe", "english", 4.5, text)
    assert (verbose.usage.type, verbose.usage.seconds, verbose.words) == ("duration", 5, None)
    assert [segment.model_dump() for segment in verbose.segments] == [
        {
            "id": number,
            "seek": 0,
            "start": caption.start / 16_000,
            "end": caption.end / 16_000,
            "text": caption.text,
            "tokens": [],
            "temperature": 0.0,
            "avg_logprob": pytest.approx(math.log(0.5)),
            "compression_ratio": len(caption.text) / len(zlib.compress(caption.text.encode())),
            "no_speech_prob": 0.0,
        }
        for number, caption in enumerate(captions)
    ]
    assert len(verbose.segments) == 2
    assert (worded.segments, worded.words, worded.text) == (None, [], text)  # the toy knows no times


async def test_a_translation_is_english_or_what_is_asked_for(house):
    file, data = recording(house, 0.5, 1.5, 0.7, 1.2, 0.6, form="FLAC")
    async with shop(house) as (_, client, theirs):
        create = theirs.audio.translations.create
        english = await create(file=file, model="whisper-1")
        verbose = await create(file=file, model="whisper-1", response_format="verbose_json")
        chinese = await create(file=file, model="whisper-1", extra_body={"to": "zh-CN", "language": "de"})
        german = await theirs.audio.transcriptions.create(file=file, extra_body={"to": "de"}, **TRANSCRIPTS)
        expected = {
            language: await finals(house, client, data, language, source)
            for language, source in (("en", None), ("zh", "de"), ("de", "en"))
        }
    assert english.text == joined(expected["en"])
    assert (verbose.task, verbose.language, verbose.text) == ("translate", "english", english.text)
    assert [segment.text for segment in verbose.segments] == [caption.text for caption in expected["en"]]
    assert chinese.text == joined(expected["zh"], "")
    assert german.text == joined(expected["de"])


async def test_a_transcript_comes_while_it_is_made(house):
    file, data = recording(house, 0.5, 1.5, 0.7, 1.2, 0.6)
    async with shop(house) as (_, client, theirs):
        captions = await finals(house, client, data, "en")
        events = [
            each async for each in await theirs.audio.transcriptions.create(file=file, stream=True, **TRANSCRIPTS)
        ]
        torn = (file[0], file[1][:-20_000])
        with pytest.raises(APIError, match="the file is truncated"):
            [each async for each in await theirs.audio.transcriptions.create(file=torn, stream=True, **TRANSCRIPTS)]
        with pytest.raises(BadRequestError, match="toy doesn't know 'sw'"):
            await theirs.audio.transcriptions.create(file=file, stream=True, model="x", language="sw")
    *deltas, done = events
    assert [each.type for each in deltas] == ["transcript.text.delta"] * 2
    assert "".join(each.delta for each in deltas) == done.text == joined(captions)
    assert done.type == "transcript.text.done"


@pytest.mark.parametrize(
    ("options", "param", "words"),
    [
        ({"language": "sw"}, "language", "toy doesn't know 'sw'; it knows en, de, zh, fr, it, es"),
        ({"extra_body": {"to": "sw"}}, "language", "toy doesn't know 'sw'; it knows en, de, zh, fr, it, es"),
        ({"language": ""}, "language", "doesn't find out what is spoken"),
        ({"response_format": "diarized_json"}, "response_format", "use one of json, text, srt, verbose_json, vtt"),
        ({"file": ("x.wav", b"")}, "file", "is empty"),
        ({"file": ("x.wav", b"Dear Sir or Madam" * 30)}, "file", "not audio that can be read"),
        ({"file": ("x.wav", bytes(1_000_001))}, "file", "has more than 1 MB"),
        ({"prompt": "x" * 70_000}, "prompt", "is too long"),
    ],
    ids=lambda value: str(value)[:40],
)
async def test_what_cannot_be_had_is_refused_with_what_can(house, options, param, words):
    file, _ = recording(house, 0.5, 1.0)
    async with shop(house, max_upload_mb=1) as (server, _, theirs):
        with pytest.raises(BadRequestError) as refused:
            await theirs.audio.transcriptions.create(**({"file": file} | TRANSCRIPTS | options))
        body = refused.value.body
        assert (body["type"], body["param"]) == ("invalid_request_error", param)
        assert body["code"] in ("invalid_value", "unsupported_value")
        assert words in body["message"]
        assert words in str(refused.value)
        assert server.active_sessions == 0


async def test_the_model_that_answers_is_listed(house):
    async with shop(house) as (_, _, theirs):
        assert [(each.id, each.object, each.owned_by) for each in (await theirs.models.list()).data] == [
            ("toy", "model", "streamtrans")
        ]


async def test_a_form_that_is_none_is_refused(house):
    async with shop(house) as (server, _, _), aiohttp.ClientSession() as session:
        address = f"http://localhost:{server.http_port}/v1/audio/transcriptions"
        broken = {"Content-Type": "multipart/form-data; boundary=x"}
        for data, headers, words in (
            ({"language": "en"}, {}, "send a form (multipart/form-data)"),
            (b"--x\r\nnonsense", broken, "damaged or breaks off"),
            (b"hello", {"Content-Type": "multipart/form-data"}, "damaged or breaks off"),
        ):
            answer = await session.post(address, data=data, headers=headers)
            assert answer.status == 400
            assert words in (await answer.json())["error"]["message"]
        form = aiohttp.FormData({"language": "en"}, default_to_multipart=True)
        answer = await session.post(address, data=form)
        assert "send the recording under this name" in (await answer.json())["error"]["message"]
        answer = await session.post(address, data=form, headers={"Origin": "https://elsewhere.example"})
        assert (answer.status, (await answer.json())["error"]["type"]) == (403, "permission_error")


async def test_keys_quotas_and_places_are_those_of_everybody(house, tmp_path):
    path = tmp_path / "keys.toml"
    key = add_key(path, "hall", {"streams": 1})
    file, _ = recording(house, 0.5, 1.0)
    async with shop(house, keys=path, key=key) as (server, _, theirs):
        async with openai(server, "st_guess") as stranger:
            with pytest.raises(AuthenticationError, match="asks for a key that it knows") as refused:
                await stranger.audio.transcriptions.create(file=file, **TRANSCRIPTS)
            assert (refused.value.body["code"], refused.value.body["param"]) == ("invalid_api_key", None)
            with pytest.raises(InvalidStatus, match="401"):
                async with session_of(stranger):
                    pass
        async with begun(theirs) as session:
            await append(session, house, 0.5, 1.0)
            await session.recv()
            with pytest.raises(RateLimitError) as limited:
                await theirs.audio.transcriptions.create(file=file, **TRANSCRIPTS)
            assert limited.value.body["code"] == "rate_limit_exceeded"
            assert int(limited.value.response.headers["retry-after"]) >= 1
        address = f"http://localhost:{server.http_port}/v1/realtime?intent=transcription"
        offered = ["realtime", f"openai-insecure-api-key.{key}"]
        async with aiohttp.ClientSession() as web, web.ws_connect(address, protocols=offered) as socket:
            assert socket.protocol == "realtime"
            assert (await socket.receive_json())["type"] == "session.created"


async def test_a_server_that_goes_or_is_absent_is_noticed(house):
    file, _ = recording(house, 0.5, 1.0)
    async with shop(house) as (server, _, theirs):
        async with begun(theirs) as session:
            await append(session, house, 0.5, 1.0)
            await session.recv()
            await server.stop(200)
            told = []
            with pytest.raises(ConnectionClosedError, match=r"1012.*the server is shutting down"):
                [told.append(event) async for event in session]
            assert (told[-1].type, told[-1].error.code) == ("error", "server_unavailable")
            assert told[-1].error.message == "the server is shutting down"
        with pytest.raises(APIConnectionError):
            await theirs.audio.transcriptions.create(file=file, **TRANSCRIPTS)
        with pytest.raises(OSError, match="Connect call failed"):
            async with session_of(theirs):
                pass


async def test_a_connection_that_breaks_ends_and_another_begins_anew(house):
    async with (
        shop(house) as (server, _, _),
        Proxy(server.http_port) as proxy,
        openai(SimpleNamespace(http_port=int(proxy.address.rpartition(":")[2]))) as theirs,
    ):
        async with begun(theirs) as session:
            await append(session, house, 0.5, 1.0)
            await session.recv()
            proxy.cut()
            with pytest.raises(ConnectionClosedError, match="no close frame received"):
                [event async for event in session]
        async with begun(theirs) as session:
            await append(session, house, 0.5, 1.0, 0.9)
            assert (await until(session, f"{PREFIX}.completed"))[-1].transcript


async def test_a_server_that_leaves_lets_nobody_in(house):
    file, _ = recording(house, 0.5, 1.0)
    async with shop(house) as (server, _, theirs):
        server._service.draining = True
        with pytest.raises(InternalServerError, match="the server is shutting down"):
            await theirs.audio.transcriptions.create(file=file, **TRANSCRIPTS)


def session_of(theirs, intent="transcription"):
    return theirs.realtime.connect(extra_query={"intent": intent})


def wish(language="en", turns=None, **more):
    transcription = {"model": "gpt-4o-transcribe", "language": language, **more}
    turns = {"type": "server_vad", "silence_duration_ms": 320} if turns is None else turns
    return {"type": "transcription", "audio": {"input": {"transcription": transcription, "turn_detection": turns}}}


@asynccontextmanager
async def begun(theirs, **options):
    """Give a session whose languages are known."""
    async with session_of(theirs) as session:
        assert (await session.recv()).type == "session.created"
        await session.session.update(session=wish(**options))
        assert (await session.recv()).type == "session.updated"
        yield session


def pcm(house, *pieces, seed=0):
    return (house.speech(*pieces, rate=RATE, seed=seed) * 32_767).astype("<i2").tobytes()


async def append(session, house, *pieces, seed=0, size=4_801):
    """Append audio in events that end within samples; return it."""
    data = pcm(house, *pieces, seed=seed)
    for at in range(0, len(data), size):
        await session.input_audio_buffer.append(audio=base64.b64encode(data[at : at + size]).decode())
    return data


async def until(session, kind, count=1):
    """Return the events up to the ``count``-th of ``kind``."""
    events = []
    while sum(event.type == kind for event in events) < count:
        events.append(await session.recv())
    return events


async def test_a_session_says_what_grpc_says_event_by_event(house):
    async with shop(house) as (_, client, theirs):
        async with session_of(theirs) as session:
            created = await session.recv()
            await session.session.update(session=wish(to=["de", "fr"]))
            updated = await session.recv()
            data = await append(session, house, 0.5, 1.5, 0.7, 1.2, 0.9)
            events = await until(session, f"{PREFIX}.completed", 4)
        asked = StreamOptions(
            ("de", "fr"), sample_rate_hertz=RATE, source_languages=("en",), mode="stable", min_silence_ms=320
        )
        theirs_told = await house.collect(client, data, asked)
    described = created.session
    assert (created.type, described.type, described.object) == (
        "session.created", "transcription", "realtime.transcription_session",
    )  # fmt: skip
    assert described.id.startswith("sess_")
    assert described.expires_at == pytest.approx(time.time() + 3_600, abs=60)
    assert described.include is None
    given = described.audio.input
    assert (given.format.type, given.format.rate) == ("audio/pcm", RATE)
    assert (given.transcription, given.noise_reduction) == (None, None)
    assert (given.turn_detection.type, given.turn_detection.silence_duration_ms) == ("server_vad", 500)
    effective = updated.session.audio.input
    assert (updated.type, updated.session.id) == ("session.updated", described.id)
    assert (effective.transcription.language, effective.turn_detection.silence_duration_ms) == ("en", 320)
    assert effective.format.rate == RATE
    numbers = [event.event_id for event in (created, updated, *events)]
    assert numbers == [f"event_{number}" for number in range(1, len(numbers) + 1)]

    captions = [each for each in theirs_told if isinstance(each, Caption) and each.final]
    completed = [event for event in events if event.type == f"{PREFIX}.completed"]
    items = list(dict.fromkeys(event.item_id for event in completed))
    assert [
        (items.index(e.item_id), e.content_index, e.transcript, e.usage.type, e.usage.seconds) for e in completed
    ] == [
        (c.segment, ("de", "fr").index(c.language), c.text, "duration", math.ceil((c.end - c.start) / 16_000))
        for c in captions
    ]
    for event in completed:
        deltas = [
            each.delta
            for each in events
            if each.type == f"{PREFIX}.delta"
            and (each.item_id, each.content_index) == (event.item_id, event.content_index)
        ]
        assert "".join(deltas) == event.transcript
    starts = [each for each in theirs_told if isinstance(each, SpeechStarted)]
    ends = [each for each in theirs_told if isinstance(each, SpeechEnded)]
    assert [(e.item_id, e.audio_start_ms) for e in events if e.type == "input_audio_buffer.speech_started"] == [
        (items[each.segment], each.start // 16) for each in starts
    ]
    assert [(e.item_id, e.audio_end_ms) for e in events if e.type == "input_audio_buffer.speech_stopped"] == [
        (items[each.segment], each.end // 16) for each in ends
    ]
    assert [(e.item_id, e.previous_item_id) for e in events if e.type == "input_audio_buffer.committed"] == [
        (items[0], None), (items[1], items[0]),
    ]  # fmt: skip


@pytest.mark.parametrize("form", ["audio/pcmu", "audio/pcma"])
async def test_telephones_are_heard(house, form):
    encoding = {"audio/pcmu": "mulaw", "audio/pcma": "alaw"}[form]
    data = np.random.default_rng(1).integers(0, 256, 12_000, np.uint8).tobytes()
    asked = wish()
    asked["audio"]["input"]["format"] = {"type": form}
    async with shop(house) as (_, client, theirs):
        async with session_of(theirs) as session:
            await session.session.update(session=asked)
            await session.input_audio_buffer.append(audio=base64.b64encode(data).decode())
            await session.input_audio_buffer.commit()
            events = await until(session, f"{PREFIX}.completed")
        expected = await finals(
            house, client, data, "en", encoding=encoding, sample_rate_hertz=8_000, mode="stable", min_silence_ms=320
        )
    assert events[-1].transcript == expected[0].text != ""


async def test_without_detection_of_turns_the_client_commits(house):
    asked = wish(turns=False)
    asked["audio"]["input"]["turn_detection"] = None
    async with shop(house) as (_, _, theirs), session_of(theirs) as session:
        await session.session.update(session=asked)
        await until(session, "session.updated")
        await append(session, house, 0.3, 1.0, 0.9, 1.0)
        await session.input_audio_buffer.commit()
        events = await until(session, f"{PREFIX}.completed")
        kinds = {event.type for event in events}
        assert kinds == {f"{PREFIX}.delta", f"{PREFIX}.completed", "input_audio_buffer.committed"}
        spoken = events[-1].item_id
        await session.input_audio_buffer.commit()
        refused = await session.recv()
        assert "nothing was appended since the last commit" in refused.error.message
        await append(session, house, 1.5)
        await session.input_audio_buffer.commit()
        committed, empty = await until(session, f"{PREFIX}.completed")
        assert (committed.type, committed.previous_item_id) == ("input_audio_buffer.committed", spoken)
        assert (empty.item_id, empty.content_index, empty.transcript) == (committed.item_id, 0, "")
        assert (empty.usage.type, empty.usage.seconds) == ("duration", 0)
        await append(session, house, 0.5, 1.0, seed=2)
        await session.input_audio_buffer.commit()
        events = await until(session, f"{PREFIX}.completed")
        assert events[-1].transcript
        assert [event.previous_item_id for event in events if event.type == "input_audio_buffer.committed"] == [
            empty.item_id
        ]


async def test_an_event_that_cannot_be_followed_is_answered_and_the_session_goes_on(house):
    async with shop(house) as (_, _, theirs), session_of(theirs) as session:
        await session.recv()
        raw = session._connection.send
        bad = [
            ("{", "the text is no JSON", None),
            ("[" * 30_000, "the text is no JSON", None),
            ("[]", "no object", None),
            ({"type": "response.create"}, "'response.create' isn't taken here; send one of session.update", "type"),
            ({"type": "session.update", "session": {"type": "realtime"}}, "is no transcription session", "session"),
            ({"type": "session.update", "session": 5}, "is no transcription session", "session"),
            ({"type": "session.update", "session": wish(language=5)}, "5 is no language", "session"),
            ({"type": "session.update", "session": wish(language="")}, "doesn't find out what is spoken", "session"),
            (
                {"type": "session.update", "session": wish(turns={"silence_duration_ms": "x"})},
                "whole number",
                "session",
            ),
            ({"type": "input_audio_buffer.append", "audio": "!!"}, "no Base64", "audio"),
            ({"type": "input_audio_buffer.append"}, "no Base64", "audio"),
            ({"type": "input_audio_buffer.commit"}, "nothing was appended", None),
        ]
        for event, words, param in bad:
            named = event | {"event_id": "mine"} if isinstance(event, dict) else None
            await raw(event if named is None else json.dumps(named))
            told = await session.recv()
            assert (told.type, told.error.type, told.error.code) == ("error", "invalid_request_error", "invalid_value")
            assert words in told.error.message
            assert (told.error.param, told.error.event_id) == (param, "mine" if named else None)
        await session.session.update(session=wish())
        assert (await session.recv()).type == "session.updated"
        await session.session.update(session=wish())
        assert (await session.recv()).type == "session.updated"
        await session.session.update(session=wish(language="de"))
        assert "stay as they are" in (await session.recv()).error.message
        await append(session, house, 0.3, 1.0, 0.9)
        assert (await until(session, f"{PREFIX}.completed"))[-1].transcript


async def test_a_session_that_cannot_be_ends_with_the_reason(house):
    async with shop(house) as (_, _, theirs):
        for begin, words in (
            (lambda s: s.session.update(session=wish(language="sw")), "toy doesn't know 'sw'; it knows en, de, zh"),
            (lambda s: s.input_audio_buffer.append(audio="AAAA"), "doesn't find out what is spoken"),
        ):
            async with session_of(theirs) as session:
                told = []
                await session.recv()
                await begin(session)
                with pytest.raises(ConnectionClosedError, match="1008"):
                    [told.append(event) async for event in session]
                assert words in told[-1].error.message
        async with session_of(theirs, intent="conversation") as session:
            assert "connect with ?intent=transcription" in (await session.recv()).error.message


async def test_who_says_nothing_is_not_waited_for(house):
    limits = Limits(idle_ms=300, max_real_time_factor=1e6, burst_ms=10**7)
    async with shop(house, limits=limits) as (server, _, theirs), begun(theirs) as session:
        told = []
        with pytest.raises(ConnectionClosedError, match=r"1011.*no audio for 300 ms"):
            [told.append(event) async for event in session]
        async with asyncio.timeout(2):
            while server.active_sessions:
                await asyncio.sleep(0.01)


def translating(theirs):
    return theirs.realtime.translations.connect(model="gpt-realtime-translate")


def output(to, **transcription):
    heard = {"input": {"transcription": {"model": "x", **transcription}}} if transcription else {}
    return {"audio": {"output": {"language": to}, **heard}}


async def speak(session, house, *pieces, seed=0):
    data = pcm(house, *pieces, seed=seed)
    for at in range(0, len(data), 9_601):
        await session.session.input_audio_buffer.append(audio=base64.b64encode(data[at : at + 9_601]).decode())
    return data


def text(events, which):
    return "".join(event.delta for event in events if event.type == f"session.{which}_transcript.delta")


async def quiet(session):
    """Return the events that come until none does for a while."""
    events = []
    with contextlib.suppress(TimeoutError):
        while True:
            async with asyncio.timeout(0.5):
                events.append(await session.recv())
    return events


async def test_a_translation_session_says_what_grpc_says_and_only_adds_to_it(house):
    async with shop(house) as (_, client, theirs):
        async with translating(theirs) as session:
            created = await session.recv()
            await session.session.update(session=output("de", language="en-US"))
            updated = await session.recv()
            data = await speak(session, house, 0.5, 1.5, 0.7, 1.2, 0.7, 2.0, 0.6)
            await session.session.close()
            events = await until(session, "session.closed")
            with pytest.raises(ConnectionClosedOK):
                await session.recv()
        expected = {
            language: await finals(
                house, client, data, language, encoding="pcm_s16le", sample_rate_hertz=RATE, mode="stable"
            )
            for language in ("de", "en")
        }
    about = created.session
    assert (created.type, about.type, about.model) == ("session.created", "translation", "gpt-realtime-translate")
    assert about.id.startswith("sess_")
    assert about.expires_at == pytest.approx(time.time() + 3_600, abs=60)
    assert (about.audio.output.language, about.audio.input.transcription, about.audio.input.noise_reduction) == (
        None, None, None,
    )  # fmt: skip
    assert (updated.type, updated.session.id) == ("session.updated", about.id)
    assert updated.session.audio.output.language == "de"
    assert updated.session.audio.input.transcription.model == "x"
    assert text(events, "output") == joined(expected["de"])
    assert text(events, "input") == joined(expected["en"])
    assert len(expected["de"]) == 3
    numbers = [event.event_id for event in (created, updated, *events)]
    assert numbers == [f"event_{number}" for number in range(1, len(numbers) + 1)]
    times = [event.elapsed_ms for event in events if event.type == "session.output_transcript.delta"]
    assert times == sorted(times)
    assert all(at % 200 == 0 and 0 < at <= 7_200 for at in times)


async def test_the_language_of_a_translation_changes_while_it_runs(house):
    async with shop(house) as (_, client, theirs):
        async with translating(theirs) as session:
            await session.session.update(session=output("de"))
            first = await speak(session, house, 0.5, 1.5, 1.0)
            early = await quiet(session)
            await session.session.update(session=output("sw"))
            refused = await session.recv()
            await session.session.update(session=output("zh-CN"))
            changed = await session.recv()
            second = await speak(session, house, 0.5, 1.2, 1.0, seed=3)
            await session.session.close()
            late = await until(session, "session.closed")
        form = {"encoding": "pcm_s16le", "sample_rate_hertz": RATE, "mode": "stable"}
        german = await finals(house, client, first + second, "de", None, **form)
        chinese = await finals(house, client, first + second, "zh", None, **form)
    assert text(early, "output") == german[0].text
    assert (refused.type, refused.error.param) == ("error", "audio.output.language")
    assert "toy doesn't know 'sw'; it knows en, de, zh, fr, it, es" in refused.error.message
    assert (changed.type, changed.session.audio.output.language) == ("session.updated", "zh")
    assert text(late, "output") == chinese[1].text
    assert text(late, "input") == ""


async def test_a_translation_that_cannot_be_is_told_so(house):
    async with shop(house) as (_, _, theirs):
        async with translating(theirs) as session:
            await session.recv()
            raw = session._connection.send
            for event, words in (
                ("{", "the text is no JSON"),
                ({"type": "input_audio_buffer.commit"}, "isn't taken here; send one of session.update"),
                ({"type": "session.update", "session": output(5)}, "5 is no language"),
                ({"type": "session.update", "session": output("xx")}, "xx"),
                ({"type": "session.update", "session": output("de", model="y")}, "doesn't find out what is spoken"),
                ({"type": "session.input_audio_buffer.append", "audio": "!"}, "no Base64"),
            ):
                await raw(event if isinstance(event, str) else json.dumps(event))
                told = await session.recv()
                assert told.type == "error"
                assert words in told.error.message
            await session.session.update(session=output("de", language="en"))
            assert (await session.recv()).type == "session.updated"
            await session.session.update(session=output("de", language="fr"))
            assert "stays as it is" in (await session.recv()).error.message
            await session.session.close()
            assert (await until(session, "session.closed"))[-1].type == "session.closed"
        for begin, words in (
            (lambda s: s.session.update(session=output("sw")), "toy doesn't know 'sw'; it knows en, de, zh"),
            (lambda s: s.session.input_audio_buffer.append(audio="AAAA"), "say what is to be written"),
        ):
            async with translating(theirs) as session:
                told = []
                await begin(session)
                with pytest.raises(ConnectionClosedError, match="1008"):
                    [told.append(event) async for event in session]
                assert words in told[-1].error.message
