"""Many speakers at once, in real time, over the real protocol: what it costs and how far captions lag."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np

from streamtrans.audio import Samples, read_audio
from streamtrans.bench.delays import PERCENTS, Delays, largest, percentiles_ms
from streamtrans.bench.measurement import MODE, TO, Progress, Report, Table, counts, silent
from streamtrans.bench.server import Wish
from streamtrans.bench.talk import SENTENCES, talk
from streamtrans.client import StreamEvent, StreamOptions, Summary, TranslationClient
from streamtrans.core import SAMPLE_RATE, BadConfig, BadModel, DecodeStats, Group, Mode, Option, check_mode, samples
from streamtrans.evaluate.dev import acceptance, ratio
from streamtrans.metrics import percentile
from streamtrans.runtime import ModelChoice, identity

CHUNK = SAMPLE_RATE // 10
"""Samples per message: 100 ms, as a microphone client sends."""

STAGGER_S = 0.137
"""Between the beginnings of two speakers, so that their readings don't fall due together."""

BOUND_MS = 1_000
"""Lag, p95 of the worst stream, below which a server carries its streams."""

DEMO = Path(__file__).parents[1] / "demo" / "speech.flac"
"""What is played where nothing can speak."""


@dataclass(frozen=True, slots=True)
class Case:
    """``streams`` speakers, on a server with ``cores`` cores (0: all) and ``threads`` threads."""

    streams: int
    cores: int
    threads: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Realtime:
    """Serve speakers in real time; real-time factor, delays, passes per token and peak memory.

    A server in a process of its own serves synthetic talks, all that come. One speaker gets one core, more get all.
    With --largest it is tried, by doubling and bisection, how many speakers it carries.
    """

    streams: Annotated[tuple[int, ...], Option("Speakers at once, one measurement each, such as 1,8.", read=counts)] = (
        1,
        8,
    )
    largest: Annotated[
        bool, Option("Find the largest number of speakers whose lag, p95 of the worst stream, stays under a second.")
    ] = False
    most: Annotated[int, Option("Speakers that are tried at most.", least=1)] = 256
    seconds: Annotated[float, Option("Audio per speaker; it takes as long.", least=2)] = 60.0
    silence: Annotated[bool, Option("Nobody speaks: faint noise, as of an open microphone in a quiet room.")] = False
    to: Annotated[tuple[str, ...], TO] = ("de",)
    mode: Annotated[Mode, MODE] = "live"
    choice: Annotated[ModelChoice, Group()] = field(default_factory=ModelChoice)

    def __post_init__(self) -> None:
        check_mode(self.mode)

    def measure(self, progress: Progress = silent) -> Report:
        """Let them speak, one case after the other."""
        options = StreamOptions(self.to, encoding="pcm_s16le", mode=self.mode, vad=self.choice.vad)
        who = identity(self.choice.model)
        found: list[dict[str, Any]] = []
        fits: dict[int, bool] = {}
        waiting = [] if self.largest else list(self.streams)
        while (streams := self._next(waiting, fits)) is not None:
            [case] = cases([streams], self.choice.threads)
            progress(f"speakers: {streams}, cores: {case.cores}, for {self.seconds:g} s", len(found), None)
            said = hush(streams, self.seconds) if self.silence else speeches(streams, self.seconds)
            found.append(asyncio.run(measure(case, self.choice, said, options)))
            fits[streams] = found[-1]["lag_p95_worst_stream_ms"] < BOUND_MS
        found.sort(key=lambda case: int(case["streams"]))
        figures = {"model": who, "targets": options.targets, "mode": self.mode, "seconds": self.seconds}
        figures |= {"silence": self.silence, "cases": found}
        notes = []
        if self.largest:
            figures["largest"] = max((number for number, fit in fits.items() if fit), default=0)
            notes = [f"the largest number of speakers whose p95 lag stays under {BOUND_MS} ms: {figures['largest']}"]
        delays = [] if self.silence else [_delays(found)]
        return Report(figures, [_costs(found), *delays], notes)

    def _next(self, waiting: list[int], fits: dict[int, bool]) -> int | None:
        """Return how many speak next, ``None`` at the end."""
        if not self.largest:
            return waiting.pop(0) if waiting else None
        streams = largest(fits)
        capped = None if streams is None else min(streams, self.most)
        return None if capped in fits else capped


def _costs(found: Sequence[dict[str, Any]]) -> Table:
    shown = [name for name in found[0] if name not in ("streams", "acceptance", "captions", "withdrawn", "delays_ms")]
    columns = ["", *(str(case["streams"]) for case in found)]
    return Table("realtime", columns, [[n, *(case[n] for case in found)] for n in shown])


def _delays(found: Sequence[dict[str, Any]]) -> Table:
    rows = [
        [case["streams"], kind, *told.values()]
        for case in found
        for kind, told in case["delays_ms"].items()
        if told is not None
    ]
    return Table("delays in milliseconds", ["streams", "", *(f"p{percent}" for percent in PERCENTS)], rows)


def cases(streams: Sequence[int], threads: int | None) -> list[Case]:
    """Return what is measured: one stream on one core, more on all; ``threads`` as it is for ``serve``."""
    available = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
    found = []
    for count in streams:
        cores = 1 if count == 1 else available
        found.append(Case(count, cores, threads))
    return found


def speeches(count: int, seconds: float) -> list[Samples]:
    """Return a different talk for each of ``count`` speakers, ``(seconds,)`` long, in the languages in turn.

    Where nothing can speak, all play the bundled recording, each from another place.

    Raises:
        BadConfig: there is neither.
    """
    length = round(seconds * SAMPLE_RATE)
    languages = tuple(SENTENCES)
    try:
        return [
            talk(seconds, seed=number, language=languages[number % len(languages)])[:length] for number in range(count)
        ]
    except BadConfig as error:
        if not DEMO.is_file():
            raise BadConfig(f"there is nothing to play: no {DEMO.name} is bundled, and {error}") from None
    recording = read_audio(DEMO)
    played = np.resize(recording, length + len(recording))
    starts = [number * len(recording) // count for number in range(count)]
    return [played[start : start + length] for start in starts]


def hush(count: int, seconds: float) -> list[Samples]:
    """Return noise at -60 dB for each of ``count`` listeners, ``(seconds,)`` long."""
    random = np.random.default_rng(0)
    length = round(seconds * SAMPLE_RATE)
    return [random.normal(0, 0.001, length).astype(np.float32) for _ in range(count)]


async def measure(case: Case, choice: ModelChoice, speech: Sequence[Samples], options: StreamOptions) -> dict[str, Any]:
    """Let everybody speak, and return the figures.

    Raises:
        BadModel: the server didn't come up.
        ClientError: it ended a stream.
    """
    slots = max(16, 2 * case.streams * len(options.targets))
    wish = Wish(replace(choice, threads=case.threads), slots, sessions=case.streams, cores=case.cores)
    delays = [Delays() for _ in speech]
    async with served(wish) as (process, before):
        async with TranslationClient(f"127.0.0.1:{before['port']}") as client, asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(speak(client, audio, options, number * STAGGER_S, told=delays[number].told))
                for number, audio in enumerate(speech)
            ]
        after = await ask(process)
    summaries = [task.result() for task in tasks]
    return {**_figures(case, before, after, summaries), "delays_ms": percentiles_ms(delays)}


@asynccontextmanager
async def served(wish: Wish) -> AsyncIterator[tuple[Process, dict[str, Any]]]:
    """Start a server; yield it and its first counters."""
    environment = {**os.environ, "OMP_WAIT_POLICY": "passive"}
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "streamtrans.bench.server",
        wish.text(),
        stdin=PIPE,
        stdout=PIPE,
        env=environment,
    )
    assert process.stdout is not None
    assert process.stdin is not None
    try:
        line = await process.stdout.readline()
        if not line:
            raise BadModel("the server that was to be measured didn't come up; what it said is above")
        yield process, json.loads(line)
    finally:
        process.stdin.close()
        await process.wait()


async def ask(process: Process) -> dict[str, Any]:
    """Return the server's counters."""
    assert process.stdout is not None
    assert process.stdin is not None
    process.stdin.write(b"\n")
    counters: dict[str, Any] = json.loads(await process.stdout.readline())
    return counters


async def speak(
    client: TranslationClient,
    audio: Samples,
    options: StreamOptions,
    delay_s: float,
    *,
    told: Callable[[StreamEvent, int, float], None] | None = None,
) -> Summary:
    """Send each chunk at the moment when a microphone would have it.

    ``told`` gets every event, how many samples the server had heard by then, and the seconds since the beginning.
    """
    await asyncio.sleep(delay_s)
    async with client.stream(options) as stream:
        clock = asyncio.get_running_loop().time
        began = clock()

        async def feed() -> None:
            for start in range(0, len(audio), CHUNK):
                chunk = audio[start : start + CHUNK]
                await asyncio.sleep(began + (start + len(chunk)) / SAMPLE_RATE - clock())
                await stream.send(chunk)
            await stream.end()

        async with asyncio.TaskGroup() as group:
            group.create_task(feed())
            async for event in stream:
                if told is not None:
                    told(event, samples(stream.cursors.received_ms), clock() - began)
    assert stream.summary is not None
    return stream.summary


def _figures(case: Case, before: dict[str, Any], after: dict[str, Any], summaries: Sequence[Summary]) -> dict[str, Any]:
    """Put it together. A factor is per second of audio of one stream; a lag is what the server told."""
    spent = {name: after[name] - before[name] for name in after if name != "peak_bytes"}
    audio_s = sum(summary.audio_ms for summary in summaries) / 1000
    decode = sum((summary.decoding for summary in summaries), DecodeStats())
    firsts = [delay for summary in summaries for delay in summary.first_caption_ms]
    return {
        "streams": case.streams,
        "cores": case.cores,
        "threads": case.threads or "default",
        "audio_s": round(audio_s, 1),
        "real_time_factor": ratio(spent["busy_s"], audio_s),
        "cpu_per_audio_second": ratio(spent["cpu_s"], audio_s),
        "lag_p50_ms": percentile([summary.lag_p50_ms for summary in summaries], 50),
        "lag_p95_worst_stream_ms": max(summary.lag_p95_ms for summary in summaries),
        "first_caption_p50_ms": percentile(firsts, 50) if firsts else None,
        "segments": sum(summary.segments for summary in summaries),
        "captions": sum(summary.captions for summary in summaries),
        "withdrawn": sum(summary.withdrawn for summary in summaries),
        "tokens": decode.tokens,
        "passes_per_token": ratio(decode.passes, decode.tokens),
        "acceptance": acceptance(decode),
        "mean_step_batch": ratio(spent["forwards"], spent["passes"]),
        "encoded_s_per_audio_second": ratio(spent["encoded_samples"] / SAMPLE_RATE, audio_s),
        "peak_rss_mb": round(after["peak_bytes"] / 2**20) if after["peak_bytes"] else None,
    }
