"""Run a recording again: the calls that were made, in their order, of a new session.

Law: with the recorded answers the captions are those of the recording bit for bit; with an engine they are
wherever it answers as the recorded one did.

Computed again on another machine, or without the neighbours that it had, a model's answer may differ in its last
bits. ``Caption.stability``, which is a probability, shows that; where answers are computed again, it alone makes no
difference.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from streamtrans.core import (
    Caption,
    Detect,
    Detection,
    EngineLike,
    Event,
    Reading,
    Request,
    SpeechStarted,
    StreamtransError,
)
from streamtrans.stream.calls import Answer, Asked, Call, End, EndUtterance, Fail, Hear, Pace, Retarget, Take, Tell
from streamtrans.stream.pump import SessionLike, ask
from streamtrans.stream.recording import Recording
from streamtrans.stream.records import BadRecording


@dataclass(frozen=True, slots=True)
class Difference:
    """Where two runs of a session part: what the recording has, ``was``, and what the replay has, ``now``."""

    at: int
    """Samples heard."""
    what: str
    was: str
    now: str
    segment: int | None = None
    revision: int | None = None
    language: str | None = None

    def __str__(self) -> str:
        """Say it in one line."""
        return f"{self.what}: was {self.was}, and is {self.now}"


class Differs(StreamtransError):
    """A replay came to something else than its recording."""

    def __init__(self, difference: Difference) -> None:
        super().__init__(str(difference))
        self.difference = difference


class _Recorded(StreamtransError):
    """An error that a recording tells of."""


def rerun(
    recording: Recording, session: SessionLike, engine: EngineLike | None = None
) -> Iterator[tuple[Sequence[Event], Sequence[Event]]]:
    """Make the calls of ``recording`` again; wherever events were taken, some or none, yield what was and what is.

    Args:
        recording: freshly opened.
        session: a new one with the settings, the tokenizer and the window of the recording.
        engine: asked one request at a time; without it the recorded answers are given.

    Raises:
        Differs: an event or a request is not as recorded; the events up to there were yielded.
        EngineClosed: the engine was shut down meanwhile.
        BadRecording: the recording answers what was never asked.
    """
    calls = recording.calls()
    asked: dict[bool, Request] = {}  # by whether it is a detection; at most one of both is under way
    for call in calls:
        match call:
            case Hear() | EndUtterance() | End() | Retarget() | Pace():
                _say(session, call)
            case Take(was):
                taken = session.requests()
                asked |= {isinstance(request, Detect): request for request in taken}
                now = tuple(Asked.of(request) for request in taken)
                if now != was:
                    raise Differs(_earliest(calls, session, was, now, exactly=engine is None))
            case Answer(result):
                request = _under_way(asked, isinstance(result, Detection))
                _check_answer(request, result)
                if engine is None:
                    session.answer(request, result)
                else:
                    ask(session, engine, request)
            case Fail(kind, error):
                session.fail(_under_way(asked, kind == Detect.__name__), _Recorded(error))
            case Tell(was_told):
                told = session.events()
                difference = first_difference(was_told, told, session.cursors.received, exactly=engine is None)
                if difference is not None:
                    raise Differs(difference)
                yield was_told, told


def _say(session: SessionLike, call: Hear | EndUtterance | End | Retarget | Pace) -> None:
    """Make a call that nothing answers."""
    match call:
        case Hear(samples):
            session.hear(samples)
        case EndUtterance():
            session.end_utterance()
        case End():
            session.end()
        case Retarget(targets):
            session.retarget(targets)
        case Pace(interval_ms):
            session.pace(interval_ms)


def first_difference(was: Sequence[Event], now: Sequence[Event], at: int, *, exactly: bool) -> Difference | None:
    """Return the first event in which two runs differ after ``at`` samples; only ``exactly`` compares stabilities."""
    for one, other in zip(was, now, strict=False):
        if (one if exactly else _unweighed(one)) != (other if exactly else _unweighed(other)):
            return _difference(one, other, at)
    if len(was) > len(now):
        return _difference(was[len(now)], None, at)
    if len(now) > len(was):
        return _difference(None, now[len(was)], at)
    return None


def _earliest(
    calls: Iterator[Call], session: SessionLike, was: tuple[Asked, ...], now: tuple[Asked, ...], *, exactly: bool
) -> Difference:
    """Name the event that made the requests differ, if there is one, or else the requests."""
    at, told = session.cursors.received, session.events()
    later = next((call.events for call in calls if isinstance(call, Tell)), ())
    difference = first_difference(later[: len(told)], told, at, exactly=exactly)
    if difference is not None:
        return difference
    return Difference(at, "what the engine is asked", _all(was), _all(now))


def _under_way(asked: dict[bool, Request], detection: bool) -> Request:
    if detection not in asked:
        raise BadRecording("the recording answers what was never asked; it was made by something else than a recorder")
    return asked.pop(detection)


def _check_answer(request: Request, result: Detection | Reading) -> None:
    """Refuse what no engine could have answered."""
    if not _suits(request, result):
        raise BadRecording(f"the recording holds an answer that {Asked.of(request)} can't have had")


def _suits(request: Request, result: Detection | Reading) -> bool:
    """Whether there are as many answers as questions, and of each token all that is told."""
    if isinstance(request, Detect) and isinstance(result, Detection):
        return len(result.probabilities) == len(request.windows) and all(
            0 <= each <= 1 for each in result.probabilities
        )
    if isinstance(request, Detect) or isinstance(result, Detection):
        return False
    return len(result.hypotheses) == len(request.targets) and all(
        len(each.logprobs) == len(each.tokens)
        and len(each.ends) in (0, len(each.tokens))
        and each.tokens[: len(target.prefix)] == target.prefix
        and all(token >= 0 for token in each.tokens)
        for each, target in zip(result.hypotheses, request.targets, strict=True)
    )


def _unweighed(event: Event) -> Event:
    return replace(event, stability=1.0) if isinstance(event, Caption) else event


def _difference(was: Event | None, now: Event | None, at: int) -> Difference:
    """Name what differs between two events that should be one."""
    either = was or now
    assert either is not None
    if not isinstance(either, Caption):
        return Difference(at, f"segment {either.segment}", _told(was), _told(now), either.segment)
    what = f"segment {either.segment}, revision {either.revision}, {either.language}"
    if isinstance(was, Caption) and isinstance(now, Caption) and was.text == now.text:
        one, other = str(was), str(now)  # the texts alike, it is another field
    else:
        one, other = _told(was), _told(now)
    return Difference(at, what, one, other, either.segment, either.revision, either.language)


def _told(event: Event | None) -> str:
    if event is None:
        return "nothing"
    if isinstance(event, Caption):
        return repr(event.text)
    if isinstance(event, SpeechStarted):
        return f"speech from sample {event.start}"
    return f"the end of speech at sample {event.end}"


def _all(asked: tuple[Asked, ...]) -> str:
    return " and ".join(map(str, asked)) or "nothing"
