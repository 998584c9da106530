"""One recording through its session, block by block: what ``translate`` does per file.

Several files are read by several threads at once; their readings meet in the engine, which batches them. Each
block is settled before the next is read, so memory holds one block and one segment per file, and the captions
are those of a stream that was never late.

Law: what is written of a file depends on the file, the model and the mode, and on nothing else: not on who watches,
nor on which other files and languages are asked for.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from streamtrans_clients import clock

from streamtrans.audio import Samples, stream_file
from streamtrans.cli.inputs import Recording
from streamtrans.core import SAMPLE_RATE, BadAudio, Caption, DecodeStats, Event, StreamtransError, Word, milliseconds
from streamtrans.stream import EngineLike, Session, SessionConfig, SessionStats, Spellers, Stages, doubted, settle
from streamtrans.vad import vad_window

BLOCK_S = {"final": 2.0, "live": 0.48, "stable": 0.48}
"""Audio per step. Larger saves calls; where captions grow, a step is one reading."""

_ALL_BUT_SILENT = 1e-3
"""A peak below which a recording is called silent: 60 dB under full scale."""


class Stopped(StreamtransError):
    """The user asked to end before the file was begun."""


@dataclass(frozen=True, slots=True)
class Watcher:
    """Who is told what happens to a file, from the thread that reads it."""

    heard: Callable[[Path, int], None]
    """More samples were heard: how many."""
    events: Callable[[Path, list[Event]], None]


@dataclass(frozen=True, slots=True)
class Translated:
    """A file that is done. ``captions`` are the final ones that have text, in the order of their time.

    ``notes`` are for the user to know; ``silent``, where there are no captions, says why if it can; ``problem`` says
    why the file wasn't read to its end.
    """

    path: Path
    samples: int
    captions: tuple[Caption, ...]
    stats: SessionStats
    wall_s: float
    notes: tuple[str, ...] = ()
    silent: str | None = None
    problem: str = ""

    @property
    def duration_s(self) -> float:
        """Length of the audio."""
        return self.samples / SAMPLE_RATE

    def summary(self) -> dict[str, Any]:
        """Return the file as ``--json`` prints it."""
        decode = self.stats.decode
        acceptance = {
            name: round(accepted / drafted, 4) for name, (drafted, accepted) in decode.by_drafter.items() if drafted
        }
        stats = {
            "wall_s": round(self.wall_s, 3),
            # A sample or two may be less than one at 16 kHz: such a file has no length, and no factor.
            "real_time_factor": round(self.wall_s / self.duration_s, 4) if self.samples else None,
            "segments": self.stats.segments,
            "readings": self.stats.readings,
            "failures": self.stats.failures,
            "passes": decode.passes,
            "tokens": decode.tokens,
            "drafted": decode.drafted,
            "accepted": decode.accepted,
            "acceptance": acceptance,
        }
        summary = {
            "file": str(self.path),
            "duration_s": round(self.duration_s, 3),
            "captions": [_caption(caption, self.samples) for caption in self.captions],
            "stats": stats,
        }
        notes = [*self.notes, *(() if self.silent is None else ("no speech was found",))]
        said = {"notes": notes, "error": self.problem}
        return summary | {name: value for name, value in said.items() if value}


def translate_file(
    recording: Recording,
    config: SessionConfig,
    tokenizer: Spellers,
    engine: EngineLike,
    *,
    watcher: Watcher,
    stop: threading.Event,
) -> Translated:
    """Read a file to its end, or until ``stop`` is set; what was made until then is kept.

    Raises:
        BadAudio: nothing of the file can be read.
        EngineClosed: the engine was closed meanwhile.
        Stopped: ``stop`` was set before.
    """
    if stop.is_set():
        raise Stopped("stopped before it was begun")
    began = time.perf_counter()
    notes: list[str] = []
    reading = _Reading(recording.path, _sessions(config, tokenizer), engine, watcher)
    problem = ""
    try:
        for block in stream_file(recording.file, BLOCK_S[config.mode], notes.append):
            reading.hear(block)
            if stop.is_set():
                problem = f"stopped after {reading.samples / SAMPLE_RATE:.1f} s; what was made until then is kept"
                break
    except BadAudio as error:
        if not reading.samples:
            raise
        problem = recording.told(error)
    reading.end()
    order = {target: at for at, target in enumerate(config.targets)}
    captions = sorted(reading.finals, key=lambda caption: (caption.start, order[caption.language]))
    wall_s = time.perf_counter() - began
    return Translated(
        recording.path,
        reading.samples,
        tuple(captions),
        reading.stats(),
        wall_s,
        notes=(*notes, *reading.doubts),
        silent=None if captions or problem else reading.silence(),
        problem=problem,
    )


def _sessions(config: SessionConfig, tokenizer: Spellers) -> list[Session]:
    """Return a session for all languages, or one for each, where each has a say in where sentences end.

    Translations of a transcript have none.
    """
    window = vad_window(config.vad)
    if config.mode == "final" or isinstance(tokenizer, Stages):
        return [Session(config, tokenizer, window=window)]
    return [Session(replace(config, targets=(target,)), tokenizer, window=window) for target in config.targets]


class _Reading:
    """The sessions of one file, and what they have said."""

    def __init__(self, path: Path, sessions: Sequence[Session], engine: EngineLike, watcher: Watcher) -> None:
        self.finals: list[Caption] = []
        self.samples = 0
        self._path = path
        self._sessions = sessions
        self._engine = engine
        self._watcher = watcher
        self._peak = 0.0
        self.doubts: list[str] = []

    def hear(self, block: Samples) -> None:
        """Let all sessions hear a block and say what they say of it."""
        for session in self._sessions:
            session.hear(block)
            self._settle(session)
        self.samples += len(block)
        self._peak = max(self._peak, float(abs(block).max(initial=0.0)))
        self._watcher.heard(self._path, len(block))

    def end(self) -> None:
        """Let all sessions say their last."""
        for session in self._sessions:
            session.end()
            self._settle(session)

    def silence(self) -> str:
        """Return why there may be no captions, as far as that can be heard."""
        if self._peak < _ALL_BUT_SILENT:
            return "it is silent" if self._peak else "it is silent, all of its samples are zero"
        found = any(session.stats.segments for session in self._sessions)
        return "what sounds like it gave no words" if found else ""

    def stats(self) -> SessionStats:
        """Return what all sessions have cost together."""
        all_stats = [session.stats for session in self._sessions]
        return SessionStats(
            segments=max(stats.segments for stats in all_stats),
            readings=sum(stats.readings for stats in all_stats),
            failures=sum(stats.failures for stats in all_stats),
            decode=sum((stats.decode for stats in all_stats), DecodeStats()),
        )

    def _settle(self, session: Session) -> None:
        settle(session, self._engine)
        events = session.events()
        finals = [event for event in events if isinstance(event, Caption) and event.final]
        self.finals += [caption for caption in finals if caption.text.strip()]
        self.doubts += [f"{clock(caption.start)}: {doubt}" for caption in finals if (doubt := doubted(caption))]
        if events:
            self._watcher.events(self._path, events)


def _caption(caption: Caption, samples: int) -> dict[str, Any]:
    return {
        "language": caption.language,
        "start_ms": milliseconds(caption.start),
        "end_ms": milliseconds(min(caption.end, samples)),
        "text": caption.text.strip(),
        "complete": caption.complete,
        **({"other_language": caption.doubt.language} if caption.doubt and caption.doubt.language else {}),
        **({"chatter": True} if caption.doubt and caption.doubt.chatter else {}),
        "words": [_word(word, samples) for word in caption.words],
    }


def _word(word: Word, samples: int) -> dict[str, Any]:
    said: dict[str, Any] = {"text": word.text, "confidence": round(word.confidence, 4)}
    if word.start is not None and word.end is not None:
        said |= {"start_ms": milliseconds(min(word.start, samples)), "end_ms": milliseconds(min(word.end, samples))}
    return said
