"""Law: a client whose process is killed has no place any more within a second, whatever it was doing."""

import asyncio
import signal
import sys
import time
from contextlib import asynccontextmanager

import pytest

from streamtrans.client import StreamOptions
from streamtrans.core import Job, Reading, Reply
from streamtrans.testing.engine import Relay, hypothesis
from tests.server.conftest import EAGER, configured, instant, running, served, speech

WITHIN_S = 1.0
LONG = tuple(range(20_000))  # 130 KB of text: more than gRPC sends to who doesn't read

CLIENT = """
import asyncio, sys
import numpy as np
from streamtrans.client import StreamOptions, TranslationClient

state, address, token = sys.argv[1:]

async def act():
    async with TranslationClient(address) as client:
        if state == "has said nothing":
            call = client._carrier.speak()
            await call.read()
        elif state == "watches":
            async for _ in client.watch(token, "it"):
                pass
        else:
            async with client.stream(StreamOptions(("de",), resumable=state == "may come back")) as stream:
                await stream.send(np.frombuffer(sys.stdin.buffer.read(), np.float32))
                if state == "has ended":
                    await stream.end()
                async for _ in stream:
                    pass
                await asyncio.sleep(60)

asyncio.run(act())
"""


class Pausing(Relay):
    """Keeps what ``holds`` says; what it lets go is long."""

    def __init__(self):
        super().__init__(instant())
        self.holds = lambda _: False
        self.waiting = []

    def submit(self, request):
        if not isinstance(request, Job) or not self.holds(request):
            return super().submit(request)
        self.waiting.append((request, Reply()))
        return self.waiting[-1][1]

    def let_go(self):
        for request, reply in self.waiting:
            if reply.set_running_or_notify_cancel():
                said = [hypothesis((*target.prefix, *LONG), 0.5) for target in request.targets]
                reply.set_result(Reading(tuple(said)))
        self.waiting.clear()


STATES = {
    "has said nothing": ("", lambda _: False),
    "is silent": (speech(0.5), lambda _: False),
    "speaks": (speech(0.3, 1.5), lambda _: False),
    "may come back": (speech(0.3, 1.5), lambda _: False),
    "waits for a reading": (speech(0.3, 1.5), lambda job: len(job.audio) > 16_000),
    "waits for a final": (speech(0.3, 1.5, 0.8), lambda job: job.last),
    "has ended": (speech(0.3, 1.5), lambda job: job.last),
    "reads nothing": (speech(0.3, 1.5, 0.8), lambda job: job.last),
    "watches": ("", lambda _: False),
}


@asynccontextmanager
async def process(state, address, token, sound):
    client = await asyncio.create_subprocess_exec(
        sys.executable, "-c", CLIENT, state, address, token, stdin=asyncio.subprocess.PIPE
    )
    client.stdin.write(sound.tobytes() if len(sound) else b"")
    client.stdin.close()
    try:
        yield client
    finally:
        if client.returncode is None:
            client.kill()
        await client.wait()


async def until(condition, within_s=20.0):
    async with asyncio.timeout(within_s):
        while not condition():
            await asyncio.sleep(0.005)


OVER_WEBSOCKETS = ("has said nothing", "speaks", "reads nothing", "watches")


@pytest.mark.parametrize(
    ("carrier", "state"),
    [*(("gRPC", state) for state in STATES), *(("WebSocket", state) for state in OVER_WEBSOCKETS)],
)
async def test_a_killed_client_frees_its_place_within_a_second(carrier, state):
    engine, sound = Pausing(), STATES[state][0]
    config = configured(EAGER, http_port=0, first_message_ms=60_000)
    async with asyncio.timeout(30), running(served(engine), config) as (server, client):
        engine.holds, service, kinds = STATES[state][1], server._service, server._gateway._kinds
        [watchers] = [kind.room for name, kind in kinds.items() if name.endswith("/WatchCaptions")]
        async with client.stream(StreamOptions(("de",))) as other:
            live = service._viewable[token := other.started.viewer_token]

            def taken():
                """Places that the process has."""
                return service.active_sessions - 1 + len(service.anteroom._waiting) + len(watchers)

            port, scheme = (server.port, "") if carrier == "gRPC" else (server.http_port, "ws://")
            async with process(state, f"{scheme}127.0.0.1:{port}", token, sound) as killed:
                await until(taken)
                if state == "watches":
                    await until(lambda: len(live.audience))
                elif len(sound):
                    await until(lambda: len(service._viewable) == 2)
                    [mine] = [each for each in service._viewable.values() if each is not live]
                    await until(lambda: mine.cursors.received == len(sound))
                    await until(lambda: mine.stats.segments or state == "is silent")
                    await until(lambda: engine.waiting or state not in {"waits for a final", "reads nothing"})
                if state == "reads nothing":
                    killed.send_signal(signal.SIGSTOP)
                    engine.let_go()
                    await asyncio.sleep(0.2)
                assert taken() == 1
                killed.kill()
                began = time.monotonic()
                await until(lambda: not taken())
                assert time.monotonic() - began < WITHIN_S
        assert len(service.registry) == (state == "may come back")
