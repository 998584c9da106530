"""``streamtrans bench``: every measurement of the table is a verb, its fields are the options.

Each run is stored as JSON with the command that made it and the machine.
"""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Annotated, Any, get_args

import typer

from streamtrans.bench import MEASUREMENTS, Needs, load_measurement
from streamtrans.bench.measurement import Measurement
from streamtrans.cli.commands import Commands, command
from streamtrans.cli.report import keep, show, telling

RESULTS = Path("benchmarks/results")

_RESULTS = Annotated[Path, typer.Option(help="Folder that keeps the figures, one JSON file per measurement.")]


def _made(name: str) -> Any:
    return command(name, verb(name))


class _Measurements(Commands):
    """The measurements of the table, and what runs several."""

    def further(self) -> Mapping[str, Callable[[], Any]]:
        """Return by name what imports each of them."""
        return {name: partial(_made, name) for name in MEASUREMENTS}


bench = typer.Typer(
    name="bench",
    cls=_Measurements,
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Measure speed and size. Every figure is stored as JSON with its command and the machine.",
)


@bench.callback()
def _several() -> None:
    """Measure speed and size. Every figure is stored as JSON with its command and the machine."""


@bench.command()
def routine(
    *,
    given: Annotated[
        Needs,
        typer.Option("--given", help="What is there beside a clone: nothing, text tables, or also training runs."),
    ] = "nothing",
    model: Annotated[str | None, typer.Option(help="The model of those that measure one.", show_default=False)] = None,
) -> None:
    """Run what the table marks as routine, one after the other, each as a command of its own."""
    known: tuple[Needs, ...] = get_args(Needs)
    for name, line in MEASUREMENTS.items():
        if line.routine is None or known.index(line.routine) > known.index(given):
            continue
        flags = [flag for each in command(name, verb(name)).params for flag in each.opts]
        named = () if model is None or "--model" not in flags else ("--model", model)
        said = ["bench", name, *named]
        typer.echo(f"streamtrans {' '.join(said)}", err=True)
        done = subprocess.run([sys.executable, "-m", "streamtrans.cli", *said], check=False)
        if done.returncode:
            raise typer.Exit(done.returncode)


def verb(name: str) -> Callable[..., None]:
    """Return a function that makes the measurement ``name`` of its options, runs it, and says what came out."""
    kind = load_measurement(name)

    def run(*, measurement: Measurement, results: _RESULTS = RESULTS) -> None:
        from streamtrans.evaluate.machine import Watch

        # As Ctrl-C: what has begun a server ends it on its way out.
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        with Watch() as watch, telling(name) as told:
            report = measurement.measure(told)
        keep(name, report.figures, watch.measured, results)
        for table in report.tables:
            show(table.title, table.columns, table.rows)
        for note in report.notes:
            typer.echo(note)
        if report.markdown:
            text = "\n".join(table.markdown() for table in report.tables)
            (results / f"{name}.md").write_text(text, encoding="utf-8")

    run.__doc__ = kind.__doc__
    run.__annotations__["measurement"] = kind
    return run
