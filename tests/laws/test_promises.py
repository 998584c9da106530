"""Committed text only grows, whatever the model says and however the audio arrives.

The model here is an adversary: it answers any tokens at all, half characters, special tokens and ids beyond
the vocabulary among them, breaks the promise it was given, and fails now and then.
"""

import random
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamtrans.core import AudioTooLong, Caption, Detect, Job, SpeechEnded, SpeechStarted
from streamtrans.segment import EndpointRules
from streamtrans.stream import POLICIES, Session, SessionConfig, settle
from streamtrans.testing.engine import InstantEngine, hypothesis
from streamtrans.testing.vad import ScriptedVad
from streamtrans.text import Tokenizer, train_tokenizer

RULES = EndpointRules(
    min_speech_ms=64,
    min_silence_ms=200,
    pre_roll_ms=64,
    padding_ms=64,
    max_segment_ms=3_000,
    cut_search_ms=600,
)
TOKENIZER = Tokenizer(train_tokenizer(["wake me up", "réveille-moi", "星期五早上九点"] * 4, 330, ["de", "zh"]))
LENGTH = 5 * 16_000
AUDIO = np.random.default_rng(1).normal(0, 0.1, LENGTH).astype(np.float32)

SPANS = st.lists(st.tuples(st.integers(0, LENGTH), st.integers(0, LENGTH)), max_size=4)
# The last length keeps streams of single samples from taking forever.
CHUNKS = st.lists(st.integers(1, 24_000), max_size=6).map(lambda lengths: [*lengths, 5_000])
CONFIGS = st.builds(
    SessionConfig,
    targets=st.sampled_from([("de",), ("de", "zh")]),
    endpoints=st.just(RULES),
    mode=st.sampled_from(["live", "stable", "final"]),
    policy=st.sampled_from(sorted(POLICIES)),
    policy_n=st.integers(1, 3),
    reading_interval_ms=st.sampled_from([100, 250, 480]),
    min_first_reading_ms=st.sampled_from([0, 300]),
    detect_limit_ms=st.sampled_from([100, 700, 2_000]),
)


def adversary(seed):
    """Say something that depends on the job alone, often near what was said before, sometimes outrageous."""

    def model(job, target):
        rng = random.Random(f"{seed} {job.segment} {job.end} {job.last} {target.language}")
        mood = rng.random()
        if mood < 0.08:
            raise AudioTooLong("the adversary is not in the mood")
        tail = [rng.randrange(TOKENIZER.size + 5) for _ in range(rng.randrange(8))]
        if mood < 0.16:
            return hypothesis(tail, 0.5)
        keep = rng.randrange(len(target.prefix), max(len(target.draft), len(target.prefix)) + 1)
        said = target.draft if len(target.draft) >= len(target.prefix) else target.prefix
        return hypothesis((*said[:keep], *tail), 0.5)

    return model


def cut(chunks):
    """Yield ``AUDIO`` in pieces whose lengths go round in ``chunks``."""
    start, turn = 0, 0
    while start < LENGTH:
        size = chunks[turn % len(chunks)]
        yield AUDIO[start : start + size]
        start, turn = start + size, turn + 1


def run(config, spans, chunks, seed):
    session = Session(config, TOKENIZER, window=512)
    engine = InstantEngine(adversary(seed), ScriptedVad(spans))
    for chunk in cut(chunks):
        session.hear(chunk)
        settle(session, engine)
    session.end()
    settle(session, engine)
    assert session.finished
    return session.events(), engine.jobs


def check_promises(events, config):
    opened = [event.segment for event in events if isinstance(event, SpeechStarted)]
    assert opened == list(range(len(opened)))
    for number in opened:
        ended = [i for i, e in enumerate(events) if isinstance(e, SpeechEnded) and e.segment == number]
        assert len(ended) == 1
        for language in config.targets:
            mine = [
                (i, event)
                for i, event in enumerate(events)
                if isinstance(event, Caption) and (event.segment, event.language) == (number, language)
            ]
            captions = [caption for _, caption in mine]
            assert [caption.revision for caption in captions] == list(range(1, len(captions) + 1))
            assert [caption.final for caption in captions] == [False] * (len(captions) - 1) + [True]
            assert captions[-1].tentative == ""
            assert mine[-1][0] > ended[0]
            for before, after in pairwise(captions):
                assert after.committed.startswith(before.committed)
                assert after.final or (after.committed, after.tentative) != (
                    before.committed,
                    before.tentative,
                )
            for caption in captions:
                assert 0 <= caption.start < caption.end == caption.heard <= LENGTH
                assert 0.0 <= caption.stability <= 1.0
                if config.mode != "live":
                    assert caption.tentative == ""
            if config.mode == "final":
                assert len(captions) == 1


@settings(max_examples=60, deadline=None)
@given(config=CONFIGS, spans=SPANS, chunks=CHUNKS, seed=st.integers(0, 10_000))
def test_promises_are_kept(config, spans, chunks, seed):
    events, jobs = run(config, spans, chunks, seed)
    check_promises(events, config)
    for job in jobs:
        for target in job.targets:
            assert target.draft[: len(target.prefix)] == target.prefix
            shown = [
                event
                for event in events
                if isinstance(event, Caption) and (event.segment, event.language) == (job.segment, target.language)
            ]
            assert shown[-1].committed.startswith(TOKENIZER.decode(target.prefix))


@settings(max_examples=40, deadline=None)
@given(config=CONFIGS, spans=SPANS, chunks=CHUNKS, others=CHUNKS, seed=st.integers(0, 10_000))
def test_chunking_changes_nothing(config, spans, chunks, others, seed):
    events, jobs = run(config, spans, chunks, seed)
    others, other_jobs = run(config, spans, others, seed)
    assert events == others
    assert [(job.start, job.end, job.last, job.targets) for job in jobs] == [
        (job.start, job.end, job.last, job.targets) for job in other_jobs
    ]
    for job in jobs:
        np.testing.assert_array_equal(job.audio, AUDIO[job.start : job.end])


@settings(max_examples=60, deadline=None)
@given(config=CONFIGS, spans=SPANS, chunks=CHUNKS, seed=st.integers(0, 10_000))
def test_promises_are_kept_at_any_pace(config, spans, chunks, seed):
    """The engine answers in any order and whenever it likes, and utterances are ended by force in between."""
    session = Session(config, TOKENIZER, window=512)
    engine = InstantEngine(adversary(seed), ScriptedVad(spans))
    pieces = list(cut(chunks))
    dice = random.Random(seed)
    under_way, cursors = [], session.cursors
    while not session.finished:
        step = dice.choice(["hear", "answer", "answer", "end_utterance"] if pieces else ["answer"])
        if step == "hear":
            session.hear(pieces.pop(0))
            if not pieces:
                session.end()
        elif step == "end_utterance" and dice.random() < 0.1:
            session.end_utterance()
        elif under_way:
            request = under_way.pop(dice.randrange(len(under_way)))
            future = engine.submit(request)
            if future.exception() is None:
                session.answer(request, future.result())
            else:
                session.fail(request, future.exception())
        under_way += session.requests()
        assert sum(isinstance(request, Job) for request in under_way) <= 1
        assert sum(isinstance(request, Detect) for request in under_way) <= 1
        before, cursors = cursors, session.cursors
        assert all(getattr(before, name) <= getattr(cursors, name) for name in ("received", "decoded", "committed"))
        assert before.final <= cursors.final
        assert 0 <= cursors.final <= cursors.committed <= cursors.decoded <= cursors.received
    assert not under_way
    assert cursors.final == cursors.received == LENGTH
    check_promises(session.events(), config)


@pytest.mark.parametrize("mode", ["live", "stable"])
def test_the_promise_is_carried_by_every_job(mode):
    """Prefix == what the captions so far have committed, at the moment the job is taken."""
    config = SessionConfig(targets=("de",), endpoints=RULES, mode=mode, policy="hold", policy_n=1)
    session = Session(config, TOKENIZER, window=512)
    engine = InstantEngine(adversary(7), ScriptedVad([(4_000, 70_000)]))
    committed = {}
    for chunk in cut([1_600]):
        session.hear(chunk)
        while requests := session.requests():
            for request in requests:
                if isinstance(request, Job):
                    promised = TOKENIZER.decode(request.targets[0].prefix)
                    assert promised == committed.get(request.segment, "")
                future = engine.submit(request)
                if future.exception() is None:
                    session.answer(request, future.result())
                else:
                    session.fail(request, future.exception())
            for event in session.events():
                if isinstance(event, Caption):
                    committed[event.segment] = event.committed
    assert any(committed.values())
