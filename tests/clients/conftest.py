"""A server that answers at once, and recordings to play to it."""

from contextlib import asynccontextmanager

import numpy as np
import pytest
import soundfile

from streamtrans.segment import EndpointRules
from streamtrans.server import Limits, Served, ServerConfig, TranslationServer
from streamtrans.stream import SessionConfig
from streamtrans.testing.engine import InstantEngine, hypothesis
from tests.certificates import make_certificate
from tests.fakes import Loud, Words

RULES = EndpointRules(min_silence_ms=200, pre_roll_ms=32, padding_ms=32, max_segment_ms=6_000, cut_search_ms=1_000)


def count(job, target):
    """One word per 160 ms, the newest wrong at first."""
    words = range(len(job.audio) // 2_560)
    return hypothesis((*target.prefix, *words[len(target.prefix) :], *([] if job.last else [99])))


def tone(seconds, rate=16_000):
    """A loud stretch with silence around it."""
    random = np.random.default_rng(0)
    quiet = np.zeros(round(0.1 * rate))
    return np.concatenate([quiet, random.normal(0, 0.1, round(seconds * rate)), quiet]).clip(-1, 1)


@asynccontextmanager
async def _running(*, loaded=None, **changes):
    """Yield the address of a warm server, or of one that loads until an event; a certificate is made out to a name."""
    session = SessionConfig(targets=("en",), endpoints=RULES, reading_interval_ms=160, min_first_reading_ms=160)
    config = ServerConfig(port=0, limits=Limits(), session=session, grace_ms=0, **changes)
    served = Served(InstantEngine(count, Loud()), Words(), ("en", "de", "zh"), "toy", ("energy",))

    def load():
        if loaded is not None:
            loaded.wait()
        return served

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


@pytest.fixture
def talk(tmp_path):
    path = tmp_path / "talk.wav"
    soundfile.write(path, tone(0.9), 16_000)
    return path


@pytest.fixture
def certificate(tmp_path):
    return make_certificate(tmp_path)
