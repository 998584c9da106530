"""Equal jobs give equal answers, whatever their neighbours."""

from dataclasses import replace

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from streamtrans.core import Job, Target
from streamtrans.engine import Engine, EngineConfig
from streamtrans.testing.toy import ToyConfig, ToyModel, toy_audio

PATIENCE_S = 10
LANGUAGES = ("en", "de", "zh")


@st.composite
def jobs(draw):
    audio = toy_audio(draw(st.floats(0, 4)), draw(st.integers(0, 5)))
    words = st.integers(8, 12)
    targets = tuple(
        Target(
            language,
            prefix=tuple(draw(st.lists(words, max_size=3))),
            draft=tuple(draw(st.lists(words, max_size=20))),
        )
        for language in draw(st.lists(st.sampled_from(LANGUAGES), unique=True, max_size=3))
    )
    return Job(draw(st.integers(0, 9)), 0, len(audio), draw(st.booleans()), audio, targets)


def no_vad(name):
    raise AssertionError(name)


@settings(max_examples=40, deadline=None)
@given(
    requests=st.lists(jobs(), min_size=1, max_size=8),
    slots=st.integers(3, 8),
    max_batch=st.integers(1, 8),
    order=st.sampled_from([None, 1]),
    top_k=st.sampled_from([1, 2]),
    cancelled=st.sets(st.integers(0, 7)),
    broken=st.booleans(),
)
def test_together_equals_alone(*, requests, slots, max_batch, order, top_k, cancelled, broken):
    toy = ToyConfig(words=5, order=order)
    config = EngineConfig(slots=slots, max_batch=max_batch, top_k=top_k, drafter="echo,ngram,kvspn")
    with Engine(ToyModel(toy), no_vad, replace(config, slots=3)) as engine:
        alone = [engine.submit(request).result(PATIENCE_S) for request in requests]
    with Engine(ToyModel(toy), no_vad, config) as engine:
        futures = [engine.submit(request) for request in requests]
        nan = np.full(400, np.nan, np.float32)
        bad = engine.submit(Job(0, 0, 400, True, nan, (Target("de"),))) if broken else None
        gone = {n for n in cancelled if n < len(futures) and futures[n].cancel()}
        together = {n: future.result(PATIENCE_S) for n, future in enumerate(futures) if n not in gone}
        assert bad is None or bad.exception(PATIENCE_S) is not None
    assert together == {n: alone[n] for n in together}
    assert engine.stats.free == slots
