"""Run a session against an engine: live on an event loop, or from a recording on virtual time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from concurrent.futures import wait
from dataclasses import dataclass, field
from typing import Any, Protocol

from streamtrans.core import (
    BadConfig,
    Detection,
    EngineClosed,
    EngineLike,
    Event,
    Health,
    Job,
    Lost,
    Reading,
    Reply,
    Request,
    StateHandle,
)
from streamtrans.stream.bridge import awaitable
from streamtrans.stream.config import SessionConfig
from streamtrans.stream.listener import Samples
from streamtrans.stream.patience import Patience
from streamtrans.stream.progress import Cursors, SessionStats

Result = Detection | Reading


class SessionLike(Protocol):
    """What can be pumped: a :class:`~streamtrans.stream.Session`, which says what these do, or what records one."""

    config: SessionConfig

    def hear(self, chunk: Samples) -> None: ...

    def end_utterance(self) -> None: ...

    def end(self) -> None: ...

    def retarget(self, targets: Sequence[str]) -> int: ...

    def pace(self, interval_ms: int | None) -> None: ...

    def requests(self) -> list[Request]: ...

    def whole(self, job: Job) -> Job: ...

    def answer(self, request: Request, result: Result) -> None: ...

    def fail(self, request: Request, error: BaseException) -> None: ...

    def events(self) -> list[Event]: ...

    @property
    def finished(self) -> bool: ...

    @property
    def full(self) -> bool: ...

    @property
    def cursors(self) -> Cursors: ...

    @property
    def stats(self) -> SessionStats: ...


async def pump(
    session: SessionLike,
    engine: EngineLike,
    *,
    changed: asyncio.Event,
    emit: Callable[[list[Event]], Awaitable[None]],
    patience: Patience | None = None,
) -> None:
    """Run ``session`` until it is finished.

    Whoever feeds the session sets ``changed`` after every ``hear``, ``end_utterance`` and ``end``, from a
    task of the same loop. While the engine works, hearing goes on, and the next job takes all that has come
    in meanwhile. What is lost is asked again, and what takes too long is given up, by ``patience``. When the pump is
    cancelled, what the engine hasn't begun is withdrawn.

    Raises:
        BadConfig: the engine can't decode so many languages at once.
        EngineClosed: the engine was shut down before the session was finished.
    """
    asker = _Asker(session, engine, patience or Patience())
    under_way: dict[asyncio.Future[Result], _Asked] = {}
    waiter: asyncio.Task[bool] | None = None
    try:
        while True:
            changed.clear()
            asked = [*map(asker.ask, session.requests())]
            events = session.events()
            if events:
                await emit(events)
            if session.finished:
                return
            under_way |= {awaitable(each.reply): each for each in asked}
            waiter = waiter or asyncio.ensure_future(changed.wait())
            awaited: set[asyncio.Future[Any]] = {waiter, *under_way}
            left = min(map(asker.left, under_way.values()), default=None)
            await asyncio.wait(awaited, timeout=left, return_when=asyncio.FIRST_COMPLETED)
            if waiter.done():
                waiter = None
            again: list[_Asked | None] = []
            for future in sorted((future for future in under_way if future.done()), key=_readings_first(under_way)):
                future.cancelled() or future.exception()  # asyncio complains of exceptions that nobody looked at
                again.append(asker.take(under_way.pop(future)))
            for future in [future for future, each in under_way.items() if asker.left(each) <= 0]:
                future.cancel()
                again.append(asker.give_up(under_way.pop(future)))
            under_way |= {awaitable(each.reply): each for each in again if each is not None}
    finally:
        asker.leave()
        for future in under_way:
            future.cancel()  # where it has failed meanwhile, asyncio takes this as having looked at it
        if waiter is not None:
            waiter.cancel()


def drive(session: SessionLike, engine: EngineLike, audio: Samples, *, chunk: int = 1_600) -> list[Event]:
    """Run a whole recording through ``session`` and return all events.

    Args:
        session: a new one.
        engine: waited for after every chunk.
        audio: ``(samples,)`` mono float32 at 16 kHz.
        chunk: samples heard at a time; it changes when events come, never what they say.
    """
    return [event for _, events in replay(session, engine, audio, chunk=chunk) for event in events]


def replay(
    session: SessionLike, engine: EngineLike, audio: Samples, *, chunk: int = 1_600
) -> Iterator[tuple[int, list[Event]]]:
    """Yield ``(samples heard, events)`` after every chunk, as if the engine needed no time; then end.

    Raises:
        EngineClosed: the engine was shut down meanwhile.
    """
    if chunk < 1:
        raise ValueError(f"chunk is {chunk} samples; use 1 or more")
    for start in range(0, len(audio), chunk):
        session.hear(audio[start : start + chunk])
        settle(session, engine)
        yield session.cursors.received, session.events()
    session.end()
    settle(session, engine)
    yield session.cursors.received, session.events()


def settle(session: SessionLike, engine: EngineLike) -> None:
    """Let ``engine`` answer until ``session`` has nothing more to ask.

    Raises:
        BadConfig: the engine can't decode so many languages at once.
        EngineClosed: the engine was shut down meanwhile.
    """
    asker = _Asker(session, engine, Patience())
    while requests := session.requests():
        for asked in [*map(asker.ask, requests)]:
            asker.wait_for(asked)


def ask(session: SessionLike, engine: EngineLike, request: Request) -> None:
    """Ask ``engine`` what ``session`` wants to know, and hand over the answer, or the error.

    Raises:
        EngineClosed: the engine was shut down meanwhile.
    """
    asker = _Asker(session, engine, Patience())
    asker.wait_for(asker.ask(request))


@dataclass(slots=True)
class _Asked:
    """A request that the engine has, since when, and how often it was asked."""

    request: Request
    reply: Reply
    times: int = 1
    at: float = field(default_factory=time.monotonic)


class _Asker:
    """Asks an engine for one session; what is lost is asked again, and again, and then left out."""

    def __init__(self, session: SessionLike, engine: EngineLike, patience: Patience) -> None:
        if len(session.config.targets) > engine.capacity:
            raise BadConfig(
                f"{len(session.config.targets)} languages were asked for, and this engine decodes {engine.capacity}"
                " texts at once: ask for fewer, or start it with more slots"
            )
        self._session, self._engine, self._patience = session, engine, patience
        self._state: StateHandle | None = None  # of the newest reading

    def ask(self, request: Request) -> _Asked:
        """Ask for the first time."""
        return _Asked(request, self._engine.submit(request))

    def take(self, asked: _Asked) -> _Asked | None:
        """Give the session what came of a request; where it was lost, ask again and return that.

        Raises:
            EngineClosed: the engine was shut down.
        """
        reply, error = asked.reply, None
        if reply.cancelled():
            return self._again(asked, Lost("the engine withdrew the request"))
        error = reply.exception()
        if isinstance(error, EngineClosed):
            raise error
        if isinstance(error, Lost):
            return self._again(asked, error)
        if error is not None:
            self._session.fail(asked.request, error)
            return None
        if isinstance(asked.request, Job):
            self._patience.took(time.monotonic() - (asked.at if reply.begun_at is None else reply.begun_at))
        result = reply.result()
        if isinstance(result, Reading):
            self._state = result.state
        self._session.answer(asked.request, result)
        return None

    def leave(self) -> None:
        """Give back what the engine keeps."""
        if self._state is not None:
            self._engine.release(self._state)

    def wait_for(self, asked: _Asked) -> None:
        """Wait until the session has its answer, however long that takes."""
        open_question: _Asked | None = asked
        while open_question is not None:
            wait([open_question.reply])
            open_question = self.take(open_question)

    def left(self, asked: _Asked) -> float:
        """Return how many seconds the request may go on, or after how many to ask that again."""
        patience, begun_at, now = self._patience, asked.reply.begun_at, time.monotonic()
        if begun_at is not None:
            return begun_at + patience.seconds - now
        stalled = self._engine.health is Health.STALLED
        in_queue = asked.at + (patience.stalled_s if stalled else patience.queue_s) - now
        # It may begin right now, so this is the earliest time at which there can be news.
        return min(in_queue, patience.seconds)

    def give_up(self, asked: _Asked) -> _Asked | None:
        """Go on without what takes too long. A last reading is asked again; of another a newer one comes by itself."""
        begun_at = asked.reply.begun_at
        if begun_at is None:
            error = Lost(f"the engine didn't begin for {time.monotonic() - asked.at:.1f} s")
        else:
            error = Lost(f"the engine didn't answer within {time.monotonic() - begun_at:.1f} s")
            self._patience.ran_out()
        if isinstance(asked.request, Job) and asked.request.last:
            return self._again(asked, error)
        self._session.fail(asked.request, error)
        return None

    def _again(self, asked: _Asked, error: Lost) -> _Asked | None:
        if asked.times >= self._patience.times:
            self._session.fail(asked.request, error)
            return None
        request = asked.request
        whole = self._session.whole(request) if isinstance(request, Job) else request
        return _Asked(request, self._engine.submit(whole), asked.times + 1)


def _readings_first(under_way: dict[asyncio.Future[Result], _Asked]) -> Callable[[asyncio.Future[Result]], bool]:
    return lambda future: not isinstance(under_way[future].request, Job)
