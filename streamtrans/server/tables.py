"""Files in which an operator writes one TOML table for each name."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import TypeVar

from streamtrans.core import BadConfig
from streamtrans.foreign import BadValue, typed

T = TypeVar("T")


def read_tables(path: Path, kind: type[T], what: str) -> dict[str, T]:
    """Return name → the table of that name, as a ``kind``; messages call all of them ``what``.

    Raises:
        BadConfig: the file can't be read, or something in it is wrong.
    """
    try:
        given = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise BadConfig(f"the {what} {path} can't be read: {error.strerror}") from error
    except ValueError as error:  # UnicodeDecodeError is one too
        raise BadConfig(f"the {what} {path} are no TOML: {error}") from error
    tables: dict[str, T] = {}
    for name, table in given.items():
        try:
            tables[name] = typed(kind, table, name)
        except BadValue as error:
            raise BadConfig(f"{path}: {error}") from error
        except BadConfig as error:
            raise BadConfig(f"{path}: {name}.{error}") from error
    return tables
