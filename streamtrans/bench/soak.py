"""Does a server that runs for hours grow, or fall behind? Streams of speech and silence in real time, and a scale.

```
├ warm-up ┤├ block ┤├ block ┤ …     samples of memory and lag; means of the blocks make the slopes
```
Everything is used for the first time in the warm-up, so growth there says nothing. A stream calls again
when its call gets old, as servers limit that; errors are kept, and it goes on after them.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any, TypeAlias

import numpy as np

from streamtrans.audio import Samples
from streamtrans.bench.measurement import Progress, Report, Table, silent
from streamtrans.bench.realtime import speeches
from streamtrans.bench.startup import started
from streamtrans.client import (
    Caption,
    ClientError,
    Notice,
    StreamEvent,
    StreamOptions,
    TranslationClient,
    TranslationStream,
)
from streamtrans.core import SAMPLE_RATE, BadConfig, BadModel, Group, Option
from streamtrans.evaluate.machine import load_average
from streamtrans.metrics import percentile, trend
from streamtrans.runtime import ModelChoice, identity

TARGETS = (("de",), ("fr", "it"), ("en",), ("es",))
"""What the streams ask for, in turn, as far as the model knows it."""

_CHUNK = SAMPLE_RATE // 4
_SPEECH_S, _SILENCE_S = (3.0, 12.0), (2.5, 12.5)
"""Shortest and longest stretch of each."""
_CALL_SHARE = 0.9
"""Of the age that a server lets a call reach."""
_RETRY_S = 2.0

Piece: TypeAlias = Samples | int
"""Samples to send, or milliseconds of silence to tell."""


@dataclass(frozen=True, slots=True)
class Plan:
    """Durations are in minutes; ``every_s`` lies between two samples."""

    streams: int = 4
    minutes: float = 120.0
    warm_up: float = 10
    block: float = 5
    every_s: float = 30

    def __post_init__(self) -> None:
        least = self.warm_up + 4 * self.block
        if self.minutes < least:
            raise BadConfig(f"--minutes is {self.minutes:g}; the warm-up and four blocks take {least:g}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Soak:
    """Load a server for hours; whether memory or lag grow, with a 95 % interval.

    Streams of speech and silence in real time, against `streamtrans serve` in a process of its own.
    """

    streams: Annotated[int, Option("Speakers at once.", least=1)] = 4
    minutes: Annotated[float, Option("How long they go on.", least=0.1)] = 120.0
    warm_up: Annotated[float, Option("Minutes at the beginning that don't count.", least=0)] = 10
    block: Annotated[float, Option("Minutes that are averaged before a slope is fitted.", least=0.01)] = 5
    every: Annotated[float, Option("Seconds between two samples.", least=0.1)] = 30
    choice: Annotated[ModelChoice, Group()] = field(default_factory=ModelChoice)

    def measure(self, progress: Progress = silent) -> Report:
        """Load a server, and weigh it meanwhile."""
        plan = Plan(self.streams, self.minutes, self.warm_up, self.block, self.every)
        who, speech = identity(self.choice.model), speeches(self.streams, 300)
        with started(arguments(self.choice, self.streams)) as (process, port):

            def told(sample: Sample) -> None:
                progress(line(sample), round(sample.minute), round(self.minutes))

            found = asyncio.run(soak(plan, f"127.0.0.1:{port}", process, speech, told))
        slopes: dict[str, dict[str, Any] | None] = found["slopes_per_minute"]
        rows = [
            [name, *([None] * 4 if each is None else (each["per_minute"], each["low"], each["high"], each["blocks"]))]
            for name, each in slopes.items()
        ]
        columns = ("", "per minute", "95 % from", "to", "blocks")
        return Report({"model": who, **found}, [Table("slope per minute after the warm-up", columns, rows)])


@dataclass(slots=True)
class Heard:
    """What one stream noticed; ``broken`` counts promises of the protocol that were not kept."""

    calls: int = 0
    captions: int = 0
    finals: int = 0
    broken: Counter[str] = field(default_factory=Counter)
    notices: Counter[str] = field(default_factory=Counter)
    errors: list[str] = field(default_factory=list)
    lags_ms: list[int] = field(default_factory=list)
    """With each caption since the last sample was taken."""


@dataclass(frozen=True, slots=True)
class Weight:
    """A process' memory in MB: what is in memory, what of that no other process shares, what is backed by no file.

    The libraries' pages are shared or not depending on who else runs them at the moment: growth shows in ``anonymous``.
    """

    rss_mb: float
    uss_mb: float
    anonymous_mb: float


@dataclass(frozen=True, slots=True)
class Sample:
    """One look at everything; ``lags_ms`` are medians per stream since the last look, ``None`` without captions."""

    minute: float
    server: Weight
    clients: Weight
    load: float | None
    lags_ms: tuple[float | None, ...]


def arguments(choice: ModelChoice, streams: int) -> list[str]:
    """Return the options of a server that has places for so many, each in up to two languages."""
    places = max(16, 2 * streams)  # of which one connection may have half
    return [*choice.arguments(), "--max-sessions", str(places), "--slots", str(places)]


async def soak(
    plan: Plan, address: str, process: int, speech: Sequence[Samples], told: Callable[[Sample], None]
) -> dict[str, Any]:
    """Load a server for as long as planned, and return the figures.

    Args:
        plan: how many streams, how long.
        address: of the server, which is ready.
        process: its number; it is weighed.
        speech: per stream, what stretches are taken from.
        told: gets each sample.

    Raises:
        BadModel: the server has ended.
        ClientError: it doesn't answer to begin with.
    """
    heard = [Heard() for _ in range(plan.streams)]
    taken: list[Sample] = []
    async with TranslationClient(address) as client:
        known = (await client.capabilities()).languages
        began = time.monotonic()
        speakers = [
            asyncio.create_task(
                _speak(client, _options(number, known), pieces(speech[number], number), began + plan.minutes * 60, mine)
            )
            for number, mine in enumerate(heard)
        ]
        waiting = set(speakers)
        try:
            while waiting:
                done, waiting = await asyncio.wait(waiting, timeout=plan.every_s)
                taken.append(_look((time.monotonic() - began) / 60, process, heard))
                told(taken[-1])
                for speaker in done:
                    speaker.result()
        finally:
            for speaker in speakers:
                speaker.cancel()
            await asyncio.wait(speakers)
    return {**asdict(plan), "streams_heard": [_counts(each) for each in heard], **figures(plan, taken)}


def figures(plan: Plan, taken: Sequence[Sample]) -> dict[str, Any]:
    """Return slopes per minute after the warm-up, with their intervals, and what the samples were."""
    warm = [sample for sample in taken if plan.warm_up <= sample.minute <= plan.minutes]
    series: dict[str, list[float | None]] = {
        "rss_mb": [sample.server.rss_mb for sample in warm],
        "uss_mb": [sample.server.uss_mb for sample in warm],
        "anonymous_mb": [sample.server.anonymous_mb for sample in warm],
        "anonymous_mb_of_the_clients": [sample.clients.anonymous_mb for sample in warm],
    }
    for number in range(plan.streams):
        series[f"lag_ms_of_stream_{number}"] = [sample.lags_ms[number] for sample in warm]
    slopes = {}
    for name, values in series.items():
        points = [(sample.minute, value) for sample, value in zip(warm, values, strict=True) if value is not None]
        found = trend([at for at, _ in points], [value for _, value in points], block=plan.block)
        slopes[name] = None if found is None else {**asdict(found), "grows": found.grows}
    return {"slopes_per_minute": slopes, "samples": [asdict(sample) for sample in taken]}


def pieces(speech: Samples, seed: int) -> Iterator[Piece]:
    """Yield stretches of ``speech`` and silence for ever, in chunks; every other silence is told and not sent."""
    random = np.random.default_rng(seed)
    told = False
    while True:
        length = min(len(speech), round(random.uniform(*_SPEECH_S) * SAMPLE_RATE))
        first = int(random.integers(len(speech) - length + 1))
        for start in range(first, first + length, _CHUNK):
            yield speech[start : min(start + _CHUNK, first + length)]
        for _ in range(round(random.uniform(*_SILENCE_S) * SAMPLE_RATE / _CHUNK)):
            yield _CHUNK * 1000 // SAMPLE_RATE if told else np.zeros(_CHUNK, np.float32)
        told = not told


def line(sample: Sample) -> str:
    """Return a sample as a line of a log."""
    lags = " ".join("–" if lag is None else f"{lag:.0f}" for lag in sample.lags_ms)
    return (
        f"{sample.minute:7.2f} min  server {sample.server.rss_mb:.1f} MB, its own {sample.server.uss_mb:.1f}, "
        f"anonymous {sample.server.anonymous_mb:.1f}, clients {sample.clients.anonymous_mb:.1f}  "
        f"lag {lags} ms  load {sample.load}"
    )


async def _speak(
    client: TranslationClient, options: StreamOptions, sound: Iterator[Piece], ends: float, heard: Heard
) -> None:
    """Stream ``sound`` until the clock says ``ends``, in as many calls as that takes."""
    while time.monotonic() < ends:
        heard.calls += 1
        try:
            async with client.stream(options) as stream, asyncio.TaskGroup() as group:
                longest_s = _CALL_SHARE * stream.started.limits.max_connection_ms / 1000
                group.create_task(_send(stream, sound, min(ends, time.monotonic() + longest_s)))
                group.create_task(_follow(stream, heard))
        except* ClientError as errors:
            heard.errors += [str(error) for error in errors.exceptions]
            await asyncio.sleep(_RETRY_S)


async def _send(stream: TranslationStream, sound: Iterator[Piece], ends: float) -> None:
    due = time.monotonic()
    for piece in sound:
        if isinstance(piece, int):
            await stream.send_silence(piece)
            due += piece / 1000
        else:
            await stream.send(piece)
            due += len(piece) / SAMPLE_RATE
        await asyncio.sleep(due - time.monotonic())
        if due > ends:
            break
    await stream.end()


async def _follow(stream: TranslationStream, heard: Heard) -> None:
    committed: dict[tuple[int, str], str] = {}
    closed = set[tuple[int, str]]()
    before = stream.cursors
    async for event in stream:
        _judge(event, committed, closed, heard)
        now = stream.cursors
        places = ("received_ms", "decoded_ms", "committed_ms", "final_ms")
        heard.broken["cursor went back"] += any(getattr(now, each) < getattr(before, each) for each in places)
        before = now
        if isinstance(event, Caption):
            heard.lags_ms.append(now.lag_ms)


def _judge(
    event: StreamEvent, committed: dict[tuple[int, str], str], closed: set[tuple[int, str]], heard: Heard
) -> None:
    """Count ``event``, and whether it breaks what was promised; forget lines that are closed."""
    if isinstance(event, Notice):
        heard.notices[event.code] += 1
    if not isinstance(event, Caption):
        return
    line = (event.segment, event.language)
    heard.captions += 1
    heard.finals += event.final
    heard.broken["caption after the final one"] += line in closed
    heard.broken["committed text taken back"] += not event.committed.startswith(committed.pop(line, ""))
    if event.final:
        closed.add(line)
    else:
        committed[line] = event.committed


def _options(number: int, known: Sequence[str]) -> StreamOptions:
    wanted = tuple(language for language in TARGETS[number % len(TARGETS)] if language in known)
    return StreamOptions(wanted or tuple(known[:1]))


def _look(minute: float, process: int, heard: Sequence[Heard]) -> Sample:
    lags = tuple(percentile(each.lags_ms, 50) if each.lags_ms else None for each in heard)
    for each in heard:
        each.lags_ms.clear()
    return Sample(round(minute, 3), weigh(process), weigh(os.getpid()), load_average(), lags)


def weigh(process: int) -> Weight:
    """Look how much memory a process takes.

    Raises:
        BadConfig: this system has no ``/proc/PID/smaps_rollup`` (Linux has).
        BadModel: there is no such process.
    """
    if not Path("/proc/self/smaps_rollup").exists():
        raise BadConfig("the memory of another process is read from /proc, which this system doesn't have: use Linux")
    try:
        lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()[1:]
    except (FileNotFoundError, ProcessLookupError) as error:
        raise BadModel("the server has ended; what it said is above") from error
    kb = {line.partition(":")[0]: int(line.split()[1]) for line in lines}
    found = (kb["Rss"], kb["Private_Clean"] + kb["Private_Dirty"], kb["Anonymous"])
    return Weight(*(round(each / 1024, 2) for each in found))


def _counts(heard: Heard) -> dict[str, Any]:
    return {
        "calls": heard.calls,
        "captions": heard.captions,
        "finals": heard.finals,
        "broken": dict(+heard.broken),
        "notices": dict(heard.notices),
        "errors": heard.errors,
    }
