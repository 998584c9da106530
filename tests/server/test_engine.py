"""The real engine behind the real server: clients that are killed, and an engine that dies."""

import asyncio
import sys
import time

import pytest

from streamtrans.client import StreamOptions, Unavailable
from streamtrans.engine import Engine, EngineConfig
from streamtrans.testing.toy import ToyConfig, ToyModel

KILLED = """
import asyncio, sys
import numpy as np
from streamtrans.client import StreamOptions, TranslationClient
async def main():
    async with TranslationClient(sys.argv[1]) as client, client.stream(StreamOptions(("de", "fr", "es"))) as stream:
        await stream.send(np.random.default_rng(0).normal(0, 0.2, 16_000 * 5).astype(np.float32))
        print("sent", flush=True)
        await asyncio.sleep(60)
asyncio.run(main())
"""


class Slow(ToyModel):
    """Takes 0.05 s for every pass once it is told to, so that a reading of seconds takes seconds."""

    pause_s = 0.0

    def step(self, forwards):
        time.sleep(self.pause_s)
        return super().step(forwards)


class Mortal(ToyModel):
    """Ends the thread that calls it once it is told to, as no exception of a model's own does."""

    doomed = False

    def step(self, forwards):
        if self.doomed:
            raise SystemExit
        return super().step(forwards)


def started(house, model):
    return Engine(model, lambda _: house.Loud(), EngineConfig(slots=4, drafter="none"))


async def test_killing_a_client_while_its_speech_is_decoded_frees_all_that_it_held(house):
    model = Slow(ToyConfig(stretch=320, max_tokens=448, speculator=False))  # 50 tokens per second of audio
    engine = started(house, model)
    async with house.running(house.served(engine)) as (server, client):
        model.pause_s = 0.05
        child = await asyncio.create_subprocess_exec(
            sys.executable, "-c", KILLED, f"127.0.0.1:{server.port}", stdout=asyncio.subprocess.PIPE
        )
        assert await child.stdout.readline() == b"sent\n"
        async with asyncio.timeout(10):
            while engine.stats.free > engine.capacity - 3:
                await asyncio.sleep(0.005)
        assert (server.active_sessions, engine.stats.live) == (1, 1)
        before = engine.stats.cancelled
        child.kill()
        # A second is what is promised, and a tenth what it takes; but on a machine that is busy with other things
        # the kernel may let this process wait for seconds, which says nothing about the server.
        async with asyncio.timeout(5):
            while server.active_sessions or busy(engine):
                await asyncio.sleep(0.005)
        assert engine.stats.cancelled > before, "the reading ended by itself, so this test has shown nothing"
        await child.wait()
        model.pause_s = 0.0
        assert (await house.collect(client, house.speech(0.2, 0.5)))[-1].segments == 1


def busy(engine):
    stats = engine.stats
    return stats.live or stats.waiting or stats.free != engine.capacity


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
async def test_a_device_thread_that_dies_is_told_and_noticed(house, caplog):
    model = Mortal(ToyConfig(speculator=False))
    engine = started(house, model)
    async with house.running(house.served(engine)) as (server, client):
        model.doomed = True
        with pytest.raises(Unavailable, match="the engine has stopped; call again"):
            await house.collect(client, house.speech(0.2, 1.5), StreamOptions(("de", "fr")))
        await asyncio.wait_for(server.failed.wait(), 5)
        with pytest.raises(Unavailable, match="the engine has stopped"):
            await house.collect(client, b"")
        assert server.active_sessions == 0
    assert not engine._thread.is_alive()
    assert not [record for record in caplog.records if record.exc_info]
