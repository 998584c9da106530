"""A stream that is being translated, whoever is connected to it.

```
call ──samples──▶ session ◀──pump──▶ engine
                     └──events──▶ hub ──▶ outbox of each reader
```
The session and its pump live here and not in a call, so that a call may break and another one go on.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from concurrent.futures import Future
from functools import partial

from streamtrans.core import Caption, Detection, Event, Job, Reading, Request
from streamtrans.server.arrivals import Arrivals
from streamtrans.server.config import Served, ServerConfig
from streamtrans.server.hub import Hub
from streamtrans.server.intake import Samples
from streamtrans.server.opening import Opening, new_session, recorded
from streamtrans.server.tape import Tape
from streamtrans.stream import Cursors, EngineLike, Recorder, SessionLike, SessionStats, pump
from streamtrans.wire import Notice

Answer = Detection | Reading

_TAPE_S = 1.0
"""How long the end of a stream waits for the disk that its recording is written to."""


class LiveSession:
    """One session, what feeds it, what pumps it, and the hub that its captions go to.

    Raises:
        Refusal: the endpoints leave no room for the windows of the detector.
    """

    def __init__(self, session_id: str, opening: Opening, served: Served, config: ServerConfig) -> None:
        self.session_id = session_id
        self.token = secrets.token_urlsafe(24)
        """Who has it may go on with this session; nobody can guess it from the id."""
        self.opening = opening
        self.served = served
        self.arrivals = Arrivals()
        self.hub = Hub(config.max_unsent_events)
        self._behind_ms = config.behind_ms
        # Where only closed segments are read, a segment's beginning has to wait for its end.
        final = opening.session.mode == "final"
        self._patience_ms = opening.session.endpoints.max_segment_ms if final else 0
        session = new_session(opening, served)
        self._recorder: Recorder | None = None
        self._tape: Tape | None = None
        if config.record is not None:
            self._tape = Tape(config.record / f"{session_id}.stsession", config.record_quota_mb * 1_000_000)
            self._recorder = recorded(session, served, self._tape)
        self._session: SessionLike = self._recorder or session
        self._changed = asyncio.Event()
        self._behind = False
        self._failures = 0
        self._engine = _Watched(served.engine, self.arrivals)
        self._pumping = asyncio.create_task(pump(self._session, self._engine, changed=self._changed, emit=self._emit))
        self._pumping.add_done_callback(self._over)

    @property
    def full(self) -> bool:
        """Whether whoever sends should wait until some of it is read."""
        return self._session.full

    @property
    def cursors(self) -> Cursors:
        """How far everything is."""
        return self._session.cursors

    @property
    def stats(self) -> SessionStats:
        """What it has cost so far."""
        return self._session.stats

    def hear(self, samples: Samples) -> None:
        """Add audio that has just arrived."""
        self.arrivals.arrived(len(samples), time.monotonic())
        self._session.hear(samples)
        self._changed.set()
        self._look()

    def end_utterance(self) -> None:
        """Close the open segment at what was heard last."""
        self._session.end_utterance()
        self._changed.set()

    def end(self) -> None:
        """Hear no more; the last captions follow, then the hub closes."""
        self._session.end()
        self._changed.set()

    def retarget(self, opening: Opening) -> int:
        """Write the languages of ``opening`` from now on; return the sample from which that holds.

        The finals of those that have gone are told at once.
        """
        self.opening = opening
        effective_at = self._session.retarget(opening.session.targets)
        self._emit_at_once(self._session.events())
        self._changed.set()
        return effective_at

    def hurry(self) -> None:
        """Wait for no reading any more: what was believed before is final."""
        self._engine.hurry()

    async def close(self) -> None:
        """Leave it as it is: withdraw what the engine hasn't begun, and end its recording."""
        self._pumping.cancel()
        await asyncio.wait([self._pumping])
        del self._pumping  # the frames that it was cancelled in hold this session
        if self._recorder is not None and self._tape is not None:
            self._recorder.close()
            await self._tape.written(_TAPE_S)

    def _over(self, pumping: asyncio.Task[None]) -> None:
        """Tell all who read along that it is finished, or what stopped it: each call ends with that."""
        self.hub.close(None if pumping.cancelled() else pumping.exception())

    async def _emit(self, events: list[Event]) -> None:
        self._emit_at_once(events)

    def _emit_at_once(self, events: list[Event]) -> None:
        now = time.monotonic()
        for event in events:
            self.arrivals.saw(event, now)
            self.hub.post(event)
            if isinstance(event, Caption) and event.final and not event.complete:
                problem = f"the model's limit cut off the text of segment {event.segment} in {event.language}"
                self.hub.post(Notice("TEXT_INCOMPLETE", problem))
        self._look()

    def _look(self) -> None:
        """Note what needs no reading, and tell all when the service is not what it should be."""
        self.arrivals.skip(self._session.cursors.decoded)
        lag_ms = self.arrivals.lag_s(time.monotonic()) * 1000
        if not self._behind and lag_ms > self._behind_ms + self._patience_ms:
            self._behind = True
            self.hub.post(Notice("BEHIND_REALTIME", f"readings are {lag_ms:.0f} ms behind the audio"))
        elif lag_ms < self._behind_ms / 2 + self._patience_ms:
            self._behind = False
        failures = self._session.stats.failures
        if failures > self._failures:
            self._failures = failures
            self.hub.post(Notice("QUALITY_DEGRADED", "a reading failed; the stream goes on without it"))


class _Watched:
    """An engine whose readings are timed, and need not be waited for; all on the event loop of the session."""

    def __init__(self, engine: EngineLike, arrivals: Arrivals) -> None:
        self._engine = engine
        self._arrivals = arrivals
        self._loop = asyncio.get_running_loop()
        # Who waits → what was asked of the engine. Futures keep their callbacks for ever, so these name neither other.
        self._awaited: dict[Future[Answer], Future[Answer]] = {}
        self._hurried = False

    def submit(self, request: Request) -> Future[Answer]:
        """Ask the engine, unless nothing is waited for any more."""
        answer: Future[Answer] = Future()
        if self._hurried:
            self._fail(answer)
            return answer
        asked = self._awaited[answer] = self._engine.submit(request)
        answer.add_done_callback(self._over)
        if isinstance(request, Job):
            self._arrivals.began(request)
        asked.add_done_callback(partial(self._answered, request, answer))
        return answer

    def hurry(self) -> None:
        """Let everything fail that isn't answered yet, and all that is asked from now on."""
        self._hurried = True
        for answer in tuple(self._awaited):
            self._fail(answer)

    def _over(self, answer: Future[Answer]) -> None:
        """Withdraw what was asked for ``answer``, if it is still being worked on."""
        self._awaited.pop(answer).cancel()

    def _answered(self, request: Request, answer: Future[Answer], asked: Future[Answer]) -> None:
        """Hand over, from whatever thread, what the engine says now."""
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._hand_over, request, asked, answer, time.monotonic())

    def _hand_over(self, request: Request, asked: Future[Answer], answer: Future[Answer], now: float) -> None:
        if isinstance(request, Job):
            self._arrivals.read(request, now)
        if answer.done():
            return
        if asked.cancelled():
            answer.cancel()
        elif answer.set_running_or_notify_cancel():
            error = asked.exception()
            if error is None:
                answer.set_result(asked.result())
            else:
                answer.set_exception(error)

    @staticmethod
    def _fail(answer: Future[Answer]) -> None:
        if answer.set_running_or_notify_cancel():
            answer.set_exception(TimeoutError("the stream has to end, so no reading is waited for"))
