"""Run a session against an engine: live on an event loop, or from a recording on virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from concurrent.futures import Future, wait
from typing import Any, Protocol

from streamtrans.core import Detection, EngineClosed, Event, Job, Reading, Request
from streamtrans.stream.bridge import awaitable
from streamtrans.stream.config import SessionConfig
from streamtrans.stream.listener import Samples
from streamtrans.stream.progress import Cursors, SessionStats

Result = Detection | Reading


class EngineLike(Protocol):
    """Whatever answers requests."""

    def submit(self, request: Request) -> Future[Detection | Reading]:
        """Return at once; the future brings the result, or the error that ``request`` met."""
        ...


class SessionLike(Protocol):
    """What can be pumped: a :class:`~streamtrans.stream.Session`, which says what these do, or what records one."""

    config: SessionConfig

    def hear(self, chunk: Samples) -> None: ...

    def end_utterance(self) -> None: ...

    def end(self) -> None: ...

    def retarget(self, targets: Sequence[str]) -> int: ...

    def requests(self) -> list[Request]: ...

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
    patience_s: float = 10.0,
) -> None:
    """Run ``session`` until it is finished.

    Whoever feeds the session sets ``changed`` after every ``hear``, ``end_utterance`` and ``end``, from a
    task of the same loop. While the engine works, hearing goes on, and the next job takes all that has come
    in meanwhile. When the pump is cancelled, what the engine hasn't begun is withdrawn.

    Raises:
        EngineClosed: the engine was shut down before the session was finished.
    """
    under_way: dict[asyncio.Future[Result], Request] = {}
    waiter: asyncio.Task[bool] | None = None
    clock = asyncio.get_running_loop().time
    asked_at = 0.0  # when the reading that is under way was asked for; there is one at a time
    try:
        while True:
            changed.clear()
            for request in session.requests():
                under_way[awaitable(engine.submit(request))] = request
                asked_at = clock() if isinstance(request, Job) else asked_at
            events = session.events()
            if events:
                await emit(events)
            if session.finished:
                return
            waiter = waiter or asyncio.ensure_future(changed.wait())
            awaited: set[asyncio.Future[Any]] = {waiter, *under_way}
            last = None
            if session.config.mode != "final":
                last = next((future for future, job in under_way.items() if isinstance(job, Job) and job.last), None)
            left = None if last is None else max(0.0, asked_at + patience_s - clock())
            await asyncio.wait(awaited, timeout=left, return_when=asyncio.FIRST_COMPLETED)
            if waiter.done():
                waiter = None
            if last is not None and not last.done() and clock() >= asked_at + patience_s:
                session.fail(under_way.pop(last), TimeoutError(f"no last reading within {patience_s:g} s"))
                last.cancel()
            for future in sorted((future for future in under_way if future.done()), key=_readings_first(under_way)):
                _settle(session, under_way.pop(future), future)
    finally:
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
    """Let ``engine`` answer until ``session`` has nothing more to ask."""
    while requests := session.requests():
        under_way = [(request, engine.submit(request)) for request in requests]
        for request, future in under_way:
            wait([future])
            _settle(session, request, future)


def _settle(session: SessionLike, request: Request, future: Future[Result] | asyncio.Future[Result]) -> None:
    if future.cancelled():
        raise EngineClosed("the engine withdrew a request; it was shut down")
    error = future.exception()
    if error is None:
        session.answer(request, future.result())
    elif isinstance(error, EngineClosed):
        raise error
    else:
        session.fail(request, error)


def _readings_first(
    under_way: dict[asyncio.Future[Result], Request],
) -> Callable[[asyncio.Future[Result]], bool]:
    return lambda future: not isinstance(under_way[future], Job)
