"""What a well-behaved client gets, over a real connection."""

import asyncio
from dataclasses import replace

import numpy as np
import pytest

from streamtrans.client import (
    Caption,
    Notice,
    SpeechEnded,
    SpeechStarted,
    Started,
    StreamOptions,
    Summary,
)
from streamtrans.core import BadAudio, Doubt
from streamtrans.stream import Session, SessionConfig, doubted, drive
from streamtrans.testing.engine import InstantEngine


def finals(events):
    return [(e.segment, e.language, e.text) for e in events if isinstance(e, Caption) and e.final]


def captions(events):
    return [event for event in events if isinstance(event, Caption)]


async def test_a_stream_from_started_to_summary(house):
    audio = house.speech(0.5, 1.5, 0.7, 1.2, 0.6)
    async with house.running() as (server, client):
        events = await house.collect(client, audio, StreamOptions(("de", "zh-CN"), source_languages=("en-US",)))
    started, *middle, summary = events
    assert isinstance(started, Started)
    assert started.options.targets == ("de", "zh")
    assert started.options.source_languages == ("en",)
    assert (started.options.vad, started.options.max_segment_ms, started.model) == ("energy", 6_000, "toy")
    assert started.limits == house.EAGER
    assert len(started.session_id) == 32
    kinds = [type(event) for event in middle if not isinstance(event, Caption)]
    assert kinds == [SpeechStarted, SpeechEnded] * 2
    assert len(finals(middle)) == 4
    assert isinstance(summary, Summary)
    assert (summary.segments, summary.finals, summary.captions) == (2, 4, len(captions(middle)))
    assert summary.audio_ms == 4_500
    assert len(summary.first_caption_ms) == 2
    assert summary.decoding.tokens > 0
    assert summary.withdrawn > 0
    assert server.active_sessions == 0


async def test_final_captions_tell_when_words_were_said_to_who_asks(house):
    """The toy model can't tell when it listened to what, so its words have a confidence and no times."""
    audio = house.speech(0.5, 1.5, 0.7, 1.2, 0.6)
    async with house.running() as (_, client):
        asked = await house.collect(client, audio, StreamOptions(("de", "fr"), word_times=True))
        silent = await house.collect(client, audio, StreamOptions(("de", "fr")))
    assert asked[0].options.word_times
    assert not silent[0].options.word_times
    assert finals(asked) == finals(silent) != []
    for caption in captions(asked):
        said = [word.text for word in caption.words]
        assert said == (caption.text.split() if caption.final else [])
        assert all(word.confidence == pytest.approx(0.5) for word in caption.words)
        assert all((word.start, word.end) == (None, None) for word in caption.words)
    assert not any(caption.words for caption in captions(silent))


async def test_the_wire_changes_nothing(house):
    audio = house.speech(0.5, 1.5, 0.7, 1.2, 0.6)
    pcm = (audio * 32767).round() / np.float32(32768)
    config = house.configured()
    session = Session(replace(config.session, targets=("de", "fr"), vad="energy"), house.Words(), window=480)
    alone = drive(session, house.instant(), pcm.astype(np.float32))
    async with house.running() as (_, client):
        over_wire = await house.collect(client, audio, StreamOptions(("de", "fr")))
    assert finals(over_wire) == finals(alone)


async def test_captions_keep_their_promises(house):
    async with house.running() as (_, client):
        events = await house.collect(client, house.speech(0.3, 3, 0.6))
    held = ""
    for number, caption in enumerate(captions(events), 1):
        assert caption.revision == number
        assert caption.committed.startswith(held)
        held = caption.committed
    assert [caption.final for caption in captions(events)] == [False] * (number - 1) + [True]
    assert captions(events)[-1].tentative == ""
    assert any(caption.tentative and caption.stability == 0.5 for caption in captions(events))


async def test_two_clients_at_once_get_what_each_gets_alone(house):
    recordings = [house.speech(0.4, 2, 0.6, seed=1), house.speech(0.2, 1, 0.5, 1.4, 0.6, seed=2)]
    async with house.running() as (_, client):
        alone = [await house.collect(client, audio) for audio in recordings]
        together = await asyncio.gather(*(house.collect(client, audio) for audio in recordings))
    assert [finals(events) for events in together] == [finals(events) for events in alone]
    assert finals(alone[0]) != finals(alone[1])


async def test_cursors_only_grow_and_end_at_the_end(house):
    async with house.running() as (_, client), client.stream(StreamOptions(("de",))) as stream:
        await stream.send(house.speech(0.3, 1.5, 0.6))
        await stream.end()
        seen = [stream.cursors async for _ in stream]
    for name in ("received_ms", "decoded_ms", "committed_ms", "final_ms"):
        values = [getattr(cursors, name) for cursors in seen]
        assert values == sorted(values)
        assert values[-1] == 2_400


async def test_modes(house):
    audio = house.speech(0.3, 2.5, 0.6)
    async with house.running() as (_, client):
        live, stable, final = [
            captions(await house.collect(client, audio, StreamOptions(("de",), mode=mode)))
            for mode in ("live", "stable", "final")
        ]
    assert any(caption.tentative for caption in live)
    assert not any(caption.tentative for caption in stable)
    assert [caption.final for caption in final] == [True]
    assert live[-1].text == stable[-1].text == final[-1].text


async def test_ends_of_utterances_and_silence_close_segments(house):
    async def close(stream):
        await stream.end_utterance()
        await stream.send(house.speech(0, 1))
        await stream.send_silence(500)

    async with house.running() as (_, client):
        events = await house.collect(client, house.speech(0, 1), before_end=close)
    assert next(e.end for e in events if isinstance(e, SpeechEnded)) <= 16_000
    assert (events[-1].segments, events[-1].audio_ms) == (2, 2_500)


@pytest.mark.parametrize(("encoding", "width"), [("mulaw", 1), ("alaw", 1), ("pcm_s16le", 2), ("pcm_f32le", 4)])
async def test_every_format_is_heard_to_its_last_millisecond(house, encoding, width):
    options = StreamOptions(("de",), encoding=encoding, sample_rate_hertz=8_000, channels=2)

    async def quiet(stream):
        await stream.send_silence(700)

    async with house.running() as (_, client):
        loud = np.random.default_rng(0).integers(0, 60, 8_000 * 2 * width, dtype=np.uint8).tobytes()
        events = await house.collect(client, loud, options, before_end=quiet)
    assert events[-1].audio_ms == 1_700
    silent = {"pcm_f32le": 0}.get(encoding, 1)
    assert events[-1].segments == silent


async def test_an_empty_stream_ends_well(house):
    async with house.running() as (_, client):
        events = await house.collect(client, b"")
    assert [type(event) for event in events] == [Started, Summary]
    assert events[-1].segments == 0


async def test_half_close_is_an_end(house):
    async with house.running() as (server, _):
        responses = await house.talk(server, house.opening())
    assert [response.WhichOneof("event") for response in responses] == ["started", "summary"]


async def test_a_ping_is_answered(house):
    async def ping(stream):
        await stream.ping()

    async with house.running() as (_, client), client.stream(StreamOptions(("de",))) as stream:
        await stream.ping()
        await stream.end()
        assert [type(event) async for event in stream] == [Started, Summary]
        assert stream.round_trip_ms is not None


async def test_being_behind_is_said_once(house):
    engine = house.Held(house.instant(), free=8_000)
    async with (
        house.running(house.served(engine), house.configured(behind_ms=30)) as (_, client),
        client.stream(StreamOptions(("de",))) as stream,
    ):
        await stream.send(house.speech(0, 0.7))
        while not engine.waiting:
            await asyncio.sleep(0.005)
        await asyncio.sleep(0.05)
        for _ in range(3):
            await stream.send(house.speech(0, 0.02))
        events = [await anext(stream)]
        while not isinstance(events[-1], Notice):
            events.append(await anext(stream))
        assert events[-1].code == "BEHIND_REALTIME"
        assert stream.cursors.lag_ms >= 30
        await stream.end()
        engine.free = -1
        feeding = asyncio.create_task(_let_go(engine))
        rest = [event async for event in stream]
        feeding.cancel()
    assert not any(isinstance(event, Notice) for event in rest)
    assert rest[-1].lag_p95_ms >= 30
    assert len(finals(rest)) == 1


async def _let_go(engine):
    while True:
        engine.let_go()
        await asyncio.sleep(0.005)


async def test_a_failed_reading_is_said_and_survived(house):
    def fail_once(job, target):
        if len(job.audio) != 8_000 and not job.last:
            raise BadAudio("broken")
        return house.grow(job, target)

    async with house.running(house.served(house.instant(fail_once))) as (_, client):
        events = await house.collect(client, house.speech(0.3, 1.5, 0.6))
    assert "QUALITY_DEGRADED" in [event.code for event in events if isinstance(event, Notice)]
    assert len(finals(events)) == 1


async def test_a_slow_reader_loses_no_committed_text(house):
    audio = house.speech(0.2, *[2, 0.5] * 12)
    async with house.running() as (_, client), client.stream(StreamOptions(("de", "fr"))) as stream:
        await stream.send(audio)
        await stream.end()
        await asyncio.sleep(0.2)
        events = [event async for event in stream]
        quick = await house.collect(client, audio, StreamOptions(("de", "fr")))
    assert finals(events) == finals(quick)
    assert len(finals(events)) == 24


async def test_capabilities(house):
    async with house.running() as (_, client):
        capabilities = await client.capabilities()
    assert capabilities.model == "toy"
    assert capabilities.languages == ("en", "de", "zh", "fr", "it", "es")
    assert capabilities.unspaced_languages == ("zh",)
    assert set(capabilities.encodings) == {"pcm_s16le", "pcm_f32le", "mulaw", "alaw"}
    assert capabilities.vads == ("energy", "silero")
    assert capabilities.modes == ("live", "stable", "final")
    assert capabilities.limits == house.EAGER
    assert (capabilities.min_sample_rate_hertz, capabilities.max_channels) == (8_000, 8)
    assert capabilities.server_version


async def test_a_caller_chooses_endpoints_and_pace_of_readings(house):
    options = StreamOptions(
        ("de",), mode="live", min_interval_ms=200, min_silence_ms=40, max_segment_ms=1_500, vad="energy"
    )
    async with house.running() as (_, client):
        events = await house.collect(client, house.speech(0.2, 4, 0.5), options)
    assert events[0].options == options
    assert events[-1].segments >= 3
    assert SessionConfig(("de",)).reading_interval_ms != 200


async def test_a_text_cut_off_by_the_models_limit_is_told(house):
    def cut(job, target):
        return replace(house.grow(job, target), complete=not job.last)

    engine = InstantEngine(cut, house.Loud())
    async with house.running(house.served(engine)) as (_, client):
        events = await house.collect(client, house.speech(0.3, 2.0, 1.0))
    final = next(event for event in events if isinstance(event, Caption) and event.final)
    assert final.text
    assert not final.complete
    told = [event for event in events if isinstance(event, Notice)]
    assert [(notice.code, "segment 0" in notice.message, "de" in notice.message) for notice in told] == [
        ("TEXT_INCOMPLETE", True, True)
    ]


@pytest.mark.parametrize("certain", [True, False])
@pytest.mark.parametrize("chatter", [True, False])
async def test_a_text_in_another_language_or_of_the_models_own_is_told(house, certain, chatter):
    doubt = Doubt(None if chatter else "en", certain, chatter)

    def strange(job, target):
        return replace(house.grow(job, target), doubt=doubt if job.last else None)

    engine = InstantEngine(strange, house.Loud())
    async with house.running(house.served(engine)) as (_, client):
        events = await house.collect(client, house.speech(0.3, 2.0, 1.0), StreamOptions(("de",), mode="final"))
    [final] = [event for event in events if isinstance(event, Caption)]
    assert (bool(final.text), final.doubt) == (not certain, doubt)
    [told] = [event for event in events if isinstance(event, Notice)]
    said = ("talked about it", "may be chatter") if chatter else ("wrote English", "seems to be English")
    assert (told.code, "held back: the model" in told.message) == ("CHATTER" if chatter else "WRONG_LANGUAGE", certain)
    assert said[not certain] in told.message


async def test_what_was_left_out_at_the_end_of_a_text_is_told(house):
    def explained(job, target):
        return replace(house.grow(job, target), doubt=Doubt(chatter=True, cut=True) if job.last else None)

    engine = InstantEngine(explained, house.Loud())
    async with house.running(house.served(engine)) as (_, client):
        events = await house.collect(client, house.speech(0.3, 2.0, 1.0), StreamOptions(("de",), mode="final"))
    [final] = [event for event in events if isinstance(event, Caption)]
    [told] = [event for event in events if isinstance(event, Notice)]
    assert final.text
    assert (told.code, doubted(final)) == ("CHATTER", told.message)
    assert "was left out" in told.message


async def test_that_nobody_spoke_is_told_before_the_summary(house):
    async with house.running() as (_, client):
        silent = await house.collect(client, house.speech(2.5))
        spoken = await house.collect(client, house.speech(0.3, 2.0, 1.0))
    told = [event for event in silent if isinstance(event, Notice)]
    assert [(notice.code, notice.message) for notice in told] == [
        ("NO_SPEECH", "no speech was found in 2.5 s of sound")
    ]
    assert isinstance(silent[-2], Notice)
    assert not any(isinstance(event, Notice) for event in spoken)


async def test_floats_on_the_scale_of_integers_are_told_once(house):
    samples = 32_768 * house.speech(0.3, 2.0, 1.0)
    async with house.running() as (_, client):
        options = StreamOptions(("de",), encoding="pcm_f32le")
        events = [event async for event in client.translate(options, samples.astype("<f4").tobytes())]
        right = [event async for event in client.translate(options, (samples / 32_768).astype("<f4").tobytes())]
    told = [event for event in events if isinstance(event, Notice)]
    assert [notice.code for notice in told] == ["AUDIO_SCALE"]
    assert "floating-point audio lies within -1 and 1" in told[0].message
    assert not any(isinstance(event, Notice) for event in right)
