"""The client goes on by itself: whatever breaks, its caller reads what an unbroken stream says, or why not."""

import asyncio
import random
import time

import grpc
import pytest

from streamtrans.client import (
    BlockingStream,
    Caption,
    ConfigApplied,
    DataLost,
    GoAway,
    Overloaded,
    Resumed,
    Started,
    StreamOptions,
    Summary,
    TimedOut,
    Unavailable,
)
from streamtrans.server.refusal import exhausted, superseded, unavailable
from streamtrans.wire import ServerMessage, change_message
from tests.proxy import Proxy, through_proxy
from tests.server.conftest import running, speech

OPTIONS = StreamOptions(("de", "fr"), resumable=True)
TALK = speech(0.3, 1.5, 0.7, 1.2, 0.4, 0.9, 0.5, 1.1, 0.6, seed=3)
CODE = grpc.StatusCode


async def pieces(sound, pace_s=0.0):
    for start in range(0, len(sound), 1_600):
        yield sound[start : start + 1_600]
        await asyncio.sleep(pace_s)


async def told(client, sound, options=OPTIONS, **how):
    """Return all events of a stream, and check what every stream promises."""
    async with asyncio.timeout(25):
        events = [event async for event in client.translate(options, sound, **how)]
    assert isinstance(events[0], Started)
    assert isinstance(events[-1], Summary)
    return events


def lines(events):
    """Return the final text of each line; what was committed on the way must be its beginning, each only once."""
    committed, closed = {}, {}
    for event in events:
        if isinstance(event, Caption):
            key = event.segment, event.language
            assert key not in closed
            assert event.committed.startswith(committed.get(key, ""))
            committed[key] = event.committed
            if event.final:
                closed[key] = event.committed
    assert closed.keys() == committed.keys()
    return closed


@pytest.fixture(scope="module")
def unbroken():
    async def listen():
        async with running() as (_, client):
            return lines(await told(client, TALK))

    return asyncio.run(listen())


@pytest.mark.parametrize("seed", [*range(9), 21])
async def test_cut_at_any_byte_a_stream_says_what_it_says_unbroken(unbroken, seed):
    dice = random.Random(seed)
    cuts = [
        dice.randrange(3_000, 30_000),
        *(dice.choice((dice.randrange(1, 400), dice.randrange(400, 60_000))) for _ in range(6)),
    ]
    async with through_proxy(cuts) as (proxy, client, _):
        events = await told(client, pieces(TALK, 0.001))
        assert lines(events) == unbroken
        assert proxy.killed >= 5
        back = [event for event in events if isinstance(event, Resumed)]
        assert 1 <= len(back) <= proxy.killed
        assert all(0 <= event.away_s < 5 for event in back)
        assert events[-1].audio_ms == len(TALK) // 16


async def test_a_server_that_asks_to_call_again_is_obeyed(unbroken):
    async with through_proxy(max_connection_ms=600) as (_, client, _):
        events = await told(client, pieces(TALK, 0.03))
        assert lines(events) == unbroken
        assert {event.reason for event in events if isinstance(event, GoAway)} == {"max_age"}
        assert len([event for event in events if isinstance(event, Resumed)]) >= 2
        assert events[-1].audio_ms == len(TALK) // 16


async def test_what_is_said_besides_sound_is_heard_once_however_often_it_breaks():
    async with through_proxy() as (proxy, client, _), client.stream(StreamOptions(("de",), resumable=True)) as stream:

        async def speak():
            for number, start in enumerate(range(0, len(TALK), 8_000)):
                await stream.send(TALK[start : start + 8_000])
                await stream.update(**({"add": ("fr",)} if number % 2 else {"remove": ("fr",)}))
                await stream.send_silence(10)
                await stream.update(**({"remove": ("it",)} if number % 2 else {"add": ("it",)}))
                await stream.end_utterance()
                await stream.ping()
                await asyncio.sleep(0.01 * (number % 3))
                proxy.cut()
                await asyncio.sleep(0.05)
            await stream.end()
            proxy.cut()

        speaking = asyncio.create_task(speak())
        events = [event async for event in stream]
        await speaking
    assert isinstance(events[-1], Summary)
    pieces_sent = -(-len(TALK) // 8_000)
    answers = [event.update_id for event in events if isinstance(event, ConfigApplied)]
    assert sorted(answers) == list(range(1, 2 * pieces_sent + 1))
    assert events[-1].audio_ms == len(TALK) // 16 + 10 * pieces_sent
    assert (
        len([event for event in events if isinstance(event, Resumed)]) > pieces_sent / 2
    )  # of two cuts at once one is felt
    assert lines(events)


@pytest.mark.parametrize("silent", [False, True])
async def test_a_server_that_is_gone_for_good_is_an_error_within_the_bound(silent):
    async with through_proxy() as (proxy, client, _):

        async def speak():
            async for piece in pieces(TALK):
                yield piece
            proxy.refusing = not silent
            proxy.silent = silent
            proxy.cut()
            while True:
                yield TALK[:1_600]
                await asyncio.sleep(0.1)

        began = time.monotonic()
        with pytest.raises(Unavailable, match=r"broke and couldn't be made again within 0\.8 s"):
            await told(client, speak(), resume_s=0.8)
        assert 0.4 < time.monotonic() - began < 6


async def test_who_comes_back_too_late_is_told():
    async with through_proxy(resume_ms=50) as (proxy, client, _):

        async def speak():
            async for piece in pieces(TALK):
                yield piece
            proxy.refusing = True
            proxy.cut()
            await asyncio.sleep(0.5)
            proxy.refusing = False

        with pytest.raises(DataLost, match="can't go on with the stream: no stream waits") as caught:
            await told(client, speak())
    assert caught.value.code == CODE.NOT_FOUND


async def test_an_impatient_reader_outlasts_a_break(unbroken):
    async with through_proxy() as (proxy, client, _), client.stream(OPTIONS) as stream:
        events = [await anext(stream)]
        await stream.send(TALK[:20_000])
        proxy.refusing = True
        proxy.cut()
        began, waits = time.monotonic(), 0
        sending = asyncio.create_task(_rest(stream))
        while not isinstance(events[-1], Summary):
            try:
                events.append(await asyncio.wait_for(anext(stream), 0.03))
            except TimeoutError:
                waits += 1
            proxy.refusing = time.monotonic() - began < 0.4
        await sending
    assert waits > 5
    assert lines(events) == unbroken


async def _rest(stream):
    await stream.send(TALK[20_000:])
    await stream.end()


async def test_leaving_while_away_is_quick_and_leaves_nothing():
    async with through_proxy() as (proxy, client, server):
        before = len(asyncio.all_tasks())
        async with client.stream(OPTIONS) as stream:
            await anext(stream)
            proxy.refusing = True
            proxy.cut()
            reading = asyncio.create_task(anext(stream, None))
            await asyncio.sleep(0.2)
            began = time.monotonic()
        assert time.monotonic() - began < 1
        assert await reading is None
        async with asyncio.timeout(5):
            while len(asyncio.all_tasks()) > before:
                await server._service.registry.close()
                await asyncio.sleep(0.01)


async def test_of_a_stream_that_is_left_the_server_keeps_nothing():
    async with running() as (server, client):
        async with client.stream(OPTIONS) as stream:
            await stream.send(TALK)
        async with asyncio.timeout(5):
            while server.active_sessions:
                await asyncio.sleep(0.005)
        assert len(server._service.registry) == 0


def lasting(play):
    """Number the calls of a played service: ``play(number, service, context, say)``."""
    calls = []

    async def played(service, context, say):
        calls.append(service.heard[-1])
        await play(len(calls), service, context, say)

    return calls, played


def begun(stage):
    message = stage.started()
    message.started.resume_token = "t"
    return message


async def test_a_server_that_is_full_is_given_its_time(stage):
    times = []

    async def play(number, service, context, say):
        times.append(time.monotonic())
        if number == 1:
            await say(begun(stage))
            await context.abort(CODE.UNAVAILABLE, "Socket closed")
        elif number == 2:
            await context.abort_with_status(exhausted("full", 400).status())
        else:
            await say(begun(stage), sequence=2)
            await stage.hear(service, context)
            await say(stage.summary(), sequence=3)

    calls, played = lasting(play)
    async with stage.scripted(played) as (client, _):
        events = await told(client, TALK[:1_600])
    assert [type(event) for event in events] == [Started, Resumed, Summary]
    assert events[1].away_s >= 0.4
    assert times[2] - times[1] >= 0.4
    assert [call.config.resume.token for call in calls] == ["", "t", "t"]
    assert [call.config.resume.last_event_sequence for call in calls] == [0, 1, 1]


async def test_an_answer_that_was_lost_and_comes_again_starts_nothing_twice(stage):
    async def play(number, service, context, say):
        if number == 1:
            await say(begun(stage))
            await context.abort(CODE.UNAVAILABLE, "Socket closed")
        await say(begun(stage), sequence=2)  # told on a call of which nothing arrived
        service.heard += [await context.read(), await context.read()]
        await say(begun(stage), sequence=3)
        await stage.hear(service, context)
        await say(stage.summary(), sequence=4)

    _, played = lasting(play)
    async with stage.scripted(played) as (client, service):
        events = await told(client, TALK[:16_000])
    assert [type(event) for event in events] == [Started, Resumed, Summary]
    assert [message.audio.sequence for message in service.heard if message.HasField("audio")] == [1, 2, 3, 4]


async def test_an_update_that_was_sent_twice_is_answered_once(stage):
    applied = change_message(ConfigApplied(1, 0, stage.options))

    async def play(number, service, context, say):
        if number == 1:
            await say(begun(stage))
            service.heard.append(await context.read())
            await context.abort(CODE.UNAVAILABLE, "Socket closed")
        await say(begun(stage), sequence=2)
        await stage.hear(service, context)
        await say(ServerMessage.FromString(applied.SerializeToString()), sequence=3)
        await say(ServerMessage.FromString(applied.SerializeToString()), sequence=4)
        await say(stage.summary(), sequence=5)

    _, played = lasting(play)
    async with asyncio.timeout(25), stage.scripted(played) as (client, service), client.stream(OPTIONS) as stream:
        assert await stream.update(add=("fr",)) == 1
        await stream.end()
        events = [event async for event in stream]
    assert [type(event) for event in events] == [Started, Resumed, ConfigApplied, Summary]
    assert [message.update.update_id for message in service.heard if message.HasField("update")] == [1, 1]


@pytest.mark.parametrize("code", ["NOT_FOUND", "DATA_LOSS"])
async def test_a_refused_resume_is_a_loss(stage, code):
    async def play(number, service, context, say):
        if number == 1:
            await say(begun(stage))
            await context.abort(CODE.UNAVAILABLE, "Socket closed")
        await context.abort(CODE[code], "it isn't kept")

    calls, played = lasting(play)
    async with stage.scripted(played) as (client, _):
        with pytest.raises(DataLost, match="can't go on with the stream: it isn't kept") as caught:
            await told(client, TALK[:1_600])
    assert caught.value.code == CODE[code]
    assert len(calls) == 2


@pytest.mark.parametrize(
    ("refusal", "kind"),
    [
        (exhausted("too fast", 100), Overloaded),
        (unavailable("the engine has stopped", 100), Unavailable),
        (superseded(), TimedOut),
    ],
)
async def test_a_server_that_says_why_it_ends_a_stream_is_believed(stage, refusal, kind):
    async def play(number, service, context, say):
        await say(begun(stage))
        await context.abort_with_status(refusal.status())

    calls, played = lasting(play)
    async with stage.scripted(played) as (client, _):
        with pytest.raises(kind, match=refusal.message):
            await told(client, TALK[:1_600])
    assert len(calls) == 1


async def test_without_a_token_a_break_is_the_end(stage):
    async def play(number, service, context, say):
        await say(stage.started())
        await context.abort(CODE.UNAVAILABLE, "Socket closed")

    calls, played = lasting(play)
    async with stage.scripted(played) as (client, _):
        with pytest.raises(Unavailable, match="Socket closed"):
            await told(client, TALK[:1_600])
    assert len(calls) == 1


async def test_sound_that_nobody_acknowledges_is_kept_for_so_long(stage):
    async def play(number, service, context, say):
        await say(begun(stage))
        await stage.hear(service, context)

    _, played = lasting(play)
    endless = bytes(2 * 16_000 * 75)
    async with stage.scripted(played) as (client, service):
        with pytest.raises(DataLost, match=r"60 s of audio wait for an acknowledgement, and none came for 0\.3 s"):
            await told(client, endless, resume_s=0.3)
    heard = sum(len(message.audio.data) for message in service.heard)
    assert 60 <= heard / 32_000 < 61


async def test_what_is_acknowledged_is_forgotten():
    most = 0
    async with running() as (_, client), client.stream(OPTIONS) as stream:
        sending = asyncio.create_task(_all(stream, speech(0.2, *[1.0, 1.0] * 50)))
        async for _ in stream:
            most = max(most, len(stream._link._kept))
        await sending
    assert stream.summary.audio_ms == 100_200
    assert 0 < most <= 60 / 0.25 + 1
    assert len(stream._link._kept) <= 5


async def _all(stream, sound):
    await stream.send(sound)
    await stream.end()


async def test_callbacks_go_on_too(unbroken):
    async with running() as (server, _), Proxy(server.port, [40_000, 30_000]) as proxy:
        events = []

        def talk():
            with BlockingStream(proxy.address, OPTIONS, events.append) as stream:
                for start in range(0, len(TALK), 1_600):
                    stream.send(TALK[start : start + 1_600])

        await asyncio.to_thread(talk)
    assert lines(events) == unbroken
    assert any(isinstance(event, Resumed) for event in events)
