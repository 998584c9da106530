"""Many recordings through as many sessions on a virtual clock, so that the engine reads them in batches.

Law: each session says what it says alone. A session goes on by itself until it wants a reading; when all of them do,
they ask at once. So the batches are as full as there are sessions, whenever their readings fall due.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, wait
from dataclasses import dataclass, field

from streamtrans.audio import Samples
from streamtrans.core import (
    BadConfig,
    DecodeStats,
    Detection,
    EngineClosed,
    Event,
    Job,
    Reading,
    Request,
)
from streamtrans.evaluate.replay import Replay
from streamtrans.stream import EngineLike, Session, SessionConfig, Spellers
from streamtrans.vad import vad_window

Ask = Callable[[Sequence[Request]], Sequence[Future[Detection | Reading]]]
"""Puts requests to an engine: one future each, in order."""


@dataclass(frozen=True, slots=True)
class Cost:
    """What the texts of one language cost: ``partials`` and ``finals`` count readings, their passes the model's."""

    partials: int = 0
    partial_passes: int = 0
    finals: int = 0
    final_passes: int = 0
    decode: DecodeStats = field(default_factory=DecodeStats)

    def read(self, stats: DecodeStats, *, last: bool) -> Cost:
        """Return the cost with one reading more."""
        return self + Cost(0 if last else 1, 0 if last else stats.passes, int(last), stats.passes if last else 0, stats)

    def __add__(self, other: Cost) -> Cost:
        return Cost(
            self.partials + other.partials,
            self.partial_passes + other.partial_passes,
            self.finals + other.finals,
            self.final_passes + other.final_passes,
            self.decode + other.decode,
        )


@dataclass(frozen=True, slots=True)
class Played:
    """A recording that was played to its end: what was said when, and per language what that cost."""

    replay: Replay
    costs: Mapping[str, Cost]


def replay_together(
    recordings: Sequence[tuple[SessionConfig, Samples]],
    speller: Spellers,
    engine: EngineLike,
    *,
    chunk: int = 1_600,
    heard: Callable[[int], None] | None = None,
) -> list[Played]:
    """Play recordings at once, each as :func:`~streamtrans.evaluate.replay.replay` plays it alone.

    Args:
        recordings: a session's settings and its audio ``(samples,)``, mono float32 at 16 kHz.
        speller: the model's tokenizer.
        engine: what would be served.
        chunk: samples that arrive at a time, and the step of the times told.
        heard: told how many samples more were heard, by any of them.

    Raises:
        BadConfig: ``chunk`` is not positive.
        EngineClosed: the engine was shut down meanwhile.
    """
    return play_together(
        recordings, speller, lambda requests: [engine.submit(each) for each in requests], chunk=chunk, heard=heard
    )


def play_together(
    recordings: Sequence[tuple[SessionConfig, Samples]],
    speller: Spellers,
    ask: Ask,
    *,
    chunk: int = 1_600,
    heard: Callable[[int], None] | None = None,
) -> list[Played]:
    """Do what :func:`replay_together` does with whoever answers: ``ask`` gets what all sessions want at a time."""
    if chunk < 1:
        raise BadConfig(f"chunk is {chunk} samples; use 1 or more")
    players = [_Player(config, audio, speller, chunk, heard) for config, audio in recordings]
    playing = players
    while True:
        for player in playing:
            player.play_on()
        playing = [player for player in playing if player.wants]
        if not playing:
            return [Played(Replay(tuple(player.timed), player.session.stats), player.costs) for player in players]
        # Who asks for a detection only is answered first, until everybody waits for a reading.
        asking = [player for player in playing if not player.wants_reading] or playing
        futures = iter(ask([each for player in asking for each in player.wants]))
        for player in asking:
            player.settle([(each, next(futures)) for each in player.wants])


class _Player:
    """One session and the recording that it hears. ``wants`` is what it waits for; empty at the end."""

    def __init__(
        self,
        config: SessionConfig,
        audio: Samples,
        speller: Spellers,
        chunk: int,
        heard: Callable[[int], None] | None,
    ) -> None:
        self.session = Session(config, speller, window=vad_window(config.vad))
        self.timed: list[tuple[int, Event]] = []
        self.costs: dict[str, Cost] = {target: Cost() for target in config.targets}
        self.wants: list[Request] = []
        self._audio = audio
        self._chunk = chunk
        self._heard = heard
        self._at = 0
        self._ended = False

    @property
    def wants_reading(self) -> bool:
        return any(isinstance(request, Job) for request in self.wants)

    def play_on(self) -> None:
        """Hear chunk after chunk until something is to be asked, or all is over."""
        while not self.wants:
            self.wants = self.session.requests()
            if self.wants:
                return
            at = self.session.cursors.received
            self.timed += [(at, event) for event in self.session.events()]
            if self._ended:
                return
            self._hear()

    def settle(self, requests: Sequence[tuple[Request, Future[Detection | Reading]]]) -> None:
        """Hand over the answers in the order in which they were asked for."""
        self.wants = []
        for request, future in requests:
            wait([future])
            if future.cancelled():
                raise EngineClosed("the engine withdrew a request; it was shut down")
            error = future.exception()
            if error is None:
                self._count(request, future.result())
                self.session.answer(request, future.result())
            elif isinstance(error, EngineClosed):
                raise error
            else:
                self.session.fail(request, error)

    def _hear(self) -> None:
        chunk = self._audio[self._at : self._at + self._chunk]
        self._at += len(chunk)
        if len(chunk):
            self.session.hear(chunk)
            if self._heard is not None:
                self._heard(len(chunk))
        else:
            self.session.end()
            self._ended = True

    def _count(self, request: Request, result: Detection | Reading) -> None:
        if isinstance(request, Job) and isinstance(result, Reading):
            for target, hypothesis in zip(request.targets, result.hypotheses, strict=True):
                cost = self.costs.get(target.language, Cost())  # a transcript may be read for its translations alone
                self.costs[target.language] = cost.read(hypothesis.stats, last=request.last)
