"""The log of a talk's run: one JSON object per line, written as things happen.

Law: what was written is read back as it was, and what is missing of a log is told, whatever cut it off.

    {"log": "streamtrans", "version": 1, "audio": …, "targets": […], …}     header
    {"at": 25600, "wall_ms": 1712.4, "event": "Caption", "segment": 0, …}   an event; `at` in samples heard
    {"event": "end", "events": 1, "totals": {…}}                            the run ended as it should
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, Field, asdict, dataclass, field, fields
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from streamtrans.core import BadConfig, Caption, Event, SpeechEnded, SpeechStarted, samples
from streamtrans.metrics import ReferenceSegment, Timed

_NAME, _VERSION, _END = "streamtrans", 1, "end"
_EVENTS: dict[str, type[SpeechStarted | SpeechEnded | Caption]] = {
    kind.__name__: kind for kind in (SpeechStarted, SpeechEnded, Caption)
}
_TYPES: dict[str, tuple[type, ...]] = {"int": (int,), "float": (int, float), "str": (str,), "bool": (bool,)}
"""Annotation of an event's field → what JSON may hold there."""


@dataclass(frozen=True, slots=True)
class Header:
    """What ran. ``samples`` is the length of the audio, 0 where it isn't known.

    ``row`` is the talk's row of the manifest; ``references`` are the sentences per target language, where their
    times are known; ``settings`` is whatever steered the run.
    """

    audio: str = ""
    source: str | None = None
    targets: tuple[str, ...] = ()
    samples: int = 0
    row: Mapping[str, str] = field(default_factory=dict)
    references: Mapping[str, tuple[ReferenceSegment, ...]] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Logged:
    """An event, how many samples had been heard when it came, and the wall time since the stream began.

    ``wall_ms`` is ``None`` on a virtual clock.
    """

    at: int
    event: Event
    wall_ms: float | None = None


@dataclass(frozen=True, slots=True)
class Log:
    """A log as read. ``totals`` is what the run added up at its end; ``problems`` says what is missing."""

    header: Header
    events: tuple[Logged, ...] = ()
    totals: Mapping[str, Any] = field(default_factory=dict)
    problems: tuple[str, ...] = ()

    def timed(self) -> tuple[Timed, ...]:
        """Return the events with the samples heard: computation-unaware."""
        return tuple((logged.at, logged.event) for logged in self.events)

    def timed_by_wall(self) -> tuple[Timed, ...] | None:
        """Return the events with wall-clock samples: computation-aware; ``None`` where a wall time is missing."""
        timed = [(logged.wall_ms, logged.event) for logged in self.events]
        known = tuple((samples(wall_ms), event) for wall_ms, event in timed if wall_ms is not None)
        return known if len(known) == len(timed) else None


class LogWriter:
    """Write a log line by line; each is flushed, so that a run that dies leaves what it did.

    A context manager: the end, with ``totals``, is written when the block ends without an error.
    """

    def __init__(self, path: Path, header: Header) -> None:
        """Open ``path`` anew and write the header.

        Raises:
            BadConfig: the file can't be written.
        """
        self.totals: dict[str, Any] = {}
        self._count = 0
        try:
            self._file = path.open("w", encoding="utf-8", newline="\n")
        except OSError as error:
            raise BadConfig(f"the log {path} can't be written: {error.strerror}") from None
        named = {each.name: getattr(header, each.name) for each in fields(header)}
        named["references"] = {code: [asdict(line) for line in lines] for code, lines in header.references.items()}
        self._write({"log": _NAME, "version": _VERSION, **named})

    def __enter__(self) -> Self:
        """Begin."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Write the end, unless something went wrong, and close the file."""
        with self._file:
            if kind is None:
                self._write({"event": _END, "events": self._count, "totals": self.totals})

    def add(self, at: int, event: Event, wall_ms: float | None = None) -> None:
        """Write one event; see :class:`Logged`."""
        told = {each.name: getattr(event, each.name) for each in _told(type(event))}
        self._write({"at": at, "wall_ms": wall_ms, "event": type(event).__name__, **told})
        self._count += 1

    def _write(self, line: Mapping[str, Any]) -> None:
        self._file.write(json.dumps(line, ensure_ascii=False, default=str) + "\n")  # a path among the settings
        self._file.flush()


def write_log(path: Path, header: Header, events: Iterable[Logged], totals: Mapping[str, Any] | None = None) -> None:
    """Write a whole log at once.

    Raises:
        BadConfig: the file can't be written.
    """
    with LogWriter(path, header) as log:
        log.totals.update(totals or {})
        for logged in events:
            log.add(logged.at, logged.event, logged.wall_ms)


def read_log(path: Path) -> Log:
    """Read a log, also one that was cut off or damaged: what can't be read is passed over and told.

    Raises:
        BadConfig: there is no such file, or it begins with something else than a header of ours.
    """
    try:
        *whole, rest = path.read_bytes().split(b"\n")
    except OSError as error:
        raise BadConfig(f"the log {path} can't be read: {error.strerror}") from None
    if not whole:
        return Log(Header(), problems=("the log is cut off in its header: nothing is known of the run",))
    header = _header(path, _object(whole[0]))
    events: list[Logged] = []
    problems: list[str] = []
    ends: list[Mapping[str, Any]] = []
    for number, line in enumerate(whole[1:], 2):
        found = _object(line)
        logged = _logged(found)
        if logged is not None:
            events.append(logged)
        elif found.get("event") == _END:
            ends.append(found)
        else:
            problems.append(f"line {number} holds no event and was left out")
    if rest:
        problems.append(f"line {len(whole) + 1} is cut off and was left out")
    if not ends:
        problems.append("the log has no end: the run was cut off, and its last captions may be missing")
    elif ends[-1].get("events") != len(events):
        problems.append(f"{ends[-1].get('events')} events were written, and {len(events)} can be read")
    totals = ends[-1].get("totals") if ends else None
    return Log(header, tuple(events), totals if isinstance(totals, dict) else {}, tuple(problems))


def _object(line: bytes) -> dict[str, Any]:
    """Parse one line; what is no JSON object is an empty one."""
    try:
        found = json.loads(line, parse_constant=_no_number)
    except ValueError:  # UnicodeDecodeError is one too
        return {}
    return found if isinstance(found, dict) else {}


def _no_number(name: str) -> float:
    raise ValueError(f"{name} is no number of JSON")


def _header(path: Path, found: Mapping[str, Any]) -> Header:
    if found.get("log") != _NAME:
        raise BadConfig(f'{path} is no log of ours: it should begin with a line that says "log": "{_NAME}"')
    if found.get("version") != _VERSION:
        raise BadConfig(f"{path} is of version {found.get('version')}; this program reads version {_VERSION}")
    try:
        return Header(
            str(found["audio"]),
            found["source"],
            tuple(found["targets"]),
            int(found["samples"]),
            dict(found["row"]),
            {code: tuple(ReferenceSegment(**line) for line in lines) for code, lines in found["references"].items()},
            dict(found["settings"]),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise BadConfig(f"the header of {path} is damaged: {error!r}") from None


def _logged(found: Mapping[str, Any]) -> Logged | None:
    """Return what a line says, ``None`` where a field is missing or of another type."""
    kind, at, wall_ms = _EVENTS.get(str(found.get("event"))), found.get("at"), found.get("wall_ms")
    if kind is None or type(at) is not int or not (wall_ms is None or _fits(wall_ms, "float")):
        return None
    named: dict[str, Any] = {}
    for each in _told(kind):
        value = found.get(each.name, None if each.default is MISSING else each.default)
        if not _fits(value, str(each.type)):
            return None
        named[each.name] = value
    return Logged(at, kind(**named), wall_ms)


def _told(kind: type[Event]) -> list[Field[Any]]:
    """Return the fields of an event that a log holds: all by which events differ."""
    return [each for each in fields(kind) if each.compare]


def _fits(value: object, annotation: str) -> bool:
    # true and false are integers to Python, and to nobody else
    return isinstance(value, _TYPES[annotation]) and isinstance(value, bool) == (annotation == "bool")
