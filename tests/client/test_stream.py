import asyncio

import grpc
import numpy as np
import pytest

from streamtrans.client import (
    Caption,
    ClientError,
    DataLost,
    InvalidRequest,
    Overloaded,
    ServerFault,
    Started,
    StreamOptions,
    Summary,
    TimedOut,
)
from streamtrans.client.stream import encode
from streamtrans.wire import Encoder, ServerMessage, pong_message

LONG = b"\x01\x02" * 32_000_000
"""More than fits on the way to a server that doesn't read."""
CAPTION = Caption(0, 1, "de", "Guten", " Tag", False, 0, 160, 160, 0.5)


async def test_captions_come_out_whole(stage):
    async def play(service, context, say):
        encoder = Encoder()
        await say(stage.started())
        await say(encoder.encode(CAPTION))
        await say(encoder.encode(Caption(0, 2, "de", "Guten Tag", "", True, 0, 320, 320)))
        await stage.hear(service, context)
        await say(stage.summary())

    async with stage.scripted(play) as (client, _), client.stream(stage.options) as stream:
        assert stream.started.model == "toy"
        await stream.end()
        events = [event async for event in stream]
    assert [type(event) for event in events] == [Started, Caption, Caption, Summary]
    assert events[1] == CAPTION
    assert events[2].text == "Guten Tag"
    assert stream.cursors.received_ms == 7
    assert stream.summary == events[-1]


async def test_what_is_sent_is_what_is_said(stage):
    async def play(service, context, say):
        await say(stage.started())
        await stage.hear(service, context)
        await say(stage.summary())

    async with stage.scripted(play) as (client, service), client.stream(stage.options) as stream:
        await stream.send(np.array([0.0, 1.0, -1.0, 2.0], np.float32))
        await stream.send(b"\x01\x00")
        await stream.send_silence(40)
        await stream.end_utterance()
        await stream.send(np.zeros(9_000, np.float32))
        await stream.end()
        await stream.end()
        async for _ in stream:
            pass
    config, *messages = service.heard
    assert config.config.targets[0].language == "de"
    kinds = [message.WhichOneof("payload") for message in messages]
    assert kinds == ["audio", "audio", "silence", "end_utterance", "audio", "audio", "audio", "end"]
    assert np.frombuffer(messages[0].audio.data, "<i2").tolist() == [0, 32767, -32767, 32767]
    sounds = [m.audio.sequence or m.silence.sequence for m in messages if m.HasField("audio") or m.HasField("silence")]
    assert sounds == [1, 2, 3, 4, 5, 6]
    assert [len(message.audio.data) for message in messages[4:7]] == [8_000, 8_000, 2_000]
    assert messages[-1].end.last_sequence == 6


async def test_a_refusal_is_raised_at_the_door(stage):
    async def play(service, context, say):
        await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "full")

    async with stage.scripted(play) as (client, _):
        with pytest.raises(Overloaded, match="RESOURCE_EXHAUSTED: full") as caught:
            async with client.stream(stage.options):
                pytest.fail("the stream was refused")
    assert caught.value.code == grpc.StatusCode.RESOURCE_EXHAUSTED
    assert caught.value.message == "full"
    assert isinstance(caught.value, ClientError)


async def test_a_server_that_does_not_answer_the_configuration(stage):
    async def play(service, context, say):
        await say(pong_message(1))

    async with stage.scripted(play) as (client, _):
        with pytest.raises(ServerFault, match="didn't answer the configuration"):
            await client.stream(stage.options).__aenter__()


async def test_a_malformed_answer_to_the_configuration(stage):
    async def play(service, context, say):
        message = stage.started()
        message.started.config.mode = 77
        await say(message)

    async with stage.scripted(play) as (client, _):
        with pytest.raises(ServerFault, match="malformed"):
            await client.stream(stage.options).__aenter__()


async def test_a_gap_in_the_events_is_noticed(stage):
    async def play(service, context, say):
        await say(stage.started())
        await say(pong_message(1), sequence=3)

    async with stage.scripted(play) as (client, _), client.stream(stage.options) as stream:
        await anext(stream)
        with pytest.raises(DataLost, match="event 3 came where 2 was due"):
            await anext(stream)


async def test_a_lost_caption_is_noticed(stage):
    async def play(service, context, say):
        await say(stage.started())
        encoder = Encoder()
        encoder.encode(CAPTION)
        await say(encoder.encode(CAPTION))

    async with stage.scripted(play) as (client, _), client.stream(stage.options) as stream:
        await anext(stream)
        with pytest.raises(DataLost, match="revision 2 came after 0"):
            await anext(stream)


async def test_an_end_without_summary_is_a_loss(stage):
    async def play(service, context, say):
        await say(stage.started())

    async with stage.scripted(play) as (client, _), client.stream(stage.options) as stream:
        await anext(stream)
        with pytest.raises(DataLost, match="without a summary"):
            await anext(stream)


async def test_messages_of_a_newer_protocol_are_passed_over(stage):
    async def play(service, context, say):
        await say(stage.started())
        await say(ServerMessage.FromString(b"\xa2\x06\x01x"))
        await say(stage.summary())

    async with stage.scripted(play) as (client, _), client.stream(stage.options) as stream:
        assert [type(event) async for event in stream] == [Started, Summary]


@pytest.mark.parametrize("unread", [0, 40])
@pytest.mark.parametrize("late", [0, 0.05])
async def test_a_sender_learns_the_true_status(stage, unread, late):
    async def play(service, context, say):
        await say(stage.started())
        for _ in range(unread):
            await say(pong_message(1))
        await context.read()
        await asyncio.sleep(late)
        await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "I don't like it")

    async with stage.scripted(play) as (client, _), client.stream(stage.options) as stream:
        with pytest.raises(InvalidRequest, match="don't like it"):
            await _send_for_ever(stream)
        await anext(stream)
        with pytest.raises(InvalidRequest, match="don't like it"):
            await anext(stream)


async def test_what_came_before_a_failure_can_still_be_read(stage):
    async def play(service, context, say):
        await say(stage.started())
        await say(Encoder().encode(CAPTION))
        await context.read()
        await context.abort(grpc.StatusCode.OUT_OF_RANGE, "enough")

    async with stage.scripted(play) as (client, _), client.stream(stage.options) as stream:
        with pytest.raises(ClientError, match="enough"):
            await _send_for_ever(stream)
        assert [await anext(stream), await anext(stream)] == [stream.started, CAPTION]
        with pytest.raises(ClientError, match="enough"):
            await anext(stream)


async def test_sending_to_a_server_that_has_finished(stage):
    async def play(service, context, say):
        await say(stage.started())
        await say(stage.summary())

    async with stage.scripted(play) as (client, _), client.stream(stage.options) as stream:
        events = [event async for event in stream]
        with pytest.raises(InvalidRequest, match="the server has ended"):
            await stream.send(bytes(320))
    assert isinstance(events[-1], Summary)


async def test_an_impatient_reader_loses_nothing(stage):
    go = asyncio.Event()

    async def play(service, context, say):
        await say(stage.started())
        await go.wait()
        await say(stage.summary())

    async with stage.scripted(play) as (client, _), client.stream(stage.options) as stream:
        await anext(stream)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(anext(stream), 0.03)
        go.set()
        assert isinstance(await anext(stream), Summary)


async def test_leaving_early_ends_the_call_and_its_readers(stage):
    gone = asyncio.Event()

    async def play(service, context, say):
        await say(stage.started())
        try:
            await asyncio.sleep(60)
        finally:
            gone.set()

    async with stage.scripted(play) as (client, _):
        async with client.stream(stage.options) as stream:
            reader = asyncio.create_task(_all(stream))
            await asyncio.sleep(0.01)
        assert [type(event) for event in await reader] == [Started]
        await asyncio.wait_for(gone.wait(), 1)


async def test_a_cancelled_send_leaves_the_call_and_its_numbers_whole(stage):
    go = asyncio.Event()

    async def play(service, context, say):
        await say(stage.started())
        await go.wait()
        await stage.hear(service, context)
        await say(stage.summary())

    async with stage.scripted(play) as (client, service), client.stream(stage.options) as stream:
        await anext(stream)
        for _ in range(3):
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(stream.send(LONG), 0.2)
        full = stream._sequence
        go.set()
        await stream.send(np.full(4_000, -0.5, np.float32))
        await stream.end()
        assert isinstance([event async for event in stream][-1], Summary)
    _, *messages, end = service.heard
    assert [message.audio.sequence for message in messages] == list(range(1, full + 2))
    assert all(len(message.audio.data) == 8_000 for message in messages)
    assert {message.audio.data[1] >> 7 for message in messages[:-1]} == {0}
    assert messages[-1].audio.data[1] >> 7 == 1
    assert end.end.last_sequence == full + 1


async def test_a_cancelled_end_still_ends(stage):
    async def play(service, context, say):
        await say(stage.started())
        await stage.hear(service, context)
        await say(stage.summary())

    async with stage.scripted(play) as (client, service), client.stream(stage.options) as stream:
        ending = asyncio.create_task(stream.end())
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        ending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await ending
        await stream.end()
        assert isinstance([event async for event in stream][-1], Summary)
        with pytest.raises(InvalidRequest, match="the stream has ended; open a new one"):
            await stream.send(bytes(2))
    assert [message.WhichOneof("payload") for message in service.heard] == ["config", "end"]


async def test_leaving_wakes_a_sender_that_waits(stage):
    async def play(service, context, say):
        await say(stage.started())
        await asyncio.sleep(60)

    async with stage.scripted(play) as (client, _):
        async with client.stream(stage.options) as stream:
            sending = asyncio.create_task(stream.send(LONG))
            await asyncio.sleep(0.2)
            assert not sending.done()
        with pytest.raises(InvalidRequest, match="the stream was left"):
            await asyncio.wait_for(sending, 5)


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
@pytest.mark.parametrize(("encoding", "channels"), [("pcm_s16le", 1), ("pcm_s16le", 2), ("pcm_f32le", 1), ("mulaw", 1)])
async def test_bytes_of_any_kind_and_length_are_joined_to_frames(stage, kind, encoding, channels):
    async def play(service, context, say):
        await say(stage.started())
        await stage.hear(service, context)
        await say(stage.summary())

    options = StreamOptions(("de",), encoding=encoding, channels=channels)
    frame = {"pcm_s16le": 2, "pcm_f32le": 4, "mulaw": 1}[encoding] * channels
    said = bytes(range(240)) * 50
    async with stage.scripted(play) as (client, service), client.stream(options) as stream:
        at = 0
        for length in (1, 1, 0, 5, 3, 30, 10_001):
            await stream.send(kind(said[at : at + length]))
            at += length
        await stream.send_silence(10)
        await stream.send(kind(said[at : 40 * frame * (at // (40 * frame) + 1)]))
        await stream.end()
        async for _ in stream:
            pass
    pieces = [message.audio.data for message in service.heard if message.HasField("audio")]
    assert all(piece and len(piece) % frame == 0 for piece in pieces)
    whole = b"".join(pieces)
    assert len(whole) > 10_041
    assert said.startswith(whole)


async def test_a_view_of_samples_is_their_bytes(stage):
    async def play(service, context, say):
        await say(stage.started())
        await stage.hear(service, context)
        await say(stage.summary())

    samples = np.arange(6, dtype="<i2")
    async with stage.scripted(play) as (client, service), client.stream(stage.options) as stream:
        await stream.send(memoryview(samples[::2]))
        await stream.end()
        async for _ in stream:
            pass
    assert service.heard[1].audio.data == samples[::2].tobytes()


async def test_a_cancelled_send_of_bytes_keeps_the_frames_together(stage):
    go = asyncio.Event()

    async def play(service, context, say):
        await say(stage.started())
        await go.wait()
        await stage.hear(service, context)
        await say(stage.summary())

    async with stage.scripted(play) as (client, service), client.stream(stage.options) as stream:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(stream.send(LONG + b"\x01"), 0.2)
        go.set()
        await stream.send(b"\x02" + b"\x01\x02" * 9)
        await stream.end()
        async for _ in stream:
            pass
    pieces = [message.audio.data for message in service.heard if message.HasField("audio")]
    assert pieces[-1] == b"\x01\x02" * 10
    assert {piece[:2] for piece in pieces} == {b"\x01\x02"}


async def test_entering_has_a_timeout(stage):
    async def play(service, context, say):
        await asyncio.sleep(60)

    async with stage.scripted(play) as (client, _):
        began = asyncio.get_running_loop().time()
        with pytest.raises(TimedOut, match=r"the server said nothing within 0\.2 s"):
            await client.stream(stage.options, timeout_s=0.2).__aenter__()
        assert asyncio.get_running_loop().time() - began < 5


@pytest.mark.parametrize("audio", [[0.0, 0.1], "text", None, 0.5])
async def test_what_is_no_audio_is_refused_by_name(stage, audio):
    async def play(service, context, say):
        await say(stage.started())
        await asyncio.sleep(60)

    async with stage.scripted(play) as (client, _), client.stream(stage.options) as stream:
        with pytest.raises(TypeError, match=f"audio is a {type(audio).__name__}; send a numpy array, or bytes"):
            await stream.send(audio)


async def _send_for_ever(stream):
    while True:
        await stream.send(bytes(8_000))


async def _all(stream):
    return [event async for event in stream]


@pytest.mark.parametrize("dtype", ["<f2", "<f4", ">f4", "<f8", "longdouble"])
def test_floats_of_every_width_and_order_are_taken(dtype):
    samples = np.array([0.5, -1.0, 0.25], dtype)
    assert np.frombuffer(encode(samples, StreamOptions(("de",))), "<i2").tolist() == [16384, -32767, 8192]
    whole = encode(samples, StreamOptions(("de",), encoding="pcm_f32le"))
    assert np.frombuffer(whole, "<f4").tolist() == [0.5, -1.0, 0.25]


def test_samples_are_encoded_as_announced():
    samples = np.array([0.5, -1.0])
    assert encode(samples, StreamOptions(("de",), encoding="pcm_f32le")) == samples.astype("<f4").tobytes()
    stereo = np.zeros((3, 2), np.float32)
    assert len(encode(stereo, StreamOptions(("de",), channels=2))) == 12
    assert len(encode(stereo[:, :1], StreamOptions(("de",)))) == 6


@pytest.mark.parametrize(
    ("samples", "options", "words"),
    [
        (np.zeros((3, 2)), StreamOptions(("de",)), "don't fit 1 channel"),
        (np.zeros(4), StreamOptions(("de",), channels=2), "don't fit 2 channels"),
        (np.zeros(4, np.int16), StreamOptions(("de",)), "floats"),
        (np.zeros(4, bool), StreamOptions(("de",)), "not bool"),
        (np.array(0.5), StreamOptions(("de",)), r"shape \(\) don't fit"),
        (np.array([np.inf]), StreamOptions(("de",), encoding="pcm_f32le"), "infinity"),
        (np.array([np.nan]), StreamOptions(("de",)), "NaN"),
        (np.zeros(4), StreamOptions(("de",), encoding="mulaw"), "takes bytes"),
    ],
)
def test_samples_that_do_not_fit_are_refused(samples, options, words):
    with pytest.raises(ValueError, match=words):
        encode(samples, options)
