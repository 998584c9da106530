"""The calls that may be made of a session, as values and as records of a recording.

Law: a call that was written and read again is the same call, every bit of its samples and of its numbers.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, Literal, Self

import numpy as np

from streamtrans.core import Caption, Detect, Detection, Event, Hypothesis, Reading, Request, SpeechEnded, SpeechStarted
from streamtrans.stream.listener import Samples
from streamtrans.stream.records import BadRecording, Record, checked, from_json, to_json

_EVENTS: dict[str, type[Event]] = {kind.__name__: kind for kind in (SpeechStarted, SpeechEnded, Caption)}

_FULL_SCALE = np.float32(32_768)
"""The value of int16 that stands for 1.0."""


class Kind(IntEnum):
    """What a record holds."""

    HEADER = 1
    TOKENIZER = 2
    INT16 = 3
    FLOAT32 = 4
    UTTERANCE_END = 5
    END = 6
    TAKEN = 7
    ANSWERED = 8
    FAILED = 9
    TOLD = 10
    CLOSED = 11
    TARGETS = 12
    PACE = 13


@dataclass(frozen=True, slots=True)
class Asked:
    """A request that was taken: ``windows`` to find speech in, or else the samples and languages of a reading."""

    windows: int = 0
    segment: int = -1
    start: int = 0
    end: int = 0
    last: bool = False
    languages: tuple[str, ...] = ()

    @classmethod
    def of(cls, request: Request) -> Self:
        """Describe ``request``."""
        if isinstance(request, Detect):
            return cls(windows=len(request.windows))
        languages = tuple(target.language for target in request.targets)
        return cls(0, request.segment, request.start, request.end, request.last, languages)

    def __str__(self) -> str:
        """Say it in words."""
        if self.windows:
            return f"a detection of {self.windows} windows"
        last = "the last reading" if self.last else "a reading"
        return f"{last} of segment {self.segment}, samples {self.start} to {self.end}, in {', '.join(self.languages)}"


@dataclass(frozen=True, slots=True)
class Hear:
    """``Session.hear``: ``(n,)`` float32."""

    samples: Samples


@dataclass(frozen=True, slots=True)
class EndUtterance:
    """``Session.end_utterance``."""


@dataclass(frozen=True, slots=True)
class End:
    """``Session.end``."""


@dataclass(frozen=True, slots=True)
class Take:
    """``Session.requests``, and what it returned."""

    asked: tuple[Asked, ...]


@dataclass(frozen=True, slots=True)
class Answer:
    """``Session.answer`` with a result, whose state is lost."""

    result: Detection | Reading


@dataclass(frozen=True, slots=True)
class Fail:
    """``Session.fail``, and what the error said."""

    request: Literal["Detect", "Job"]
    error: str


@dataclass(frozen=True, slots=True)
class Tell:
    """``Session.events``, and what it returned."""

    events: tuple[Event, ...]


@dataclass(frozen=True, slots=True)
class Retarget:
    """``Session.retarget``: the languages to write from the next reading on, in their order."""

    targets: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Pace:
    """``Session.pace``: milliseconds of audio between readings of what is open; ``None``: no such readings."""

    interval_ms: int | None


Call = Hear | EndUtterance | End | Take | Answer | Fail | Tell | Retarget | Pace


_AS_THEY_ARE: dict[type, Kind] = {Fail: Kind.FAILED, Retarget: Kind.TARGETS, Pace: Kind.PACE}
"""Calls whose fields are their record."""


def written(call: Call) -> tuple[Kind, bytes]:
    """Return kind and payload of the record that holds ``call``."""
    if isinstance(call, Hear):
        return _packed(call.samples)
    if isinstance(call, EndUtterance | End):
        return (Kind.END if isinstance(call, End) else Kind.UTTERANCE_END), b""
    if isinstance(call, Take):
        return Kind.TAKEN, to_json(call.asked)
    if isinstance(call, Answer):
        result = call.result
        kept = result.hypotheses if isinstance(result, Reading) else result.probabilities
        return Kind.ANSWERED, to_json({type(result).__name__: kept})
    if isinstance(call, Fail | Retarget | Pace):
        return _AS_THEY_ARE[type(call)], to_json(call)
    return Kind.TOLD, to_json([[type(event).__name__, event] for event in call.events])


def read(record: Record) -> Call:
    """Return the call that ``record`` holds.

    Raises:
        BadRecording: it holds none that is known, or one that no recorder wrote.
    """
    if record.kind not in _READERS:
        raise BadRecording(f"the recording holds a record of unknown kind {record.kind} at byte {record.offset}")
    return _READERS[record.kind](record.payload)


def _heard(data: bytes, kind: str) -> Hear:
    if len(data) % np.dtype(kind).itemsize:
        raise BadRecording(f"the recording holds {len(data)} bytes of samples of {np.dtype(kind).itemsize} bytes each")
    samples = np.frombuffer(data, kind).astype(np.float32)
    return Hear(samples / _FULL_SCALE if kind == "<i2" else samples)


def _packed(samples: Samples) -> tuple[Kind, bytes]:
    """Keep samples in the fewest bytes that give back every bit of them."""
    if len(samples) and samples.min() >= -1 and samples.max() < 1:
        whole = (samples * _FULL_SCALE).astype("<i2")
        if (whole.astype(np.float32) / _FULL_SCALE).tobytes() == samples.tobytes():  # as bytes, for -0.0 == 0.0
            return Kind.INT16, whole.tobytes()
    return Kind.FLOAT32, samples.astype("<f4").tobytes()


@dataclass(frozen=True, slots=True)
class _Answered:
    """What an ``ANSWERED`` record holds: one of both."""

    Detection: tuple[float, ...] | None = None
    Reading: tuple[Hypothesis, ...] | None = None


def _answer(data: bytes) -> Answer:
    said: _Answered = from_json(_Answered, data)
    if said.Detection is not None and said.Reading is None:
        return Answer(Detection(said.Detection, None))
    if said.Reading is not None and said.Detection is None:
        return Answer(Reading(said.Reading))
    raise BadRecording("the recording holds an answer that is neither a detection nor a reading")


def _told(data: bytes) -> Tell:
    told: tuple[tuple[str, dict[str, Any]], ...] = from_json(tuple[tuple[str, dict[str, Any]], ...], data)
    return Tell(tuple(_event(*event) for event in told))


def _event(kind: str, said: dict[str, Any]) -> Event:
    if kind not in _EVENTS:
        raise BadRecording(f"the recording holds an event of unknown kind {kind}; replay it with a newer streamtrans")
    event: Event = checked(_EVENTS[kind], said, kind)
    return event


_READERS: dict[int, Callable[[bytes], Call]] = {
    Kind.INT16: lambda data: _heard(data, "<i2"),
    Kind.FLOAT32: lambda data: _heard(data, "<f4"),
    Kind.UTTERANCE_END: lambda _: EndUtterance(),
    Kind.END: lambda _: End(),
    Kind.TAKEN: lambda data: Take(from_json(tuple[Asked, ...], data)),
    Kind.ANSWERED: _answer,
    Kind.FAILED: lambda data: from_json(Fail, data),  # type: ignore[no-any-return]
    Kind.TARGETS: lambda data: from_json(Retarget, data),  # type: ignore[no-any-return]
    Kind.PACE: lambda data: from_json(Pace, data),  # type: ignore[no-any-return]
    Kind.TOLD: _told,
}
"""How the payload of each kind is read; ``HEADER``, ``TOKENIZER`` and ``CLOSED`` are no calls."""
