"""Law: whatever the others want, each stream has its turn after a bounded number of theirs; all share the batches."""

import random
import threading
from concurrent.futures import wait
from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamtrans.core import Detect, Job, Target
from streamtrans.engine import Engine, EngineConfig, Ticket, admit
from streamtrans.testing.toy import ToyConfig, ToyModel, toy_audio

CAPACITY = 6


@dataclass
class Stream:
    """What a session asks: one reading at a time; while that lasts a newer one replaces the one that waits."""

    texts: int
    every: int  # turns between two readings that fall due
    work: int  # turns that one takes
    talkative: float  # share of time in which there is speech
    asked: Ticket | None = None
    due: bool = False
    last: bool = False
    replaced: int = 0
    read: list[int] = field(default_factory=list)


STREAMS = st.lists(
    st.builds(
        Stream,
        texts=st.integers(1, 5),
        every=st.integers(1, 6),
        work=st.integers(1, 12),
        talkative=st.sampled_from([0.1, 0.5, 1.0]),
    ),
    min_size=2,
    max_size=12,
)


@settings(max_examples=60, deadline=None)
@given(streams=STREAMS, head_start=st.integers(0, 8), most=st.integers(1, 4), seed=st.integers(0, 999))
def test_every_turn_comes_after_a_bounded_number_of_the_others(streams, head_start, most, seed):
    dice = random.Random(seed)
    waiting, running, started, arrivals = {}, {}, [], 0
    for turn in range(400):
        for stream in streams:
            if turn % stream.every == 0 and dice.random() < stream.talkative:
                stream.replaced += stream.due
                stream.due, stream.last = True, stream.last or dice.random() < 0.2
            if stream.due and stream.asked is None:
                arrivals += 1
                stream.asked = Ticket(arrivals, stream.last, stream.texts)
                stream.due = stream.last = False
                waiting[stream.asked] = stream
        free = CAPACITY - sum(ticket.slots for ticket, _ in running.values())
        for ticket in admit(waiting, free, most=most, head_start=head_start):
            stream = waiting.pop(ticket)
            started.append(ticket)
            running[ticket] = ticket, turn + stream.work
            stream.read.append(turn)
        for ticket in [ticket for ticket, (_, end) in running.items() if end <= turn]:
            del running[ticket]
            next(stream for stream in streams if stream.asked is ticket).asked = None
    places = {ticket: place for place, ticket in enumerate(started)}
    for ticket in started:
        passed = [other for other in started[: places[ticket]] if other.arrival > ticket.arrival]
        assert len(passed) <= head_start
        assert all(other.last and not ticket.last for other in passed)
    for (
        ticket,
        stream,
    ) in waiting.items():  # nobody waits behind more than each other's turn, and the finals that may pass
        behind = [other for other in started if other.arrival > ticket.arrival]
        assert len(behind) <= head_start
        assert stream.asked is ticket
    longest = max(stream.work for stream in streams)
    patience = (len(streams) + head_start + 1) * (longest + 1)
    for stream in streams:
        if stream.talkative == 1.0 and patience < 400:
            assert stream.read, "it spoke all the time and was never read"


class Slow:
    """A toy whose first pass waits until all have asked."""

    def __init__(self, toy):
        self.toy, self.begun, self.gate = toy, threading.Event(), threading.Event()

    def __getattr__(self, name):
        return getattr(self.toy, name)

    def step(self, forwards):
        self.begun.set()
        assert self.gate.wait(10)
        return self.toy.step(forwards)


class Loud:
    window = 4

    def detect(self, streams):
        return [(np.abs(windows).mean(axis=1), None) for windows, _ in streams]


@pytest.mark.parametrize("streams", [2, 8])
def test_detections_encodings_passes_and_guesses_of_all_streams_share_their_batches(streams):
    model = Slow(ToyModel(ToyConfig(speculator=True)))
    with Engine(model, lambda _: Loud(), EngineConfig(slots=16, max_batch=16)) as engine:
        first = engine.submit(job(0))
        assert model.begun.wait(10)
        before = engine.stats
        asked = [engine.submit(job(seed)) for seed in range(1, streams + 1)]
        asked += [engine.submit(Detect("loud", np.ones((1, 4), np.float32), None)) for _ in range(streams)]
        model.gate.set()
        assert not wait([first, *asked], 20).not_done
        after = engine.stats
    assert after.detects - before.detects == streams
    assert after.detect_batches - before.detect_batches == 1
    assert after.encodes - before.encodes == streams
    assert after.encode_batches - before.encode_batches == 1
    assert after.forwards - before.forwards > after.passes - before.passes
    assert after.guesses - before.guesses > after.guess_batches - before.guess_batches > 0


def job(seed):
    audio = toy_audio(3.0, seed)
    return Job(0, 0, len(audio), False, audio, (Target("de"),))
