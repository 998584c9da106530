"""All sinks of a program at once.

Law: a sink that is slow, or fails, holds up neither the sound nor the other sinks; what it fails with is told once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack, suppress
from types import TracebackType
from typing import Self

from streamtrans.client import Caption
from streamtrans_clients.sinks import Sink, SinkError

_DRAIN_S = 30.0
"""How long sinks may take for the last captions, once the sound has ended."""


class Outlets:
    """Sinks, each with captions that wait for it; an asynchronous context manager that ends once all is shown.

    Args:
        tell: takes a sentence.
    """

    def __init__(self, sinks: Sequence[Sink], tell: Callable[[str], None]) -> None:
        self.failed = 0
        self._sinks = sinks
        self._tell = tell
        self._stack = AsyncExitStack()
        self._lines: list[_Line] = []
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        """Let every sink get ready.

        Raises:
            SinkError: one can't.
        """
        async with AsyncExitStack() as stack:
            for sink in self._sinks:
                self._lines.append(_Line(await stack.enter_async_context(sink)))
            self._stack = stack.pop_all()
        self._tasks = [asyncio.create_task(self._serve(line)) for line in self._lines]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Wait until all is shown, and let every sink leave."""
        for line in self._lines:
            line.end()
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(_DRAIN_S):
                    await asyncio.gather(*self._tasks)
            for line, task in zip(self._lines, self._tasks, strict=True):
                if task.cancelled():
                    self._fail(line, f"it took longer than {_DRAIN_S:g} s for the last captions")
            await self._stack.aclose()
        except SinkError as problem:
            self.failed += 1
            self._tell(str(problem))
        finally:
            await self._stack.aclose()

    def show(self, caption: Caption, speaker: str = "") -> None:
        """Show a caption in every sink of its language.

        Raises:
            SinkError: none is left.
        """
        for line in self._lines:
            if line.sink.language == caption.language:
                line.add(caption, speaker)
        self._check()

    def heard(self, milliseconds: int) -> None:
        """Tell every sink what time of the sound it is.

        Raises:
            SinkError: none is left.
        """
        for line in self._lines:
            line.pass_time(milliseconds)
        self._check()

    def _check(self) -> None:
        if self._lines and self.failed == len(self._lines):
            raise SinkError("there is nowhere left to show captions")

    async def _serve(self, line: _Line) -> None:
        try:
            await line.serve()
        except SinkError as problem:
            self._fail(line, str(problem))

    def _fail(self, line: _Line, problem: str) -> None:
        line.dead = True
        self.failed += 1
        self._tell(f"{line.sink.place.kind} in {line.sink.language}: {problem}; nothing more is shown there")


class _Line:
    """What waits for one sink: of each segment the newest caption, in the order in which segments were first seen."""

    def __init__(self, sink: Sink) -> None:
        self.sink = sink
        self.dead = False
        self._waiting: dict[tuple[str, int], Caption] = {}
        self._now = -1
        self._told = -1
        self._ended = False
        self._bell = asyncio.Event()

    def add(self, caption: Caption, speaker: str) -> None:
        if not self.dead:
            self._waiting[speaker, caption.segment] = caption
            self._bell.set()

    def pass_time(self, milliseconds: int) -> None:
        self._now = milliseconds
        self._bell.set()

    def end(self) -> None:
        self._ended = True
        self._bell.set()

    async def serve(self) -> None:
        """Show what comes until the end."""
        while True:
            if self._now != self._told:
                self._told = self._now
                await self.sink.heard(self._told)
            elif self._waiting:
                key = next(iter(self._waiting))
                await self.sink.show(self._waiting.pop(key), key[0])
            elif self._ended:
                return
            else:
                self._bell.clear()
                await self._bell.wait()
