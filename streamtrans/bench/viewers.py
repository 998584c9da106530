"""Viewers that stop reading: what do they cost the server, and those who speak to it?

```
a run   |- all read -|-------- the viewers stand still --------|- all read -|        pairs of runs, with viewers and
                     ^ memory                  lags of the others, peak of memory    without, each first in turn
```
"""

from __future__ import annotations

import asyncio
import multiprocessing
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import Executor, ProcessPoolExecutor
from dataclasses import dataclass, field
from statistics import median
from typing import Annotated, Any

import grpc

from streamtrans.audio import Samples
from streamtrans.bench.measurement import Progress, Report, Table, silent
from streamtrans.bench.realtime import STAGGER_S, served, speak, speeches
from streamtrans.bench.server import Wish
from streamtrans.bench.soak import weigh
from streamtrans.client import Caption, Started, StreamEvent, StreamOptions, TranslationClient
from streamtrans.core import SAMPLE_RATE, Group, Option
from streamtrans.metrics import percentile
from streamtrans.runtime import ModelChoice, identity
from streamtrans.wire import ServiceStub, WatchRequest

_NARROW = (
    ("grpc.use_local_subchannel_pool", 1),  # a connection of one's own
    ("grpc.http2.bdp_probe", 0),
    ("grpc.http2.lookahead_bytes", 1_024),
    ("grpc.tcp_receive_buffer_size", 4_096),
)
"""A viewer takes hardly anything that he doesn't read."""

_OPTIONS = StreamOptions(("de",), encoding="pcm_s16le")
_LOOK_S = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Viewers:
    """Let viewers stop reading; how much a server grows by it, and what becomes of the lag of other streams."""

    viewers: Annotated[int, Option("Viewers of one stream.", least=1)] = 64
    others: Annotated[int, Option("Other streams, whose lag is measured.", least=1)] = 3
    pairs: Annotated[int, Option("Runs with viewers, and as many without.", least=1)] = 5
    still: Annotated[float, Option("Seconds for which viewers read nothing.", least=1)] = 60.0
    around: Annotated[float, Option("Seconds before and after that.", least=1)] = 8.0
    choice: Annotated[ModelChoice, Group()] = field(default_factory=ModelChoice)

    def measure(self, progress: Progress = silent) -> Report:
        """Run all pairs on one server."""
        runs = asyncio.run(self._measure(progress))
        ratios = [round(pair["with"]["lag_p99_ms"] / pair["without"]["lag_p99_ms"], 3) for pair in runs]
        figures = {
            "model": identity(self.choice.model),
            "viewers": self.viewers,
            "still_s": self.still,
            "pairs": runs,
            "lag_p99_ratio_median": median(ratios),
            "growth_mb_most": max(pair["with"]["growth_mb"] for pair in runs),
        }
        columns = ("pair", "p99 lag with, ms", "without", "ratio", "growth with, MB", "without", "let go")
        rows = [
            [number, a["lag_p99_ms"], b["lag_p99_ms"], ratio, a["growth_mb"], b["growth_mb"], a["let_go"]]
            for number, ((a, b), ratio) in enumerate(
                zip(((pair["with"], pair["without"]) for pair in runs), ratios, strict=True), 1
            )
        ]
        note = f"median of the ratios: {figures['lag_p99_ratio_median']}; most growth: {figures['growth_mb_most']} MB"
        return Report(figures, [Table("viewers that stand still", columns, rows)], [note])

    async def _measure(self, progress: Progress) -> list[dict[str, Any]]:
        speech = speeches(1 + self.others, self.still + 2 * self.around)
        # Viewers have a process of their own: what they cost here would be taken for lag of the server's.
        own = ProcessPoolExecutor(1, multiprocessing.get_context("spawn"))
        wish = Wish(self.choice, slots=max(16, 4 * len(speech)), sessions=len(speech), cores=0)
        with own:
            await asyncio.get_running_loop().run_in_executor(own, str)  # it has started
            return await self._pairs(wish, speech, own, progress)

    async def _pairs(
        self, wish: Wish, speech: Sequence[Samples], own: Executor, progress: Progress
    ) -> list[dict[str, Any]]:
        pairs: list[dict[str, Any]] = []
        async with served(wish) as (process, before):
            address = f"127.0.0.1:{before['port']}"
            async with TranslationClient(address) as client, asyncio.TaskGroup() as group:  # all is used once
                for audio in speech:
                    group.create_task(speak(client, audio[: round(self.around * SAMPLE_RATE)], _OPTIONS, 0.0))
            for number in range(self.pairs):
                found = {}
                for name in ("with", "without") if number % 2 == 0 else ("without", "with"):
                    progress(f"pair {number + 1}, {name} viewers", number, self.pairs)
                    viewers = self.viewers if name == "with" else 0
                    found[name] = await self._run(address, process.pid, speech, viewers, own)
                pairs.append(found)
        return pairs

    async def _run(
        self, address: str, process: int, speech: Sequence[Samples], viewers: int, own: Executor
    ) -> dict[str, Any]:
        """Let all speak, the first to viewers too; return the figures of the time in which those stand still."""
        lags: list[float] = []
        token: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        ends: Counter[str] = Counter()

        def first(event: StreamEvent, _received: int, _at: float) -> None:
            if isinstance(event, Started):
                token.set_result(event.viewer_token)

        def other(event: StreamEvent, _received: int, at: float) -> None:
            speaking = isinstance(event, Caption) and event.text and not event.final
            if speaking and self.around <= at <= self.around + self.still:
                assert isinstance(event, Caption)
                lags.append(at - event.heard / SAMPLE_RATE)

        async with TranslationClient(address) as client, asyncio.TaskGroup() as group:
            for number, audio in enumerate(speech):
                told = first if number == 0 else other
                group.create_task(speak(client, audio, _OPTIONS, number * STAGGER_S, told=told))
            growing = group.create_task(self._grown(process))
            if viewers:
                plan = address, await token, viewers, self.around, self.still
                ends = await asyncio.get_running_loop().run_in_executor(own, stand_still, *plan)
        growth_mb = growing.result()
        lag_ms = round(1000 * percentile(lags, 99)) if lags else None
        return {
            "lag_p99_ms": lag_ms,
            "captions": len(lags),
            "growth_mb": growth_mb,
            "let_go": ends["RESOURCE_EXHAUSTED"],
        }

    async def _grown(self, process: int) -> float:
        """Return by how many MB the server's memory was larger at most, while viewers stood still, than before."""
        await asyncio.sleep(self.around)
        before = most = weigh(process).anonymous_mb
        for _ in range(int(self.still / _LOOK_S)):
            await asyncio.sleep(_LOOK_S)
            most = max(most, weigh(process).anonymous_mb)
        return round(most - before, 2)


def stand_still(address: str, token: str, viewers: int, around: float, still: float) -> Counter[str]:
    """Let viewers read for ``around`` seconds, stand still, and read on; return how often calls ended how."""
    ends: Counter[str] = Counter()

    async def watch() -> None:
        async with grpc.aio.insecure_channel(address, options=_NARROW) as channel:
            call = ServiceStub(channel).WatchCaptions(WatchRequest(viewer_token=token, language="de"))
            clock = asyncio.get_running_loop().time
            stops, began = clock() + around, False
            try:
                async for _ in call:
                    if not began and clock() > stops:
                        began = True
                        await asyncio.sleep(still)
            except grpc.aio.AioRpcError as error:
                ends[error.code().name] += 1

    async def all_of_them() -> None:
        async with asyncio.TaskGroup() as group:
            for _ in range(viewers):
                group.create_task(watch())

    asyncio.run(all_of_them())
    return ends
