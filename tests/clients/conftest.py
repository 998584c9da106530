"""A server that answers at once, and recordings to play to it."""

import asyncio
from contextlib import asynccontextmanager

import numpy as np
import pytest
import soundfile

from streamtrans.client import Caption, TranslationClient
from streamtrans.segment import EndpointRules
from streamtrans.server import Limits, Served, ServerConfig, TranslationServer
from streamtrans.stream import SessionConfig
from streamtrans.testing.engine import InstantEngine, hypothesis
from tests.certificates import make_certificate
from tests.fakes import Loud, Words
from tests.server.test_restart import killed

RULES = EndpointRules(min_silence_ms=200, pre_roll_ms=32, padding_ms=32, max_segment_ms=6_000, cut_search_ms=1_000)


def count(job, target):
    """One word per 160 ms, the newest wrong at first."""
    words = range(len(job.audio) // 2_560)
    return hypothesis((*target.prefix, *words[len(target.prefix) :], *([] if job.last else [99])))


def sentences(count, rate=16_000):
    """Loud stretches of 0.6 s and more, with 0.4 s of silence between."""
    parts = [tone(0.6 + 0.16 * at, rate) for at in range(count)]
    return np.concatenate([np.concatenate([part, np.zeros(round(0.3 * rate))]) for part in parts])


def pcm(audio):
    """Return samples as 16-bit bytes."""
    return np.rint(audio * 32_767).astype("<i2").tobytes()


def tone(seconds, rate=16_000):
    """A loud stretch with silence around it."""
    random = np.random.default_rng(0)
    quiet = np.zeros(round(0.1 * rate))
    return np.concatenate([quiet, random.normal(0, 0.1, round(seconds * rate)), quiet]).clip(-1, 1)


def configured(**changes):
    session = SessionConfig(targets=("en",), endpoints=RULES, reading_interval_ms=160, min_first_reading_ms=160)
    return ServerConfig(**({"port": 0, "limits": Limits(), "session": session, "grace_ms": 0} | changes))


def served():
    return Served(InstantEngine(count, Loud()), Words(), ("en", "de", "zh"), "toy", ("energy",))


@asynccontextmanager
async def _running(*, loaded=None, **changes):
    """Yield the address of a warm server, or of one that loads until an event; a certificate is made out to a name."""

    def load():
        if loaded is not None:
            loaded.wait()
        return served()

    config = configured(**changes)
    async with TranslationServer(config, load) as server:
        if loaded is None:
            await server.ready()
        if server.http_port:
            yield f"ws://127.0.0.1:{server.http_port}"
        else:
            yield f"localhost:{server.port}" if config.tls else f"127.0.0.1:{server.port}"


@pytest.fixture
def running():
    return _running


class Restarting:
    """A server that is killed, and one that goes on at its address with what it left in its store."""

    def __init__(self, place):
        self._place, self.port = place and str(place), 0
        self._running = None

    async def __aenter__(self):
        await self._start()
        return self

    async def __aexit__(self, *_):
        await self._server.stop(0)

    async def restart(self, away_s=0.2):
        while not any(each.cursors.received_ms for each in self._server._service.stats(()).streams):
            await asyncio.sleep(0.01)  # somebody is to be there whom it hurts
        await (killed(self._server) if self._place else self._server.stop(0))
        await asyncio.sleep(away_s)
        await self._start()

    async def _start(self):
        config = configured(port=self.port, store=self._place)
        self._server = TranslationServer(config, served)
        await self._server.__aenter__()
        await self._server.ready()
        self.port = self._server.port
        self.address = f"127.0.0.1:{self.port}"


@pytest.fixture
def restarting(tmp_path):
    return lambda place="store": Restarting(place and tmp_path / place)


async def finals_of(address, options, sound):
    """Return (language, text) of the final captions over gRPC."""
    async with TranslationClient(address) as client:
        events = [event async for event in client.translate(options, sound)]
    return [(each.language, each.text) for each in events if isinstance(each, Caption) and each.final]


@pytest.fixture
def talk(tmp_path):
    path = tmp_path / "talk.wav"
    soundfile.write(path, tone(0.9), 16_000)
    return path


@pytest.fixture
def certificate(tmp_path):
    return make_certificate(tmp_path)
