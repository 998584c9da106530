"""What every bot is held to: its captions are those of a call over gRPC, whatever comes between."""

import asyncio
import socket
import threading
from contextlib import asynccontextmanager

import pytest
from streamtrans_clients.bots.rooms import Room
from streamtrans_clients.bots.speaker import SpeakerStream

from streamtrans.client import Caption, StreamOptions, TranslationClient
from streamtrans.server import TranslationServer
from tests.server.conftest import configured, served, speech

TALK = (speech(0.3, 1.1, 0.7, 0.9, 0.6, seed=5) * 32_767).astype("<i2").tobytes()
"""Two utterances: 16-bit samples, mono, at 16 kHz."""


@asynccontextmanager
async def _house(port=0, **changes):
    """A warm server whose words tell what it heard and in which language; yield its address."""
    async with TranslationServer(configured(port=port, **changes), served) as server:
        await server.ready()
        yield f"127.0.0.1:{server.port}"


@pytest.fixture
def house():
    return _house


@pytest.fixture
def address_of_a_house():
    """A server in a thread of its own, for programs that have an event loop of their own; and its captions of TALK."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()

    def run(work):
        return asyncio.run_coroutine_threadsafe(work, loop).result(20)

    opened = _house()
    address = run(opened.__aenter__())
    yield address, run(_grpc(address, targets=("de", "en"), source_languages=("en",)))
    run(opened.__aexit__(None, None, None))
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


class Restarted:
    """A server with a store, which can be stopped and started anew at the same address."""

    def __init__(self, place):
        self._how, self._server = {"store": str(place)}, None

    async def start(self):
        self._server = TranslationServer(configured(**self._how), served)
        await self._server.__aenter__()
        await self._server.ready()
        self._how["port"] = self._server.port
        self.address = f"127.0.0.1:{self._server.port}"

    async def stop(self):
        await self._server.stop(0)

    async def again(self):
        await settled(lambda: any(each.cursors.received_ms for each in self._server._service.stats(()).streams))
        await self.stop()
        await self.start()


@pytest.fixture
def unhurried(monkeypatch):
    """Who speaks has not paused because the machine is busy, nor because a server of this process starts."""
    monkeypatch.setitem(SpeakerStream.__init__.__kwdefaults__, "quiet_s", 10.0)


@pytest.fixture
async def restarted(tmp_path, unhurried):
    server = Restarted(tmp_path / "store")
    await server.start()
    yield server
    await server.stop()


async def _grpc(address, sound=TALK, targets=("de", "fr"), **options):
    """Return the final texts of a call over gRPC, by language, in order."""
    texts = {}
    async with TranslationClient(address) as client:
        async for event in client.translate(StreamOptions(targets, **options), sound):
            if isinstance(event, Caption) and event.final:
                texts.setdefault(event.language, []).append(event.text.strip())
    return texts


@pytest.fixture
def over_grpc():
    return _grpc


@pytest.fixture
def nowhere():
    """An address where nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{probe.getsockname()[1]}"


@pytest.fixture
def heard(monkeypatch, unhurried):
    """What rooms hear, by speaker: codecs and clocks change samples on the way."""
    sound, hear = {}, Room.hear

    def noting(room, who, piece):
        sound[who] = sound.get(who, b"") + piece
        hear(room, who, piece)

    monkeypatch.setattr(Room, "hear", noting)
    return sound


async def settled(what):
    """Wait until something is true, for a while."""
    async with asyncio.timeout(15):
        while not what():
            await asyncio.sleep(0.01)
