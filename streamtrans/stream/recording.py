"""A session on file: every call that was made of it, and every answer it got, in order.

Law: the same calls, answered the same, give the same captions bit for bit, whatever was late or failed meanwhile.

A session reads no clock, so what it says follows from its settings and from the order in which audio, answers and
ends came; that order, and not its time, is what a recording holds. In a file of records (``records.py``,
``*.stsession``) there are:

- ``HEADER``: JSON of what read (:class:`Origin`), the session's settings, and the detector's window;
- ``TOKENIZER``: the model's ``tokenizer.json``, deflated, so that a session can be replayed without its model;
- then one record per call of the session: ``INT16`` or ``FLOAT32`` the samples heard (little-endian; int16 ``k`` stands
  for ``k / 32768`` where all are such, as from 16 kHz PCM); ``UTTERANCE_END``; ``END``; ``TARGETS`` other languages;
  ``PACE`` other steps; ``TAKEN`` what was asked of the engine; ``ANSWERED`` a result; ``FAILED`` an error instead;
  ``TOLD`` the events taken;
- ``CLOSED``: nobody calls it any more. Where it is missing, the recorder was interrupted.

What a model remembers between readings isn't kept: computed again it comes out again, and recorded answers need none.
"""

from __future__ import annotations

import contextlib
import logging
import os
import zlib
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field, replace
from hashlib import sha256
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import numpy as np

from streamtrans.core import SAMPLE_RATE, Detect, Detection, Event, Job, Reading, Request
from streamtrans.foreign import BadValue, Chosen, inflate
from streamtrans.stream.calls import (
    Answer,
    Asked,
    Call,
    End,
    EndUtterance,
    Fail,
    Hear,
    Kind,
    Pace,
    Retarget,
    Take,
    Tell,
    read,
    written,
)
from streamtrans.stream.config import SessionConfig
from streamtrans.stream.listener import Samples
from streamtrans.stream.progress import Cursors, SessionStats
from streamtrans.stream.pump import SessionLike
from streamtrans.stream.records import BadRecording, Record, Records, checked, from_json, pack, preface, to_json

_log = logging.getLogger(__name__)

_DECISIVE = (
    "*.safetensors",
    "config.json",
    "generation_config.json",
    "model.safetensors.index.json",
    "preprocessor_config.json",
    "tokenizer.json",
)
"""Files of a checkpoint that a fingerprint is of; what else lies there, such as measured settings, may change."""


_MOST_TOKENIZER = 64 << 20
"""Bytes of a ``tokenizer.json``: those of a quarter of a million tokens have 35 million."""


@dataclass(frozen=True, slots=True)
class Origin:
    """What read for a session; with it, and on a like machine, the same can be computed again."""

    model: str = ""
    fingerprint: str = ""
    """Of the model's folder, see :func:`fingerprint`."""
    settings: dict[str, Any] = field(default_factory=dict)
    """How the model was loaded and the engine set up, as JSON can hold it."""
    versions: dict[str, str] = field(default_factory=dict)
    """Package → version."""
    tokenizer: str = field(default="", repr=False)
    """The text of ``tokenizer.json``."""


@dataclass(frozen=True, slots=True)
class _Header:
    """What a recording begins with; the settings of the session are looked at by themselves."""

    origin: Origin
    session: dict[str, Any]
    window: int


class Sink(Protocol):
    """Where a recording goes; any method may raise ``OSError``."""

    def write(self, data: bytes) -> object:
        """Take more bytes."""
        ...

    def flush(self) -> object:
        """Make sure that what was written outlives this process."""
        ...

    def close(self) -> object:
        """Take no more."""
        ...


class FileSink:
    """A file that only its owner may read, for it holds what people said; made anew with the first byte."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: BinaryIO | None = None

    def write(self, data: bytes) -> None:
        """Write ``data``; an old file of that name is replaced."""
        if self._file is None:
            # Never the old file: others may have it open, or may have put a link to another one there.
            self._path.unlink(missing_ok=True)
            number = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o600)
            self._file = os.fdopen(number, "wb")
            self._path.chmod(0o600)  # whatever the umask takes away
        self._file.write(data)

    def flush(self) -> None:
        """Hand everything to the system."""
        if self._file is not None:
            self._file.flush()

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()


class Recorder:
    """A session whose every call is written down.

    It is used like the :class:`~streamtrans.stream.Session` inside, and closed after the last call. Where the sink
    fails, the recording ends there, ``error`` says why, and the session goes on.

    Args:
        session: a new one.
        sink: is closed with the recorder.
        origin: what will answer its requests.
        window: samples per window of the session's detector.
    """

    def __init__(self, session: SessionLike, sink: Sink, origin: Origin, *, window: int = 512) -> None:
        self.config = session.config
        self.error: OSError | None = None
        self._session = session
        self._sink = sink
        self._closed = False
        about = {name: getattr(origin, name) for name in ("model", "fingerprint", "settings", "versions")}
        header = {"origin": about, "session": session.config, "window": window}
        self._put(preface() + pack(Kind.HEADER, to_json(header)))
        if origin.tokenizer:
            self._put(pack(Kind.TOKENIZER, zlib.compress(origin.tokenizer.encode())))
        self._flush()

    def hear(self, chunk: Samples) -> None:
        """Pass samples on and keep them."""
        self._session.hear(chunk)
        self._keep(Hear(chunk))

    def end_utterance(self) -> None:
        """Pass it on."""
        self._session.end_utterance()
        self._keep(EndUtterance())

    def end(self) -> None:
        """Pass it on."""
        self._session.end()
        self._keep(End())

    def retarget(self, targets: Sequence[str]) -> int:
        """Pass it on and keep it."""
        effective_at = self._session.retarget(targets)
        self.config = self._session.config
        self._keep(Retarget(self.config.targets))
        return effective_at

    def pace(self, interval_ms: int | None) -> None:
        """Pass it on and keep it."""
        self._session.pace(interval_ms)
        self._keep(Pace(interval_ms))

    def requests(self) -> list[Request]:
        """Return what the session asks."""
        taken = self._session.requests()
        self._keep(Take(tuple(Asked.of(request) for request in taken)))
        return taken

    def whole(self, job: Job) -> Job:
        """Return the same question with all of its audio; it changes nothing, so it isn't kept."""
        return self._session.whole(job)

    def answer(self, request: Request, result: Detection | Reading) -> None:
        """Pass an answer on and keep it."""
        self._session.answer(request, result)
        self._keep(Answer(result))

    def fail(self, request: Request, error: BaseException) -> None:
        """Pass an error on and keep what it says."""
        self._session.fail(request, error)
        self._keep(Fail("Detect" if isinstance(request, Detect) else "Job", repr(error)))

    def events(self) -> list[Event]:
        """Return what has happened."""
        taken = self._session.events()
        self._keep(Tell(tuple(taken)))
        if taken:
            self._flush()
        return taken

    def close(self) -> None:
        """Write that nothing follows, and close the sink; closing twice is fine."""
        if self._closed:
            return
        self._closed = True
        self._put(pack(Kind.CLOSED, to_json({"finished": self.finished})))
        try:
            self._sink.close()
        except OSError as error:
            self._give_up(error)

    @property
    def finished(self) -> bool:
        """As of the session."""
        return self._session.finished

    @property
    def full(self) -> bool:
        """As of the session."""
        return self._session.full

    @property
    def cursors(self) -> Cursors:
        """As of the session."""
        return self._session.cursors

    @property
    def stats(self) -> SessionStats:
        """As of the session."""
        return self._session.stats

    def _keep(self, call: Call) -> None:
        self._put(pack(*written(call)))

    def _put(self, data: bytes) -> None:
        if self.error is None:
            try:
                self._sink.write(data)
            except OSError as error:
                self._give_up(error)

    def _flush(self) -> None:
        if self.error is None:
            try:
                self._sink.flush()
            except OSError as error:
                self._give_up(error)

    def _give_up(self, error: OSError) -> None:
        if self.error is None:
            self.error = error
            _log.error("a recording ends here, and its session goes on without it: %s", error)
            self._closed = True
            with contextlib.suppress(OSError):  # said once is enough
                self._sink.close()


class Recording:
    """What a :class:`Recorder` wrote.

    Args:
        file: open for reading bytes; it is read as :meth:`calls` goes on.
        name: what messages call it.
        chosen: what it may name that isn't ours, ``module:Class``: for it was given to who replays it, too.

    Raises:
        BadRecording: it is none, or one of a newer format, or ends before it says what it is.
    """

    def __init__(self, file: BinaryIO, name: str = "the recording", *, chosen: Collection[str] = ()) -> None:
        self.name = name
        self.received = 0
        """Samples in the calls read so far."""
        self.finished: bool | None = None
        """Whether the session had ended when the recorder was closed; ``None`` until that was read."""
        self._records = Records(file, name)
        self._iterator = iter(self._records)
        self._waiting: Record | None = None
        first = next(self._iterator, None)
        if first is None or first.kind != Kind.HEADER:
            raise BadRecording(f"{name} ends, or is damaged, before it says what was recorded; it can't be replayed")
        header: _Header = from_json(_Header, first.payload)
        session = {
            field: Chosen(value) if isinstance(value, str) and value in chosen else value
            for field, value in header.session.items()
        }
        endpoints = session.get("endpoints")
        if isinstance(endpoints, dict):  # what a rule says that wasn't there yet wasn't done
            session["endpoints"] = {"head_ms": 0, **endpoints}
        self.config: SessionConfig = checked(SessionConfig, session, "session")
        self.window = header.window
        if not 0 < self.window <= SAMPLE_RATE:
            raise BadRecording(f"{name} is of windows of {self.window} samples; 1 to {SAMPLE_RATE} can be")
        self._waiting = next(self._iterator, None)
        tokenizer = ""
        if self._waiting is not None and self._waiting.kind == Kind.TOKENIZER:
            tokenizer = _inflated(self._waiting.payload, name)
            self._waiting = None
        self.origin = replace(header.origin, tokenizer=tokenizer)

    def calls(self) -> Iterator[Call]:
        """Yield the calls, once, up to the end or to where the file was cut off or damaged; then see ``problem``."""
        for record in self._rest():
            if record.kind == Kind.CLOSED:
                self.finished = from_json(dict[str, bool], record.payload).get("finished", False)
                continue
            call = read(record)
            if isinstance(call, Hear):
                self.received += len(call.samples)
                if not np.isfinite(call.samples).all():
                    raise BadRecording(f"{self.name} holds samples that are no finite numbers; no session heard them")
            yield call

    @property
    def problem(self) -> str | None:
        """What is wrong with the recording's end, once all calls were read; ``None`` where it is complete."""
        ending, where = self._records.ending, f"after {self.received / SAMPLE_RATE:.1f} s"
        if ending is None or (ending.kind == "whole" and self.finished):
            return None
        if ending.kind == "damaged":
            return f"{self.name} is damaged at byte {ending.offset}, {where}; replayed up to there"
        if ending.kind == "cut":
            return f"{self.name} ends {where} in the middle of a record; replayed up to there"
        if self.finished is None:
            return f"{self.name} ends {where}, as its recorder was interrupted; replayed up to there"
        return f"{self.name} ends {where}, as its session was left before its end; replayed up to there"

    def _rest(self) -> Iterator[Record]:
        if self._waiting is not None:
            yield self._waiting
            self._waiting = None
        yield from self._iterator


def _inflated(data: bytes, name: str) -> str:
    try:
        return inflate(data, _MOST_TOKENIZER).decode()
    except (BadValue, UnicodeDecodeError) as error:
        raise BadRecording(f"{name}: the tokenizer in it can't be read: {error}") from None


def fingerprint(folder: Path) -> str:
    """Return the SHA-256 of a checkpoint folder: of the names and contents of what decides what the model says."""
    total = sha256()
    for path in sorted(path for name in _DECISIVE for path in folder.glob(name)):
        with path.open("rb") as file:
            digest = sha256()
            while block := file.read(1 << 20):
                digest.update(block)
        total.update(f"{path.name} {digest.hexdigest()}\n".encode())
    return total.hexdigest()
