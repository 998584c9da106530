"""A stream outlives its call: whoever calls again in time goes on where the responses stopped arriving."""

import asyncio
import contextlib
import random

import grpc
import pytest

from streamtrans.core import Caption
from streamtrans.server import Limits
from streamtrans.wire import (
    ClientMessage,
    Reducer,
    ServiceStub,
    StreamOptions,
    audio_message,
    config_message,
    end_message,
    silence_message,
)

CODE = grpc.StatusCode


def spoken(house, seed=3):
    """Messages of a talk, numbered, some of them told silence."""
    sound = (house.speech(0.3, 1.5, 0.7, 1.2, 0.4, 0.9, seed=seed) * 32767).astype("<i2")
    messages = [audio_message(sound[at : at + 3_200].tobytes(), 0) for at in range(0, len(sound), 3_200)]
    messages.append(silence_message(2_500, 0))
    for number, message in enumerate(messages, 1):
        getattr(message, message.WhichOneof("payload")).sequence = number
    return messages


class Talker:
    """A client that keeps what isn't acknowledged, and what it received, over any number of calls."""

    def __init__(self, house, port, messages, pace_s=0.0):
        self.opening = config_message(StreamOptions(("de", "fr"), resumable=True))
        self.port, self.messages, self.pace_s = port, messages, pace_s
        self.responses, self.token, self.acknowledged = [], "", 0

    @property
    def last(self):
        return self.responses[-1].event_sequence if self.responses else 0

    @property
    def done(self):
        return bool(self.responses) and self.responses[-1].WhichOneof("event") == "summary"

    async def call(self, stop_after=None, cut_s=None):
        """Talk until the summary, until ``stop_after`` more responses have come, or for ``cut_s`` seconds."""
        options = [("grpc.use_local_subchannel_pool", 1)]
        async with grpc.aio.insecure_channel(f"127.0.0.1:{self.port}", options=options) as channel:
            call = ServiceStub(channel).StreamTranslate()
            opening = self.opening
            if self.token:
                opening = ClientMessage()
                opening.config.resume.token, opening.config.resume.last_event_sequence = self.token, self.last
            with contextlib.suppress(grpc.RpcError, asyncio.InvalidStateError):
                await call.write(opening)
            begun = asyncio.Event()
            sending = asyncio.create_task(self._send(call, begun))
            try:
                async with asyncio.timeout(cut_s):
                    await self._read(call, begun, stop_after)
            except TimeoutError:
                pass
            finally:
                call.cancel()
                sending.cancel()
                await asyncio.gather(sending, return_exceptions=True)

    async def _send(self, call, begun):
        await begun.wait()
        with contextlib.suppress(grpc.RpcError, asyncio.InvalidStateError):
            for message in self.messages[self.acknowledged :]:
                await call.write(message)
                await asyncio.sleep(self.pace_s)
            await call.write(end_message(len(self.messages)))

    async def _read(self, call, begun, stop_after):
        async for response in call:
            self.responses.append(response)
            kind = response.WhichOneof("event")
            if kind == "started":
                self.token = response.started.resume_token
                self.acknowledged = response.started.acknowledged_sequence
                begun.set()
            elif kind == "checkpoint":
                assert response.checkpoint.acknowledged_sequence <= len(self.messages)
            if stop_after is not None and (stop_after := stop_after - 1) <= 0:
                return

    def finals(self):
        reducer = Reducer()
        events = [reducer.reduce(response) for response in self.responses]
        closed = [event for event in events if isinstance(event, Caption) and event.final]
        assert len({(event.segment, event.language) for event in closed}) == len(closed)
        return {(event.segment, event.language): event.text for event in closed}


async def unbroken(house, server):
    talker = Talker(house, server.port, spoken(house))
    await talker.call()
    assert talker.done
    return talker.finals()


@pytest.mark.parametrize("seed", range(20))
async def test_broken_anywhere_and_resumed_nothing_is_lost_or_doubled(house, seed):
    dice = random.Random(seed)
    async with asyncio.timeout(60), house.running(config=house.configured(max_sessions=2)) as (server, _):
        expected = await unbroken(house, server)
        talker, calls = Talker(house, server.port, spoken(house), pace_s=0.01), 0
        while not talker.done:
            how = dice.choice(["responses", "time"])
            if how == "responses":
                await talker.call(stop_after=dice.randrange(1, 12))
            else:
                await talker.call(cut_s=dice.uniform(0.01, 0.12))
            calls += 1
            assert calls < 200
        assert calls > 1
        assert talker.finals() == expected
        assert [response.event_sequence for response in talker.responses] == list(range(1, talker.last + 1))
        assert talker.responses[-1].summary.audio_ms == sum(
            len(m.audio.data) // 32 or m.silence.duration_ms for m in talker.messages
        )
        await settled(lambda: server.active_sessions == 0)


async def test_a_stream_that_broke_after_its_end_is_told_to_its_end(house):
    engine = house.Held(house.instant(), free=8_000)  # answers nothing yet but what warms it up
    async with asyncio.timeout(30), house.running(house.served(engine)) as (server, _):
        talker = Talker(house, server.port, spoken(house))
        await talker.call(cut_s=0.5)  # all is said, `end` too
        assert not talker.done
        await settled(lambda: len(server._service.registry) == 1)
        engine.free = -1
        going_on = asyncio.create_task(talker.call())
        while not going_on.done():
            engine.let_go()
            await asyncio.sleep(0.005)
        assert talker.done
        assert talker.finals()


async def settled(condition):
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.005)


async def refused(server, message):
    async with grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        call = ServiceStub(channel).StreamTranslate()
        await call.write(message)
        with pytest.raises(grpc.RpcError) as caught:
            [response async for response in call]
        return caught.value.code()


def asking(token, last):
    message = ClientMessage()
    message.config.resume.token, message.config.resume.last_event_sequence = token, last
    return message


async def test_only_the_token_opens_a_stream_and_only_for_a_while(house):
    limits = Limits(resume_ms=300, max_real_time_factor=1e6)
    async with house.running(config=house.configured(limits)) as (server, _):
        talker = Talker(house, server.port, spoken(house))
        await talker.call(stop_after=3)
        await settled(lambda: len(server._service.registry) == 1)
        assert server.active_sessions == 0
        session_id = talker.responses[0].session_id
        assert session_id not in talker.token
        for guess in ("", session_id, talker.token[:-1]):
            assert await refused(server, asking(guess, talker.last)) == CODE.NOT_FOUND
        assert len(server._service.registry) == 1
        await settled(lambda: len(server._service.registry) == 0)
        assert await refused(server, asking(talker.token, talker.last)) == CODE.NOT_FOUND


async def test_responses_that_are_not_kept_are_a_loss_said_aloud(house):
    async with house.running() as (server, _):
        talker = Talker(house, server.port, spoken(house))
        await talker.call(stop_after=3)
        await settled(lambda: len(server._service.registry) == 1)
        assert await refused(server, asking(talker.token, 10_000)) == CODE.DATA_LOSS


async def test_a_second_call_takes_the_stream_from_the_first(house):
    async with asyncio.timeout(30), house.running() as (server, _):
        talker = Talker(house, server.port, spoken(house))
        async with grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel:
            first = ServiceStub(channel).StreamTranslate()
            await first.write(talker.opening)
            talker.responses.append(await first.read())
            talker.token = talker.responses[0].started.resume_token
            await talker.call()
            assert talker.done
            assert await first.code() == CODE.ABORTED
        assert talker.finals() == await unbroken(house, server)


async def test_streams_that_nobody_may_resume_are_gone_with_their_calls(house):
    async with house.running() as (server, client):
        async with client.stream(StreamOptions(("de",))) as stream:
            assert stream.started.resume_token == ""
        await settled(lambda: server.active_sessions == 0)
        assert len(server._service.registry) == 0


async def test_no_more_wait_than_may_speak(house):
    async with house.running(config=house.configured(max_sessions=2)) as (server, _):
        tokens = []
        for _ in range(4):
            talker = Talker(house, server.port, spoken(house))
            await talker.call(stop_after=2)
            tokens.append(talker.token)
            await settled(lambda: server.active_sessions == 0)
        await settled(lambda: len(server._service.registry) == 2)
        assert await refused(server, asking(tokens[0], 1)) == CODE.NOT_FOUND


async def test_what_has_arrived_is_forgotten(house):
    async with house.running() as (server, _), grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        talker = Talker(house, server.port, spoken(house))
        call = ServiceStub(channel).StreamTranslate()
        await call.write(talker.opening)
        token = (await call.read()).started.resume_token
        ping = ClientMessage()
        ping.ping.received_event_sequence = 1
        await call.write(ping)
        assert (await call.read()).WhichOneof("event") == "pong"
        call.cancel()
        await settled(lambda: len(server._service.registry) == 1)
        assert await refused(server, asking(token, 0)) == CODE.DATA_LOSS


async def test_what_follows_the_audio_that_was_heard_is_heard_on_the_next_call(house):
    async with asyncio.timeout(30), house.running() as (server, _):
        talker = Talker(house, server.port, spoken(house)[:6])
        async with grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel:
            call = ServiceStub(channel).StreamTranslate()
            await call.write(talker.opening)
            talker.responses.append(await call.read())
            talker.token = talker.responses[0].started.resume_token
            for message in talker.messages:
                await call.write(message)
            ping = ClientMessage()
            ping.ping.client_time_ms = 1
            await call.write(ping)
            while (await call.read()).WhichOneof("event") != "pong":
                pass
            call.cancel()  # before the update that was to follow
            again = ServiceStub(channel).StreamTranslate()
            await again.write(asking(talker.token, talker.last))
            while (response := await again.read()).WhichOneof("event") != "started":
                pass
            assert response.started.acknowledged_sequence == 6
            update = ClientMessage()
            update.update.update_id = 7
            update.update.remove_targets.append("fr")
            await again.write(update)
            while (response := await again.read()).WhichOneof("event") != "config_applied":
                pass
            assert response.config_applied.update_id == 7
            again.cancel()
