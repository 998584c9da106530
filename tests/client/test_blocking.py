"""The client without an event loop."""

import asyncio
import threading
import time

import pytest

from streamtrans.client import BlockingStream, Caption, Started, StreamOptions, Summary, Unavailable, Unsupported
from tests.clients.conftest import _running as running
from tests.clients.conftest import tone


def spoken(address, options, show, pieces=8):
    sound = tone(0.8)
    with BlockingStream(address, options, show) as stream:
        for start in range(0, len(sound), len(sound) // pieces):
            stream.send(sound[start : start + len(sound) // pieces])
    return stream.summary


async def test_sound_goes_in_and_events_come_out_in_order():
    events, threads = [], set()

    def show(event):
        events.append(event)
        threads.add(threading.current_thread().name)

    async with running() as address:
        summary = await asyncio.to_thread(spoken, address, StreamOptions(("de",)), show)
    assert isinstance(events[0], Started)
    assert events[-1] == summary
    assert isinstance(summary, Summary)
    assert any(isinstance(event, Caption) and event.final and event.text.startswith("w0 w1") for event in events)
    assert threads == {"streamtrans"}


async def test_a_refusal_is_raised_where_the_caller_is():
    async with running() as address:
        with pytest.raises(Unsupported):
            await asyncio.to_thread(spoken, address, StreamOptions(("ja",)), lambda event: None)


async def test_no_server_is_raised_soon():
    began = time.monotonic()
    with pytest.raises(Unavailable):
        await asyncio.to_thread(spoken, "127.0.0.1:1", StreamOptions(("de",)), lambda event: None)
    assert time.monotonic() - began < 20


async def test_what_a_callback_raises_ends_the_stream():
    def broken(event):
        raise RuntimeError("no screen")

    async with running() as address:
        with pytest.raises(RuntimeError, match="no screen"):
            await asyncio.to_thread(spoken, address, StreamOptions(("de",)), broken)


async def test_an_error_of_the_callers_ends_the_stream_at_once():
    def speak(address):
        with BlockingStream(address, StreamOptions(("de",)), lambda event: None) as stream:
            stream.send(tone(0.1))
            raise KeyError("mine")

    before = threading.active_count()
    async with running() as address:
        with pytest.raises(KeyError, match="mine"):
            await asyncio.to_thread(speak, address)
    assert not any(thread.name == "streamtrans" for thread in threading.enumerate())
    assert threading.active_count() <= before + 8
