import asyncio

import pytest
from streamtrans_clients import follow

from streamtrans.client import Caption, InvalidRequest, Started, StreamOptions, Summary, TranslationClient, Unsupported
from tests.clients.conftest import tone


async def pieces(audio, size=3_200, error=None):
    for start in range(0, len(audio), size):
        yield audio[start : start + size]
    if error is not None:
        raise error


def pcm(seconds):
    return (tone(seconds) * 32_767).astype("<i2").tobytes()


async def test_everything_is_shown_and_the_summary_returned(running):
    events = []
    async with running() as address, TranslationClient(address) as client:
        summary = await follow(client, StreamOptions(("de", "zh")), pieces(pcm(0.8)), events.append)
    assert isinstance(events[0], Started)
    assert events[-1] is summary
    assert isinstance(summary, Summary)
    assert summary.segments == 1
    finals = [event for event in events if isinstance(event, Caption) and event.final]
    assert [final.language for final in finals] == ["de", "zh"]
    assert finals[0].text.startswith("w0 w1")


async def test_a_refusal_comes_through(running):
    async with running() as address, TranslationClient(address) as client:
        with pytest.raises(Unsupported):
            await follow(client, StreamOptions(("fr",)), pieces(pcm(0.1)), lambda event: None)


async def test_a_broken_source_ends_the_stream(running):
    async with running() as address, TranslationClient(address) as client:
        with pytest.raises(OSError, match="unplugged"):
            await follow(
                client, StreamOptions(("de",)), pieces(pcm(0.1), error=OSError("unplugged")), lambda event: None
            )


async def test_a_server_that_ends_the_call_is_heard_though_the_source_goes_on(running):
    async def no_numbers():
        while True:
            yield b"\xff" * 40  # NaN: INVALID_ARGUMENT
            await asyncio.sleep(0.01)

    options = StreamOptions(("de",), encoding="pcm_f32le")
    async with running() as address, TranslationClient(address) as client:
        with pytest.raises(InvalidRequest):
            await asyncio.wait_for(follow(client, options, no_numbers(), lambda event: None), 30)


async def test_cancelling_leaves_nothing_behind(running):
    async def silence():
        while True:
            yield b"\0" * 3_200
            await asyncio.sleep(0.1)

    async with running() as address, TranslationClient(address) as client:
        task = asyncio.create_task(follow(client, StreamOptions(("de",)), silence(), lambda event: None))
        await asyncio.sleep(0.3)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert len(asyncio.all_tasks()) < 20
