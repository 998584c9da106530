"""What the guard, and a translator behind the ear, cost who waits for words: the same recordings, live, several ways.

One client plays each recording to servers that differ in one thing, in real time and one after the other, in an order
that is drawn anew for each recording: what else the machine does falls on all ways alike. Words are compared with
themselves.
"""

from __future__ import annotations

import asyncio
import random
from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any

from streamtrans.bench.delays import KINDS, Delays, percentiles_ms
from streamtrans.bench.measurement import MODE, TO, Progress, Report, Table, languages, silent
from streamtrans.bench.realtime import served, speak
from streamtrans.bench.server import Wish
from streamtrans.client import StreamEvent, StreamOptions, TranslationClient
from streamtrans.core import BadConfig, Caption, Group, Mode, Option, check_mode
from streamtrans.evaluate.manifest import Talk, read_talks
from streamtrans.evaluate.spoken import sample
from streamtrans.metrics import percentile
from streamtrans.runtime import ModelChoice, identities

OFF, ON, ALONE = "guard off", "guard on", "ear alone"


@dataclass(frozen=True, slots=True)
class Way:
    """What serves, and what is asked of it: ``targets``, or where there are none the spoken language."""

    choice: ModelChoice
    targets: tuple[str, ...]


@dataclass(slots=True)
class Said:
    """What a recording came to in one way: delays and final texts by language."""

    talk: Talk
    delays: dict[str, Delays] = field(default_factory=lambda: defaultdict(Delays))
    texts: dict[str, str] = field(default_factory=lambda: defaultdict(str))

    def told(self, event: StreamEvent, received: int, at: float) -> None:
        """Note an event that came ``at`` seconds after the first sample."""
        if isinstance(event, Caption):
            self.delays[event.language].told(event, received, at)
            self.texts[event.language] += event.text if event.final else ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lags:
    """Play people's recordings live, with the guard and without it: how much later each word is promised.

    With --translator the ear is also served alone, asked for its transcript:

        streamtrans bench lags prompts.tsv --from en --to de,es --model openai/whisper-base --translator FOLDER
    """

    manifest: Annotated[Path, Option("Recordings: audio, language, and a text per language code.", argument=True)]
    source: Annotated[
        tuple[str, ...], Option("Only recordings in these languages, joined by commas.", name="--from", read=languages)
    ] = ("en",)
    to: Annotated[tuple[str, ...], TO] = ("en",)
    rows: Annotated[int, Option("So many recordings, evenly spread.", least=1)] = 24
    mode: Annotated[Mode, MODE] = "live"
    choice: Annotated[ModelChoice, Group("model", "device", "dtype", "threads", "translator")] = field(
        default_factory=ModelChoice
    )

    def __post_init__(self) -> None:
        check_mode(self.mode)

    def measure(self, progress: Progress = silent) -> Report:
        """Play them."""
        known = [talk for talk in read_talks(self.manifest) if talk.language in self.source]
        if not known:
            raise BadConfig(f"{self.manifest} has no recording in {', '.join(self.source)}")
        talks = sample(known, self.rows)
        ways = {guard: Way(replace(self.choice, guard=guard.split()[1]), self.to) for guard in (OFF, ON)}
        if self.choice.translator is not None:
            ways[ALONE] = Way(replace(self.choice, guard="on", translator=None), ())
        said = asyncio.run(self._play(talks, ways, progress))
        figures = {
            **identities(self.choice),
            "targets": self.to,
            "mode": self.mode,
            "recordings": len(talks),
            "ways": {way: _delays(recordings) for way, recordings in said.items()},
            "guard_on_minus_off": compare(said[OFF], said[ON]),
            "texts": [
                {"recording": Path(each.talk.name).name, **{code: text.strip() for code, text in each.texts.items()}}
                for each in said[ON]
            ],
        }
        return Report(figures, tables(figures))

    async def _play(self, talks: Sequence[Talk], ways: Mapping[str, Way], progress: Progress) -> dict[str, list[Said]]:
        said: dict[str, list[Said]] = {way: [] for way in ways}
        order = random.Random(len(talks))
        async with AsyncExitStack() as stack:
            clients = dict[str, TranslationClient]()
            for way, what in ways.items():
                wish = Wish(what.choice, slots=16, sessions=1, cores=0)
                _, before = await stack.enter_async_context(served(wish))
                clients[way] = await stack.enter_async_context(TranslationClient(f"127.0.0.1:{before['port']}"))
            for done, talk in enumerate(talks):
                progress("recordings", done, len(talks))
                audio = talk.load()
                for way in order.sample([*ways], len(ways)):
                    asked = ways[way].targets or (talk.language,)
                    options = StreamOptions(asked, source_languages=(talk.language,), mode=self.mode)
                    said[way].append(Said(talk))
                    await speak(clients[way], audio, options, 0.0, told=said[way][-1].told)
        return said


def _delays(recordings: Sequence[Said]) -> dict[str, dict[str, dict[str, int] | None]]:
    """Return language → kind → percentiles."""
    codes = dict.fromkeys(code for each in recordings for code in each.delays)
    return {code: percentiles_ms(each.delays[code] for each in recordings if code in each.delays) for code in codes}


def compare(one: Sequence[Said], other: Sequence[Said]) -> dict[str, dict[str, int | None]]:
    """Return per language how much later ``other`` promised its words.

    ``p50_ms`` is the difference of the medians of all words. Where a recording has as many in both ways, each is
    compared with itself: ``words`` counts them, ``word_p50_ms`` and ``word_p95_ms`` say how much later they came.
    """
    found: dict[str, dict[str, int | None]] = {}
    for code in dict.fromkeys(code for each in one for code in each.delays):
        lines = [tuple(each.delays[code].seconds["commit"] for each in pair) for pair in zip(one, other, strict=True)]
        before, after = ([seconds for line in lines for seconds in line[side]] for side in (0, 1))
        later = [
            b - a for first, second in lines if len(first) == len(second) for a, b in zip(first, second, strict=True)
        ]
        found[code] = {
            "p50_ms": _ms(percentile(after, 50) - percentile(before, 50)) if before and after else None,
            "words": len(later),
            "word_p50_ms": _ms(percentile(later, 50)) if later else None,
            "word_p95_ms": _ms(percentile(later, 95)) if later else None,
        }
    return found


def tables(figures: Mapping[str, Any]) -> list[Table]:
    """Lay the figures out: delays of every way, and what the guard adds."""
    rows = [
        [way, code, *(None if kinds[kind] is None else kinds[kind]["p50"] for kind in KINDS)]
        for way, by_language in figures["ways"].items()
        for code, kinds in by_language.items()
    ]
    added = figures["guard_on_minus_off"]
    return [
        Table("delays in milliseconds, p50", ["", "written", *KINDS], rows),
        Table(
            "promised later with the guard, in milliseconds",
            ["written", "p50 of all words", "words in both", "p50 of these", "p95"],
            [[code, *line.values()] for code, line in added.items()],
        ),
    ]


def _ms(seconds: float) -> int:
    return round(1000 * seconds)
