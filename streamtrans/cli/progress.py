"""Progress of several recordings on a terminal, with the captions that grow."""

from __future__ import annotations

import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TaskID, TextColumn, TimeRemainingColumn
from rich.text import Text
from streamtrans_clients import caption_text, clock

from streamtrans.core import SAMPLE_RATE, Caption, Event


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
    """A bar for all files together, one for each under way, and above them the captions in the making.

    Where standard output is a terminal everything goes there; else bars go to standard error, and captions
    don't show.

    Args:
        lengths: samples of every file that can be read.
        growing: whether to show captions.
    """

    def __init__(self, lengths: Mapping[Path, int], *, growing: bool) -> None:
        self._lengths = lengths
        self._growing = growing
        self._lock = threading.Lock()
        self._open: dict[Path, dict[tuple[int, str], Caption]] = {}
        self._bars: dict[Path, TaskID] = {}
        self._heard = dict.fromkeys(lengths, 0)
        console = Console(stderr=not sys.stdout.isatty())
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            Position(),
            Speed(),
            TimeRemainingColumn(compact=True),
            console=console,
            auto_refresh=False,
        )
        name = next(iter(lengths)).name if len(lengths) == 1 else f"all {len(lengths)} files"
        self._all = self._progress.add_task(Text(name).markup, total=sum(lengths.values()))
        self._live = Live(
            self._progress,
            console=console,
            refresh_per_second=8,
            redirect_stdout=sys.stdout.isatty(),
            redirect_stderr=sys.stderr.isatty(),
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
        with self._lock:
            self._heard[path] += samples
            self._progress.advance(self._all, samples)
            if len(self._lengths) > 1:
                if path not in self._bars:
                    name = Text(path.name).markup
                    self._bars[path] = self._progress.add_task(f"  {name}", total=self._lengths[path])
                self._progress.advance(self._bars[path], samples)

    def events(self, path: Path, events: list[Event]) -> None:
        """Rewrite the captions of ``path``; final ones move up and stay."""
        if not self._growing:
            return
        with self._lock:
            held = self._open.setdefault(path, {})
            for event in events:
                if isinstance(event, Caption) and event.final:
                    held.pop((event.segment, event.language), None)
                    if event.text.strip():
                        self._live.console.print(self._line(path, event))
                elif isinstance(event, Caption):
                    held[event.segment, event.language] = event
            self._draw()

    def done(self, path: Path) -> None:
        """Take the file's bar away; what a header announced and wasn't heard counts as done."""
        with self._lock:
            self._open.pop(path, None)
            if path in self._bars:
                self._progress.remove_task(self._bars.pop(path))
            self._progress.advance(self._all, self._lengths[path] - self._heard[path])
            self._draw()

    def _draw(self) -> None:
        lines: list[RenderableType] = [
            self._line(path, caption) for path, held in self._open.items() for caption in held.values()
        ]
        self._live.update(Group(*lines, self._progress))

    def _line(self, path: Path, caption: Caption) -> Text:
        text = caption_text(caption)
        return Text.assemble((f"{path.name} ", "dim"), text) if len(self._lengths) > 1 else text
