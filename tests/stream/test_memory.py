"""A session that goes on elsewhere, with what was kept of it and the audio that isn't settled."""

import json
from dataclasses import asdict, replace

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from streamtrans.core import BadConfig, Caption, SpeechEnded, SpeechStarted
from streamtrans.foreign.values import typed
from streamtrans.segment import EndpointRules
from streamtrans.stream import Memory, Session, SessionConfig
from streamtrans.stream.pump import settle
from streamtrans.testing.engine import InstantEngine
from tests.fakes import Loud, Words
from tests.server.conftest import grow, speech

RULES = EndpointRules(min_silence_ms=320, pre_roll_ms=64, padding_ms=64, max_segment_ms=3_000, cut_search_ms=1_000)
CONFIG = SessionConfig(targets=("de", "fr"), vad="energy", endpoints=RULES, reading_interval_ms=480)
CHUNK = 800


def new(memory=None, config=CONFIG):
    return Session(config, Words(), window=512, memory=memory)


def hear(session, engine, audio, told):
    for at in range(0, len(audio), CHUNK):
        session.hear(audio[at : at + CHUNK])
        if engine is not None:
            settle(session, engine)
        told += session.events()


def finals(told):
    closed = {}
    for event in told:
        if isinstance(event, Caption) and event.final:
            assert (event.segment, event.language) not in closed
            closed[event.segment, event.language] = event.committed, event.start, event.end
    return closed


def promised(told):
    return {(e.segment, e.language): e.committed for e in told if isinstance(e, Caption)}


def through_json(memory):
    return typed(Memory, json.loads(json.dumps(asdict(memory))), "memory")


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.floats(0.1, 4.5), min_size=2, max_size=7),
    st.lists(st.floats(0, 1), min_size=1, max_size=4),
    st.integers(0, 99),
    st.booleans(),
    st.sampled_from([None, -24.0]),
)
def test_cut_anywhere_and_gone_on_with_elsewhere_it_says_what_it_says_unbroken(pieces, cuts, seed, late, level):
    config = replace(CONFIG, level_db=level)
    audio = speech(*pieces, seed=seed)
    engine = InstantEngine(grow, Loud())
    whole = []
    session = new(config=config)
    hear(session, engine, audio, whole)
    session.end()
    settle(session, engine)
    whole += session.events()

    told, session, begins = [], new(config=config), 0
    for cut in sorted(round(each * len(audio)) // CHUNK * CHUNK for each in cuts):
        hear(session, InstantEngine(grow, Loud()), audio[begins : max(begins, cut)], told)
        if late:  # a stretch that is heard, and not read
            hear(session, None, audio[max(begins, cut) : cut + 9_600], told)
        memory = through_json(session.memory())
        begins = memory.begins // CHUNK * CHUNK
        session = new(replace(memory, begins=begins), config)
        assert session.cursors == memory.cursors
    hear(session, engine, audio[begins:], told)
    session.end()
    settle(session, engine)
    told += session.events()
    assert session.finished
    assert finals(told) == finals(whole)
    for kind in (SpeechStarted, SpeechEnded):
        assert [e for e in told if isinstance(e, kind)] == [e for e in whole if isinstance(e, kind)]
    assert session.stats.segments == len([e for e in whole if isinstance(e, SpeechStarted)])


def test_what_is_heard_again_is_little():
    session, engine = new(), InstantEngine(grow, Loud())
    for _ in range(20):
        hear(session, engine, speech(0.4, 1.0, 0.4), [])
    memory = session.memory()
    assert session.cursors.received - memory.begins < 16_000 * 4
    assert memory.segments == 20
    hear(session, engine, speech(0.1, 2.5), [])
    assert session.cursors.received - session.memory().begins < 16_000 * 4


def test_promises_are_kept_where_another_engine_would_say_otherwise():
    session, told = new(), []
    hear(session, InstantEngine(grow, Loud()), speech(0.3, 2.0), told)
    before = promised(told)
    assert all(before.values())
    memory = session.memory()

    def other(job, target):
        return grow(job, replace(target, language=target.language + "x"))

    again = new(memory)
    audio = speech(0.3, 2.0, 0.6)[memory.begins :]
    told = []
    hear(again, InstantEngine(other, Loud()), audio, told)
    for key, (text, _, _) in finals(told).items():
        assert text.startswith(before[key])


@pytest.mark.parametrize(
    "change",
    [
        {"segments": 7},
        {"onset": None},
        {"begins": 10**9},
        {"begins": -1},
        {"pending": ()},
        {"loudest": (-1e-9, 0.0, 0.1)},
        {"loudest": (0.0, 0.0, float("inf"))},
    ],
)
def test_what_does_not_hang_together_is_refused(change):
    session = new()
    hear(session, InstantEngine(grow, Loud()), speech(0.3, 2.0), [])
    with pytest.raises(BadConfig, match="a kept session"):
        replace(session.memory(), **change)


@pytest.mark.parametrize("gain", [0.0, -1.0, float("nan"), float("inf")])
def test_a_segment_that_would_be_multiplied_by_nothing_is_refused(gain):
    session = new()
    hear(session, InstantEngine(grow, Loud()), speech(0.3, 2.0), [])
    memory = session.memory()
    with pytest.raises(BadConfig, match="finite number above 0"):
        replace(memory, pending=tuple(replace(segment, gain=gain) for segment in memory.pending))
