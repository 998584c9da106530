"""A broken tenant leaves no trace: whoever comes into its slot next says what it says in a fresh one."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from streamtrans.core import BadAnswer, Detect, Job, Reading, Target
from streamtrans.engine import Engine, EngineConfig
from streamtrans.model.api import DecoderCache, Forward, Guess, Propose, SpeechModel
from streamtrans.model.cache import EncodedSpeech
from streamtrans.model.loading import load_model, load_speech
from streamtrans.model.speech import TorchSpeechModel
from streamtrans.testing.toy import ToyModel
from tests.audio_models import LAWFUL as AUDIO_MODELS
from tests.checkpoints import SPECULATORS, make_whisper_m2m
from tests.model.test_parity import speech

PATIENCE_S = 20
POISON = 3
"""A token whose embedding is made no number: a language's, which no text holds by itself."""
BREAKING = Target("de", prefix=(60, POISON, *(60,) * 28))
AUDIOS = [speech(seconds, seed) for seed, seconds in enumerate((0.1, 0.5, 1.1, 1.9))]
LINE = (1, 2, 40, 50, 60, 70)
KINDS = [("float64", kind) for kind in ("hole", "own keys", "window", "medusa")]
KINDS += [(dtype, "own keys") for dtype in ("float32", "bfloat16", "int8", "float16")]
KINDS += [("float64", kind) for kind in AUDIO_MODELS]


@pytest.fixture(scope="module", params=KINDS, ids=" ".join)
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> SpeechModel:
    dtype, kind = request.param
    folder = tmp_path_factory.mktemp("tenants")
    if kind in AUDIO_MODELS:
        AUDIO_MODELS[kind](folder)
    else:
        make_whisper_m2m(folder, **SPECULATORS[kind])
    return load_speech(folder, device="cpu", dtype=dtype)


@st.composite
def broken(draw: st.DrawFn, sound: EncodedSpeech) -> EncodedSpeech:
    """Put what is no number into the keys or values of one attention of the decoder, of KVSPN, or to a prefix."""
    value = draw(st.sampled_from([np.nan, np.inf, -np.inf]))
    pairs = [*sound.decoder, *sound.speculator, *sound.prefix]
    where = draw(st.integers(0, len(pairs) - 1))
    part, start = draw(st.sampled_from(["keys", "values"])), draw(st.integers(0, 99))
    with torch.inference_mode():
        spoilt = getattr(pairs[where], part).flatten().clone()
        spoilt[start::7] = value
        pairs[where] = replace(pairs[where], **{part: spoilt.view(getattr(pairs[where], part).shape)})
    decoder, speculator = len(sound.decoder), len(sound.decoder) + len(sound.speculator)
    parts = pairs[:decoder], pairs[decoder:speculator], pairs[speculator:]
    return EncodedSpeech(sound.frames, *map(tuple, parts))


def guess(model: SpeechModel, caches: list[DecoderCache]) -> list[Guess]:
    proposals = [Propose((50,), cache, count=4) for cache in caches]
    return model.propose(proposals) if model.has_speculator else []


@settings(max_examples=8, deadline=None)
@given(data=st.data())
def test_a_wiped_slot_is_a_fresh_one(model: SpeechModel, data: st.DataObject) -> None:
    memories = model.encode(AUDIOS)
    used, fresh = model.allocate(3), model.allocate(3)
    tenants = [used.open(data.draw(broken(memories[3]))) for _ in range(3)]
    for cache in tenants:
        try:
            model.step([Forward(LINE * 6, cache, rows=1)])
            guess(model, [cache])
        except BadAnswer:
            assert cache.length == 0
        used.wipe(cache)
        used.release(cache)
    tenants_now = [memories[row] for row in data.draw(st.lists(st.integers(0, 3), min_size=2, max_size=3))]
    counts = [data.draw(st.integers(1, len(LINE))) for _ in tenants_now]
    found = []
    for slots in (used, fresh):
        caches = [slots.open(memory) for memory in tenants_now]
        pieces = [Forward(LINE[:n], cache, rows=1) for n, cache in zip(counts, caches, strict=True)]
        found.append((model.step(pieces), guess(model, caches)))
    assert found[0] == found[1]


@pytest.fixture(scope="module")
def poisoned(tmp_path_factory: pytest.TempPathFactory) -> TorchSpeechModel:
    folder = tmp_path_factory.mktemp("poisoned")
    make_whisper_m2m(folder, speculator_own_keys=True)
    model = load_model(folder, device="cpu", dtype="float64")
    decoder, embed = model.network.model.decoder, model.network.model.decoder.embed

    def embed_poison(tokens: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
        return embed(tokens, positions).masked_fill((tokens == POISON)[..., None], torch.nan)

    decoder.embed = embed_poison  # type: ignore[method-assign]
    return model


@settings(max_examples=12, deadline=None)
@given(
    rows=st.lists(st.integers(0, 3), min_size=1, max_size=6),
    bad=st.sets(st.integers(0, 5), min_size=1),
    how=st.sampled_from(["late", "deaf"]),
    slots=st.integers(1, 3),
)
def test_only_the_broken_job_fails(
    poisoned: TorchSpeechModel, rows: list[int], bad: set[int], how: str, slots: int
) -> None:
    """The others say what they say alone, beside it and after it; what breaks is named."""

    def job(row: int) -> Job:
        return Job(0, 0, len(AUDIOS[row]), True, AUDIOS[row], (Target("en", prefix=(70,) * 3 * row),))

    nan = np.full(30_000, np.nan, np.float32)
    spoilt = replace(job(3), targets=(BREAKING,)) if how == "late" else Job(0, 0, len(nan), True, nan, (Target("de"),))
    config = EngineConfig(slots=slots)
    with Engine(poisoned, _no_vad, config) as engine:
        alone = [_reading(engine, job(row)) for row in range(4)]
    with Engine(poisoned, _no_vad, config) as engine:
        asked = [(spoilt if at in bad else job(row)) for at, row in enumerate(rows)]
        futures = [engine.submit(each) for each in asked]
        for at, (row, future) in enumerate(zip(rows, futures, strict=True)):
            if at in bad:
                with pytest.raises(BadAnswer, match="aren't finite"):
                    future.result(PATIENCE_S)
            else:
                assert _tokens(future.result(PATIENCE_S)) == _tokens(alone[row])
        again = [engine.submit(job(row)) for row in range(4)]
        assert [_tokens(future.result(PATIENCE_S)) for future in again] == [_tokens(each) for each in alone]
        assert engine.stats.free == slots
        # A batch that fails is read again one by one, which would hide what was left behind, but not its price.
        assert all(torch.isfinite(tensor).all() for tensor in (*engine._ear.slots.keys, *engine._ear.slots.values))


def test_a_detector_that_answers_nonsense_fails_alone() -> None:
    """NaN, too little, or what is no probability, and only for the stream that is loud."""

    class Odd:
        window = 4

        def __init__(self, odd: object) -> None:
            self.odd = odd

        def detect(self, streams: list) -> list:
            return [(np.array(self.odd if w.max() > 0.9 else [0.5] * len(w)), (s or 0) + 1) for w, s in streams]

    def detect(level: float) -> Detect:
        return Detect("odd", np.full((2, 4), level, np.float32), None)

    for odd, problem in (([0.5, np.nan], "isn't in"), ([0.5], "1 probabilities for 2"), ([0.5, 1.5], "isn't in")):
        with Engine(ToyModel(), lambda _, odd=odd: Odd(odd)) as engine:
            futures = [engine.submit(detect(level)) for level in (0.1, 1.0, 0.1)]
            with pytest.raises(BadAnswer, match=problem):
                futures[1].result(PATIENCE_S)
            # A detector's state is used up by a call, so nobody may be asked a second time.
            assert [futures[at].result(PATIENCE_S).state for at in (0, 2)] == [1, 1]


def _no_vad(name: str):
    raise AssertionError(name)


def _reading(engine: Engine, job: Job) -> Reading:
    reading = engine.submit(job).result(PATIENCE_S)
    assert isinstance(reading, Reading)
    return reading


def _tokens(reading) -> list[tuple[int, ...]]:
    return [hypothesis.tokens for hypothesis in reading.hypotheses]
