"""Sending and hearing at once: `TranslationClient.translate`."""

import asyncio
import time

import numpy as np
import pytest

from streamtrans.client import (
    Caption,
    Started,
    StreamOptions,
    Summary,
    TranslationClient,
    Unsupported,
    UtteranceEnd,
)
from tests.clients.conftest import _running as running
from tests.clients.conftest import tone


async def texts(client, options, sound):
    """Return the final texts, and check what comes first and last."""
    events = [event async for event in client.translate(options, sound)]
    assert isinstance(events[0], Started)
    assert isinstance(events[-1], Summary)
    return [event.text for event in events if isinstance(event, Caption) and event.final]


async def test_mono_stereo_and_pieces_say_the_same():
    mono = tone(0.8)

    async def pieces():
        for start in range(0, len(mono), 1_000):
            yield mono[start : start + 1_000]

    async with running() as address, TranslationClient(address) as client:
        alone = await texts(client, StreamOptions(("de",)), mono)
        stereo = await texts(client, StreamOptions(("de",), channels=2), np.stack([mono, mono], 1))
        assert alone == stereo == await texts(client, StreamOptions(("de",)), pieces())
        assert alone[0].startswith("w0 w1")


async def test_what_the_sound_raises_comes_out_at_once():
    async def broken():
        yield tone(0.1)
        raise OSError("unplugged")

    async with running() as address, TranslationClient(address) as client:
        began = time.monotonic()
        with pytest.raises(OSError, match="unplugged"):
            await texts(client, StreamOptions(("de",)), broken())
        with pytest.raises(ValueError, match="channels"):
            await texts(client, StreamOptions(("de",)), np.zeros((100, 2), np.float32))
        assert time.monotonic() - began < 5


async def test_a_refusal_comes_out():
    async with running() as address, TranslationClient(address) as client:
        with pytest.raises(Unsupported):
            await texts(client, StreamOptions(("fr",)), tone(0.1))


async def test_leaving_early_ends_the_call_and_leaves_no_task():
    async def endless():
        while True:
            yield tone(0.1)
            await asyncio.sleep(0.01)

    async with running() as address, TranslationClient(address) as client:
        before = len(asyncio.all_tasks())
        events = client.translate(StreamOptions(("de",)), endless())
        assert isinstance(await anext(events), Started)
        await events.aclose()
        await asyncio.sleep(0.2)
        assert len(asyncio.all_tasks()) <= before


async def test_the_end_of_an_utterance_closes_its_segment_among_the_sound():
    loud = tone(0.8)[1_600:-1_600]

    async def pieces():
        for _ in range(2):
            yield loud
            yield UtteranceEnd()

    async with running() as address, TranslationClient(address) as client:
        assert len(list(filter(None, await texts(client, StreamOptions(("de",)), pieces())))) == 2
        assert len(await texts(client, StreamOptions(("de",)), np.concatenate([loud, loud]))) == 1
