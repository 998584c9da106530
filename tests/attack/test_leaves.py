"""Law: of a call that has ended nothing stays behind, whatever ended it, without the garbage collector's help."""

import asyncio
import contextlib
import gc
from collections import Counter

import grpc
import pytest

from streamtrans.core import StreamtransError
from streamtrans.server.arrivals import Arrivals
from streamtrans.server.opening import Opening
from streamtrans.server.refusal import Refusal
from streamtrans.stream import Session
from streamtrans.wire import CapabilitiesRequest, ServiceStub, audio_message, end_message

OURS = (Refusal, StreamtransError, Arrivals, Opening, Session, BaseExceptionGroup)

WAYS = {
    "no config": lambda h: [audio_message(b"", 1)],
    "nothing": lambda h: [],
    "garbage": lambda h: [b"\xff\xff\xff"],
    "wrong fields": lambda h: [h.opening(source_languages=("",) * 128, vad="v" * 65)],
    "very many wrong fields": lambda h: [h.opening(source_languages=("",) * 120_000)],
    "an unknown language": lambda h: [h.opening(targets=("tlh",))],
    "a segment that has no room for a window": lambda h: [h.opening(max_segment_ms=200)],
    "wrong audio later": lambda h: [h.opening(), audio_message(b"\0", 1)],
    "garbage later": lambda h: [h.opening(), b"\xff\xff\xff"],
    "no word": lambda h: [h.opening(), end_message(0)],
    "a second of noise": lambda h: [h.opening(), audio_message(bytes(range(250)) * 128, 1)],
}


def ours():
    return Counter(type(each).__name__ for each in gc.get_objects() if issubclass(type(each), OURS))


@pytest.mark.parametrize("way", WAYS)
async def test_a_call_that_has_ended_leaves_nothing_behind(house, way):
    async with house.running() as (server, _):
        gc.collect()
        before = ours()
        gc.disable()
        try:
            for _ in range(3):
                with contextlib.suppress(grpc.RpcError):
                    await house.talk(server, *WAYS[way](house))
            await asyncio.sleep(0.1)
            assert ours() - before == Counter()
        finally:
            gc.enable()


async def test_a_listing_that_is_refused_leaves_nothing_behind(house):
    async with house.running() as (server, _), grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        server._service.draining = True
        before = ours()
        gc.disable()
        try:
            for _ in range(3):
                with pytest.raises(grpc.aio.AioRpcError, match="shutting down"):
                    await ServiceStub(channel).ListCapabilities(CapabilitiesRequest())
            assert ours() - before == Counter()
        finally:
            gc.enable()


async def test_a_client_that_goes_away_leaves_nothing_behind(house, caplog):
    async with house.running() as (server, _):
        before = ours()
        gc.disable()
        try:
            for count in range(6):
                async with grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel:
                    call = channel.stream_stream(house.METHOD)()
                    await call.write(house.opening().SerializeToString())
                    for _ in range(count):
                        await call.write(audio_message(bytes(range(250)) * 64, 1).SerializeToString())
                    call.cancel()
            async with asyncio.timeout(5):
                while server.active_sessions or ours() - before:
                    await asyncio.sleep(0.02)
        finally:
            gc.enable()
    assert [record for record in caplog.records if record.levelname == "ERROR"] == []
