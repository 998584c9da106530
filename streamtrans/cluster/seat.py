"""One worker as a front end sees it: whether it lives, what waits for it, and how much more it may be given.

Law: a worker has at most as many texts of a front end as it has credits; who waits is served as everywhere, finals
first and then the oldest (``engine/scheduler.py``).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, Protocol

from streamtrans.cluster.worker import Pulse
from streamtrans.core import Job, Reply
from streamtrans.engine import Ticket, admit


class Remote(Protocol):
    """A worker's methods, elsewhere: each returns at once."""

    def read(self, job: Job) -> tuple[Future[Any], Callable[[], None]]:
        """Return what will be the reading, and what withdraws it."""
        ...

    def pulse(self) -> Future[Any]:
        """Return what will be its pulse."""
        ...

    def release(self, state: Any) -> None:
        """Let it forget ``state``."""
        ...


class Gone(Exception):
    """The worker is dead, or can't be reached, or its engine has closed."""


@dataclass(slots=True)
class Asked:
    """A job on its way; ``withdraw`` is there once it has been sent."""

    job: Job
    reply: Reply
    withdraw: Callable[[], None] | None = None


class Seat:
    """Credits and queue of one worker; the engine's lock is held around every call."""

    def __init__(self, remote: Remote, credits: int, head_start: int) -> None:
        self.remote = remote
        self.up = False
        self.pulse: Pulse | None = None
        """The newest."""
        self.asked_at: float | None = None
        """When its pulse was asked for, and hasn't come."""
        self._credits = credits
        self._head_start = head_start
        self._waiting: dict[Ticket, Asked] = {}
        self._sent: dict[Ticket, Asked] = {}

    @property
    def load(self) -> int:
        """Texts that it has, or that wait for it."""
        return sum(ticket.slots for ticket in (*self._waiting, *self._sent))

    @property
    def free(self) -> int:
        """Texts that it may be given yet."""
        return self._credits - sum(ticket.slots for ticket in self._sent)

    def put(self, ticket: Ticket, asked: Asked) -> None:
        """Let a job wait for this worker."""
        self._waiting[ticket] = asked

    def due(self) -> list[tuple[Ticket, Asked]]:
        """Take what may be sent now."""
        tickets = admit(self._waiting, self.free, most=self._credits, head_start=self._head_start)
        for ticket in tickets:
            self._sent[ticket] = self._waiting.pop(ticket)
            self._sent[ticket].reply.begun_at = time.monotonic()
        return [(ticket, self._sent[ticket]) for ticket in tickets]

    def done(self, ticket: Ticket) -> Asked | None:
        """Give back the credits of a job that is answered, or that nobody waits for any more."""
        return self._sent.pop(ticket, None) or self._waiting.pop(ticket, None)

    def leave(self) -> list[Asked]:
        """Give up everything: the worker is gone."""
        self.up, self.pulse, self.asked_at = False, None, None
        left = [*self._waiting.values(), *self._sent.values()]
        self._waiting.clear()
        self._sent.clear()
        return left
