"""The shared lexicon: what entities are called in six languages.

Shipped as ``lexicon.tsv``: slot, group, then one column per language. A cell may hold alternatives separated
by ``|``: all are recognised, the first one is written. Entries of one group may stand in for each other.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources

from streamtrans.core import BadConfig
from streamtrans.corpus.tables import normalise

LANGUAGES = ("en", "de", "es", "fr", "it", "zh")


@dataclass(frozen=True, slots=True)
class Entry:
    """One thing and its names: language → alternatives, the first of which is written."""

    slot: str
    group: str
    names: Mapping[str, tuple[str, ...]]


class Lexicon:
    """Entries by slot and group, and by any of their names."""

    def __init__(self, entries: Sequence[Entry]) -> None:
        self.groups: dict[tuple[str, str], list[Entry]] = {}
        self._named: dict[tuple[str, str, str], list[Entry]] = {}
        for entry in entries:
            self.groups.setdefault((entry.slot, entry.group), []).append(entry)
            for language, names in entry.names.items():
                for name in {normalise(name, language) for name in names}:
                    self._named.setdefault((entry.slot, language, name), []).append(entry)

    def find(self, slot: str, language: str, name: str) -> tuple[Entry, ...]:
        """Return the entries of ``slot`` that are called ``name``."""
        return tuple(self._named.get((slot, language, normalise(name, language)), ()))

    def group(self, slot: str, group: str) -> Sequence[Entry]:
        """Return the entries of a group, in the order of the file; empty if there is none."""
        return self.groups.get((slot, group), ())


def parse_lexicon(text: str, name: str = "lexicon") -> Lexicon:
    """Read a lexicon from tab-separated text with a header.

    Raises:
        BadConfig: a line has a column too many, too few or an empty name.
    """
    lines = text.strip("\n").split("\n")
    header = lines[0].split("\t")
    if header != ["slot", "group", *LANGUAGES]:
        raise BadConfig(f"{name}:1: the header must be slot, group, {', '.join(LANGUAGES)}, separated by tabs")
    entries = []
    for number, line in enumerate(lines[1:], start=2):
        cells = line.split("\t")
        if len(cells) != len(header) or not all(part.strip() for cell in cells for part in cell.split("|")):
            raise BadConfig(f"{name}:{number}: {len(header)} filled columns are needed, this line has {cells}")
        names = {code: tuple(cell.split("|")) for code, cell in zip(LANGUAGES, cells[2:], strict=True)}
        entries.append(Entry(cells[0], cells[1], names))
    return Lexicon(entries)


@lru_cache(maxsize=1)
def shipped_lexicon() -> Lexicon:
    """Return the lexicon that comes with the package."""
    file = resources.files("streamtrans.corpus").joinpath("lexicon.tsv")
    return parse_lexicon(file.read_text(encoding="utf-8"), "lexicon.tsv")
