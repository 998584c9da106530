"""One recording through one session, block by block: what ``translate`` does per file.

Several files are read by several threads at once; their readings meet in the engine, which batches them. Each
block is settled before the next is read, so memory holds one block and one segment per file, and the captions
are those of a stream that was never late.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from streamtrans.audio import stream_file
from streamtrans.core import SAMPLE_RATE, Caption, Event, StreamtransError, milliseconds
from streamtrans.stream import EngineLike, Session, SessionConfig, SessionStats, Speller, settle
from streamtrans.vad import vad_window

BLOCK_S = {"final": 2.0, "live": 0.48, "stable": 0.48}
"""Audio per step. Larger saves calls; where captions grow, a step is one reading."""


class Stopped(StreamtransError):
    """The user asked to end before the file was done."""


@dataclass(frozen=True, slots=True)
class Watcher:
    """Who is told what happens to a file, from the thread that reads it."""

    heard: Callable[[Path, int], None]
    """More samples were heard: how many."""
    events: Callable[[Path, list[Event]], None]


@dataclass(frozen=True, slots=True)
class Translated:
    """A file that is done. ``captions`` are the final ones that have text, in the order of their time."""

    path: Path
    samples: int
    captions: tuple[Caption, ...]
    stats: SessionStats
    wall_s: float

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
        captions = [
            {
                "language": caption.language,
                "start_ms": milliseconds(caption.start),
                "end_ms": milliseconds(min(caption.end, self.samples)),
                "text": caption.text.strip(),
                **({} if caption.complete else {"complete": False}),  # the model's limit cut it off
            }
            for caption in self.captions
        ]
        return {
            "file": str(self.path),
            "duration_s": round(self.duration_s, 3),
            "captions": captions,
            "stats": stats,
        }


def translate_file(
    path: Path,
    config: SessionConfig,
    tokenizer: Speller,
    engine: EngineLike,
    *,
    watcher: Watcher,
    stop: threading.Event,
) -> Translated:
    """Read ``path`` to its end.

    Raises:
        BadAudio: the file can't be read, or not to its end.
        EngineClosed: the engine was closed meanwhile.
        Stopped: ``stop`` was set meanwhile.
    """
    session = Session(config, tokenizer, window=vad_window(config.vad))
    finals: list[Caption] = []
    began = time.perf_counter()

    def tell() -> None:
        events = session.events()
        finals.extend(event for event in events if isinstance(event, Caption) and event.final)
        if events:
            watcher.events(path, events)

    for block in stream_file(path, BLOCK_S[config.mode]):
        if stop.is_set():
            raise Stopped(f"{path}: stopped")
        session.hear(block)
        settle(session, engine)
        tell()
        watcher.heard(path, len(block))
    session.end()
    settle(session, engine)
    tell()
    captions = tuple(caption for caption in finals if caption.text.strip())
    wall_s = time.perf_counter() - began
    return Translated(path, session.cursors.received, captions, session.stats, wall_s)
