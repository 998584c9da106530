"""A server under load: with three times too many callers, on a device that becomes slow, with a sender who hurries."""

import asyncio
import queue
import threading
import time
from dataclasses import replace

from streamtrans.client import Caption, Notice, Overloaded, StreamOptions
from streamtrans.core import Detect, Reply
from streamtrans.engine import EngineStats
from streamtrans.server import Limits, Load
from streamtrans.stream import SessionConfig
from streamtrans.testing.engine import Relay
from tests.server.conftest import RULES

INTERVAL_MS = 200
CHUNK = 800


class Slow(Relay):
    """A device that takes ``cost_s`` for each reading, one after the other; detections cost nothing."""

    def __init__(self, inner, cost_s):
        super().__init__(inner)
        self.cost_s, self.busy_s = cost_s, 0.0
        self._waiting = queue.SimpleQueue()
        threading.Thread(target=self._work, daemon=True).start()

    def submit(self, request):
        if isinstance(request, Detect):
            return super().submit(request)
        reply = Reply()
        self._waiting.put((request, reply))
        return reply

    def stats(self):
        return EngineStats(busy_s=self.busy_s)

    def close(self, timeout_s=0.0):
        self._waiting.put(None)
        super().close(timeout_s)

    def _work(self):
        while (item := self._waiting.get()) is not None:
            request, reply = item
            began = time.monotonic()
            time.sleep(self.cost_s)
            self.busy_s += time.monotonic() - began
            if reply.set_running_or_notify_cancel():
                reply.set_result(self.engine.submit(request).result())


def loaded(house, cost_s, **load):
    engine = Slow(house.instant(), cost_s)
    session = SessionConfig(("en",), endpoints=RULES, reading_interval_ms=INTERVAL_MS, min_first_reading_ms=INTERVAL_MS)
    rules = Load(**({"max_lag_ms": 600, "window_ms": 1_000, "calm_ms": 500} | load))
    served = replace(house.served(engine), stats=engine.stats)
    return engine, house.running(served, house.configured(session=session, load=rules, max_sessions=64))


async def speak(client, audio, options=None):
    """Speak in real time; return all events and the summary."""
    async with client.stream(options or StreamOptions(("de",))) as stream:
        events = []

        async def listen():
            events.extend([event async for event in stream])

        listening = asyncio.create_task(listen())
        began = time.monotonic()
        for start in range(0, len(audio), CHUNK):
            await asyncio.sleep(began + start / 16_000 - time.monotonic())
            await stream.send(audio[start : start + CHUNK])
        await stream.end()
        await listening
        return events, stream.summary


async def test_of_three_times_too_many_callers_those_let_in_keep_their_lag_and_the_others_get_retry_info(house):
    audio = house.speech(0.1, 4.0, 0.4)
    _, running = loaded(house, 0.025)  # 8 streams are all that it can do
    async with running as (_, client):
        outcomes = await asyncio.gather(*(speak(client, audio) for _ in range(24)), return_exceptions=True)
    refused = [each for each in outcomes if isinstance(each, Overloaded)]
    served = [each for each in outcomes if not isinstance(each, BaseException)]
    assert len(refused) + len(served) == 24
    assert 2 <= len(served) <= 8
    assert all(each.retry_after_s == 1.0 for each in refused)
    assert all("device" in str(each) or "lag" in str(each) for each in refused)
    assert max(summary.lag_p95_ms for _, summary in served) < 600
    for events, _ in served:
        final = max(
            (event for event in events if isinstance(event, Caption) and event.final), key=lambda each: each.end
        )
        assert len(final.text.split()) > 10


async def test_on_a_device_that_becomes_slow_less_is_done_step_by_step_and_told_and_then_all_of_it_again(house):
    engine, running = loaded(house, 0.005)
    audio = house.speech(*(0.1, 2.0, 0.4) * 6)
    async with running as (_, client):

        async def trouble():
            await asyncio.sleep(2)
            engine.cost_s = 0.5
            await asyncio.sleep(4)
            engine.cost_s = 0.005

        (events, summary), _, _ = await asyncio.gather(speak(client, audio), speak(client, audio), trouble())
    notices = [event.code for event in events if isinstance(event, Notice)]
    told = [code for code in notices if code in ("FEWER_PARTIALS", "NO_PARTIALS", "FULL_SERVICE")]
    assert told[:2] == ["FEWER_PARTIALS", "NO_PARTIALS"]
    assert told[-1] == "FULL_SERVICE"
    assert summary.finals == summary.segments >= 6


async def test_of_a_sender_at_twenty_times_real_time_at_most_five_seconds_are_held(house):
    held = []
    async with house.running(config=house.configured(Limits())) as (server, client):
        chunk = house.speech(0.0, 0.1)
        async with client.stream(StreamOptions(("de",), encoding="pcm_s16le")) as stream:
            sent, began = 0, time.monotonic()
            while time.monotonic() - began < 4:
                try:
                    await asyncio.wait_for(stream.send(chunk), 0.5)
                except TimeoutError:  # flow control holds the sender
                    continue
                sent += len(chunk)
                [call] = server._service._calls
                held.append(sent - call._live.cursors.decoded)
                assert call._live.cursors.received <= 16_000 * (5.5 + 2 * (time.monotonic() - began))
                await asyncio.sleep(0.1 / 20)
    assert max(held) <= 5 * 16_000
    assert sent < 16_000 * 20 * 4 / 2  # half of what was to be sent
