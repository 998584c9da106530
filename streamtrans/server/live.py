"""A stream that is being translated, whoever is connected to it.

```
call ──samples──▶ session ◀──pump──▶ engine
                     └──events──▶ hub ──▶ outbox of each reader
```
The session and its pump live here and not in a call, so that a call may break and another one go on.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial

from streamtrans.core import (
    SAMPLE_RATE,
    Caption,
    Detection,
    EngineLike,
    Event,
    Health,
    Job,
    Reading,
    Reply,
    Request,
    StateHandle,
)
from streamtrans.server.arrivals import Arrivals
from streamtrans.server.audience import Audience
from streamtrans.server.capacity import Capacity, Rung
from streamtrans.server.config import Served, ServerConfig
from streamtrans.server.earlier import Earlier
from streamtrans.server.hub import Hub
from streamtrans.server.intake import Samples
from streamtrans.server.kept import Kept, viewer_token
from streamtrans.server.keys import Holder
from streamtrans.server.metrics import Metrics
from streamtrans.server.opening import Opening, new_session, recorded
from streamtrans.server.refusal import Refusal, unavailable
from streamtrans.server.spans import Spans
from streamtrans.server.tape import Tape, recording_of
from streamtrans.stream import Cursors, Memory, Patience, SessionLike, SessionStats, doubted, pump
from streamtrans.wire import Notice

Answer = Detection | Reading

NO_SPANS = Spans()

_RUNGS = {
    Rung.FULL_SERVICE: "captions come as they were asked for again",
    Rung.FEWER_PARTIALS: "the server is busy: what is being said is read every {} ms for now",
    Rung.NO_PARTIALS: "the server is overloaded: for now only finals come",
}

_MOST_LANGUAGES = 12
"""Of one stream, those of its viewers included; each costs a decoding more."""

_TAPE_S = 1.0
"""How long the end of a stream waits for the disk that its recording is written to."""


def _tape(config: ServerConfig, session_id: str) -> Tape | None:
    """Return what a stream is recorded on, where streams are."""
    if config.record is None:
        return None
    return Tape(recording_of(config.record, session_id), config.record_quota_mb * 1_000_000)


class LiveSession:
    """One session, what feeds it, what pumps it, and the hub that its captions go to.

    With ``before`` it goes on with one of another server; such a stream isn't recorded.

    Raises:
        Refusal: the endpoints leave no room for the windows of the detector.
    """

    def __init__(
        self,
        session_id: str,
        opening: Opening,
        served: Served,
        config: ServerConfig,
        *,
        metrics: Metrics,
        holder: Holder,
        capacity: Capacity,
        spans: Spans = NO_SPANS,
        token: str,
        before: Kept | None = None,
    ) -> None:
        self.session_id = session_id
        self._span = spans.stream(session_id, opening.session.mode, len(opening.session.targets))
        self.token = token
        """Who has it may go on with this session; nobody can guess it from the id."""
        self.opening = opening
        self.served = served
        self.ended = False
        """Whether nothing more is heard."""
        begins = 0 if before is None else before.memory.begins
        self.arrivals = Arrivals(metrics.lag.observe, metrics.first_caption.observe, begins)
        self._metrics = metrics
        self.holder = holder
        self._counted = SessionStats()
        self.hub = Hub(config.max_unsent_events, () if before is None else (each.said for each in before.said))
        self._behind_ms = config.behind_ms
        # Where only closed segments are read, a segment's beginning has to wait for its end.
        final = opening.session.mode == "final"
        self._patience_ms = opening.session.endpoints.max_segment_ms if final else 0
        session = self._plain = new_session(opening, served, None if before is None else before.memory)
        self._counted = session.stats  # segments of before are no news
        self._tape = None if before is not None else _tape(config, session_id)
        self._recorder = None if self._tape is None else recorded(session, served, self._tape)
        self._session: SessionLike = self._recorder or session
        self._earlier = Earlier(self.hub, served.engine, session.line, opening.session.source, begins)
        self.audience = self._seats(config)
        self._left: Refusal | None = None
        self._since = dict.fromkeys(opening.session.targets, 0)
        """Target → from which sample on it is one."""
        self._spoken: dict[str, tuple[int, int]] = {}
        """Language that was a target → from which sample to which."""
        self.began_at = time.monotonic()
        self._changed = asyncio.Event()
        self._behind = False
        self._failures = 0
        self._patience = Patience()
        self.retry_after_ms = config.retry_after_ms
        self._longer = 1.0 if config.load is None else config.load.longer
        self._asked: tuple[Job, float] | None = None
        watched = _Watched(served.engine, self._begin, self._read)
        self._pumping = asyncio.create_task(
            pump(self._session, watched, changed=self._changed, emit=self._emit, patience=self._patience)
        )
        self._pumping.add_done_callback(self._over)
        self._capacity = capacity
        capacity.join(self)

    def _seats(self, config: ServerConfig) -> Audience:
        """Return who reads along, at first nobody."""
        return Audience(
            self._earlier,
            lambda: self.opening.session.targets,
            self._write_for_viewers,
            most=min(_MOST_LANGUAGES, self.served.engine.capacity),
            stays_s=config.limits.resume_ms / 1000,
            retry_after_ms=config.retry_after_ms,
        )

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

    @property
    def texts(self) -> int:
        """Languages that are written."""
        return len(self.opening.session.targets) + len(self.audience.languages)

    def asked_for(self, now: float) -> float:
        """Return since how many seconds a reading is under way; 0 without one."""
        return 0.0 if self._asked is None else now - self._asked[1]

    def serve_at(self, rung: Rung) -> None:
        """Read what is open as often as ``rung`` says, and tell those who asked for it."""
        session = self.opening.session
        if session.mode == "final":
            return
        interval_ms = {
            Rung.FULL_SERVICE: session.reading_interval_ms,
            Rung.FEWER_PARTIALS: round(self._longer * session.reading_interval_ms),
            Rung.NO_PARTIALS: None,
        }[rung]
        self._session.pace(interval_ms)
        self.hub.post(Notice(rung.name, _RUNGS[rung].format(interval_ms)))
        self._changed.set()

    def memory(self) -> Memory:
        """Return what another server needs to go on with the session; the hub has all that was said in it."""
        self._emit_at_once(self._session.events())
        return self._plain.memory()

    def hear(self, samples: Samples) -> None:
        """Add audio that has just arrived.

        Raises:
            Refusal: it is more than who sends it may send.
        """
        self.holder.heard(len(samples))
        self.arrivals.arrived(len(samples), time.monotonic())
        self._metrics.heard(len(samples))
        self._session.hear(samples)
        self._earlier.hear(samples)
        self._changed.set()
        self._look()

    def tell(self, notice: Notice) -> None:
        """Let all who read along know of something."""
        self.hub.post(notice)

    def end_utterance(self) -> None:
        """Close the open segment at what was heard last."""
        self._session.end_utterance()
        self._changed.set()

    def end(self) -> None:
        """Hear no more; the last captions follow, then the hub closes."""
        self.ended = True
        self._session.end()
        self._changed.set()

    def retarget(self, opening: Opening) -> int:
        """Write the languages of ``opening`` from now on; return the sample from which that holds.

        The finals of those that have gone are told at once.
        """
        effective_at = self._session.retarget(opening.session.targets)
        self._emit_at_once(self._session.events())
        before, now = self.opening.session.targets, opening.session.targets
        self._spoken |= {each: (self._since.pop(each), effective_at) for each in before if each not in now}
        self._since |= {each: effective_at for each in now if each not in before}
        self.opening = opening
        self._write_for_viewers()
        return effective_at

    def is_for_speaker(self, caption: Caption) -> bool:
        """Say whether the speaker wants ``caption``, or wanted it when it was spoken; else it is for viewers."""
        since, until = self._spoken.get(caption.language, (0, 0))
        return caption.language in self.opening.session.targets or (caption.end > since and caption.start < until)

    @property
    def viewer_token(self) -> str:
        """Who has it may read along, and nothing else."""
        return viewer_token(self.token)

    async def caught_up(self, language: str) -> None:
        """Wait until what was said before ``language`` was asked for is read in it, as far as it is kept."""
        await self._earlier.caught_up(language)

    def _write_for_viewers(self) -> None:
        if not self._session.finished:
            self._session.retarget((*self.opening.session.targets, *self.audience.languages))
            self._emit_at_once(self._session.events())
            self._changed.set()

    def hurry(self) -> None:
        """Wait for no reading any more: what was believed before is final."""
        self._patience.end()
        self._changed.set()

    async def close(self, why: Refusal | None = None) -> None:
        """Leave it as it is: withdraw what the engine hasn't begun, end its recording, tell viewers ``why``."""
        self._left = why
        self.audience.close()
        self._capacity.leave(self)
        self._span.end(self.stats)
        self._pumping.cancel()
        await asyncio.wait([self._pumping])
        del self._pumping  # the frames that it was cancelled in hold this session
        if self._recorder is not None and self._tape is not None:
            self._recorder.close()
            await self._tape.written(_TAPE_S)

    def _over(self, pumping: asyncio.Task[None]) -> None:
        """Tell all who read along that it is finished, or what stopped it: each call ends with that."""
        self._capacity.leave(self)
        self._span.end(self.stats)
        self._count()
        error = self._left if pumping.cancelled() else pumping.exception()
        if error is None and self.stats.in_vain:
            error = unavailable("every reading of this stream failed; call again later", self.retry_after_ms)
        heard = self._session.cursors.received
        if error is None and self._session.finished and heard and not self.stats.segments:
            self.hub.post(Notice("NO_SPEECH", f"no speech was found in {heard / SAMPLE_RATE:.1f} s of sound"))
        self.hub.close(error)

    def _count(self) -> None:
        stats = self._session.stats
        if stats is not self._counted:
            self._metrics.progressed(self._counted, stats)
            self._counted = stats

    def _begin(self, job: Job, now: float) -> None:
        self._asked = job, now
        self.arrivals.began(job)

    def _read(self, job: Job, now: float, answered: bool) -> None:
        if self._asked is not None and self._asked[0] is job:
            self._capacity.took(now - self._asked[1])
            self._span.reading(job, now - self._asked[1], answered=answered)
            self._asked = None
        if answered:
            self.arrivals.read(job, now)

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
            if isinstance(event, Caption) and (doubt := doubted(event)) is not None:
                chatter = event.doubt is not None and event.doubt.chatter
                self.hub.post(Notice("CHATTER" if chatter else "WRONG_LANGUAGE", doubt))
        self._look()

    def _look(self) -> None:
        """Note what needs no reading, and tell all when the service is not what it should be."""
        self._count()
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
    """An engine whose readings are timed, on the event loop of the session."""

    def __init__(
        self, engine: EngineLike, began: Callable[[Job, float], None], ended: Callable[[Job, float, bool], None]
    ) -> None:
        self._engine = engine
        self._began, self._ended = began, ended
        self._loop = asyncio.get_running_loop()

    @property
    def capacity(self) -> int:
        return self._engine.capacity

    @property
    def health(self) -> Health:
        return self._engine.health

    def submit(self, request: Request) -> Reply:
        reply = self._engine.submit(request)
        if isinstance(request, Job):
            self._began(request, time.monotonic())
            reply.add_done_callback(partial(self._done, request))
        return reply

    def release(self, state: StateHandle) -> None:
        self._engine.release(state)

    def close(self, timeout_s: float = 10.0) -> None:
        self._engine.close(timeout_s)

    def _done(self, job: Job, reply: Future[Answer]) -> None:
        """Note the end of ``job``, from whatever thread, before the session learns of it."""
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._ended, job, time.monotonic(), not reply.cancelled())
