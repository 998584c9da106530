"""Who is next: pure functions over queue positions, without clock, thread or tensor.

Law: nobody starves. A job is overtaken by a bounded number of later ones and never by a smaller one that
happens to fit; a request waits for nobody who asked after it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol, TypeVar


@dataclass(frozen=True, slots=True)
class Ticket:
    """A waiting job: its number in order of arrival, whether it is a final one, the slots it needs."""

    arrival: int
    last: bool
    slots: int


class Pending(Protocol):
    """A request of a live conversation; ``since`` numbers requests in the order they were made."""

    since: int


P = TypeVar("P", bound=Pending)


def admit(waiting: Iterable[Ticket], free: int, *, most: int, head_start: int) -> list[Ticket]:
    """Return which jobs may start now: at most ``most``, in ``free`` slots.

    Finals go first, then the oldest: a final job counts as ``head_start`` arrivals older than it is. When the
    first in line doesn't fit, all wait for it, or a job in many languages would never start.
    """
    line = sorted(waiting, key=lambda ticket: (ticket.arrival - head_start * ticket.last, ticket.arrival))
    admitted = []
    for ticket in line[:most]:
        if ticket.slots > free:
            break
        free -= ticket.slots
        admitted.append(ticket)
    return admitted


def oldest(pending: Iterable[P], most: int) -> list[P]:
    """Return the next batch: the ``most`` requests that have waited longest."""
    return sorted(pending, key=lambda request: request.since)[:most]
