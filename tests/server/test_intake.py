"""What a client sends: put together where it is tiny, counted where it is numbered, and held to its pace."""

import asyncio
import time

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings

from streamtrans.client import Overloaded, StreamOptions, Summary
from streamtrans.core import BadConfig, SpeechEnded, SpeechStarted
from streamtrans.server import Limits, ServerConfig
from streamtrans.server.intake import Bucket, Intake, Pace
from streamtrans.server.refusal import Refusal
from streamtrans.testing.clock import ManualClock
from streamtrans.wire import audio_message, end_message, ping_message, silence_message

SOUND = (np.random.default_rng(3).normal(0, 3_000, 8_000)).astype("<i2").tobytes()


def intake(**options):
    return Intake(StreamOptions(("de",), **options), Limits())


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(0, 1_500), max_size=30), st.sampled_from([8_000, 16_000, 44_100]))
def test_tiny_chunks_are_put_together_and_give_the_same_samples(frames, rate):
    cut, whole = intake(sample_rate_hertz=rate), intake(sample_rate_hertz=rate)
    pieces, at = [], 0
    for count in frames:
        pieces.append(cut.audio(SOUND[2 * at : 2 * (at + count)]))
        at = min(at + count, len(SOUND) // 2)
    decodings = [piece for piece in pieces if len(piece)]
    assert len(decodings) <= at / rate * 50 + 1  # no more than one in 20 ms
    parts = [whole.audio(SOUND[start : min(start + rate, 2 * at)]) for start in range(0, 2 * at, rate)]
    assert np.array_equal(np.concatenate([*pieces, cut.rest()]), np.concatenate([*parts, whole.rest()]))


def test_silence_and_the_end_wait_behind_what_is_held_back():
    one = intake()
    assert len(one.audio(SOUND[:20])) == 0
    told = np.concatenate(list(one.silence(100)))
    assert len(told) == 10 + 1_600
    assert np.abs(told[:10]).min() > 0
    assert np.abs(told[10:]).max() == 0
    assert len(one.audio(SOUND[:20])) == 0
    assert len(one.rest()) == 10


@pytest.mark.parametrize(
    ("numbers", "problem"),
    [
        ([1, 3], "audio.sequence: is 3 where 2 was due"),
        ([1, 2, 2], "audio.sequence: is 2 where 3 was due"),
        ([2], "audio.sequence: is 2 where 1 was due"),
        ([1, 2, 1], "audio.sequence: is 1 where 3 was due"),
        ([1, -3], "silence.sequence: is 3 where 2 was due"),
    ],
)
def test_gaps_and_repeats_are_refused_by_name(numbers, problem):
    one = intake()

    def take(number):
        return one.audio(SOUND[:2], number) if number > 0 else one.silence(1, -number)

    for number in numbers[:-1]:
        take(number)
    with pytest.raises(Refusal) as caught:
        take(numbers[-1])
    assert problem in caught.value.message


def test_zero_is_no_number_and_the_last_number_is_checked():
    one = intake()
    for number in (0, 1, 0, 2, 0):
        one.audio(SOUND[:2], number)
    list(one.silence(20, 3))
    with pytest.raises(Refusal, match="is 5, but the last message that came has number 3"):
        one.rest(5)
    assert intake().rest(7).size == 0  # nothing was numbered


async def test_a_message_out_of_turn_ends_the_call(house):
    async with house.running() as (server, client):
        for messages in (
            [audio_message(bytes(640), 1), silence_message(20, 3)],
            [audio_message(bytes(640), 1), end_message(2)],
        ):
            with pytest.raises(Exception, match="INVALID_ARGUMENT"):
                await house.talk(server, house.opening(), *messages)
        events = await house.collect(client, house.speech(0.2, 0.5))
        assert isinstance(events[-1], Summary)


def test_a_bucket_holds_a_burst_and_fills_again():
    clock = ManualClock()
    bucket = Bucket(10, 5, clock)
    assert [bucket.spend(1) for _ in range(7)] == pytest.approx([0, 0, 0, 0, 0, 0.1, 0.2])
    clock.advance(1.0)
    assert bucket.spend(5) == 0


def test_silence_told_when_it_has_passed_costs_nothing():
    clock = ManualClock()
    pace = Pace(Limits(), clock)
    pace.spend(2 * 16_000)
    clock.advance(22.0)
    assert [pace.spend_silence(16_000) for _ in range(20)] == [0] * 20
    assert pace.spend(5 * 16_000) == 0  # the burst is untouched


def test_silence_ahead_of_the_clock_costs_what_audio_costs():
    clock = ManualClock()
    pace = Pace(Limits(), clock)
    assert pace.spend_silence(5 * 16_000) == 0
    assert pace.spend_silence(4 * 16_000) == pytest.approx(2.0)
    clock.advance(2.0)
    assert pace.spend_silence(0) == pytest.approx(0.0)
    clock.advance(3_600)
    assert pace.spend_silence(30 * 16_000) == 0
    assert pace.spend_silence(7 * 16_000) == pytest.approx(1.0)  # an hour is not saved up


@pytest.mark.parametrize("pace", ["flow", "refuse"])
async def test_speech_after_told_silence_is_not_delayed(house, pace):
    limits = Limits(burst_ms=200)
    async with (
        house.running(config=house.configured(limits, pace=pace)) as (_, client),
        client.stream(StreamOptions(("de",))) as stream,
    ):
        await asyncio.sleep(1.0)
        await stream.send_silence(500)
        await stream.send_silence(450)
        began = time.monotonic()
        await stream.send(house.speech(0, 0.15))
        await stream.end()
        events = [event async for event in stream]
    assert time.monotonic() - began < 0.4
    assert events[-1].audio_ms == 1_100


async def test_the_longest_silence_that_is_published_is_taken_at_once(house):
    async with house.running(config=house.configured(Limits(), pace="refuse")) as (server, _):
        responses = await house.talk(server, house.opening(), silence_message(30_000, 1))
    assert responses[-1].summary.audio_ms == 30_000


@pytest.mark.parametrize("message", [ping_message(1), audio_message(b"", 0), audio_message(b"\0\0", 0)])
async def test_messages_are_metered_whatever_is_in_them(house, message):
    config = house.configured(max_messages_per_s=100, burst_messages=20)
    async with house.running(config=config) as (server, _):
        began = time.monotonic()
        await house.talk(server, house.opening(), *[message] * 60)
        assert time.monotonic() - began >= 0.39
        responses = await house.talk(server, house.opening(), *[message] * 15)
        assert responses[-1].WhichOneof("event") == "summary"


async def test_too_many_messages_are_refused_where_so_configured(house):
    config = house.configured(max_messages_per_s=100, burst_messages=20, pace="refuse")
    async with house.running(config=config) as (_, client):

        async def hurry():
            async with client.stream(StreamOptions(("de",))) as stream:
                for _ in range(60):
                    await stream.ping()
                await stream.end()
                async for _ in stream:
                    pass

        with pytest.raises(Overloaded, match="more than 100 messages a second") as caught:
            await hurry()
        assert caught.value.retry_after_s is not None


def test_a_meter_that_lets_nothing_through_is_refused():
    with pytest.raises(BadConfig, match="max_messages_per_s"):
        ServerConfig(max_messages_per_s=0)


@pytest.mark.parametrize("rate", [8_000, 16_000, 44_100, 48_000])
def test_an_utterance_ends_where_it_was_said_to_end_however_many_there_are(rate):
    one, taken, given = intake(sample_rate_hertz=rate), 0, 0
    for count in (rate // 3, 7, 1, rate // 5 + 1) * 20:
        given += len(one.audio(bytes(2 * count)))
        taken += count
        given += len(one.utterance())
        assert given == taken * 16_000 // rate


async def test_the_tail_of_an_utterance_belongs_to_its_segment(house):
    options = StreamOptions(("de",), sample_rate_hertz=48_000)
    async with house.running() as (_, client), client.stream(options) as stream:
        await stream.send(house.speech(0.2, 1.005, rate=48_000))
        await stream.end_utterance()
        async for event in stream:
            if isinstance(event, SpeechEnded):
                break
        assert event.end == 19_280  # 1,205 ms to the sample, with 53 ms held back and half a window
        await stream.send(house.speech(0.3, 0.6, rate=48_000))
        await stream.end()
        started = [event.start async for event in stream if isinstance(event, SpeechStarted)]
        assert len(started) == 1
        assert started[0] >= 19_280
