"""A server of its own process, with the embedded model, is asked to go while people speak."""

import asyncio
import signal
import subprocess
import sys
from importlib import resources

import numpy as np
import pytest
import soundfile

from streamtrans.client import Caption, StreamOptions, Summary, TranslationClient, Unavailable


@pytest.fixture(scope="module")
def talk():
    """The bundled recording, over and over."""
    with resources.files("streamtrans.demo").joinpath("speech.flac").open("rb") as file:
        return np.tile(soundfile.read(file, dtype="float32")[0], 4)


async def started(*options):
    """Start ``streamtrans serve``; return the process and its port."""
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "streamtrans.cli", "serve", "--port", "0", "--threads", "1", "--vad", "energy", *options,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    async with asyncio.timeout(120):
        ready = await child.stdout.readline()
    assert ready.startswith(b"ready: "), ready
    return child, int(ready.split()[1].rstrip(b",").rpartition(b":")[2])


async def speak(port, audio, seen):
    """Speak in real time for as long as the server listens; return how it ended the call."""
    async with (
        TranslationClient(f"127.0.0.1:{port}") as client,
        client.stream(StreamOptions(("de",), min_interval_ms=960)) as stream,
    ):

        async def send():
            for start in range(0, len(audio), 1_600):
                await stream.send(audio[start : start + 1_600])
                await asyncio.sleep(0.1)

        sending = asyncio.create_task(send())
        try:
            async for event in stream:
                seen.append(event)
        except Unavailable as error:
            return error.message
        finally:
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)


async def test_on_sigterm_everybody_gets_finals_then_a_summary_then_the_status(talk):
    child, port = await started()
    seen = [[], []]
    async with asyncio.timeout(60):
        talking = [asyncio.create_task(speak(port, talk, events)) for events in seen]
        while not all(any(isinstance(event, Caption) for event in events) for events in seen):
            await asyncio.sleep(0.05)
        child.send_signal(signal.SIGTERM)
        ended = await asyncio.gather(*talking)
        _, err = await child.communicate()
    assert child.returncode == 0, err
    assert b"stopping: 2 streams may go on for up to 10 s" in err
    assert ended == ["the server is shutting down"] * 2
    for events in seen:
        assert isinstance(events[-1], Summary)
        last = {event.segment: event for event in events if isinstance(event, Caption)}
        assert all(caption.final for caption in last.values())
        assert any(caption.text for caption in last.values())


async def test_a_second_ctrl_c_ends_it_at_once(talk):
    child, port = await started()
    seen = []
    async with asyncio.timeout(60):
        talking = asyncio.create_task(speak(port, talk, seen))
        while not seen:
            await asyncio.sleep(0.02)
        child.send_signal(signal.SIGINT)
        assert b"loading" in await child.stderr.readline()
        assert b"Ctrl-C again ends at once" in await child.stderr.readline()
        assert child.returncode is None
        child.send_signal(signal.SIGINT)
        async with asyncio.timeout(2):
            assert await child.wait() == -signal.SIGINT
        await talking
