"""Captions on a terminal: what is promised plain, what may still change dimmed.

A board is shown events one by one. On a terminal the open segments stay at the bottom and are rewritten; what
is final moves up and stays. Where the output is no terminal, lines are printed instead.

Law: nothing draws but who shows: a thread that refreshed by itself would lose and double lines that are printed.
"""

from __future__ import annotations

import unicodedata
from types import TracebackType
from typing import Protocol, Self

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from streamtrans.client import Caption, Notice, Resumed, Started, StreamEvent

_METER = 24
"""Width of the level meter in characters."""

_NARROW = 60
"""Columns below which the meter is half as wide and alone."""

_TURNING = frozenset({"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"})
"""Bidirectional classes that change the order of other characters (Unicode Annex 9)."""

_QUIET_DB, _LOUD_DB = -60.0, -6.0
"""Levels at which the meter is empty and red."""


class Board(Protocol):
    """Where events are shown; a context manager."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def show(self, event: StreamEvent) -> None:
        """Take an event."""
        ...

    def level(self, decibels: float) -> None:
        """Take the level of the sound that was just heard."""
        ...


def caption_text(caption: Caption) -> Text:
    """Return ``00:12 de  promised (plain) tentative (dim)``."""
    text = Text(f"{clock(caption.start)} ", style="cyan")
    text.append(f"{caption.language:<3} ", style="bold magenta")
    committed = printable(caption.committed).lstrip()
    tentative = printable(caption.tentative)
    text.append(committed, style="default not bold")
    text.append(tentative if committed else tentative.lstrip(), style="default dim italic")
    text.append(_cut(caption), style="yellow")
    return text


def printable(text: str) -> str:
    """Return ``text`` without what would steer the terminal: it comes from somebody else's server.

    Control characters and separators of lines become spaces; marks that turn the direction of all that follows are left
    out. What joins letters, as Persian and emoji need it, stays.
    """
    kept = (character for character in text if unicodedata.bidirectional(character) not in _TURNING)
    return "".join(" " if unicodedata.category(each) in ("Cc", "Zl", "Zp") else each for each in kept)


def escaped(name: object) -> str:
    """Return a name of a file, or what contains one, with escapes in the place of what can't be seen."""
    return "".join(
        each if each.isprintable() else each.encode("unicode_escape", "surrogatepass").decode() for each in str(name)
    )


def marked(caption: Caption) -> str:
    """Return the text of a caption, with ``[…]`` behind one that the model's limit cut off."""
    return printable(caption.text).strip() + _cut(caption)


def _cut(caption: Caption) -> str:
    return " […]" if caption.final and not caption.complete else ""


def clock(samples: int) -> str:
    """Return minutes and seconds of a position in samples: ``01:23``."""
    seconds = samples // 16_000
    return f"{seconds // 60:02d}:{seconds % 60:02d}"


class FinalLines:
    """Print a line for each final caption: for pipes and files."""

    def __init__(self, console: Console) -> None:
        self._console = console

    def __enter__(self) -> Self:
        """Begin; there is nothing to prepare."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End; there is nothing to clear away."""

    def show(self, event: StreamEvent) -> None:
        """Print a final caption or a notice."""
        if isinstance(event, Caption) and event.final and event.text:
            self._print(f"{clock(event.start)} {event.language:<3} {marked(event)}")
        elif (message := notice(event)) is not None:
            self._print(message)

    def level(self, decibels: float) -> None:
        """Show no level."""

    def _print(self, line: str) -> None:
        self._console.out(printable(line), highlight=False)


class GrowingLines(FinalLines):
    """Print a line for each revision, what may still change in ‹angle quotes›: for logs."""

    def show(self, event: StreamEvent) -> None:
        """Print a caption of any kind."""
        if not isinstance(event, Caption) or event.final:
            super().show(event)
        elif event.text:
            tail = f"‹{event.tentative.strip()}›" if event.tentative.strip() else ""
            space = " " if tail and event.tentative[:1].isspace() and event.committed.strip() else ""
            self._print(f"{clock(event.heard)} {event.language:<3}   {event.committed.strip()}{space}{tail}")


class TerminalBoard:
    """Rewrite the open segments in place; final captions scroll away above them."""

    def __init__(self, console: Console, footer: str = "") -> None:
        self._console = console
        self._footer = footer
        self._open: dict[tuple[int, str], Caption] = {}
        self._level: float | None = None
        self._live = Live(console=console, auto_refresh=False, transient=True)

    def __enter__(self) -> Self:
        """Take the bottom of the terminal."""
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Give it back; what was open stays readable above."""
        for caption in self._open.values():
            self._live.console.print(caption_text(caption))
        self._open.clear()
        self._live.update("", refresh=True)
        self._live.stop()

    def show(self, event: StreamEvent) -> None:
        """Take a caption or a notice."""
        if (message := notice(event)) is not None:
            self._live.console.print(Text(printable(message), style="yellow"))
        elif isinstance(event, Caption) and event.final:
            self._open.pop((event.segment, event.language), None)
            if event.text:
                self._live.console.print(caption_text(event))
        elif isinstance(event, Caption):
            self._open[event.segment, event.language] = event
        else:
            return
        self._draw()

    def level(self, decibels: float) -> None:
        """Move the level meter."""
        self._level = decibels
        self._draw()

    def _draw(self) -> None:
        lines = [caption_text(caption) for caption in self._open.values()]
        if self._level is not None:
            lines.append(_footed(self._level, self._footer, self._console.width))
        self._live.update(Group(*lines), refresh=True)


def meter(decibels: float, width: int = _METER) -> Text:
    """Return a bar for a level below full scale, and the level: ``▕████    ▏  -20 dB``."""
    share = (decibels - _QUIET_DB) / -_QUIET_DB
    filled = round(width * min(1.0, max(0.0, share)))
    bar = Text("▕", style="dim")
    bar.append("█" * filled, style="red" if decibels >= _LOUD_DB else "green")
    bar.append(" " * (width - filled) + "▏", style="dim")
    bar.append(f" {decibels:4.0f} dB", style="dim")
    return bar


def _footed(decibels: float, footer: str, columns: int) -> Text:
    line = meter(decibels, _METER if columns >= _NARROW else _METER // 2)
    line.append(f"  {printable(footer)}", style="dim")
    line.truncate(columns - 1, overflow="ellipsis")
    return line


def notice(event: StreamEvent) -> str | None:
    """Return what a user should know of an event that is no caption."""
    if isinstance(event, Notice):
        return f"notice: {event.message}"
    if isinstance(event, Resumed):
        return f"notice: the connection was away for {event.away_s:.1f} s; nothing is lost"
    return None


def setting_line(started: Started) -> str | None:
    """Say how captions are made, and what to expect of that; ``None`` where the server has measured nothing."""
    measured = started.setting
    if measured is None:
        return None
    return (
        f"{started.options.mode} captions of {started.model}: {measured.erasure:.2g} words taken back per word and"
        f" settled after {measured.latency_ms / 1000:.1f} s, on average"
    )
