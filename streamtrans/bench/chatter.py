r"""Whether the guard notices what models that are asked in words write besides translations, and takes none for it.

A table of such talk says what was said, and what was written of it (a line's end is written ``\n``); ``known`` is
"yes" where the rules were written with that line in sight, so the others alone say what else is noticed. Tables of
parallel texts say how many translations that somebody wrote are taken for talk, and ``streamtrans bench guard`` counts
them likewise.
"""

from __future__ import annotations

import csv
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from streamtrans.bench.guard import parallel, translated
from streamtrans.bench.measurement import Progress, Report, Table, silent
from streamtrans.core import BadConfig, Option
from streamtrans.engine.guard import Asked, doubt
from streamtrans.text import Source, canonical, remark

COLUMNS = ("kind", "language", "spoken", "said", "written", "known")
MISSED = 40
"""Lines that are missed and stored, at most."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Chatter:
    """Count which lines of a table of models' talk are noticed, and how many right translations are taken for talk.

    streamtrans bench chatter benchmarks/chatter.tsv --texts benchmarks/spoken_of.tsv
    """

    talk: Annotated[Path, Option(f"A table of talk: {', '.join(COLUMNS)}.", argument=True)]
    texts: Annotated[tuple[Path, ...], Option("A table of texts that are right, a language a column. Repeatable.")] = ()

    def measure(self, progress: Progress = silent) -> Report:
        """Judge them all."""
        lines = read_talk(self.talk)
        counted = defaultdict[tuple[str, str], _Count](_Count)
        missed = []
        for line in lines:
            noticed, certain = judged(line)
            for what in (line["kind"], line["language"], "all"):
                counted[what, line["known"]].add(noticed, certain)
            if not noticed:
                missed.append({name: line[name] for name in ("kind", "language", "known", "written")})
        kinds = [{"what": what, "known": known, **count.figures()} for (what, known), count in sorted(counted.items())]
        right = list[dict[str, Any]]()
        for done, path in enumerate(self.texts):
            progress("tables", done, len(self.texts))
            rows, columns = parallel(path)
            right += [{"table": path.stem, "language": each, **translated(rows, each, columns)} for each in columns]
        tables = [Table("talk that is noticed", list(kinds[0]), [[*line.values()] for line in kinds])]
        if right:
            tables.append(Table("translations that are right", list(right[0]), [[*line.values()] for line in right]))
            names = [name for name in right[0] if name not in ("table", "language")]
            tables.append(Table("all of them", names, [[sum(line[name] for line in right) for name in names]]))
        return Report({"talk": kinds, "missed": missed[:MISSED], "texts": right}, tables)


@dataclass(slots=True)
class _Count:
    lines: int = 0
    noticed: int = 0
    certain: int = 0

    def add(self, noticed: bool, certain: bool) -> None:
        self.lines += 1
        self.noticed += noticed
        self.certain += certain

    def figures(self) -> dict[str, Any]:
        share = round(100 * self.noticed / self.lines, 1)
        return {"lines": self.lines, "noticed": self.noticed, "percent": share, "certain": self.certain}


def read_talk(path: Path) -> list[dict[str, str]]:
    """Read a table of talk.

    Raises:
        BadConfig: it isn't there, or a column is missing, or there are no lines.
        UnsupportedLanguage: a language is unknown.
    """
    try:
        with path.open(encoding="utf-8", newline="") as file:
            lines = list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    except OSError as error:
        raise BadConfig(f"{path}: {error.strerror}; name a table of talk") from None
    if not lines or any(not line.get(name) for line in lines for name in COLUMNS):
        raise BadConfig(f"{path} has to have lines, and in each of them {', '.join(COLUMNS)}")
    for line in lines:
        canonical(line["language"]), canonical(line["spoken"])
    return [{**line, "written": line["written"].replace("\\n", "\n")} for line in lines]


def judged(line: dict[str, str]) -> tuple[bool, bool]:
    """Return whether talk of a model that was asked in words is noticed, or left out, and whether that is certain."""
    source, text = Source(line["said"], line["spoken"]), line["written"]
    asked = Asked(line["language"], (line["spoken"], "en"), taught=True, source=source, in_words=True)
    cut = remark(text, asked.language, source) < len(text)
    found = doubt(text, asked)
    return cut or found is not None, cut or (found is not None and found.certain)
