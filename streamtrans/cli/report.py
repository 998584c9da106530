"""Where figures go, and how they are shown."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, astuple, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.cells import cell_len
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text as Line

from streamtrans.core import Option
from streamtrans.evaluate.machine import Measured, describe_machine, invocation, store

if TYPE_CHECKING:
    from streamtrans.evaluate.dev import Text


def keep(name: str, figures: Mapping[str, Any], measured: Measured, folder: Path) -> None:
    """Store the figures, and say where."""
    path = store(name, figures, measured, folder=folder)
    busy = "unknown" if measured.other_cpu is None else f"{measured.other_cpu:g} cores"
    typer.echo(f"stored in {path}; other processes used {busy} meanwhile", err=True)


@dataclass(frozen=True, slots=True)
class Kept:
    """What an evaluation prints and stores."""

    as_json: Annotated[bool, Option("Print JSON instead of tables.", name="--json")] = False
    results: Annotated[
        Path | None, Option("Folder that keeps the figures: dev.json; of talks streaming.json, .md and plots.")
    ] = None
    texts: Annotated[Path | None, Option("Write what the model wrote to this .tsv file.")] = None

    def prepare(self) -> None:
        """Make the folders, so that a wrong path doesn't cost an evaluation."""
        for folder in (self.results, self.texts.parent if self.texts else None):
            if folder is not None:
                folder.mkdir(parents=True, exist_ok=True)

    def put(self, name: str, figures: Mapping[str, Any], measured: Measured, texts: Sequence[Text]) -> bool:
        """Store what is to be stored, and print JSON if that is wanted; return whether it was."""
        if self.texts is not None:
            rows = [("row", "source", "target", "reference", "hypothesis"), *map(astuple, texts)]
            lines = ["\t".join(" ".join(cell.split()) for cell in row) for row in rows]
            self.texts.write_text("\n".join(lines) + "\n", encoding="utf-8")
        if self.results is not None:
            keep(name, figures, measured, self.results)
        if self.as_json:
            about = {
                "command": invocation(),
                "machine": asdict(describe_machine()),
                "measured": asdict(measured),
            }
            typer.echo(json.dumps({**about, **figures}, indent=1, ensure_ascii=False))
        return self.as_json


def show(title: str, columns: Sequence[str], rows: Sequence[Sequence[object]], console: Console | None = None) -> None:
    """Print a table under its title; numbers stand right. What doesn't fit beside the rest stands below it."""
    console = console or Console()
    cells = [[_cell(value) for value in row] for row in rows]
    widths = [max(map(cell_len, (*column.split(), *(row[at] for row in cells)))) for at, column in enumerate(columns)]
    console.print(Line(f"\n{title}", style="bold"))
    for shown in _fitting(widths, console.width):
        table = Table()
        whole = [max(cell_len(columns[at]), widths[at]) for at in shown]
        roomy = sum(each + 3 for each in whole) + 1 <= console.width
        for at, width in zip(shown, whole, strict=True):
            table.add_column(Line(columns[at]), justify="right" if at else "left", width=width if roomy else widths[at])
        for row in cells:
            table.add_row(*(Line(row[at]) for at in shown))
        console.print(table)


def _fitting(widths: Sequence[int], columns: int) -> list[list[int]]:
    """Share columns of a table out to tables that fit; the first column stands in each."""
    tables = [[0]]
    for at in range(1, len(widths)):
        beside = [*tables[-1], at]
        if len(beside) > 2 and sum(widths[each] + 3 for each in beside) + 1 > columns:
            beside = [0, at]
            tables.append(beside)
        tables[-1] = beside
    return tables


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
