"""What all measurements share: who was measured, where the figures go, how they are shown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from streamtrans.corpus import Row, read_table
from streamtrans.evaluate.machine import Measured, store, weights_sha256
from streamtrans.runtime import ModelChoice, default_threads

if TYPE_CHECKING:
    from streamtrans.model.api import SpeechModel
    from streamtrans.text import Tokenizer

DEV_TABLE = "massive_dev.tsv"


def identity(model: str | None) -> dict[str, str]:
    """Name the model and the checksum of its weights, without saying where it lies.

    Raises:
        BadModel: there is no such checkpoint.
    """
    from streamtrans.model.loading import find_folder

    folder = find_folder(model)
    name = folder.name if model is None or Path(model).is_dir() else model
    return {"name": name, "sha256": weights_sha256(folder)}


def load_alone(choice: ModelChoice) -> tuple[SpeechModel, Tokenizer]:
    """Load a model and its tokenizer, without an engine around it.

    Raises:
        BadModel: the checkpoint is missing or broken.
        BadConfig: the device isn't there.
    """
    import torch

    from streamtrans.model.loading import load_model

    model = load_model(choice.model, device=choice.device, dtype=choice.dtype)
    torch.set_num_threads(choice.threads or default_threads(model))
    return cast("SpeechModel", model), model.tokenizer


def dev_rows(tables: Path) -> list[Row]:
    """Read the evaluation table: ``tables`` itself, or the one of its name in that folder.

    Raises:
        BadConfig: there is no such table, or it is malformed.
    """
    return read_table(tables / DEV_TABLE if tables.is_dir() or not tables.suffix else tables)


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


def _cell(value: object) -> str:
    if value is None:
        return "–"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
