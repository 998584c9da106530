"""A server's settings in one TOML file: the names of ``streamtrans serve``'s options, and of ``ServerConfig``'s fields.

Law: what the command line says wins; a name that doesn't exist is an error that says which one comes closest.
"""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args, get_type_hints

from streamtrans.core import BadConfig, StreamtransError
from streamtrans.foreign.values import BadValue, typed

if TYPE_CHECKING:
    import typer

_CALLERS = ("targets", "source", "vad", "mode", "words", "carry_state")
"""Fields of a session that come from who calls, and from the model."""


class SettingsFile:
    """What a file says; made by reading it.

    Raises:
        BadConfig: it can't be read, or is no TOML.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._rest: dict[str, Any] = {}
        try:
            self._given = tomllib.loads(Path(path).read_text(encoding="utf-8"))
        except OSError as error:
            raise BadConfig(f"the settings {path} can't be read: {error.strerror}") from error
        except ValueError as error:  # UnicodeDecodeError is one too
            raise BadConfig(f"the settings {path} are no TOML: {error}") from error

    def fill_in(self, context: typer.Context, hints: Mapping[str, Any]) -> None:
        """Let options that the command line doesn't give have the file's values; check all of the file.

        Args:
            context: of the command whose options they are.
            hints: the type of each of its parameters.

        Raises:
            BadConfig: a name is unknown, or a value is of another type.
        """
        from streamtrans.server import ServerConfig

        names = {each.opts[0].lstrip("-").replace("-", "_"): each.name for each in context.command.params}
        options = {said: _said(hints[name]) for said, name in names.items() if name != "config"}
        fields_of_it = get_type_hints(ServerConfig).items()
        further = {name: hint for name, hint in fields_of_it if name not in (*options, "tls", "captions")}
        self._check(self._given, (*options, *further))
        try:
            given = {
                names[said]: typed(hint, self._given[said], said)
                for said, hint in options.items()
                if said in self._given
            }
            self._rest = {
                name: self._field(name, further[name], self._given[name]) for name in further if name in self._given
            }
        except StreamtransError as error:
            raise BadConfig(f"{self._path}: {error}") from error
        context.default_map = {**(context.default_map or {}), **given}

    @property
    def server(self) -> dict[str, Any]:
        """Fields of ``ServerConfig`` that have no option."""
        return self._rest

    def _field(self, name: str, hint: Any, value: Any) -> Any:
        if name != "session":
            self._check_inside(hint, value, name)
            return typed(hint, value, name)
        if isinstance(value, Mapping) and (theirs := sorted(value.keys() & set(_CALLERS))):
            raise BadValue(f"session.{theirs[0]} is for callers to choose, or follows from the model; leave it out")
        self._check_inside(hint, value, name)
        return typed(hint, {**value, "targets": ["en"]} if isinstance(value, Mapping) else value, name)

    def _check_inside(self, hint: Any, value: Any, where: str) -> None:
        hint = next(filter(is_dataclass, get_args(hint)), hint)  # of one that may be left out
        if is_dataclass(hint) and isinstance(value, Mapping):
            hints = get_type_hints(hint)
            self._check(value, [field.name for field in fields(hint)], where + ".")
            for name in value:
                self._check_inside(hints[name], value[name], f"{where}.{name}")

    def _check(self, given: Iterable[str], known: Iterable[str], where: str = "") -> None:
        known = list(known)
        for name in given:
            if name not in known:
                close = difflib.get_close_matches(name.replace("-", "_"), known, n=1)
                hint = f"; did you mean {where}{close[0]}?" if close else f"; known are {', '.join(sorted(known))}"
                raise BadConfig(f"{self._path} has {where}{name}, which is no setting{hint}")


def _said(hint: Any) -> Any:
    """Return the type that an option has in TOML, which knows no paths."""
    if hint is Path:
        return str
    return str | None if Path in get_args(hint) else hint
