"""The session: audio in, requests for the engine out, answers in, captions out.

It does no input or output, reads no clock and knows no model: whoever holds it hands over what it asks
for. Readings fall due on a grid of audio time, so an engine that keeps up always gets the same jobs; one
that doesn't gets fewer and bigger ones, for a newer reading replaces one that nobody has taken yet.

Law: committed text only grows; a final caption has nothing tentative, and nothing follows it.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Sequence
from dataclasses import replace

from streamtrans.core import (
    BadConfig,
    Detect,
    Detection,
    Event,
    Job,
    Reading,
    Request,
    SpeechEnded,
    SpeechStarted,
    loggable,
    samples,
)
from streamtrans.segment import Boundary, Closed, Opened
from streamtrans.stream.config import SessionConfig
from streamtrans.stream.grid import Grid
from streamtrans.stream.leveller import SILENCE
from streamtrans.stream.lines import Line, speaking
from streamtrans.stream.listener import Listener, Samples
from streamtrans.stream.memory import KeptSegment, Memory, hearing_again
from streamtrans.stream.policies import load_policy
from streamtrans.stream.progress import Cursors, SessionStats
from streamtrans.stream.run import Run
from streamtrans.stream.segments import Segment
from streamtrans.stream.sentences import agreed_end
from streamtrans.stream.stages import Spellers, Stages, spelling

_log = logging.getLogger(__name__)


class Session:
    """One stream of speech, from its first sample to its last final caption.

    Use: ``hear`` audio; hand what ``requests`` returns to an engine and every result to ``answer`` (or an
    error to ``fail``); show what ``events`` returns; ``end``, and go on until ``finished``.
    """

    def __init__(
        self,
        config: SessionConfig,
        tokenizer: Spellers,
        *,
        window: int = 512,
        memory: Memory | None = None,
    ) -> None:
        """Begin, or go on.

        Args:
            config: its targets may change later, see :meth:`retarget`.
            tokenizer: of the model that writes, or of both where one translates what the other writes.
            window: samples per window of the detector ``config.vad``.
            memory: of the session that is to go on; what is heard first is its audio from ``memory.begins`` on.

        Raises:
            BadConfig: there are two models, and nobody says which language is spoken.
        """
        if isinstance(tokenizer, Stages) and config.source is None:
            raise BadConfig("what is heard is written first and then translated: name the spoken language")
        self.config = config
        self._tokenizer = tokenizer
        self._policy = load_policy(config.policy, config.policy_n)
        self._listener = Listener(
            config.endpoints,
            window,
            config.vad,
            config.detect_limit_ms,
            begins=0 if memory is None else memory.begins,
            before=None if memory is None else memory.before,
            level_db=config.level_db,
            loudest=SILENCE if memory is None else memory.loudest,
        )
        self._grid = Grid(None if config.mode == "final" else config.reading_interval_ms, config.min_first_reading_ms)
        # Audio beyond this length of a segment may be cut off and fall to the next one.
        rules = config.endpoints
        self._certain = samples(rules.max_segment_ms - rules.cut_search_ms)
        self._enough = samples(config.min_voiced_ms)
        self._lag, self._patience = samples(config.sentence_lag_ms), samples(config.sentence_patience_ms)
        self._max_behind = samples(config.max_behind_ms)
        self._segments: deque[Segment] = deque()  # oldest first; only the last may be open
        self._due: int | None = None  # end of the reading of the open segment that waits to be taken
        self._detecting: Detect | None = None
        self._reading: Job | None = None
        self._run = Run()
        self._events: list[Event] = []
        self._cursors = Cursors()
        self._stats = SessionStats()
        if memory is not None:
            self._recall(memory)

    def hear(self, chunk: Samples) -> None:
        """Add ``(n,)`` samples: mono float32 at 16 kHz, any ``n``.

        Raises:
            BadAudio: wrong shape or type, NaN, or after ``end``.
        """
        self._listener.hear(chunk)
        self._advance()

    def end_utterance(self) -> None:
        """Close the segment that is open at what was heard last, without waiting for silence."""
        self._listener.flush()
        self._advance()

    def end(self) -> None:
        """Hear no more; the last segment closes and its final captions follow."""
        self._listener.end()
        self._advance()

    def retarget(self, targets: Sequence[str]) -> int:
        """Write these languages from now on; return from which sample on that holds for all that is said.

        In the open segment a new line is empty until the next reading, which hears the segment from its beginning; a
        line whose language goes gets its final caption at once, and doesn't come back in this segment. Segments that
        have ended keep their lines.

        Raises:
            BadConfig: no language, or one twice.
            UnsupportedLanguage: a tag names no language.
        """
        self.config = replace(self.config, targets=tuple(targets))
        if self._segments and self._segments[-1].end is None:
            segment = self._segments[-1]
            heard = segment.read_to if segment.read_to > segment.start else self._listener.position
            self._events += segment.leave(self.config.targets, heard)
            new = [target for target in self.config.targets if segment.line(target) is None]
            segment.lines += map(self.line, new)
            if not segment.open_lines:  # nobody is left to read it for
                self._drop_due()
                self._advance()
        return self._listener.received

    def pace(self, interval_ms: int | None) -> None:
        """Read open segments every ``interval_ms`` of audio from now on; ``None``: only once they have closed.

        The mode ``final`` never reads what is open.
        """
        if self.config.mode != "final":
            self._grid.pace(interval_ms)
        if interval_ms is None:
            self._drop_due()
            self._advance()

    def memory(self) -> Memory:
        """Return what this session needs to go on elsewhere; all that ``events`` has returned is in it."""
        listener = self._listener
        pending = tuple(map(KeptSegment.of, self._segments))
        first = min(pending[0].start if pending else listener.safe_until, listener.safe_until)
        return Memory(
            begins=max(0, first - hearing_again(self.config.endpoints)),
            known=listener.known,
            earliest=listener.earliest,
            segments=self._stats.segments,
            cursors=self._cursors,
            pending=pending,
            onset=listener.onset,
            loudest=listener.loudest,
        )

    def _recall(self, memory: Memory) -> None:
        """Take up the segments that aren't finished."""
        self._stats = self._stats.plus(segments=memory.segments)
        self._cursors = memory.cursors
        after: int | None = None
        for kept in memory.pending:
            fresh = kept.start != after or not self.config.carry_state
            self._segments.append(kept.recalled(self.line, fresh=fresh))
            after = kept.end

    def requests(self) -> list[Request]:
        """Take what the engine may be asked now: at most one job and one detection are under way.

        The job comes first: answered in this order, an instant engine reads the same for any chunking.
        """
        taken: list[Request] = []
        if self._reading is None:
            self._reading = self._next_job()
            if self._reading is not None:
                taken.append(self._reading)
        if self._detecting is None:
            self._detecting = self._listener.detect()
            if self._detecting is not None:
                taken.append(self._detecting)
        return taken

    def whole(self, job: Job) -> Job:
        """Return the job that is under way as one for an engine that has forgotten the stream, or never knew it."""
        return replace(job, audio=self._listener.audio(job.start, job.end, self._segments[0].gain), state=None)

    def answer(self, request: Request, result: Detection | Reading) -> None:
        """Take the engine's result of a request that ``requests`` returned."""
        if isinstance(request, Detect) and isinstance(result, Detection):
            self._settle_detection(request)
            self._listener.detected(request, result)
            self._stats = self._stats.plus(detections=1)
        elif isinstance(request, Job) and isinstance(result, Reading):
            if len(result.hypotheses) != len(request.targets):
                raise ValueError(f"{len(result.hypotheses)} hypotheses for {len(request.targets)} targets")
            self._settle_reading(request, result)
        else:
            raise TypeError(f"a {type(result).__name__} is no answer to a {type(request).__name__}")
        self._advance()

    def fail(self, request: Request, error: BaseException) -> None:
        """Go on without the result of ``request``; of a last reading, what was believed before is final."""
        _log.warning("session goes on without a %s: %s", type(request).__name__, loggable(error))
        self._stats = self._stats.plus(failures=1)
        if isinstance(request, Detect):
            self._settle_detection(request)
            self._listener.undetected(request)
        else:
            self._settle_reading(request, None)
        self._advance()

    def events(self) -> list[Event]:
        """Take what happened since the last call, in order."""
        taken, self._events = self._events, []
        return taken

    @property
    def finished(self) -> bool:
        """Whether the stream has ended and all final captions are out."""
        return self._listener.done and not self._segments

    @property
    def full(self) -> bool:
        """Whether so much audio waits to be read that the caller should stop hearing for a while."""
        return self._listener.received - self._cursors.decoded > self._max_behind

    @property
    def cursors(self) -> Cursors:
        """How far everything is."""
        return self._cursors

    @property
    def stats(self) -> SessionStats:
        """What it has cost so far."""
        return self._stats

    def _next_job(self) -> Job | None:
        """Return what to read next: finals in order of their segments, then the open segment."""
        while self._segments and self._segments[0].end is not None and not self._segments[0].open_lines:
            self._segments.popleft()  # all of its languages have gone
            self._advance()
        if not self._segments:
            return None
        segment = self._segments[0]
        if segment.end is not None and segment.end > self._listener.received:
            return None  # it is still to be heard again
        if segment.end is not None:
            end = segment.end
        elif self._due is not None:
            end, self._due = self._due, None
        else:
            return None
        return self._run.job(segment, end, self._listener, self.config)

    def _settle_detection(self, request: Detect) -> None:
        if request is not self._detecting:
            raise ValueError("this detection was not asked for, or is answered already")
        self._detecting = None

    def _settle_reading(self, job: Job, reading: Reading | None) -> None:
        if job is not self._reading:
            raise ValueError(f"the reading of segment {job.segment} was not asked for, or is answered already")
        self._reading = None
        self._run.settle(job, reading)
        segment = self._segments[0]
        self._events += segment.take(job, reading, segment.start + (self._certain if segment.credible else 0))
        if job.last:
            self._segments.popleft()
        if reading is not None:
            segment.read_to = job.end
            self._stats = self._stats.plus_reading(reading, partial=not job.last)
            if segment.end is None:
                self._divide(segment, job.end)

    def _divide(self, segment: Segment, heard: int) -> None:
        """End the open segment where all of its lines, or most of them for a while, saw a sentence end.

        What was said after that moves to a new segment with the words it has, so nothing is read, or shown, twice.
        """
        joint = agreed_end(segment, heard, self._lag, self._patience)
        if joint is None:
            return
        boundaries = self._listener.divide(joint.moment, joint.first, joint.last)
        if not boundaries:
            return
        cut = boundaries[0].end if isinstance(boundaries[0], Closed) else segment.start
        self._drop_due()
        segment.end = cut
        following = self._new_segment(cut, fresh=not self.config.carry_state, after=segment)
        following.due = self._grid.newest(cut, heard)
        following.read_to = max(cut, heard)
        self._events += segment.hand_over(following)
        if not segment.open_lines:
            self._segments.popleft()
        self._segments.append(following)
        self._weigh()
        self._stats = self._stats.plus(divided=1)

    def _new_segment(self, start: int, *, fresh: bool, after: Segment | None = None) -> Segment:
        """Return a segment; of one that goes on ``after`` what was believed a trace of speech is enough."""
        self._stats = self._stats.plus(segments=1)
        targets, source = self.config.targets, self.config.source
        # Of two models the first writes what the second translates, whether somebody wants to see it or not.
        unseen = [source] if isinstance(self._tokenizer, Stages) and source and source not in targets else []
        lines = [self.line(language) for language in (*unseen, *targets)]
        for line in lines[: len(unseen)]:
            line.hidden = True
        # What the encoder remembers was heard with the gain of then.
        gain = self._listener.gain if fresh or after is None else after.gain
        segment = Segment(self._stats.segments - 1, start, lines, fresh=fresh, gain=gain)
        segment.needed = min(1, self._enough) if after is not None and after.credible else self._enough
        return segment

    def line(self, language: str) -> Line:
        """Return an empty line of this session."""
        by, source = self._tokenizer, self.config.source
        speller, translated = spelling(by, language, source), isinstance(by, Stages) and language != source
        return Line(language, speaking(speller, language), self._policy, self.config, translated=translated)

    def _advance(self) -> None:
        """Let the listener go on, but not past a reading that an idle engine is about to take."""
        while self._reading is not None or not self._waiting:
            boundaries = self._listener.step()
            if boundaries is None:
                break
            for boundary in boundaries:
                self._cross(boundary)
            self._weigh()
            self._fall_due()
        self._update_cursors()
        self._listener.forget(self._segments[0].start if self._segments else self._listener.safe_until)

    def _weigh(self) -> None:
        """Note whether there is enough speech in the open segment."""
        if self._segments and self._segments[-1].end is None:
            segment = self._segments[-1]
            segment.credible |= self._listener.voiced >= segment.needed

    @property
    def _waiting(self) -> bool:
        """Whether there is something to read."""
        return bool(self._segments) and (self._segments[0].end is not None or self._due is not None)

    def _cross(self, boundary: Boundary) -> None:
        if isinstance(boundary, Opened):
            before = self._segments[-1] if self._segments else None
            goes_on = before is not None and before.end == boundary.start
            segment = self._new_segment(
                boundary.start,
                fresh=not (goes_on and self.config.carry_state),
                after=before if goes_on else None,
            )
            self._segments.append(segment)
            self._events.append(SpeechStarted(segment.number, segment.start, segment.gain))
        elif isinstance(boundary, Closed):
            segment = self._segments[-1]
            segment.end = boundary.end
            self._drop_due()  # the final reading includes it
            self._events.append(SpeechEnded(segment.number, boundary.end))

    def _fall_due(self) -> None:
        """Note the newest reading of the open segment that its audio now suffices for."""
        if not self._segments or self._segments[-1].end is not None:
            return
        segment = self._segments[-1]
        due = self._grid.due(segment.start, self._listener.position)
        if segment.open_lines and due > segment.due:
            self._drop_due()
            segment.due = self._due = due

    def _drop_due(self) -> None:
        if self._due is not None:
            self._due = None
            self._stats = self._stats.plus(skipped=1)

    def _update_cursors(self) -> None:
        final = decoded = committed = self._listener.safe_until
        if self._segments:
            first = self._segments[0]
            final, decoded, committed = first.start, first.read_to, first.promised_to
        self._cursors = self._cursors.grown(Cursors(self._listener.received, decoded, committed, final))
