"""Faults inside the engine, behind the real server: who is told, and whom one bad stream takes along."""

import asyncio
import threading
import time

import grpc
import numpy as np
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from streamtrans.client import Caption, InvalidRequest, StreamOptions, Summary, Unavailable
from streamtrans.core import BadAnswer
from streamtrans.engine import Engine, EngineConfig
from streamtrans.testing.toy import ToyConfig, ToyModel
from tests.fakes import Loud

STATUS = health_pb2.HealthCheckResponse


class Faulty(ToyModel):
    """Hangs in its next pass until the gate is open, or fails at what it hears; ``at`` says at what."""

    def __init__(self):
        super().__init__(ToyConfig(speculator=False))
        self.gate, self.hung = threading.Event(), threading.Event()
        self.hangs, self.error, self.at = False, None, 0.0

    def listen(self, hearings):
        if self.error is not None and any(np.abs(each.audio).max(initial=0) >= self.at for each in hearings):
            raise self.error
        return super().listen(hearings)

    def step(self, forwards):
        if self.hangs:
            self.hung.set()
            assert self.gate.wait(60)
        return super().step(forwards)


@pytest.fixture
def model():
    return Faulty()


def engine_of(model, vad=None, **config):
    return Engine(model, lambda _: vad or Loud(), EngineConfig(**({"slots": 4, "stall_s": 0.3} | config)))


async def health(server):
    async with grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        return (await stub.Check(health_pb2.HealthCheckRequest(), timeout=5)).status


async def becomes(server, status):
    async with asyncio.timeout(10):
        while await health(server) != status:
            await asyncio.sleep(0.02)


def finals(events):
    return [event.text for event in events if isinstance(event, Caption) and event.final]


async def test_a_device_that_hangs_turns_the_health_and_back_and_no_word_is_lost(house, model):
    async with house.running(house.served(engine_of(model))) as (server, client):
        speech = house.speech(0.2, 1.5, 0.6)
        expected = finals(await house.collect(client, speech))
        model.hangs = True
        speaking = asyncio.create_task(house.collect(client, speech))
        await becomes(server, STATUS.NOT_SERVING)
        model.hangs = False
        model.gate.set()
        assert finals(await speaking) == expected
        await becomes(server, STATUS.SERVING)


async def test_stopping_takes_little_longer_than_the_grace_while_the_device_hangs(house, model):
    async with house.running(house.served(engine_of(model))) as (server, client):
        model.hangs = True
        speaking = asyncio.create_task(house.collect(client, house.speech(0.2, 1.5, 0.6)))
        await asyncio.to_thread(model.hung.wait, 10)
        began = time.monotonic()
        await server.stop(1_000)
        took = time.monotonic() - began
        with pytest.raises(Unavailable):
            await speaking
        model.gate.set()
    assert took < 5


@pytest.mark.parametrize("error", [RuntimeError("CUDA error"), MemoryError(), BadAnswer("NaN")])
async def test_a_device_that_fails_at_everything_ends_the_service(house, model, error):
    async with house.running(house.served(engine_of(model))) as (server, client):
        model.error = error
        with pytest.raises(Unavailable):
            await house.collect(client, house.speech(0.2, 2.5, 0.6, 1, 0.6))
        await asyncio.wait_for(server.failed.wait(), 5)
        await becomes(server, STATUS.NOT_SERVING)


async def test_an_engine_that_stops_while_nobody_calls_is_noticed(house, model):
    engine = engine_of(model)
    async with house.running(house.served(engine)) as (server, _):
        engine.close()
        await asyncio.wait_for(server.failed.wait(), 5)
        await becomes(server, STATUS.NOT_SERVING)


async def test_a_stream_whose_every_reading_fails_is_told_so_and_suffers_alone(house, model):
    """One stream is loud, and the model fails at that; its neighbour says what it says alone."""
    async with house.running(house.served(engine_of(model))) as (server, client):
        speech = house.speech(0.2, 1.5, 0.6, 1, 0.6)
        bad = np.where(np.arange(len(speech)) % 9, speech, np.sign(speech)).astype(np.float32)
        expected = finals(await house.collect(client, speech))
        model.error, model.at = RuntimeError("poison"), 0.999
        good, broken = await asyncio.gather(
            house.collect(client, speech), house.collect(client, bad), return_exceptions=True
        )
        assert finals(good) == expected
        assert isinstance(broken, Unavailable)
        assert "every reading of this stream failed" in broken.message
        assert await health(server) == STATUS.SERVING
        assert finals(await house.collect(client, speech)) == expected


@pytest.mark.parametrize("odd", [np.nan, None])
async def test_a_detector_that_answers_nonsense_doesnt_end_the_stream(house, model, odd):
    class Odd(Loud):
        def detect(self, streams):
            spoil = [float(np.abs(windows).max(initial=0)) >= 0.999 for windows, _ in streams]
            return [
                ((p[:-1] if odd is None else p * odd) if bad else p, state)
                for bad, (p, state) in zip(spoil, super().detect(streams), strict=True)
            ]

    async with house.running(house.served(engine_of(model, Odd()))) as (_, client):
        speech = house.speech(0.2, 1.5, 0.6, 1, 0.6)
        speech[20_000] = 1.0
        events = await house.collect(client, speech)
        assert isinstance(events[-1], Summary)
        assert all(finals(events))


async def test_more_targets_than_slots_are_refused_at_admission(house, model):
    async with house.running(house.served(engine_of(model, slots=2))) as (server, client):
        assert (await client.capabilities()).limits.max_targets == 2
        with pytest.raises(InvalidRequest, match="has 3 languages; at most 2 are allowed"):
            await house.collect(client, house.speech(0.2, 1.5), StreamOptions(("de", "fr", "es")))
        assert server.active_sessions == 0
        events = await house.collect(client, house.speech(0.2, 1.5), StreamOptions(("de", "fr")))
        assert all(finals(events))
