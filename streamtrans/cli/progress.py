"""Progress of several recordings on a terminal, and the captions that are done or grow.

Law: one thread draws, when it is told to, so that no line is lost or doubled.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Column
from rich.text import Text
from streamtrans_clients import caption_text, clock, escaped

from streamtrans.core import SAMPLE_RATE, Caption, Event

_REFRESH_S = 0.1
"""How often bars are drawn anew. Larger: less work; smaller: smoother."""

_NARROW = 70
"""Columns below which there is no room for a bar and the time that is left."""


class Speed(ProgressColumn):
    """How many times faster than real time."""

    def render(self, task: Task) -> Text:
        """Return ``12.3× real time``."""
        if not task.elapsed or not task.completed:
            return Text("")
        return Text(f"{task.completed / SAMPLE_RATE / task.elapsed:.1f}× real time", style="cyan")


class Position(ProgressColumn):
    """Audio done of all audio."""

    def render(self, task: Task) -> Text:
        """Return ``01:23/10:00``."""
        return Text(f"{clock(int(task.completed))}/{clock(int(task.total or 0))}")


class Display:
    """A bar for all files together, one for each under way, and above them the captions.

    Where standard output is a terminal everything goes there; else bars go to standard error, lines to standard output,
    and captions in the making don't show.

    Args:
        lengths: samples of every file that can be read.
        growing: whether to show captions in the making.
    """

    def __init__(self, lengths: Mapping[Path, int], *, growing: bool) -> None:
        self._lengths = dict(lengths)
        self._terminal = sys.stdout.isatty()
        self._growing = growing and self._terminal
        self._open: dict[Path, dict[tuple[int, str], Caption]] = {}
        self._bars: dict[Path, TaskID] = {}
        self._heard = dict.fromkeys(lengths, 0)
        self._drawn = 0.0
        console = Console(stderr=not self._terminal)
        self._progress = _progress(console)
        name = escaped(next(iter(lengths)).name) if len(lengths) == 1 else f"all {len(lengths)} files"
        self._all = self._progress.add_task(Text(name).markup, total=sum(lengths.values()))
        self._live = Live(
            self._progress, console=console, auto_refresh=False, redirect_stdout=False, redirect_stderr=False
        )

    def __enter__(self) -> Self:
        """Take the bottom of the terminal."""
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Leave the last state of the bars."""
        self._open.clear()
        self._live.update(self._progress)
        self._live.stop()
        if not self._live.console.is_terminal:
            self._live.console.print()  # it leaves the line open there

    def heard(self, path: Path, samples: int) -> None:
        """Move the bars on."""
        self._heard[path] += samples
        longer = self._heard[path] - self._lengths[path]
        if longer > 0:  # than its header says
            self._lengths[path] += longer
            self._progress.update(self._all, total=sum(self._lengths.values()))
        self._progress.advance(self._all, samples)
        if len(self._lengths) > 1:
            if path not in self._bars:
                name = Text(escaped(path.name)).markup
                self._bars[path] = self._progress.add_task(f"  {name}", total=self._lengths[path])
            self._progress.update(self._bars[path], advance=samples, total=self._lengths[path])
        self.tick()

    def grow(self, path: Path, events: list[Event]) -> None:
        """Rewrite the captions of ``path`` that are in the making."""
        if not self._growing:
            return
        held = self._open.setdefault(path, {})
        for event in events:
            if isinstance(event, Caption) and event.final:
                held.pop((event.segment, event.language), None)
            elif isinstance(event, Caption):
                held[event.segment, event.language] = event
        self._draw()

    def caption(self, path: Path, caption: Caption, plain: str) -> None:
        """Add a line for a final caption; ``plain`` is the line where standard output is no terminal."""
        self.line(self._line(path, caption) if self._terminal else plain)

    def line(self, line: Text | str) -> None:
        """Add a line to standard output."""
        if self._terminal:
            text = Text(line) if isinstance(line, str) else line
            self._live.console.print(text, soft_wrap=isinstance(line, str), highlight=False)
        else:
            print(line, flush=True)

    def done(self, path: Path) -> None:
        """Take the file's bar away; what a header announced and wasn't heard counts as done."""
        self._open.pop(path, None)
        if path in self._bars:
            self._progress.remove_task(self._bars.pop(path))
        self._progress.advance(self._all, self._lengths[path] - self._heard[path])
        self._draw()

    def tick(self) -> None:
        """Draw the bars anew if it is time."""
        if time.monotonic() - self._drawn >= _REFRESH_S:
            self._draw()

    def _draw(self) -> None:
        lines: list[RenderableType] = [
            self._line(path, caption) for path, held in self._open.items() for caption in held.values()
        ]
        self._live.update(Group(*lines, self._progress), refresh=True)
        self._drawn = time.monotonic()

    def _line(self, path: Path, caption: Caption) -> Text:
        text = caption_text(caption)
        return Text.assemble((f"{escaped(path.name)} ", "dim"), text) if len(self._lengths) > 1 else text


def _progress(console: Console) -> Progress:
    """Return bars that fit the terminal."""
    width = console.width
    name = TextColumn(
        "{task.description}", table_column=Column(no_wrap=True, overflow="ellipsis", max_width=width // 3)
    )
    columns: list[ProgressColumn] = [
        name,
        Position(table_column=Column(no_wrap=True)),
        Speed(table_column=Column(no_wrap=True)),
    ]
    if width >= _NARROW:
        columns = [name, BarColumn(), *columns[1:], TimeRemainingColumn(compact=True)]
    return Progress(*columns, console=console, auto_refresh=False)
