"""The session: audio in, requests for the engine out, answers in, captions out.

It does no input or output, reads no clock and knows no model: whoever holds it hands over what it asks
for. Readings fall due on a grid of audio time, so an engine that keeps up always gets the same jobs; one
that doesn't gets fewer and bigger ones, for a newer reading replaces one that nobody has taken yet.

Law: committed text only grows; a final caption has nothing tentative, and nothing follows it.
"""

from __future__ import annotations

import logging
from collections import deque
from dataclasses import dataclass, field, replace

from streamtrans.core import (
    DecodeStats,
    Detect,
    Detection,
    Event,
    Job,
    Reading,
    Request,
    SpeechEnded,
    SpeechStarted,
    samples,
)
from streamtrans.segment import Boundary, Closed, Opened
from streamtrans.stream.config import SessionConfig
from streamtrans.stream.lines import Line, Speller, speaking
from streamtrans.stream.listener import Listener, Samples
from streamtrans.stream.policies import Span, load_policy
from streamtrans.stream.sentences import sentence_end

_log = logging.getLogger(__name__)

PAUSE = samples(250)
"""Silence from which speech has paused, and a reading may think again; stops and breaths are shorter."""


@dataclass(frozen=True, slots=True)
class Cursors:
    """How far a session is, in samples since the stream began; each only grows.

    ``received``: heard. ``decoded``: read, or known to be no speech. ``committed``: end of the audio whose
    reading promised something last. ``final``: everything before is in final captions.
    """

    received: int = 0
    decoded: int = 0
    committed: int = 0
    final: int = 0


@dataclass(frozen=True, slots=True)
class SessionStats:
    """What a session has cost so far. ``skipped`` readings fell due and were replaced by newer ones.

    ``divided`` segments ended with a sentence and not with a pause. ``partials`` are the texts read of segments that
    were still open, and ``partial_decode`` what they cost; ``decode`` is all.
    """

    segments: int = 0
    readings: int = 0
    skipped: int = 0
    failures: int = 0
    divided: int = 0
    partials: int = 0
    decode: DecodeStats = field(default_factory=DecodeStats)
    partial_decode: DecodeStats = field(default_factory=DecodeStats)


class _Segment:
    """A stretch of speech whose final captions are not out yet."""

    def __init__(self, number: int, start: int, lines: list[Line], *, fresh: bool) -> None:
        self.number = number
        self.start = start
        self.end: int | None = None
        self.lines = lines
        self.due = 0  # newest reading due or taken, counted in intervals since the start
        self.read_to = start
        self.credible = False  # whether there is enough speech in it to believe what is read
        self.fresh = fresh  # after silence: what the encoder remembers of before is of no use

    @property
    def open_lines(self) -> list[Line]:
        """The lines that have no final caption yet."""
        return [line for line in self.lines if not line.closed]


class Session:
    """One stream of speech, from its first sample to its last final caption.

    Use: ``hear`` audio; hand what ``requests`` returns to an engine and every result to ``answer`` (or an
    error to ``fail``); show what ``events`` returns; ``end``, and go on until ``finished``.
    """

    def __init__(self, config: SessionConfig, tokenizer: Speller, *, window: int = 512) -> None:
        """Begin; ``window`` is the number of samples per window of the detector ``config.vad``."""
        self.config = config
        self._tokenizer = tokenizer
        self._policy = load_policy(config.policy, config.policy_n)
        self._listener = Listener(config.endpoints, window, config.vad, config.detect_limit_ms)
        self._interval = samples(config.reading_interval_ms)
        self._first = max(1, -(-samples(config.min_first_reading_ms) // self._interval))
        # Audio beyond this length of a segment may be cut off and fall to the next one.
        rules = config.endpoints
        self._certain = samples(rules.max_segment_ms - rules.cut_search_ms)
        self._enough = samples(config.min_voiced_ms)
        self._lag, self._patience = samples(config.sentence_lag_ms), samples(config.sentence_patience_ms)
        self._max_behind = samples(config.max_behind_ms)
        self._segments: deque[_Segment] = deque()  # oldest first; only the last may be open
        self._due: int | None = None  # end of the reading of the open segment that waits to be taken
        self._detecting: Detect | None = None
        self._reading: Job | None = None
        self._state: object | None = None  # what the encoder remembers of the run of speech
        self._events: list[Event] = []
        self._cursors = Cursors()
        self._stats = SessionStats()

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

    def answer(self, request: Request, result: Detection | Reading) -> None:
        """Take the engine's result of a request that ``requests`` returned."""
        if isinstance(request, Detect) and isinstance(result, Detection):
            self._settle_detection(request)
            self._listener.detected(request, result)
        elif isinstance(request, Job) and isinstance(result, Reading):
            if len(result.hypotheses) != len(request.targets):
                raise ValueError(f"{len(result.hypotheses)} hypotheses for {len(request.targets)} targets")
            self._settle_reading(request, result)
        else:
            raise TypeError(f"a {type(result).__name__} is no answer to a {type(request).__name__}")
        self._advance()

    def fail(self, request: Request, error: BaseException) -> None:
        """Go on without the result of ``request``; of a last reading, what was believed before is final."""
        _log.warning("session goes on without a %s: %r", type(request).__name__, error)
        self._count(failures=1)
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
        if not self._segments:
            return None
        segment = self._segments[0]
        if segment.end is not None:
            end = segment.end
        elif self._due is not None:
            end, self._due = self._due, None
        else:
            return None
        if segment.fresh:
            self._state, segment.fresh = None, False
        last = segment.end is not None
        free = last or self._listener.pause >= PAUSE
        return Job(
            segment=segment.number,
            start=segment.start,
            end=end,
            last=last,
            audio=self._listener.audio(segment.start, end),
            targets=tuple(line.target(free=free) for line in segment.open_lines),
            source=self.config.source,
            state=self._state,
        )

    def _settle_detection(self, request: Detect) -> None:
        if request is not self._detecting:
            raise ValueError("this detection was not asked for, or is answered already")
        self._detecting = None

    def _settle_reading(self, job: Job, reading: Reading | None) -> None:
        if job is not self._reading:
            raise ValueError(f"the reading of segment {job.segment} was not asked for, or is answered already")
        self._reading = None
        self._state = None if reading is None else reading.state
        segment = self._segments[0]
        span = Span(job.segment, job.start, job.end)
        lines = segment.open_lines
        hypotheses = reading.hypotheses if reading is not None else (None,) * len(lines)
        certain = segment.start + (self._certain if segment.credible else 0)
        for line, hypothesis in zip(lines, hypotheses, strict=True):
            if job.last:
                self._events.append(line.finish(hypothesis, span, credible=segment.credible))
            elif hypothesis is not None:
                caption = line.read(hypothesis, span, certain=certain)
                if caption is not None:
                    self._events.append(caption)
        if job.last:
            self._segments.popleft()
        if reading is not None:
            segment.read_to = job.end
            self._count_reading(reading, partial=not job.last)
            if segment.end is None:
                self._divide(segment, span)

    def _divide(self, segment: _Segment, heard: Span) -> None:
        """End the open segment where all of its lines, or most of them for a while, saw a sentence end.

        What was said after that moves to a new segment with the words it has, so nothing is read, or shown, twice.
        """
        lines = segment.open_lines
        ready = [line for line in lines if line.ending is not None]
        joint = sentence_end(ready, segment.start)
        if joint is None:
            return
        some = 2 * len(ready) >= len(lines)
        wanted = self._lag if len(ready) == len(lines) else max(self._lag, self._patience)
        if not some or heard.end - joint.last < wanted:
            return
        for line in lines:
            # Whoever saw no end may have promised words behind it, and they would be said twice.
            until = 0 if line in ready else line.promised_until()
            if until is None or until > joint.first:
                return
        boundaries = self._listener.divide(joint.moment, joint.first, joint.last)
        if not boundaries:
            return
        cut = boundaries[0].end if isinstance(boundaries[0], Closed) else segment.start
        self._drop_due()
        segment.end = cut
        following = self._new_segment(cut, fresh=not self.config.carry_state)
        following.credible = True
        following.due = max(0, heard.end - cut) // self._interval
        following.read_to = max(cut, heard.end)
        self._events.append(SpeechEnded(segment.number, cut))
        rests = []
        for line in ready:
            caption, rest = line.finish_sentence(Span(segment.number, segment.start, cut))
            self._events.append(caption)
            rests.append((line.language, rest))
        if not segment.open_lines:
            self._segments.popleft()
        self._segments.append(following)
        self._events.append(SpeechStarted(following.number, cut))
        for language, rest in rests:
            line = next(line for line in following.lines if line.language == language)
            shown = line.carry(rest, Span(following.number, cut, max(cut, heard.end)))
            if shown is not None:
                self._events.append(shown)
        self._count(divided=1)

    def _new_segment(self, start: int, *, fresh: bool) -> _Segment:
        config = self.config
        lines = [Line(target, speaking(self._tokenizer, target), self._policy, config) for target in config.targets]
        self._count(segments=1)
        segment = _Segment(self._stats.segments - 1, start, lines, fresh=fresh)
        segment.credible = not self._enough
        return segment

    def _advance(self) -> None:
        """Let the listener go on, but not past a reading that an idle engine is about to take."""
        while self._reading is not None or not self._waiting:
            boundaries = self._listener.step()
            if boundaries is None:
                break
            self._weigh()
            for boundary in boundaries:
                self._cross(boundary)
            self._fall_due()
        self._update_cursors()
        self._listener.forget(self._segments[0].start if self._segments else self._listener.safe_until)

    def _weigh(self) -> None:
        """Note whether there is enough speech in the open segment."""
        if self._segments and self._segments[-1].end is None:
            segment = self._segments[-1]
            segment.credible |= self._listener.voiced >= self._enough

    @property
    def _waiting(self) -> bool:
        """Whether there is something to read."""
        return bool(self._segments) and (self._segments[0].end is not None or self._due is not None)

    def _cross(self, boundary: Boundary) -> None:
        if isinstance(boundary, Opened):
            before = self._segments[-1] if self._segments else None
            goes_on = before is not None and before.end == boundary.start
            segment = self._new_segment(boundary.start, fresh=not (goes_on and self.config.carry_state))
            if before is not None and goes_on:
                segment.credible = before.credible
            self._segments.append(segment)
            self._events.append(SpeechStarted(segment.number, segment.start))
        elif isinstance(boundary, Closed):
            segment = self._segments[-1]
            segment.end = boundary.end
            self._drop_due()  # the final reading includes it
            self._events.append(SpeechEnded(segment.number, boundary.end))

    def _fall_due(self) -> None:
        """Note the newest reading of the open segment that its audio now suffices for."""
        if self.config.mode == "final" or not self._segments or self._segments[-1].end is not None:
            return
        segment = self._segments[-1]
        count = (self._listener.position - segment.start) // self._interval
        if count >= self._first and count > segment.due:
            self._drop_due()
            segment.due = count
            self._due = segment.start + count * self._interval

    def _drop_due(self) -> None:
        if self._due is not None:
            self._due = None
            self._count(skipped=1)

    def _update_cursors(self) -> None:
        before = self._cursors
        safe = self._listener.safe_until
        if self._segments:
            first = self._segments[0]
            final, decoded = first.start, first.read_to
            promised = [line.promised_at for line in first.lines if line.promised_at is not None]
            committed = min(promised) if len(promised) == len(first.lines) else first.start
        else:
            final = decoded = committed = safe
        self._cursors = Cursors(
            received=self._listener.received,
            decoded=max(before.decoded, decoded),
            committed=max(before.committed, committed),
            final=max(before.final, final),
        )

    def _count(self, **more: int) -> None:
        self._stats = replace(self._stats, **{name: getattr(self._stats, name) + each for name, each in more.items()})

    def _count_reading(self, reading: Reading, *, partial: bool) -> None:
        stats = self._stats
        cost = sum((hypothesis.stats for hypothesis in reading.hypotheses), DecodeStats())
        self._stats = replace(stats, readings=stats.readings + 1, decode=stats.decode + cost)
        if partial:
            self._stats = replace(
                self._stats,
                partials=stats.partials + len(reading.hypotheses),
                partial_decode=stats.partial_decode + cost,
            )
