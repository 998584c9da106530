"""Named settings of a session, as a file or a command line gives them: field names of ``SessionConfig`` → values."""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, TypeVar

from streamtrans.core import BadConfig
from streamtrans.foreign import Chosen
from streamtrans.segment import EndpointRules
from streamtrans.stream import SessionConfig

C = TypeVar("C", SessionConfig, EndpointRules)

_FIXED = ("targets", "source")
"""What a manifest decides, and no setting."""


@dataclass(frozen=True, slots=True)
class Setting:
    """What is evaluated under ``name``; ``values`` may hold a table ``endpoints`` with fields of ``EndpointRules``."""

    name: str
    values: Mapping[str, Any]

    def session(
        self,
        targets: tuple[str, ...],
        source: str | None,
        endpoints: EndpointRules | None = None,
        level_db: float | None = None,
    ) -> SessionConfig:
        """Return a session's settings; ``endpoints`` and ``level_db`` hold where the setting names none.

        Raises:
            BadConfig: a name is no field, or a value is out of range.
        """
        # who writes settings chooses, so a policy or a detector may be one of an installed package
        values: dict[str, Any] = {
            name: Chosen(value) if isinstance(value, str) else value for name, value in self.values.items()
        }
        rules = endpoints or EndpointRules()
        try:
            if "endpoints" in values:
                rules = _changed(rules, values.pop("endpoints"))
            return _changed(SessionConfig(targets, source, endpoints=rules, level_db=level_db), values)
        except BadConfig as error:
            raise BadConfig(f"setting {self.name!r}: {error}") from None


def read_settings(path: Path) -> tuple[Setting, ...]:
    """Read a TOML file with one table per setting; the tables' names name the settings.

    Raises:
        BadConfig: it is missing, no TOML, holds something besides tables, or a value doesn't fit.
    """
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise BadConfig(f"{path}: the settings can't be read ({error})") from None
    except tomllib.TOMLDecodeError as error:
        raise BadConfig(f"{path} is no TOML: {error}") from None
    loose = [name for name, value in raw.items() if not isinstance(value, dict)]
    if loose or not raw:
        raise BadConfig(
            f'{path}: write one table per setting, such as [calm] with mode = "live" below it; '
            + (f"{', '.join(loose)} stands outside of any" if loose else "there is none")
        )
    found = tuple(Setting(name, values) for name, values in raw.items())
    for setting in found:
        setting.session(("en",), None)  # a wrong value shall not turn up hours later
    return found


def parse_values(texts: Sequence[str]) -> dict[str, Any]:
    """Read ``name=value`` pairs, values as in TOML; a word that is none is a string.

    Raises:
        BadConfig: a pair has no ``=`` or no name.
    """
    values: dict[str, Any] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not (name.strip() and equals and value.strip()):
            raise BadConfig(f"{text!r} is no setting; write name=value, such as policy_n=3")
        try:
            values[name.strip()] = tomllib.loads(f"value = {value}")["value"]
        except tomllib.TOMLDecodeError:
            values[name.strip()] = value.strip()
    return values


def _changed(config: C, values: Mapping[str, Any]) -> C:
    """Return a config dataclass with some fields changed, all by their names and types."""
    known = [field.name for field in fields(config) if field.name not in _FIXED]
    for name in values:
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
            hint = f"did you mean {close[0]!r}? " if close else ""
            raise BadConfig(f"there is no {name!r}: {hint}Known are {', '.join(known)}")
    try:
        return replace(config, **values)
    except TypeError as error:
        raise BadConfig(f"a value has the wrong type ({error})") from None
