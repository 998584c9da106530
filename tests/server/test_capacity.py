"""Who is let in doesn't lag because of who comes later; what is done less under load is told, and done again."""

import math
import random
from dataclasses import dataclass, field
from types import SimpleNamespace

import pytest
from google.rpc import error_details_pb2

from streamtrans.core import BadConfig
from streamtrans.server import Load
from streamtrans.server.capacity import Capacity, Rung
from streamtrans.server.refusal import Refusal
from streamtrans.testing.clock import ManualClock

STEP_S = 0.01
INTERVAL_S = 0.48


@dataclass(eq=False)
class Speaker:
    """One who speaks all the time; a reading takes ``cost_s`` of the device."""

    world: "World"
    cost_s: float
    phase_s: float
    texts: int = 1
    interval_s: float | None = INTERVAL_S
    rungs: list[Rung] = field(default_factory=list)
    read_to: float = 0.0
    due: float | None = None
    asked: float | None = None
    lags: list[tuple[float, float]] = field(default_factory=list)

    def asked_for(self, now):
        return 0.0 if self.asked is None else now - self.asked

    def serve_at(self, rung):
        self.rungs.append(rung)
        self.interval_s = (INTERVAL_S, 1.5 * INTERVAL_S, None)[rung]

    def hear(self, now):
        """A newer reading replaces one that nobody has asked for yet; one at a time is under way."""
        every = self.interval_s or 6.0
        due = self.phase_s + math.floor((now - self.phase_s) / every) * every
        if due > self.read_to and due > (self.asked or 0):
            self.due = due
        if self.due is not None and self.asked is None:
            self.world.queue.append((self, self.due))
            self.asked, self.due = now, None


class World:
    """A device that reads for one after the other, on a clock that a test moves."""

    def __init__(self, seed=0, **rules):
        self.random = random.Random(seed)
        self.clock = ManualClock()
        self.capacity = Capacity(Load(**rules), 480, 1_000, self.clock)
        self.speakers, self.queue = [], []
        self.busy_s, self.free_at, self.serving = 0.0, 0.0, None
        self.slower = 1.0

    def come(self, cost_s, texts=1):
        """Let a speaker in, or return what refused him."""
        try:
            self.capacity.refuse_when_full(texts)
        except Refusal as refusal:
            return refusal
        speaker = Speaker(self, cost_s, self.clock() + self.random.uniform(0, INTERVAL_S), texts)
        speaker.read_to = self.clock()
        self.speakers.append(speaker)
        self.capacity.join(speaker)
        return None

    def go(self, speaker):
        self.speakers.remove(speaker)
        self.queue = [(who, end) for who, end in self.queue if who is not speaker]
        self.capacity.leave(speaker)

    def run(self, seconds):
        for step in range(round(seconds / STEP_S)):
            self.clock.advance(STEP_S)
            now = self.clock()
            for speaker in self.speakers:
                speaker.hear(now)
            while self.free_at <= now:
                self._finish(now)
                if not self.queue:
                    self.free_at = now + STEP_S / 10
                    break
                self.serving = self.queue.pop(0)
                took = self.slower * self.serving[0].cost_s * self.random.uniform(0.7, 1.3)
                self.busy_s += took
                self.free_at = max(self.free_at, now - STEP_S) + took
            if step % 25 == 0:
                self.capacity.look(SimpleNamespace(busy_s=self.busy_s, devices=1))

    def _finish(self, now):
        if self.serving is not None:
            (speaker, end), self.serving = self.serving, None
            self.capacity.took(now - speaker.asked)
            speaker.lags += [(now, now - speaker.read_to), (now, now - end)]
            speaker.read_to, speaker.asked = end, None

    def lag_p95(self, since):
        """Of everybody's oldest and newest words in each reading: more than what a server tells."""
        lags = sorted(lag for speaker in self.speakers for at, lag in speaker.lags if at >= since)
        return lags[math.ceil(0.95 * len(lags)) - 1]


@pytest.mark.parametrize("guess", [0.75, 1.0, 1.5])
@pytest.mark.parametrize("gap_s", [0.0, 0.3])
@pytest.mark.parametrize(("cost_ms", "mixed"), [(20, True), (60, False), (90, True)])
def test_of_three_times_too_many_who_is_let_in_keeps_his_lag_and_the_others_are_told_to_wait(
    cost_ms, mixed, gap_s, guess
):
    """What is known at first is how long one reading took while nothing else was done, more or less."""
    world = World()
    world.capacity.learn(guess * cost_ms / 1000, guess * cost_ms / 1000)
    most = INTERVAL_S / (cost_ms / 1000)  # what the device does at its utmost
    refused = []
    for _ in range(math.ceil(3 * most)):
        cost_s = cost_ms / 1000 * (world.random.uniform(0.5, 1.5) if mixed else 1)
        if (refusal := world.come(cost_s)) is not None:
            refused.append(refusal)
        world.run(gap_s)
    for _ in range(30):  # who was refused calls again and again
        world.run(1.0)
        refused += [r for r in [world.come(cost_ms / 1000)] if r is not None]
    settled = world.clock()
    world.run(20)
    assert world.lag_p95(settled) < 1.0
    assert world.capacity.rung < Rung.NO_PARTIALS
    assert len(world.speakers) > 0.5 * most - 1, "the device is left idle"
    assert refused
    for refusal in refused:
        assert refusal.reason == "busy"
        assert any(isinstance(each, error_details_pb2.RetryInfo) for each in refusal.details)


def test_the_first_is_let_in_whatever_he_costs():
    world = World()
    world.capacity.learn(10.0, 10.0)
    assert world.come(10.0) is None
    assert world.come(10.0) is not None


def test_a_stream_in_many_languages_needs_room_for_all_of_them():
    world = World()
    for _ in range(4):
        world.come(0.05)
    world.run(20)
    assert world.come(0.05) is None
    assert world.come(0.25, texts=5) is not None


def test_under_load_less_is_done_in_steps_and_afterwards_all_of_it_again():
    world = World(calm_ms=10_000)
    for _ in range(5):
        assert world.come(0.05) is None
        world.run(6)
    assert world.capacity.rung is Rung.FULL_SERVICE
    world.slower = 2.5  # as where a neighbour takes the machine
    world.run(40)
    assert world.capacity.rung is not Rung.FULL_SERVICE
    assert world.come(0.01) is not None
    reached = world.capacity.rung
    world.slower = 1.0
    world.run(100)
    assert world.capacity.rung is Rung.FULL_SERVICE
    for speaker in world.speakers:
        assert speaker.rungs[: reached + 1] == [Rung(each) for each in range(1, reached + 1)] + [Rung(reached - 1)]
        assert speaker.rungs[-1] is Rung.FULL_SERVICE
    assert world.come(0.05) is None


def test_a_rung_that_is_left_too_early_is_kept_longer_the_next_time():
    world = World(calm_ms=2_000, window_ms=1_000)
    for _ in range(5):
        world.come(0.05)
        world.run(3)
    world.slower = 3.0
    world.run(240)
    changes = world.speakers[0].rungs
    assert changes.count(Rung.NO_PARTIALS) >= 1
    assert len(changes) < 40  # and not one every few seconds


def test_who_comes_to_a_busy_server_is_told_at_once_what_he_gets():
    world = World()
    world.come(0.05)
    world.capacity._take(Rung.FEWER_PARTIALS, world.clock())
    world.come(0.01)
    assert world.speakers[-1].rungs == [Rung.FEWER_PARTIALS]


def test_a_reading_that_doesnt_end_counts_while_it_is_waited_for():
    world = World()
    world.come(0.05)
    world.run(8)
    world.slower = 1_000.0
    world.run(10)
    assert world.capacity.rung is not Rung.FULL_SERVICE


def test_who_goes_makes_room():
    world = World()
    world.capacity.learn(0.1, 0.1)
    while world.come(0.1) is None:
        pass
    world.run(10)
    while world.come(0.1) is None:
        world.run(6)
    world.go(world.speakers[0])
    world.go(world.speakers[0])
    world.run(8)
    assert world.come(0.1) is None


def test_a_device_that_reads_many_at_once_for_the_price_of_few_lets_more_in_at_first():
    let_in = {}
    for together_s in (0.04, 0.03, 0.02, 0.001):
        world = World()
        world.capacity.learn(0.04, together_s)
        let_in[together_s] = next(count for count in range(100) if world.come(0.04) is not None)
    assert let_in[0.04] < let_in[0.03] < let_in[0.02]
    assert let_in[0.001] == let_in[0.02]  # of speech less is saved


def test_who_is_alone_on_a_slow_device_goes_on_reading_what_is_being_said():
    world = World(calm_ms=2_000, window_ms=1_000)
    world.come(0.05)
    world.slower = 30.0
    world.run(60)
    assert world.capacity.rung is Rung.FEWER_PARTIALS
    assert set(world.speakers[0].rungs) == {Rung.FEWER_PARTIALS}
    world.slower = 1.0
    world.run(30)
    assert world.come(0.05) is None
    world.slower = 30.0
    world.run(30)
    assert world.capacity.rung is Rung.NO_PARTIALS
    world.go(world.speakers[1])
    world.run(1)
    assert world.capacity.rung is Rung.FEWER_PARTIALS


@pytest.mark.parametrize(("interval_ms", "rules"), [(1_000, {}), (480, {"max_lag_ms": 300})])
def test_long_steps_are_no_load_and_readings_that_take_longer_are(interval_ms, rules, caplog):
    world = World(**rules)
    world.capacity = Capacity(Load(**rules), interval_ms, 1_000, world.clock)
    for _ in range(3):
        assert world.come(0.0) is None
    world.run(30)
    assert not any(speaker.rungs for speaker in world.speakers)
    for _ in range(3):
        world.run(1)
        world.capacity.took(0.9 * interval_ms / 1000)
    world.capacity.look(None)
    assert world.capacity.rung is Rung.FEWER_PARTIALS
    assert [record.levelname for record in caplog.records] == ["WARNING"]


def test_where_nobody_is_left_all_is_done_again_and_that_is_no_warning(caplog):
    world = World()
    world.come(0.05)
    world.capacity._take(Rung.FEWER_PARTIALS, world.clock())
    world.go(world.speakers[0])
    caplog.clear()
    world.run(1)
    assert world.capacity.rung is Rung.FULL_SERVICE
    assert not [record for record in caplog.records if record.levelname == "WARNING"]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"max_lag_ms": 0}, "load.max_lag_ms is 0"),
        ({"most_busy": 1.5}, "load.most_busy is 1.5"),
        ({"longer": 0.5}, "load.longer is 0.5"),
        ({"window_ms": 0}, "load.window_ms is 0"),
        ({"calm_ms": -1}, "load.calm_ms is -1"),
    ],
)
def test_wrong_bounds_are_named(changes, words):
    with pytest.raises(BadConfig, match=words):
        Load(**changes)


def test_where_load_is_only_measured_everybody_is_let_in_and_served_in_full():
    world = World()
    world.capacity = Capacity(None, 480, 1_000, world.clock)
    world.capacity.learn(1.0, 1.0)
    for _ in range(20):
        assert world.come(0.05) is None
    world.run(20)
    assert world.capacity.busy > 0.99
    assert not any(speaker.rungs for speaker in world.speakers)
