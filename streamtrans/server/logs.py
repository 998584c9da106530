"""What a server's log looks like: lines for people, or one JSON object a line for machines.

Law: nothing of what is said is written, at any level: whatever was raised is told by name and place, for its words may
quote what was given to it. See :func:`~streamtrans.core.loggable`.
"""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime
from types import TracebackType
from typing import Literal, TextIO, TypeAlias, get_args

from streamtrans.core import BadConfig, loggable

Form = Literal["text", "json"]
Level = Literal["debug", "info", "warning", "error"]

_Raised: TypeAlias = tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None]


class TextLines(logging.Formatter):
    """``2026-01-31 12:00:00,000 WARNING streamtrans.server.app: …``."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s: %(message)s")

    def formatException(self, ei: _Raised) -> str:
        """Return what may be told of an exception."""
        return loggable(ei[1])


class JsonLines(logging.Formatter):
    """An object with ``time`` (UTC), ``level``, ``logger``, ``message``, and ``error`` where something was raised."""

    def format(self, record: logging.LogRecord) -> str:
        """Return one line, whatever the message holds."""
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info and record.exc_info[1] is not None:
            line["error"] = loggable(record.exc_info[1])
        return json.dumps(line, ensure_ascii=False)


def write_logs(form: str = "text", level: str = "warning", stream: TextIO | None = None) -> None:
    """Let everything that is logged in this process go to ``stream``, by default standard error, in one form.

    Raises:
        BadConfig: there is no such form or level.
    """
    for name, value, known in (("log", form, get_args(Form)), ("log_level", level, get_args(Level))):
        if value not in known:
            raise BadConfig(f"{name} is {value!r}; use one of {', '.join(known)}")
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(JsonLines() if form == "json" else TextLines())
    logging.basicConfig(handlers=[handler], level=level.upper(), force=True)
