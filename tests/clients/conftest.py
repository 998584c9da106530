"""A server that answers at once, and recordings to play to it."""

from contextlib import asynccontextmanager

import numpy as np
import pytest
import soundfile

from streamtrans.segment import EndpointRules
from streamtrans.server import Limits, Served, ServerConfig, TranslationServer
from streamtrans.stream import SessionConfig
from streamtrans.testing.engine import InstantEngine, hypothesis

RULES = EndpointRules(min_silence_ms=200, pre_roll_ms=32, padding_ms=32, max_segment_ms=6_000, cut_search_ms=1_000)


class Words:
    """Token ``i`` is the word ``w<i>``."""

    def decode(self, tokens):
        return " ".join(f"w{token}" for token in tokens)

    def boundary(self, tokens, n, *, final=False):
        return max(0, min(n, len(tokens) - (not final)))


class Loud:
    """Speech is what is loud."""

    def detect(self, streams):
        return [(np.where(np.square(windows).mean(1) > 1e-4, 0.95, 0.05), None) for windows, _ in streams]


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
async def _running(**changes):
    session = SessionConfig(targets=("en",), endpoints=RULES, reading_interval_ms=160, min_first_reading_ms=160)
    config = ServerConfig(port=0, limits=Limits(), session=session, grace_ms=0, **changes)
    served = Served(InstantEngine(count, Loud()), Words(), ("en", "de", "zh"), "toy", ("energy",))
    async with TranslationServer(config, lambda: served) as server:
        await server.ready()
        yield f"127.0.0.1:{server.port}"


@pytest.fixture
def running():
    return _running


@pytest.fixture
def talk(tmp_path):
    path = tmp_path / "talk.wav"
    soundfile.write(path, tone(0.9), 16_000)
    return path
