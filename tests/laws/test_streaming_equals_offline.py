"""What is streamed is what is read offline: the final caption of a segment is its audio's own text.

In FINAL mode, and wherever nothing is promised early, exactly so; where words were promised on the way, the final
caption is the offline text behind these words. In float64, where rounding decides nothing.
"""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from streamtrans.core import Job, SpeechStarted
from streamtrans.engine import Engine, EngineConfig
from streamtrans.evaluate import read_offline, replay
from streamtrans.model.loading import load_speech
from streamtrans.segment import EndpointRules
from streamtrans.stream import POLICIES, SessionConfig
from streamtrans.stream.guards import without_loop
from streamtrans.stream.leveller import raised
from streamtrans.testing.engine import Relay
from streamtrans.testing.toy import ToyConfig, ToyModel, toy_audio
from streamtrans.testing.vad import ScriptedVad
from streamtrans.text import Tokenizer, train_tokenizer
from tests.audio_models import MAKERS as AUDIO_MODELS
from tests.checkpoints import make_whisper_m2m

RULES = EndpointRules(
    min_speech_ms=64,
    min_silence_ms=200,
    pre_roll_ms=64,
    padding_ms=64,
    max_segment_ms=1_800,
    cut_search_ms=500,
)
SECONDS = 4
LENGTH = SECONDS * 16_000
SPANS = st.lists(st.tuples(st.integers(0, LENGTH), st.integers(0, LENGTH)), min_size=1, max_size=3)
SPELLER = Tokenizer(train_tokenizer(["wake me up", "réveille-moi", "星期五早上九点"] * 4, 330, ["de", "zh"]))
UNPROMISING = 10_000
"""So many tokens held back that nothing is promised before the end."""


class Recorder(Relay):
    """Passes everything on, and remembers what was asked of each segment last."""

    def __init__(self, engine):
        super().__init__(engine)
        self.last = {}

    def submit(self, request):
        if isinstance(request, Job) and request.last:
            self.last[request.segment] = request
        return super().submit(request)


def configs(languages):
    return st.builds(
        lambda targets, quiet, policy, mode, n, interval, level: SessionConfig(
            targets=tuple(targets),
            endpoints=RULES,
            mode="final" if quiet == "final" else mode,
            policy="hold" if quiet == "hold" else policy,
            policy_n=UNPROMISING if quiet == "hold" else n,
            reading_interval_ms=interval,
            min_voiced_ms=0,  # what little speech there is, is believed
            level_db=level,
        ),
        st.lists(st.sampled_from(languages), min_size=1, max_size=2, unique=True),
        st.sampled_from(["final", "hold", "promising"]),
        st.sampled_from(sorted(POLICIES)),
        st.sampled_from(["live", "stable"]),
        st.integers(1, 3),
        st.sampled_from([160, 480]),
        st.sampled_from([None, -24.0]),
    )


def _sane(hypothesis, prefix, speller):
    """Leave out what the session's guard against loops leaves out."""
    tokens = hypothesis.tokens
    return tokens[: without_loop(tokens, len(prefix), speller.decode, complete=hypothesis.complete)]


def check(model, speller, config, spans, audio, *, chunk=1_600):
    """Stream, then read each segment offline and undrafted, on engines of their own."""
    free = EngineConfig(slots=4, guard=False)  # toys speak no language
    with Engine(model, lambda _: ScriptedVad(spans), free) as engine:
        recorder = Recorder(engine)
        streamed = replay(config, speller, recorder, audio, chunk=chunk)
    assert streamed.stats.failures == 0
    # A segment that ended with its sentence was not read once more.
    assert len(streamed.segments) - len(recorder.last) <= streamed.stats.divided
    gains = {event.segment: event.gain for event in streamed.events if isinstance(event, SpeechStarted)}
    assert (set(gains.values()) <= {1.0}) == (config.level_db is None or not gains)
    promised = config.mode != "final" and config.policy_n < UNPROMISING
    with Engine(model, lambda _: ScriptedVad(), EngineConfig(slots=4, drafter="none", guard=False)) as plain:
        for segment in sorted(recorder.last):
            start, end = streamed.segments[segment]
            prefixes = tuple(target.prefix for target in recorder.last[segment].targets)
            if not promised:
                assert not any(prefixes)
            offline = read_offline(plain, raised(audio[start:end], gains[segment]), config.targets, prefixes=prefixes)
            finals = [caption for caption in streamed.finals if caption.segment == segment]
            assert [caption.language for caption in finals] == list(config.targets)
            assert [caption.text for caption in finals] == [
                speller.decode(_sane(hypothesis, prefix, speller))
                for hypothesis, prefix in zip(offline.hypotheses, prefixes, strict=True)
            ]
    return streamed


@settings(max_examples=50, deadline=None)
@given(
    config=configs(["en", "de", "zh"]),
    spans=SPANS,
    seed=st.integers(0, 100),
    order=st.sampled_from([None, 1]),
    chunk=st.sampled_from([700, 1_600, 9_000]),
)
def test_streaming_equals_offline(*, config, spans, seed, order, chunk):
    model = ToyModel(ToyConfig(seed=seed, words=40, order=order))
    check(model, SPELLER, config, spans, toy_audio(SECONDS, seed), chunk=chunk)


MAKERS = {"whisper_m2m": lambda folder: make_whisper_m2m(folder, decoder_layers=2), **AUDIO_MODELS}


@pytest.fixture(scope="module", params=MAKERS)
def real(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory):
    torch.set_num_threads(1)
    folder: Path = tmp_path_factory.mktemp(request.param)
    MAKERS[request.param](folder)
    said = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(said | {"languages": ["en", "de", "zh"]}))
    return load_speech(folder, device="cpu", dtype="float64")


@settings(max_examples=8, deadline=None)
@given(config=configs(["en", "de", "zh"]), spans=SPANS, seed=st.integers(0, 9))
def test_streaming_equals_offline_with_a_real_network(real, config, spans, seed):
    audio = np.random.default_rng(seed).normal(0, 0.1, LENGTH).astype(np.float32)
    check(real, real.vocabulary, config, spans, audio)


def test_there_is_something_to_compare(real):
    """The law isn't kept by saying nothing."""
    audio = np.random.default_rng(5).normal(0, 0.1, LENGTH).astype(np.float32)
    config = SessionConfig(("de", "zh"), endpoints=RULES, policy="agreement", policy_n=2)
    streamed = check(real, real.vocabulary, config, [(3_000, 20_000), (30_000, 60_000)], audio)
    assert len(streamed.finals) >= 4
    assert any(caption.text for caption in streamed.finals)
    assert len(streamed.captions) > len(streamed.finals)
    assert streamed.stats.decode.by_drafter["echo"][1] > 0
