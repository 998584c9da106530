"""``streamtrans bench``: every measurement of the table is a verb, its fields are the options.

Each run is stored as JSON with the command that made it and the machine.
"""

from __future__ import annotations

import inspect
import subprocess
import sys
from collections.abc import Callable
from dataclasses import MISSING, Field, fields
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, get_args, get_origin, get_type_hints

import typer
from typer.core import TyperGroup

from streamtrans.bench import MEASUREMENTS, Needs, load_measurement
from streamtrans.bench.measurement import Flags, Measurement, Option
from streamtrans.cli import options
from streamtrans.cli.report import keep, show, telling
from streamtrans.runtime import ModelChoice

RESULTS = Path("benchmarks/results")

_FLAGS: dict[str, Any] = {
    "model": options.Model,
    "device": options.Device,
    "dtype": options.Dtype,
    "drafter": options.Drafter,
    "top_k": options.TopK,
    "vad": options.Vad,
    "threads": options.Threads,
}
_RESULTS = Annotated[Path, typer.Option(help="Folder that keeps the figures, one JSON file per measurement.")]


class _Measurements(TyperGroup):
    """A group that imports a measurement when it is asked for."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Return the measurements in the order of the table, then what runs several."""
        return [*MEASUREMENTS, *super().list_commands(ctx)]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Return one of them, ``None`` where there is no such."""
        if cmd_name not in MEASUREMENTS:
            return super().get_command(ctx, cmd_name)
        app = typer.Typer(add_completion=False, rich_markup_mode=None)
        app.command(cmd_name)(verb(cmd_name))
        command = typer.main.get_command(app)
        command.name = cmd_name
        return command


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
    model: options.Model = None,
) -> None:
    """Run what the table marks as routine, one after the other, each as a command of its own."""
    known: tuple[Needs, ...] = get_args(Needs)
    for name, line in MEASUREMENTS.items():
        if line.routine is None or known.index(line.routine) > known.index(given):
            continue
        named = () if model is None or "model" not in _model_flags(load_measurement(name)) else ("--model", model)
        command = ["bench", name, *named]
        typer.echo(f"streamtrans {' '.join(command)}", err=True)
        done = subprocess.run([sys.executable, "-m", "streamtrans.cli", *command], check=False)
        if done.returncode:
            raise typer.Exit(done.returncode)


def verb(name: str) -> Callable[..., None]:
    """Return a function whose parameters are the options of the measurement ``name``, as typer reads them."""
    kind = load_measurement(name)
    hints = get_type_hints(kind, include_extras=True)
    asked = [each for each in fields(kind) if each.name in hints and get_origin(hints[each.name]) is Annotated]  # type: ignore[arg-type]

    def run(**said: Any) -> None:
        from streamtrans.evaluate.machine import Watch

        results = said.pop("results")
        given = {each.name: _read(each, hints[each.name], said) for each in asked}
        measurement: Measurement = kind(**given)
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

    parameters = [parameter for each in asked for parameter in _parameters(each, hints[each.name], _default(each))]
    parameters.append(_parameter("results", _RESULTS, RESULTS))
    run.__doc__ = kind.__doc__
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {each.name: each.annotation for each in parameters}
    return run


def _model_flags(kind: type[Measurement]) -> tuple[str, ...]:
    """Return which options of the model a measurement has."""
    told = (get_args(hint)[1:] for hint in get_type_hints(kind, include_extras=True).values())
    return next((extra.names for extras in told for extra in extras if isinstance(extra, Flags)), ())


def _parameters(field: Field[Any], hint: Any, default: Any) -> list[inspect.Parameter]:
    """Return the parameters that ask for one field: one, or one per flag of the model."""
    kind, extra = get_args(hint)[:2]
    if isinstance(extra, Flags):
        return [_parameter(flag, _FLAGS[flag], getattr(default, flag)) for flag in extra.names]
    assert isinstance(extra, Option)
    if _repeats(kind, extra):
        kind, default = list[_item(kind)], None  # type: ignore[misc]
    elif get_origin(kind) is tuple:
        kind = str
        default = ",".join(f"{part:g}" if isinstance(part, float) else str(part) for part in default)
    elif isinstance(kind, UnionType) or kind in (int, float, str, bool, Path):
        pass
    else:
        kind = str  # one of several words
    hidden = default in (None, "")
    if extra.argument:
        info = typer.Argument(help=extra.help, show_default=not hidden)
    else:
        name = [extra.name] if extra.name else []
        info = typer.Option(*name, help=extra.help, show_default=not hidden, min=extra.least, max=extra.most)
    optional = kind | None if default is None and not isinstance(kind, UnionType) else kind
    return [_parameter(field.name, Annotated[optional, info], default, keyword=not extra.argument)]


def _read(field: Field[Any], hint: Any, said: dict[str, Any]) -> Any:
    """Return the value of one field from what was said on the command line."""
    kind, extra = get_args(hint)[:2]
    if isinstance(extra, Flags):
        return ModelChoice(**{flag: said[flag] for flag in extra.names})
    value = said[field.name]
    if _repeats(kind, extra):
        return tuple(value or ())
    if get_origin(kind) is tuple:
        option = extra.name or f"--{field.name.replace('_', '-')}"
        return extra.read(option, value) if value or _default(field) else ()
    return value


def _repeats(kind: Any, extra: Option) -> bool:
    """Whether an option is given several times instead of being joined by commas."""
    return get_origin(kind) is tuple and extra.read is None


def _item(kind: Any) -> Any:
    return get_args(kind)[0]


def _default(field: Field[Any]) -> Any:
    if field.default_factory is not MISSING:
        return field.default_factory()
    return inspect.Parameter.empty if field.default is MISSING else field.default


def _parameter(name: str, annotation: Any, default: Any, *, keyword: bool = True) -> inspect.Parameter:
    kind = inspect.Parameter.KEYWORD_ONLY if keyword else inspect.Parameter.POSITIONAL_OR_KEYWORD
    return inspect.Parameter(name, kind, default=default, annotation=annotation)
