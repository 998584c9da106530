"""Names that stand for code: which of them are imported, and who may say them.

Law: a name imports what a table of ours holds under it, or nothing; only a :class:`Chosen` one may be a path.
"""

from __future__ import annotations

import difflib
import importlib
import re
from collections.abc import Iterator, Mapping
from typing import Any, Generic, TypeVar, cast

from streamtrans.core import BadConfig

Made = TypeVar("Made")

_PATH = re.compile(r"(\w+(?:\.\w+)*):(\w+)")


class Chosen(str):
    """A name that whoever runs the program has chosen: on the command line, in a file of settings, or in a program.

    It may be ``package.module:Class`` of an installed package. A plain ``str`` of the same letters may not: texts out
    of data are plain, and so is whatever is cut out of a chosen one.
    """

    __slots__ = ()


class Table(Mapping[str, str], Generic[Made]):
    """Names of ``what``, each with the ``package.module:attribute`` that it stands for."""

    def __init__(self, what: str, entries: Mapping[str, str]) -> None:
        self.what = what
        self._entries = dict(entries)

    def __getitem__(self, name: str) -> str:
        return self._entries[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def load(self, name: object) -> Made:
        """Import what ``name`` stands for: a key of this table, or a path that somebody has :class:`Chosen`.

        Raises:
            BadConfig: it is neither, or what it names isn't there.
        """
        path = self._entries.get(name) if isinstance(name, str) else None
        if path is None and isinstance(name, Chosen):
            path = str(name)
        match = _PATH.fullmatch(path or "")
        if match is None:
            raise BadConfig(self._unknown(name))
        try:
            made: Any = getattr(importlib.import_module(match[1]), match[2])
        except (ImportError, AttributeError) as error:
            raise BadConfig(f"the {self.what} {name!r} can't be imported: {error}") from error
        if not callable(made):
            raise BadConfig(f"the {self.what} {name!r} is a {type(made).__name__}, and nothing that makes one")
        return cast(Made, made)

    def _unknown(self, name: object) -> str:
        known = f"known are {', '.join(self._entries)}"
        if isinstance(name, str) and _PATH.fullmatch(name):
            return (
                f"the {self.what} {name!r} isn't one of ours, and only who runs the program may choose another: "
                f"on the command line, or as Chosen({name!r}) in Python; {known}"
            )
        close = difflib.get_close_matches(name, self._entries, n=1) if isinstance(name, str) else []
        hint = f"did you mean {close[0]!r}? " if close else ""
        path = ", or package.module:Class of an installed package" if isinstance(name, Chosen) else ""
        return f"unknown {self.what} {name!r}: {hint}{known}{path}"
