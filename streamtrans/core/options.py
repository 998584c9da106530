"""How the fields of a dataclass are asked for.

A dataclass whose fields are ``Annotated`` with an :class:`Option` each is a group of options. Their names, their
defaults and what they mean are declared there and nowhere else, so every program that asks for a group asks in the same
words.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import MISSING, Field, dataclass, fields
from pathlib import Path
from types import NoneType
from typing import Annotated, Any, get_args, get_origin, get_type_hints


@dataclass(frozen=True, slots=True)
class Option:
    """How a field is asked for. A field that is a tuple is written joined by commas where ``read`` is there to read it,
    else given several times.
    """

    help: str
    name: str = ""
    """Where it isn't the field's own, such as ``--from``."""
    metavar: str | None = None
    """What stands for the value in the help, such as its unit."""
    least: float | None = None
    most: float | None = None
    parse: Callable[[str], object] | None = None
    """Makes one value of a text, such as a name that may stand for somebody's class."""
    read: Callable[[str, str], object] | None = None
    """Makes the value of what was written; called with the option's name and the text."""
    repeats: bool = False
    """Whether several are read as if they were joined by commas."""
    argument: bool = False
    """Whether it is given without a name."""


@dataclass(frozen=True, slots=True)
class Group:
    """Which fields of a dataclass are asked for (without names: all), and under which heading."""

    names: tuple[str, ...]
    heading: str

    def __init__(self, *names: str, heading: str = "") -> None:
        object.__setattr__(self, "names", names)
        object.__setattr__(self, "heading", heading)


REQUIRED = MISSING
"""The default of a field that has none."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A field, the type of its value, how it is asked for, and what it is where nobody says."""

    field: str
    kind: Any
    option: Option
    default: Any

    @property
    def flag(self) -> str:
        """What is written before the value."""
        return self.option.name or f"--{self.field.replace('_', '-')}"

    @property
    def plain(self) -> Any:
        """The type of what is written: without ``None``, and one of several words is a text."""
        kinds = [each for each in get_args(self.kind) if each is not NoneType] if _optional(self.kind) else [self.kind]
        return kinds[0] if len(kinds) == 1 and kinds[0] in (int, float, str, bool, Path) else str


@dataclass(frozen=True, slots=True)
class Part:
    """A field that is a group of its own."""

    field: str
    kind: type
    group: Group
    default: Any


def asked(kind: type, group: Group | None = None) -> list[Asked]:
    """Return the fields of ``kind`` that are asked for; those that ``group`` names, in its order."""
    found = {
        field.name: Asked(field.name, inner, how, _default(field))
        for field, inner, how in _annotated(kind)
        if isinstance(how, Option)
    }
    return [found[name] for name in (group is not None and group.names) or found]


def parts(kind: type) -> list[Part]:
    """Return the fields of ``kind`` that are groups of their own."""
    return [
        Part(field.name, inner, how, _default(field))
        for field, inner, how in _annotated(kind)
        if isinstance(how, Group)
    ]


def _optional(kind: Any) -> bool:
    return NoneType in get_args(kind)


def _annotated(kind: type) -> Iterator[tuple[Field[Any], Any, object]]:
    hints = get_type_hints(kind, include_extras=True)
    for field in fields(kind):
        hint = hints.get(field.name)
        if get_origin(hint) is Annotated:
            inner, how = get_args(hint)[:2]
            yield field, inner, how


def _default(field: Field[Any]) -> Any:
    return field.default if field.default_factory is MISSING else field.default_factory()
