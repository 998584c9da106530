"""LiveKit's own base classes run our speech-to-text: its events, its retries, its errors."""

import asyncio

import grpc
import numpy as np
import pytest
from livekit import rtc
from livekit.agents import NOT_GIVEN, Agent, AgentSession, APIConnectionError, APIConnectOptions, APIStatusError, stt
from livekit.agents.voice import io
from streamtrans_clients.bots.livekit import STT, Said, api_error

from streamtrans.client import Caption, SpeechStarted, StreamOptions, TranslationClient, Unavailable, Word
from tests.clients.bots.conftest import TALK, settled
from tests.proxy import Proxy

Kind = stt.SpeechEventType
ENGLISH = {"source_languages": ("en",)}


def frames(pcm, rate=16_000, channels=1, ms=10):
    size = rate * ms // 1000 * 2 * channels
    return [
        rtc.AudioFrame(pcm[at : at + size], rate, channels, len(pcm[at : at + size]) // 2 // channels)
        for at in range(0, len(pcm), size)
    ]


async def heard(stream, sound, pace_s=0.0):
    """Push frames as they are spoken, and return all events."""

    async def push():
        for frame in sound:
            stream.push_frame(frame)
            if pace_s:
                await asyncio.sleep(pace_s)
        stream.end_input()

    pushing = asyncio.create_task(push())
    async with asyncio.timeout(30), stream:
        events = [event async for event in stream]
    await pushing
    return events


def finals(events):
    return [event.alternatives[0] for event in events if event.type is Kind.FINAL_TRANSCRIPT]


def texts(events):
    return {
        language: [each.target_texts[number] for each in finals(events)]
        for number, language in enumerate(finals(events)[0].target_languages)
    }


async def test_every_field_of_a_stream(house, over_grpc):
    async with house() as address:
        expected = await over_grpc(address, targets=("de", "fr", "en"), **ENGLISH)
        async with TranslationClient(address) as client:
            told = [event async for event in client.translate(StreamOptions(("de",)), TALK)]
        captions = [event for event in told if isinstance(event, Caption) and event.final]
        speaker = STT(StreamOptions(("de", "fr"), **ENGLISH), address=address)
        usage = []
        speaker.on("metrics_collected", usage.append)
        events = await heard(speaker.stream(), frames(TALK))
    assert isinstance(speaker, stt.STT)
    assert (speaker.model, speaker.provider) == ("toy", "streamtrans")
    assert speaker.capabilities == stt.STTCapabilities(
        streaming=True, interim_results=True, offline_recognize=True, manual_flush=True
    )
    order = [each.type for each in events if each.type is not Kind.INTERIM_TRANSCRIPT]
    utterance = [Kind.START_OF_SPEECH, Kind.FINAL_TRANSCRIPT, Kind.END_OF_SPEECH, Kind.RECOGNITION_USAGE]
    assert order == utterance * 2 + [Kind.RECOGNITION_USAGE]
    assert len({event.request_id for event in events}) == 1
    first, second = finals(events)
    for number, data in enumerate((first, second)):
        assert (data.language, data.text) == ("de", expected["de"][number])
        assert data.target_languages == ["de", "fr"]
        assert data.target_texts == [expected["de"][number], expected["fr"][number]]
        assert (data.source_languages, data.source_texts) == (["en"], [expected["en"][number]])
        assert data.confidence == 1.0
        assert data.metadata == {
            "segment": number,
            "committed": {code: expected[code][number] for code in ("de", "fr", "en")},
        }
    for data, caption in zip((first, second), captions, strict=True):
        assert data.start_time == pytest.approx(caption.start / 16_000, abs=0.01)
        assert data.end_time == pytest.approx(caption.end / 16_000, abs=0.01)
    interims = [event.alternatives[0] for event in events if event.type is Kind.INTERIM_TRANSCRIPT]
    assert len(interims) > 4
    for data in interims:
        assert data.language == "de"
        assert data.text.startswith(data.metadata["committed"]["de"])
    assert sum(each.audio_duration for each in usage if each.audio_duration) == pytest.approx(len(TALK) / 32_000)


class Microphone(io.AudioInput):
    """What a session hears where there is no room: frames, twice as fast as they are spoken."""

    def __init__(self, pcm):
        super().__init__(label="microphone")
        self._frames = iter(frames(pcm, ms=20))

    async def __anext__(self):
        frame = next(self._frames, None)
        await asyncio.sleep(3_600 if frame is None else 0.01)
        return frame


async def test_a_session_of_livekits_hears_by_it(house, over_grpc):
    told = []
    async with house() as address:
        expected = await over_grpc(address, targets=("de", "en"), **ENGLISH)
        speaker = STT(StreamOptions(("de",), **ENGLISH), address=address)
        session = AgentSession(stt=speaker, turn_handling={"turn_detection": "stt"})
        session.on("user_input_transcribed", told.append)
        session.input.audio = Microphone(TALK)
        await session.start(Agent(instructions=""))
        await settled(lambda: len([each for each in told if each.is_final]) == 2)
        await session.aclose()
    assert [(each.language, each.transcript) for each in told if each.is_final] == [
        ("de", text) for text in expected["de"]
    ]
    assert len(told) > 4


async def test_a_transcript_alone_is_the_text(house, over_grpc):
    async with house() as address:
        expected = await over_grpc(address, targets=("en",), **ENGLISH)
        events = await heard(STT(StreamOptions(("en",)), address=address).stream(language="en"), frames(TALK))
    assert [(each.language, each.text) for each in finals(events)] == [("en", text) for text in expected["en"]]
    assert all(each.source_texts is None and each.target_texts is None for each in finals(events))


async def test_other_rates_and_channels_are_heard(house):
    wide = np.frombuffer(TALK, "<i2").repeat(3).repeat(2).tobytes()  # 48 kHz, stereo
    async with house() as address:
        events = await heard(STT(StreamOptions(("de",)), address=address).stream(), frames(wide, 48_000, 2))
    assert len(finals(events)) == 2


async def test_a_recording_is_recognised_at_once(house, over_grpc):
    async with house() as address:
        expected = await over_grpc(address, targets=("de", "fr", "en"), **ENGLISH)
        speaker = STT(StreamOptions(("de", "fr"), **ENGLISH), address=address)
        event = await speaker.recognize(frames(TALK))
        silence = await speaker.recognize(frames(bytes(32_000)))
    [data] = event.alternatives
    assert event.type is Kind.FINAL_TRANSCRIPT
    assert data.text == " ".join(expected["de"])
    assert data.target_texts == [" ".join(expected["de"]), " ".join(expected["fr"])]
    assert data.source_texts == [" ".join(expected["en"])]
    assert data.end_time > 2.5
    assert silence.alternatives[0].text == ""


async def test_a_flush_closes_the_utterance_and_the_stream_goes_on(house):
    loud = TALK[int(0.3 * 32_000) : int(1.2 * 32_000)]
    async with house() as address:
        stream = STT(StreamOptions(("de",)), address=address).stream()
        async with asyncio.timeout(20), stream:
            for _ in range(2):
                for frame in frames(loud):
                    stream.push_frame(frame)
                stream.flush()
                async for event in stream:
                    if event.type is Kind.FINAL_TRANSCRIPT:
                        break
            stream.end_input()
            assert not finals([event async for event in stream])


def test_speech_that_is_divided_begins_and_ends_once():
    def caption(segment, final):
        return Caption(segment, 1, "de", "w", "", final, 0, 16_000, 16_000)

    said = Said(StreamOptions(("de",)), 0.0)
    events = [SpeechStarted(0, 0), caption(0, False), SpeechStarted(1, 9), caption(0, True), caption(1, True)]
    kinds = [each.type for event in events for each in said.take(event) if each.type is not Kind.RECOGNITION_USAGE]
    interim, final = Kind.INTERIM_TRANSCRIPT, Kind.FINAL_TRANSCRIPT
    assert kinds == [Kind.START_OF_SPEECH, interim, final, final, Kind.END_OF_SPEECH]


def test_a_transcript_that_comes_first_waits_for_its_translation():
    said = Said(StreamOptions(("de", "en"), **ENGLISH), 0.0)
    source = Caption(0, 1, "en", "hello", "", False, 0, 16_000, 16_000)
    assert not list(said.take(source))
    [event] = said.take(Caption(0, 1, "de", "hallo", "", False, 0, 16_000, 16_000))
    assert (event.alternatives[0].text, event.alternatives[0].source_texts) == ("hallo", ["hello"])


def test_words_have_their_times_where_they_are_asked_for():
    assert STT(StreamOptions(("de",))).capabilities.aligned_transcript is False
    assert STT(StreamOptions(("de",), word_times=True)).capabilities.aligned_transcript == "word"
    words = (Word("guten", 0.9, 1_600, 8_000), Word("Tag", 0.8))
    caption = Caption(0, 1, "de", "guten Tag", "", True, 0, 16_000, 16_000, words=words)
    [event, *_] = Said(StreamOptions(("de",)), 2.0).take(caption)
    first, second = event.alternatives[0].words
    assert (first, first.start_time, first.end_time, first.confidence) == ("guten", 2.1, 2.5, 0.9)
    assert (second, second.start_time, second.end_time, second.confidence) == ("Tag", NOT_GIVEN, NOT_GIVEN, 0.8)
    assert first.start_time_offset == second.start_time_offset == 2.0


async def test_no_server_is_a_sentence_and_is_tried_again(nowhere):
    errors = []
    speaker = STT(StreamOptions(("de",)), address=nowhere)
    speaker.on("error", errors.append)
    again = APIConnectOptions(max_retry=1, retry_interval=0.05, timeout=2)
    with pytest.raises(APIConnectionError):
        await heard(speaker.stream(conn_options=again), frames(TALK))
    assert [error.recoverable for error in errors] == [True, False]
    assert str(errors[0].error).startswith(f"{nowhere} isn't serving")
    assert "streamtrans serve" in str(errors[0].error)


@pytest.mark.parametrize("code", ["ru", "xx", "english"])
async def test_a_wrong_language_is_told_the_right_ones_and_not_tried_again(house, code):
    errors = []
    async with house() as address:
        speaker = STT(StreamOptions((code,)), address=address)
        speaker.on("error", errors.append)
        with pytest.raises(APIStatusError, match="knows en, de, zh, fr, it, es") as caught:
            await heard(speaker.stream(), frames(TALK))
    assert (caught.value.status_code, caught.value.retryable) == (400, False)
    assert len(errors) == 1


async def test_cut_off_it_goes_on_and_nothing_is_lost(house, over_grpc):
    async with house() as address, Proxy(int(address.rpartition(":")[2]), [9_000, 20_000]) as proxy:
        expected = await over_grpc(address)
        events = await heard(STT(StreamOptions(("de", "fr")), address=proxy.address).stream(), frames(TALK), 0.002)
        assert proxy.killed == 2
    assert [each.target_texts for each in finals(events)] == [
        list(pair) for pair in zip(*expected.values(), strict=True)
    ]


async def test_the_server_starts_anew_in_the_middle_and_nothing_is_lost(restarted, over_grpc):
    expected = await over_grpc(restarted.address)
    stream = STT(StreamOptions(("de", "fr")), address=restarted.address).stream()
    hearing = asyncio.create_task(heard(stream, frames(TALK), 0.008))
    await asyncio.sleep(1.2)
    await restarted.again()
    assert texts(await hearing) == expected


def test_errors_have_livekits_names():
    error = api_error(Unavailable(grpc.StatusCode.UNAVAILABLE, "gone"), "a:1")
    assert isinstance(error, APIConnectionError)
    assert error.retryable
