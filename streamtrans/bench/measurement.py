"""What a measurement is: options, figures, and how they are shown.

A measurement is a frozen dataclass. Its docstring is its help, its fields are its options, and its ``measure``
returns a :class:`Report`. Whoever runs it (the command line, a test) keeps the figures and shows the tables.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from streamtrans.core import BadConfig, Option
from streamtrans.text import canonical

Progress = Callable[[str, int, int | None], None]
"""Told what is being done, how much of it is done, and how much there is, where that is known."""


def silent(_task: str, _done: int, _total: int | None) -> None:
    """Tell nobody."""


@dataclass(frozen=True, slots=True)
class Table:
    """Figures to show."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[object]]

    def markdown(self) -> str:
        """Return it as Markdown."""
        lines = [self.columns, ("---",) * len(self.columns), *self.rows]
        return "\n".join([f"**{self.title}**", "", *(f"| {' | '.join(map(_text, line))} |" for line in lines), ""])


@dataclass(frozen=True, slots=True)
class Report:
    """What was measured: ``figures`` are kept as JSON, ``tables`` shown, and kept as Markdown where ``markdown``."""

    figures: Mapping[str, Any]
    tables: Sequence[Table] = ()
    notes: Sequence[str] = ()
    """Lines that are shown below the tables."""
    markdown: bool = False


class Measurement(Protocol):
    """A frozen dataclass whose fields are ``Annotated`` with an :class:`~streamtrans.core.Option`, or a
    :class:`~streamtrans.core.Group`, each.

    Raises:
        BadConfig: the options don't go together; said before anything is measured.
    """

    def measure(self, progress: Progress = silent) -> Report:
        """Measure, and lay out what was found."""
        ...


def use_threads(count: int | None) -> None:
    """Let torch compute on so many threads; ``None`` leaves it as it is."""
    import torch

    if count is not None:
        torch.set_num_threads(count)


def some_of(chosen: Sequence[str], known: Sequence[str], option: str) -> tuple[str, ...]:
    """Return ``chosen``, or all where none is.

    Raises:
        BadConfig: one of them isn't known.
    """
    if unknown := [name for name in chosen if name not in known]:
        raise BadConfig(f"{option} names {', '.join(unknown)}; use {', '.join(known)}")
    return tuple(chosen or known)


def counts(option: str, text: str) -> tuple[int, ...]:
    """Read whole numbers from 1 up, joined by commas.

    Raises:
        BadConfig: it is something else.
    """
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdigit() and int(part) > 0 for part in parts):
        raise BadConfig(f"{option} is {text!r}; give whole numbers from 1 up, such as 1,8")
    return tuple(int(part) for part in parts)


def decibels(option: str, text: str) -> tuple[float, ...]:
    """Read levels, joined by commas.

    Raises:
        BadConfig: one of them is no number.
    """
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise BadConfig(f"{option} is {text!r}; give numbers of dB, such as 20,10,5") from None


def names(option: str, text: str) -> tuple[str, ...]:
    """Read names joined by commas."""
    found = tuple(part.strip() for part in text.split(",") if part.strip())
    if not found:
        raise BadConfig(f"{option} names nothing; give one or more, joined by commas")
    return found


def languages(option: str, text: str) -> tuple[str, ...]:
    """Read language codes joined by commas.

    Raises:
        UnsupportedLanguage: a tag names no language.
    """
    return tuple(canonical(part) for part in names(option, text))


TABLES = Option(
    "Folder with massive_dev.tsv (streamtrans corpus prepare), or a table of that form. By default data/text, or the"
    " sentences of the package."
)
TO = Option("Languages to write, such as de,fr. The spoken one gives a transcript.", read=languages)
MODE = Option("Caption mode: live, stable or final.")
SHAPE = Option("nano, tiny, base, small or medium.")
DETECTORS = Option("Detectors, joined by commas.", read=names)
NOISE = Option("A recording without speech to use as noise too. Repeatable.", name="--noise")


def share_of_drafts(acceptance: Mapping[str, float]) -> str:
    """Say per drafter which share of its drafts was right."""
    return ", ".join(f"{name} {share:.1%}" for name, share in acceptance.items()) or "–"


def _text(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) and math.isfinite(value) else str(value)
