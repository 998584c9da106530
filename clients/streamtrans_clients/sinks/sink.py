"""What a sink is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from types import TracebackType
from typing import Self
from urllib.parse import parse_qsl

from streamtrans.client import Caption

PAUSES_S = (0.5, 1.0, 2.0, 4.0, 8.0)
"""Between attempts; after the last one it is given up. More outlasts longer breaks, and shows older captions."""


class SinkError(Exception):
    """Captions can't be shown; the message says what to do, and holds nothing that is secret."""


class Place:
    """Where a sink shows captions, as it was written: ``text``, and what follows a question mark in ``options``."""

    def __init__(self, kind: str, written: str) -> None:
        self.kind = kind
        self.written = written
        self.text, _, query = written.partition("?")
        self.options = dict(parse_qsl(query, keep_blank_values=True))

    def numbers(self, **defaults: float) -> dict[str, float]:
        """Return the options, each a number that isn't negative; those that aren't said have their default.

        Raises:
            SinkError: there is another option, or one is no such number.
        """
        found = dict(defaults)
        for name, value in self.options.items():
            if name not in defaults:
                raise SinkError(f"{self.kind} has no option {name!r}; there are {', '.join(defaults) or 'none'}")
            try:
                found[name] = float(value)
            except ValueError:
                found[name] = -1.0
            if not 0 <= found[name] < float("inf"):
                raise SinkError(f"{self.kind}: {name} is {value!r}; give a number such as {defaults[name]:g}")
        return found


class Sink(ABC):
    """Shows captions of one language; an asynchronous context manager.

    Args:
        place: where.
        language: of all captions that it will be shown.
    """

    def __init__(self, place: Place, language: str) -> None:
        self.place = place
        self.language = language

    async def __aenter__(self) -> Self:
        """Get ready to show.

        Raises:
            SinkError: there is nobody to show anything, or nothing may be shown.
        """
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Show what is left, and leave."""
        return

    @abstractmethod
    async def show(self, caption: Caption, speaker: str) -> None:
        """Take a caption; ``speaker`` is a name, or empty where nobody knows one. Times are those of ``heard``.

        Captions of a segment that a newer one has replaced may be left out.

        Raises:
            SinkError: it can't be shown, and trying again is of no use.
        """

    async def heard(self, milliseconds: int) -> None:  # noqa: ARG002
        """Learn how much has been listened to; called again and again, whether somebody speaks or not.

        Raises:
            SinkError: as :meth:`show`.
        """
        return
