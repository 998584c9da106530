from types import SimpleNamespace

import numpy as np
import pytest

from streamtrans.segment import EndpointRules
from streamtrans.stream import Session, SessionConfig
from streamtrans.testing.engine import InstantEngine, hypothesis
from streamtrans.testing.vad import ScriptedVad
from tests.fakes import Words

RULES = EndpointRules(
    min_speech_ms=64,
    min_silence_ms=320,
    pre_roll_ms=64,
    head_ms=0,
    padding_ms=64,
    max_segment_ms=6_000,
    cut_search_ms=1_000,
)


def say(seconds, seed=0):
    return np.random.default_rng(seed).normal(0, 0.1, round(seconds * 16_000)).astype(np.float32)


def grow(job, target):
    """One word per 240 ms; the newest word is always wrong at first."""
    count = len(job.audio) // 3_840
    return hypothesis((*range(count), 99) if not job.last else range(count), 0.5)


@pytest.fixture
def stage():
    """Make a session, and an engine with a script."""

    def make(spans, model=grow, **settings):
        config = SessionConfig(**{"targets": ("de",), "endpoints": RULES} | settings)
        spans = [(round(16_000 * start), round(16_000 * end)) for start, end in spans]
        return Session(config, Words(), window=512), InstantEngine(model, ScriptedVad(spans))

    return SimpleNamespace(make=make, say=say, grow=grow, words=Words(), rules=RULES)
