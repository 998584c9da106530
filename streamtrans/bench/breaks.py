"""Connections break at random bytes while people speak: what of their text is lost, and what comes twice?"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Annotated, Any

from streamtrans.audio import Samples
from streamtrans.bench.measurement import MODE, TO, Progress, Report, Table, silent
from streamtrans.bench.proxy import Proxy
from streamtrans.bench.realtime import STAGGER_S, served, speak, speeches
from streamtrans.bench.server import Wish
from streamtrans.client import Caption, Resumed, StreamEvent, StreamOptions, TranslationClient
from streamtrans.core import Group, Mode, Option, check_mode
from streamtrans.runtime import ModelChoice, identity

_FIRST = (3_000, 30_000)
"""Bytes of the first connection: the stream must have begun, or there is nothing to go on with."""
_SOON, _LATER = (1, 400), (400, 60_000)
"""Bytes of the others, with equal chances: within the first messages, and anywhere."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Breaks:
    """Break speakers' connections at random bytes; texts that are lost, come twice or differ from an unbroken stream's.

    In the modes live and stable which readings take place depends on the machine's load, and drafts lean on them: there
    texts may differ, and only what is lost or comes twice says something.
    """

    kills: Annotated[int, Option("Connections that are broken, at least.", least=1)] = 200
    streams: Annotated[int, Option("Speakers at once.", least=1)] = 6
    seconds: Annotated[float, Option("Audio per speaker; it takes as long.", least=2)] = 60.0
    seed: Annotated[int, Option("Of the bytes.")] = 0
    to: Annotated[tuple[str, ...], TO] = ("de",)
    mode: Annotated[Mode, MODE] = "final"
    choice: Annotated[ModelChoice, Group()] = field(default_factory=ModelChoice)

    def __post_init__(self) -> None:
        check_mode(self.mode)

    def measure(self, progress: Progress = silent) -> Report:
        """Let everybody speak once unbroken, then broken as often as it takes."""
        found = asyncio.run(self._measure(progress))
        figures = {"model": identity(self.choice.model), "mode": self.mode, "seconds": self.seconds, **found}
        return Report(figures, [Table("breaks", ("", self.mode), list(found.items()))])

    async def _measure(self, progress: Progress) -> dict[str, Any]:
        slots = max(16, 2 * self.streams * len(self.to))
        speech = speeches(self.streams, self.seconds)
        found: Counter[str] = Counter(kills=0, resumed=0, lost=0, twice=0, differing=0, finals=0)
        async with served(Wish(self.choice, slots, sessions=self.streams, cores=0)) as (_, before):
            progress("connections broken", 0, self.kills)
            whole = await self._speak(before["port"], speech, [()] * self.streams)
            dice = random.Random(self.seed)
            while found["kills"] < self.kills:
                found += await self._broken(before["port"], speech, whole, dice)
                progress("connections broken", found["kills"], self.kills)
        return {name: found[name] for name in ("kills", "resumed", "finals", "lost", "twice", "differing")}

    async def _broken(
        self, port: int, speech: Sequence[Samples], whole: Sequence[Heard], dice: random.Random
    ) -> Counter[str]:
        told = await self._speak(port, speech, [_cuts(random.Random(dice.random())) for _ in speech])
        found: Counter[str] = Counter()
        for mine, theirs in zip(told, whole, strict=True):
            found.update(kills=mine.killed, resumed=mine.resumed, finals=len(mine.finals), twice=mine.twice)
            found.update(compared(mine.finals, theirs.finals))
        return found

    async def _speak(self, port: int, speech: Sequence[Samples], cuts: Sequence[Any]) -> list[Heard]:
        """Let all speak at once, each over a connection of his own that is cut as it says."""
        options = StreamOptions(self.to, encoding="pcm_s16le", mode=self.mode, vad=self.choice.vad, resumable=True)
        heard = [Heard() for _ in speech]
        async with AsyncExitStack() as stack:
            proxies = [await stack.enter_async_context(Proxy(port, mine)) for mine in cuts]
            clients = [await stack.enter_async_context(TranslationClient(proxy.address)) for proxy in proxies]
            async with asyncio.TaskGroup() as group:
                for number, client in enumerate(clients):
                    group.create_task(
                        speak(client, speech[number], options, number * STAGGER_S, told=heard[number].told)
                    )
            for mine, proxy in zip(heard, proxies, strict=True):
                mine.killed = proxy.killed
        return heard


Key = tuple[int, str]


@dataclass(slots=True)
class Heard:
    """What one speaker was told."""

    finals: dict[Key, str] = field(default_factory=dict)
    twice: int = 0
    """Captions that took back what was promised, or came behind a final one."""
    resumed: int = 0
    killed: int = 0
    _committed: dict[Key, str] = field(default_factory=dict)

    def told(self, event: StreamEvent, _received: int, _at: float) -> None:
        """Note an event."""
        self.resumed += isinstance(event, Resumed)
        if isinstance(event, Caption):
            key = event.segment, event.language
            self.twice += key in self.finals or not event.committed.startswith(self._committed.get(key, ""))
            self._committed[key] = event.committed
            if event.final:
                self.finals[key] = self._committed.pop(key)


def compared(finals: Mapping[Key, str], whole: Mapping[Key, str]) -> dict[str, int]:
    """Count the lines of ``whole`` that are missing in ``finals``, and those that say something else, or are more."""
    differing = sum(text != whole.get(key) for key, text in finals.items())
    return {"lost": len(whole.keys() - finals.keys()), "differing": differing}


def _cuts(dice: random.Random) -> Iterator[int]:
    yield dice.randrange(*_FIRST)
    while True:
        yield dice.randrange(*dice.choice((_SOON, _LATER)))
