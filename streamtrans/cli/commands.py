"""A function becomes a command: its parameters are options, and a parameter that is a dataclass is a group of them.

The names, the defaults and the help of a group stand at its fields (:mod:`streamtrans.core.options`), so every command
that takes the group has the same options.
"""

from __future__ import annotations

import inspect
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import is_dataclass, replace
from typing import Annotated, Any, get_args, get_origin, get_type_hints

import typer
from typer.core import TyperCommand, TyperGroup

from streamtrans.core import Asked, Group, asked, parts
from streamtrans.core.options import REQUIRED

COLUMNS = max(24, shutil.get_terminal_size().columns)
_NARROW = 60
"""Columns below which explanations stand under what they explain, and not beside it."""


class _Page(typer.Context.formatter_class):  # type: ignore[name-defined,misc,valid-type]
    """A page of help that fits the terminal."""

    def write_dl(self, rows: Sequence[tuple[str, str]], col_max: int = 30, col_spacing: int = 2) -> None:
        """Write terms and what they mean."""
        if self.width >= _NARROW:
            super().write_dl(rows, col_max, col_spacing)
            return
        for term, text in rows:
            self.write(f"{'':{self.current_indent}}{term}\n")
            self.indent()
            self.indent()
            self.write_text(text)
            self.dedent()
            self.dedent()


class _Context(typer.Context):
    formatter_class = _Page


class _Command(TyperCommand):
    """A command whose help shows each group of options under its heading."""

    context_class = _Context

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write arguments, then options group by group."""
        sections = dict[str, list[tuple[str, str]]]()
        for each in self.get_params(ctx):
            if (row := each.get_help_record(ctx)) is not None:
                argument = each.param_type_name == "argument"
                sections.setdefault("Arguments" if argument else each.rich_help_panel or "Options", []).append(row)  # type: ignore[attr-defined]
        for heading in sorted(sections, key="Arguments".__ne__):
            with formatter.section(heading):
                formatter.write_dl(sections[heading])


class Commands(TyperGroup):
    """A group whose further commands are made when they are asked for."""

    context_class = _Context

    def further(self) -> Mapping[str, Callable[[], Any]]:
        """Return by name what makes each of them."""
        return {}

    def list_commands(self, ctx: Any) -> list[str]:
        """Return the further commands in the order of their table, then those that are there."""
        return [*self.further(), *super().list_commands(ctx)]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Return one of them, ``None`` where there is no such."""
        make = self.further().get(cmd_name)
        return super().get_command(ctx, cmd_name) if make is None else make()

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write what each command does, in a whole sentence."""
        commands = [(name, self.get_command(ctx, name)) for name in self.list_commands(ctx)]
        with formatter.section("Commands"):
            formatter.write_dl([(name, each.get_short_help_str(300)) for name, each in commands])


def command(name: str, verb: Callable[..., None] | typer.Typer) -> Any:
    """Return the command that runs a function, or has the verbs of an ``app``."""
    app = verb
    if not isinstance(app, typer.Typer):
        app = typer.Typer(add_completion=False, rich_markup_mode=None)
        app.command(name, cls=_Command)(expanded(verb))
    made = typer.main.get_command(app)
    made.name = name
    made.context_class = _Context
    return made


def expanded(verb: Callable[..., None]) -> Callable[..., None]:
    """Return ``verb`` with the fields of its groups in their place, as typer reads a function."""
    hints = get_type_hints(verb, include_extras=True)
    takes = inspect.signature(verb).parameters.values()
    groups = {each.name: found for each in takes if (found := _group(hints[each.name], each.default)) is not None}

    def run(**said: Any) -> None:
        own = {name: value for name, value in said.items() if name in hints and name not in groups}
        verb(**own, **{name: _made(*found, said) for name, found in groups.items()})

    parameters = list[inspect.Parameter]()
    for each in takes:
        if each.name in groups:
            parameters += _parameters(*groups[each.name])
        else:
            parameters.append(_parameter(each.name, hints[each.name], each.default))
    run.__doc__ = verb.__doc__
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {each.name: each.annotation for each in parameters}
    return run


_Found = tuple[type, Group, Any]
"""A dataclass, which fields of it are asked for, and the one that has the defaults, where it isn't made of its own."""


def _group(hint: Any, default: Any) -> _Found | None:
    kind, group = get_args(hint)[:2] if get_origin(hint) is Annotated else (hint, Group())
    if not (isinstance(kind, type) and is_dataclass(kind)):
        return None
    return kind, group, None if default is inspect.Parameter.empty else default


def _fields(kind: type, group: Group, default: Any) -> Iterator[Asked]:
    for each in asked(kind, group):
        yield each if default is None else replace(each, default=getattr(default, each.field))


def _parameters(kind: type, group: Group, default: Any) -> Iterator[inspect.Parameter]:
    """Yield the parameters that ask for a dataclass."""
    for each in _fields(kind, group, default):
        yield _parameter(each.field, *_asking(each, group.heading or None))
    for part in parts(kind):
        yield from _parameters(part.kind, part.group, part.default)


def _asking(each: Asked, heading: str | None) -> tuple[Any, Any]:
    """Return how typer asks for one field, and its default."""
    kind, default, option = each.plain, each.default, each.option
    shown = default not in (None, "", ())
    if _many(each):
        kind = list[str] if option.repeats else list[get_args(each.kind)[0]]  # type: ignore[misc]
        default = default if default is REQUIRED else list(default or ()) or None
    elif get_origin(each.kind) is tuple:
        kind = str
        if default is not REQUIRED:
            default = ",".join(f"{part:g}" if isinstance(part, float) else str(part) for part in default)
    if option.argument:
        info = typer.Argument(help=option.help, metavar=option.metavar, show_default=shown)
    else:
        flag = [each.flag] if option.name or (kind is bool and default is False) else []
        info = typer.Option(
            *flag,
            help=option.help,
            metavar=option.metavar,
            parser=option.parse,
            min=option.least,
            max=option.most,
            show_default=shown and default is not False,
            rich_help_panel=heading,
        )
    optional = kind | None if default is None else kind
    return Annotated[optional, info], inspect.Parameter.empty if default is REQUIRED else default


def _made(kind: type, group: Group, default: Any, said: dict[str, Any]) -> Any:
    """Make a dataclass of what was said on the command line."""
    values = {each.field: _read(each, said[each.field]) for each in _fields(kind, group, default)}
    values |= {part.field: _made(part.kind, part.group, part.default, said) for part in parts(kind)}
    return kind(**values) if default is None else replace(default, **values)


def _read(each: Asked, value: Any) -> Any:
    """Return the value of one field from what was said."""
    option = each.option
    if _many(each):
        if value is None:
            return each.default
        return tuple(value) if option.read is None else option.read(each.flag, ",".join(value))
    if option.read is not None:
        return option.read(each.flag, value) if value or each.default else each.default
    return value


def _many(each: Asked) -> bool:
    """Whether an option is given several times instead of being joined by commas."""
    return each.option.repeats or (get_origin(each.kind) is tuple and each.option.read is None)


def _parameter(name: str, annotation: Any, default: Any) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)
