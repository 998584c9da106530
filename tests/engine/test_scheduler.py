from dataclasses import dataclass

from hypothesis import given, settings
from hypothesis import strategies as st

from streamtrans.engine import Ticket, admit, oldest


def test_finals_first_then_the_oldest():
    line = [Ticket(1, False, 1), Ticket(2, False, 1), Ticket(3, True, 1), Ticket(4, True, 1)]
    assert [t.arrival for t in admit(line, 9, most=9, head_start=64)] == [3, 4, 1, 2]
    assert [t.arrival for t in admit(line, 3, most=9, head_start=64)] == [3, 4, 1]
    assert [t.arrival for t in admit(line, 9, most=1, head_start=64)] == [3]
    assert [t.arrival for t in admit(line, 9, most=9, head_start=0)] == [1, 2, 3, 4]


def test_a_small_job_does_not_pass_a_big_one():
    line = [Ticket(1, False, 3), Ticket(2, False, 1)]
    assert admit(line, 2, most=9, head_start=64) == []
    assert [t.arrival for t in admit(line, 4, most=9, head_start=64)] == [1, 2]


@settings(max_examples=50, deadline=None)
@given(
    jobs=st.lists(st.tuples(st.booleans(), st.integers(1, 4), st.integers(1, 5)), min_size=1, max_size=60),
    head_start=st.integers(0, 10),
    most=st.integers(1, 4),
)
def test_every_job_starts_and_few_overtake_it(jobs, head_start, most):
    """Jobs (final?, slots, turns of work) arrive one a turn; ``head_start`` finals may pass an older one."""
    capacity, turn, started = 4, 0, []
    waiting, running = [], {}
    while turn < len(jobs) or waiting or running:
        if turn < len(jobs):
            waiting.append(Ticket(turn, jobs[turn][0], jobs[turn][1]))
        free = capacity - sum(ticket.slots for ticket in running)
        admitted = admit(waiting, free, most=most, head_start=head_start)
        assert sum(ticket.slots for ticket in admitted) <= free
        assert len(admitted) <= most
        for ticket in admitted:
            waiting.remove(ticket)
            started.append(ticket)
            running[ticket] = jobs[ticket.arrival][2]
        running = {ticket: left - 1 for ticket, left in running.items() if left > 1}
        turn += 1
        assert turn < 1000
    assert len(started) == len(jobs)
    for place, ticket in enumerate(started):
        later = [other for other in started[:place] if other.arrival > ticket.arrival]
        assert len(later) <= head_start
        assert all(other.last and not ticket.last for other in later)


@dataclass
class Asked:
    since: int


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(), unique=True, max_size=20), st.integers(1, 8))
def test_the_batch_is_who_waited_longest(times, most):
    batch = oldest([Asked(since) for since in times], most)
    assert [asked.since for asked in batch] == sorted(times)[:most]
