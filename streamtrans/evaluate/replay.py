"""Run a recording through a session on a virtual clock, and read its segments offline to compare.

Law: in FINAL mode what is streamed is what is read offline; where promises were made on the way, the final
caption is the offline text behind those promises.
"""

from __future__ import annotations

from dataclasses import dataclass

from streamtrans.audio import Samples
from streamtrans.core import (
    BadConfig,
    Caption,
    Event,
    Job,
    Reading,
    SpeechEnded,
    SpeechStarted,
    Target,
    Tokens,
)
from streamtrans.stream import EngineLike, Session, SessionConfig, SessionStats, Spellers
from streamtrans.stream import replay as step_through
from streamtrans.vad import vad_window


@dataclass(frozen=True, slots=True)
class Replay:
    """What a session said about a recording. ``timed`` pairs each event with the samples heard by then."""

    timed: tuple[tuple[int, Event], ...]
    stats: SessionStats

    @property
    def events(self) -> tuple[Event, ...]:
        """All events in order."""
        return tuple(event for _, event in self.timed)

    @property
    def captions(self) -> tuple[Caption, ...]:
        """All captions in order."""
        return tuple(event for event in self.events if isinstance(event, Caption))

    @property
    def finals(self) -> tuple[Caption, ...]:
        """The final captions in order: one per segment and language."""
        return tuple(caption for caption in self.captions if caption.final)

    @property
    def segments(self) -> dict[int, tuple[int, int]]:
        """Segment → its samples ``[start, end)``."""
        starts = {event.segment: event.start for event in self.events if isinstance(event, SpeechStarted)}
        ends = {event.segment: event.end for event in self.events if isinstance(event, SpeechEnded)}
        return {segment: (start, ends[segment]) for segment, start in starts.items()}


def replay(
    config: SessionConfig, speller: Spellers, engine: EngineLike, audio: Samples, *, chunk: int = 1_600
) -> Replay:
    """Stream ``audio`` into a new session, as if the engine needed no time.

    Args:
        config: of the session.
        speller: the model's tokenizer.
        engine: what would be served.
        audio: ``(samples,)`` mono float32 at 16 kHz.
        chunk: samples that arrive at a time.

    Raises:
        BadConfig: ``chunk`` is not positive.
    """
    if chunk < 1:
        raise BadConfig(f"chunk is {chunk} samples; use 1 or more")
    session = Session(config, speller, window=vad_window(config.vad))
    timed = tuple(
        (heard, event) for heard, events in step_through(session, engine, audio, chunk=chunk) for event in events
    )
    return Replay(timed, session.stats)


def read_offline(
    engine: EngineLike,
    audio: Samples,
    targets: tuple[str, ...],
    *,
    source: str | None = None,
    prefixes: tuple[Tokens, ...] | None = None,
) -> Reading:
    """Read one stretch of audio at once, without drafts: one hypothesis per target.

    Args:
        engine: what would be served.
        audio: ``(samples,)``, of one segment.
        targets: languages to write.
        source: the spoken language, for families that must know it.
        prefixes: tokens that each text must start with; by default none.

    Raises:
        StreamtransError: whatever keeps the engine from reading it.
    """
    starts = prefixes or ((),) * len(targets)
    wanted = tuple(Target(target, prefix) for target, prefix in zip(targets, starts, strict=True))
    result = engine.submit(Job(0, 0, len(audio), True, audio, wanted, source)).result()
    if not isinstance(result, Reading):
        raise TypeError(f"a job is answered by a Reading, not by a {type(result).__name__}")
    return result
