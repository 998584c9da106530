"""What programs that others call have in common: where they are called, whom they let in, where captions go.

Law: what one meeting does wrong, or runs out of, no other meeting feels.
"""

from __future__ import annotations

import argparse
import asyncio
import re
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from typing import Any

from aiohttp import web

from streamtrans.client import BadConfig, Caption, StreamOptions, TranslationClient
from streamtrans_clients.boards import clock, marked, printable
from streamtrans_clients.bots.meeting import Meeting, Show, Speaker
from streamtrans_clients.options import (
    add_captions,
    add_languages,
    add_server,
    client,
    done,
    languages,
    on_ending,
    program,
    ready,
    served,
    tell,
    wishes,
)
from streamtrans_clients.outlets import Outlets
from streamtrans_clients.sinks import Sink, SinkError, sinks_for

_TICK_S = 0.5
"""How often sinks learn what time it is."""

_LEAVE_S = 20.0
"""How long calls that go on may take for their last captions, once the program is asked to end."""

_HOLE = "{meeting}"


class Hall:
    """The way to the server, and what is wanted, for all meetings; one :meth:`meeting` for each."""

    def __init__(self, options: argparse.Namespace, way: TranslationClient, known: Sequence[str]) -> None:
        self.options = options
        self.closing = asyncio.Event()
        """Whether the program is asked to end."""
        self.wishes = wishes(options)
        self._way = way
        self._named = dict(each.split("=", 1) for each in options.reads or ())
        self._attended: set[asyncio.Task[None]] = set()
        self._known = known
        self._names: Counter[str] = Counter()
        self._sinks("x")  # what is wrong is told before anybody calls

    def wanted(self, name: str) -> StreamOptions:
        """Return what is asked of a stream of somebody of this name."""
        return replace(self.wishes, targets=languages([self._named[name]])) if name in self._named else self.wishes

    @property
    def asked(self) -> list[StreamOptions]:
        """What streams are asked for here, whoever speaks."""
        return [self.wishes, *map(self.wanted, self._named)]

    @asynccontextmanager
    async def meeting(self, ident: str, show: Show | None = None) -> AsyncIterator[Meeting]:
        """Begin a meeting, whose captions go to its sinks, and to ``show``; where there is neither, they are printed.

        Raises:
            SinkError: a sink can't get ready.
        """
        safe = self._named_once(re.sub(r"[^\w-]+", "_", ident)[:80])
        sinks = self._sinks(safe)
        out = show or (_print if not sinks else None)

        async def both(speaker: Speaker, caption: Caption) -> None:
            if out is not None:
                await out(speaker, caption)
            with suppress(SinkError):  # that none is left was told
                outlets.show(caption, speaker.name)

        met = Meeting(self._way, both, lambda text: tell(f"{safe}: {text}"))
        async with Outlets(sinks, tell) as outlets, met as meeting:
            ticking = asyncio.create_task(_tick(meeting, outlets))
            try:
                yield meeting
            finally:
                ticking.cancel()

    def begin(self, attending: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Attend a meeting that nobody's call waits for."""
        task = asyncio.create_task(attending)
        self._attended.add(task)
        task.add_done_callback(self._attended.discard)
        return task

    async def emptied(self) -> None:
        """Await the last captions of what has begun."""
        if self._attended:
            await asyncio.wait(self._attended, timeout=_LEAVE_S)

    async def until_closing(self, listening: Coroutine[Any, Any, None]) -> None:
        """Await ``listening``, no longer than until the program is asked to end."""
        task, closing = asyncio.create_task(listening), asyncio.create_task(self.closing.wait())
        try:
            await asyncio.wait((task, closing), return_when=asyncio.FIRST_COMPLETED)
            if task.done():
                await task
        finally:
            for each in (task, closing):
                each.cancel()
            await asyncio.gather(task, closing, return_exceptions=True)

    def _named_once(self, name: str) -> str:
        """Return a name that no meeting had before: who comes back to one finds another file."""
        self._names[name] += 1
        return name if self._names[name] == 1 else f"{name}-{self._names[name]}"

    def _sinks(self, meeting: str) -> list[Sink]:
        """Return sinks: of the languages that are asked for here, or, where one is named, of any."""
        shown = tuple(dict.fromkeys((*self.wishes.targets, *languages(self._named.values()))))
        return [
            sink
            for each in self.options.sinks
            for sink in sinks_for(each.replace(_HOLE, meeting), shown, also=self._known)
        ]


def reader(name: str, description: str, examples: str, port: int) -> argparse.ArgumentParser:
    """Return a reader of the command line of such a program."""
    made = program(name, description, examples)
    made.add_argument(
        "sinks",
        nargs="*",
        metavar="[LANGUAGE=]KIND:PLACE",
        help=f"where captions are shown, as streamtrans-cast has it; {_HOLE} in the place stands for the name of each",
    )
    made.add_argument(
        "--listen",
        default=f"localhost:{port}",
        metavar="HOST:PORT",
        help=f"where to be called (default: localhost:{port}); encrypt by a proxy before it",
    )
    made.add_argument(
        "--reads",
        action="append",
        metavar="NAME=LANGUAGES",
        help="what is written of somebody, instead of what --to says; repeatable",
    )
    add_languages(made)
    add_server(made)
    add_captions(made)
    return made


def run(
    made: argparse.ArgumentParser,
    arguments: Sequence[str] | None,
    routes: Callable[[Hall], Iterable[web.RouteDef]],
) -> None:
    """Serve until Ctrl-C or SIGTERM; ends the process with 0, or with 2 and one line about what is wrong."""
    done(made, arguments, lambda options: _serve(options, routes), SinkError)


async def _serve(options: argparse.Namespace, routes: Callable[[Hall], Iterable[web.RouteDef]]) -> None:
    if wrong := next((each for each in options.reads or () if "=" not in each), None):
        raise BadConfig(f"--reads {wrong}: give a name and languages, such as Anna=de,fr")
    host, _, port = options.listen.rpartition(":")
    if not port.isdigit():
        raise BadConfig(f"--listen {options.listen}: give HOST:PORT, such as 0.0.0.0:8000")
    async with served(options) as address, client(options, address) as way:
        await ready(way)
        known = (await way.capabilities()).languages
        hall = Hall(options, way, known)
        for each in hall.asked:
            async with way.stream(each):  # what the server refuses is told before anybody calls
                pass
        called = list(routes(hall))
        on_ending(hall.closing.set)
        async with listening(called, host.strip("[]") or "0.0.0.0", int(port)) as place:
            tell(f"ready: {place}, languages {', '.join(known)}")
            await hall.closing.wait()
        await hall.emptied()


@asynccontextmanager
async def listening(
    routes: Iterable[web.RouteDef], host: str, port: int, most_bytes: int = 1 << 20
) -> AsyncIterator[str]:
    """Serve ``routes`` to requests of at most so many bytes. Calls end well when it is left.

    What callers ask for, tokens included, is logged nowhere.
    """
    app = web.Application(client_max_size=most_bytes)
    app.add_routes(routes)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=_LEAVE_S)
    await runner.setup()
    try:
        site = web.TCPSite(runner, host, port)
        await site.start()
        found = runner.addresses[0]
        yield f"{found[0]}:{found[1]}"
    finally:
        await runner.cleanup()


async def _tick(meeting: Meeting, outlets: Outlets) -> None:
    while True:
        await asyncio.sleep(_TICK_S)
        with suppress(SinkError):
            outlets.heard(round(meeting.seconds * 1000))


async def _print(speaker: Speaker, caption: Caption) -> None:
    if caption.final and caption.text.strip():
        print(f"{clock(caption.start)} {caption.language:<3} {printable(speaker.name)}: {marked(caption)}", flush=True)
