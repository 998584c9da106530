"""An engine whose models are actors of a Ray cluster.

```
session ──Job──▶ seat of the worker that has its state ──credits──▶ actor: engine, device
        ──Job──▶ the seat with least to do, where there is no state, or it died with its worker (Lost: asked with all)
        ──Detect──▶ detectors of this process
```
A front end is a driver on a node of the cluster. Workers are named after what they serve and outlive front ends, which
share them.
"""

from __future__ import annotations

import logging
import threading
import time
from concurrent.futures import Future
from dataclasses import fields, replace
from functools import partial
from itertools import count
from typing import Any

from streamtrans.cluster.detectors import Detectors
from streamtrans.cluster.seat import Asked, Gone, Remote, Seat
from streamtrans.cluster.worker import Offer, Pulse
from streamtrans.core import (
    BadConfig,
    Detect,
    EngineClosed,
    Health,
    Lost,
    Reply,
    Request,
    StateHandle,
)
from streamtrans.engine import EngineConfig, EngineStats, Ticket
from streamtrans.vad import load_vad

_log = logging.getLogger(__name__)

_GONE = "the worker that had this stream is gone: ask again with all of the audio"

_PULSE_S = 0.25
"""Between two looks at a worker: smaller notices sooner that it lives again."""

_DEAF_S = 5.0
"""A worker that doesn't answer for so long gets nothing new."""


class RayEngine:
    """Answers requests with the help of ``workers``; see :class:`~streamtrans.core.EngineLike`.

    Args:
        workers: at least one.
        offer: what their model can do.
        head_start: places that finals jump the queue.
    """

    def __init__(self, workers: list[Remote], offer: Offer, head_start: int = EngineConfig().final_head_start) -> None:
        self.offer = offer
        self._seats = [Seat(remote, offer.slots, head_start) for remote in workers]
        self._homeless: list[tuple[Ticket, Asked]] = []
        self._detectors = Detectors(load_vad)
        self._numbers = count(1)
        self._lock = threading.RLock()
        self._closed = threading.Event()
        self._looking = threading.Thread(target=self._look_after, name="streamtrans-workers", daemon=True)
        self._looking.start()

    @property
    def capacity(self) -> int:
        """Texts of one job."""
        return self.offer.slots

    @property
    def health(self) -> Health:
        """``STALLED`` while no worker answers."""
        if self._closed.is_set():
            return Health.CLOSED
        return Health.SERVING if any(seat.up for seat in self._seats) else Health.STALLED

    @property
    def stats(self) -> EngineStats:
        """What all workers count, added up."""
        told = [pulse.stats for seat in self._seats if (pulse := seat.pulse) is not None]
        if not told:
            return EngineStats()
        total, *others = told
        for stats in others:
            total = replace(total, **{f.name: getattr(total, f.name) + getattr(stats, f.name) for f in fields(stats)})
        return total

    @property
    def processes(self) -> dict[str, int]:
        """Owner of handles → process of the worker that has them."""
        return {pulse.owner: pulse.process for seat in self._seats if (pulse := seat.pulse) is not None}

    def submit(self, request: Request) -> Reply:
        """Return at once; jobs go to the worker that has their state."""
        reply = Reply()
        with self._lock:
            if self._closed.is_set():
                reply.set_exception(EngineClosed("the engine is closed: submit to a new one"))
            elif isinstance(request, Detect):
                self._detectors.submit(request, reply)
            elif len(request.targets) > self.capacity:
                problem = f"a job in {len(request.targets)} languages needs as many slots, and a worker has"
                reply.set_exception(BadConfig(f"{problem} {self.capacity}: ask for fewer languages"))
            else:
                self._place(Ticket(next(self._numbers), request.last, len(request.targets)), Asked(request, reply))
        return reply

    def release(self, state: StateHandle) -> None:
        """Let the worker that has it forget ``state``."""
        with self._lock:
            seat = self._seat_of(state)
            if seat is not None:
                seat.remote.release(state)

    def close(self, timeout_s: float = 10.0) -> None:  # noqa: ARG002 - nothing here waits for a device
        """Fail everything that waits; the workers live on for other front ends."""
        with self._lock:
            if self._closed.is_set():
                return
            self._closed.set()
            left = [asked for seat in self._seats for asked in seat.leave()] + [asked for _, asked in self._homeless]
        for asked in left:
            _fail(asked, EngineClosed("the engine was closed while this request waited: submit it to a new one"))
        self._detectors.close()
        self._looking.join()

    # ---- with the lock held ----

    def _seat_of(self, state: StateHandle) -> Seat | None:
        return next((seat for seat in self._seats if seat.pulse is not None and seat.pulse.owner == state.owner), None)

    def _place(self, ticket: Ticket, asked: Asked) -> None:
        """Let a job wait where its state is, or where least is to be done."""
        job = asked.job
        if job.state is not None:
            seat = self._seat_of(job.state)
            if seat is None or not seat.up:
                _fail(asked, Lost(_GONE))
                return
        else:
            up = [seat for seat in self._seats if seat.up]
            if not up:
                self._homeless.append((ticket, asked))
                return
            seat = min(up, key=lambda each: each.load)
        if job.forget is not None and (other := self._seat_of(job.forget)) is not None and other is not seat:
            other.remote.release(job.forget)
        seat.put(ticket, asked)
        asked.reply.add_done_callback(lambda reply: self._withdraw(seat, ticket) if reply.cancelled() else None)
        self._send(seat)

    def _send(self, seat: Seat) -> None:
        for ticket, asked in seat.due():
            future, asked.withdraw = seat.remote.read(asked.job)
            future.add_done_callback(partial(self._take, seat, ticket))

    # ---- from any thread ----

    def _withdraw(self, seat: Seat, ticket: Ticket) -> None:
        with self._lock:
            asked = seat.done(ticket)
            if asked is not None and asked.withdraw is not None:
                asked.withdraw()
            if seat.up:
                self._send(seat)

    def _take(self, seat: Seat, ticket: Ticket, future: Future[Any]) -> None:
        """Hand over an answer; what dies with its worker is lost, and asked again elsewhere."""
        error = future.exception()
        with self._lock:
            asked = seat.done(ticket)
            if isinstance(error, Gone):
                self._lose(seat)
            if seat.up:
                self._send(seat)
        if asked is None:
            return
        if error is not None:
            _fail(asked, Lost(_GONE) if isinstance(error, Gone) else error)
        elif asked.reply.set_running_or_notify_cancel():
            asked.reply.set_result(future.result())

    def _lose(self, seat: Seat) -> None:
        if seat.up:
            _log.error("a worker is gone; its streams go on with others")
        for asked in seat.leave():
            _fail(asked, Lost(_GONE))

    def _look_after(self) -> None:
        while not self._closed.wait(_PULSE_S):
            with self._lock:
                for seat in self._seats:
                    if seat.asked_at is None:
                        seat.asked_at = time.monotonic()
                        seat.remote.pulse().add_done_callback(partial(self._felt, seat))
                    elif seat.up and time.monotonic() - seat.asked_at > _DEAF_S:
                        self._lose(seat)

    def _felt(self, seat: Seat, future: Future[Any]) -> None:
        """Note whether a worker lives; those that wait for any worker go there."""
        alive = future.exception() is None
        with self._lock:
            if self._closed.is_set():
                return
            seat.asked_at = None
            if not alive:
                self._lose(seat)
                return
            pulse: Pulse = future.result()
            if seat.pulse is not None and seat.pulse.owner != pulse.owner:
                self._lose(seat)  # it was started anew meanwhile
            seat.up, seat.pulse = True, pulse
            waiting, self._homeless = self._homeless, []
            for ticket, asked in waiting:
                self._place(ticket, asked)


def _fail(asked: Asked, error: BaseException) -> None:
    if asked.reply.set_running_or_notify_cancel():
        asked.reply.set_exception(error)
