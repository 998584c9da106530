"""Where figures go, and how they are shown."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from streamtrans.evaluate.machine import Measured, store


def keep(name: str, figures: Mapping[str, Any], measured: Measured, folder: Path) -> None:
    """Store the figures, and say where."""
    path = store(name, figures, measured, folder=folder)
    busy = "unknown" if measured.other_cpu is None else f"{measured.other_cpu:g} cores"
    typer.echo(f"stored in {path}; other processes used {busy} meanwhile", err=True)


def show(title: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print a table under its title; numbers stand right."""
    table = Table()
    for index, column in enumerate(columns):
        table.add_column(column, justify="right" if index else "left")
    for row in rows:
        table.add_row(*(_cell(value) for value in row))
    console = Console()
    console.print(f"\n[bold]{title}[/bold]")
    console.print(table)


def progress() -> Progress:
    """Return a bar with what is done and the time left, on standard error."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(compact=True),
        console=Console(stderr=True),
    )


@contextmanager
def telling(task: str) -> Iterator[Callable[[str, int, int | None], None]]:
    """Yield who is told of progress: it moves a bar, or where nobody watches, writes a line when the task changes."""
    with progress() as bar:
        number = bar.add_task(task, total=None)
        last = ""

        def told(name: str, done: int, total: int | None) -> None:
            nonlocal last
            bar.update(number, description=name, completed=done, total=total)
            if name != last and not bar.console.is_terminal:
                typer.echo(name, err=True)
            last = name

        yield told


def _cell(value: object) -> str:
    if value is None:
        return "–"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
