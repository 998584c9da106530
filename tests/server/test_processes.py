"""Law: whatever becomes of a server's process, those who speak lose no text and get none twice."""

import asyncio
import signal
import socket
import sys
from contextlib import AsyncExitStack, asynccontextmanager
from importlib.resources import files

import pytest
import soundfile

from streamtrans.client import Overloaded, Resumed, StreamOptions, TranslationClient
from streamtrans.core import Caption

STREAMS = 32
SPOKEN_S = 9
CHUNK = 1_600
WAITS_S = 60
SETTINGS = """
[limits]
resume_ms = 60000
[load]
max_lag_ms = 60000
most_busy = 1.0
"""  # this is about what is lost; how many streams a machine carries is another matter


@pytest.fixture(scope="module")
def speech():
    sound, rate = soundfile.read(str(files("streamtrans") / "demo" / "speech.flac"), dtype="int16")
    assert rate == 16_000
    return sound[: SPOKEN_S * rate]


def free_ports(count):
    with_ports = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in with_ports]
    for each in with_ports:
        each.close()
    return ports


@pytest.fixture
def serving(tmp_path):
    (tmp_path / "settings.toml").write_text(SETTINGS)

    @asynccontextmanager
    async def serve(port):
        server = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "streamtrans", "serve", "--config", str(tmp_path / "settings.toml")),
            *("--port", str(port), "--store", str(tmp_path / "store"), "--threads", "1"),
            stdout=asyncio.subprocess.PIPE,
        )
        try:
            while not (await server.stdout.readline()).startswith(b"ready: "):
                assert not server.stdout.at_eof(), "the server didn't start"
            yield server
        finally:
            if server.returncode is None:
                server.kill()
            await server.wait()

    return serve


async def let_in(stack, client):
    """Come again where the server says so: it hasn't measured yet what those cost who came just before."""
    options = StreamOptions(("de",), source_languages=("en",), resumable=True, mode="final")
    while True:
        try:
            return await stack.enter_async_context(client.stream(options, timeout_s=WAITS_S, resume_s=WAITS_S))
        except Overloaded as busy:
            await asyncio.sleep(busy.retry_after_s or 1)


async def captions(address, speech, begin=None):
    """Speak as fast as people do, once all have come who ``begin`` together.

    Return the final texts by segment, and how often the stream was resumed.
    """
    finals, resumed = {}, 0
    async with AsyncExitStack() as stack, TranslationClient(address) as client:
        stream = await let_in(stack, client)

        async def speak():
            if begin is not None:
                await begin.wait()
            for start in range(0, len(speech), CHUNK):
                await stream.send(speech[start : start + CHUNK].tobytes())
                await asyncio.sleep(CHUNK / 16_000)
            await stream.end()

        speaking = asyncio.create_task(speak())
        async for event in stream:
            resumed += isinstance(event, Resumed)
            if isinstance(event, Caption) and event.final:
                assert event.segment not in finals, "a text came twice"
                finals[event.segment] = event.committed
        await speaking
    return finals, resumed


async def test_a_server_that_is_killed_and_started_again_loses_nothing(serving, speech):
    [port] = free_ports(1)
    address = f"127.0.0.1:{port}"
    async with serving(port) as server:
        unbroken, _ = await captions(address, speech)
        assert len(unbroken) > 1
        assert any(unbroken.values())
        speaking = asyncio.create_task(captions(address, speech))
        await asyncio.sleep(SPOKEN_S / 3)
        server.kill()
        await server.wait()
    async with serving(port) as server:
        await asyncio.sleep(SPOKEN_S / 3)
        server.kill()
        await server.wait()
    async with serving(port):
        finals, resumed = await speaking
    assert finals == unbroken
    assert resumed >= 1


async def test_a_server_that_is_asked_to_stop_hands_all_of_its_streams_to_another(serving, speech):
    ports = free_ports(2)
    async with serving(ports[0]) as first, serving(ports[1]):
        unbroken, _ = await captions(f"127.0.0.1:{ports[1]}", speech)
        address = "ipv4:" + ",".join(f"127.0.0.1:{port}" for port in ports)  # gRPC takes the first that answers
        begin = asyncio.Barrier(STREAMS + 1)
        speaking = [asyncio.create_task(captions(address, speech, begin)) for _ in range(STREAMS)]
        async with asyncio.timeout(WAITS_S):
            await begin.wait()
        await asyncio.sleep(SPOKEN_S / 2)
        first.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(first.wait(), WAITS_S) == 0
        told = await asyncio.gather(*speaking)
    assert [finals for finals, _ in told] == [unbroken] * STREAMS
    assert all(resumed >= 1 for _, resumed in told)
