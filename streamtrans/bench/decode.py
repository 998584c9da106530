"""The paper's tables on models of our own: every way of decoding takes its turn on each text."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any, cast

from streamtrans.bench.drafting import Way, compare_drafters, compare_rereading
from streamtrans.bench.measurement import TABLES, Progress, Report, Table, languages, share_of_drafts, silent
from streamtrans.bench.paper import DOUBLE, EQUAL, MEDUSA, PRUNED, fill_tables, ways_for
from streamtrans.core import BadConfig, Group, Option
from streamtrans.corpus import spoken_for_evaluation
from streamtrans.evaluate.spoken import dev_rows, sample
from streamtrans.model.api import SpeechModel
from streamtrans.runtime import ModelChoice, identity, load_alone


@dataclass(frozen=True, slots=True, kw_only=True)
class WaysOfDecoding:
    """Fill the paper's tables: BLEU, milliseconds per token, speed, drafts kept, passes per token.

    One text at a time; every way of decoding takes its turn on each, so that speeds are paired. Then each
    sentence is read again every half second, with and without the previous reading as draft.
    """

    tables: Annotated[Path | None, TABLES] = None
    rows: Annotated[int, Option("Sentences, spread over the table.", least=1)] = 12
    source: Annotated[
        tuple[str, ...], Option("Languages that are spoken, joined by commas.", name="--from", read=languages)
    ] = ("en", "de", "zh")
    to: Annotated[tuple[str, ...], Option("Languages to write.", read=languages)] = ("en", "de", "fr")
    beside: Annotated[
        tuple[str, ...], Option("NAME=FOLDER of a model to measure too: double, pruned, medusa, equal. Repeatable.")
    ] = ()
    choice: Annotated[ModelChoice, Group("model", "device", "dtype", "threads")] = field(default_factory=ModelChoice)

    def measure(self, progress: Progress = silent) -> Report:
        """Decode everything in every way."""
        folders = {"": self.choice.model, **_beside(self.beside)}
        rows = sample(dev_rows(self.tables), self.rows)
        loaded = {name: load_alone(replace(self.choice, model=folder)) for name, folder in folders.items()}
        models = {name: cast("SpeechModel", model) for name, model in loaded.items()}
        spoken = [spoken_for_evaluation(row, code) for row in rows for code in self.source]
        plain = compare_drafters(
            models,
            loaded[""].tokenizer,
            spoken,
            self.to,
            ways_for(models),
            progress=partial(progress, "ways of decoding"),
        )
        again = tuple(Way(name, count=None) for name in ("none", "echo", "echo,kvspn")[: 2 + models[""].has_speculator])
        growing = compare_rereading(models[""], spoken, self.to, again, progress=partial(progress, "readings"))
        filled = fill_tables(plain)
        figures = {
            "models": {name or "base": identity(path) for name, path in folders.items()},
            "rows": self.rows,
            "sources": self.source,
            "targets": self.to,
            "tables": filled,
            "ways": plain,
            "rereading": growing,
        }
        tables = [
            Table(title, list(lines[0]), [list(line.values()) for line in lines]) for title, lines in filled.items()
        ]
        return Report(figures, [*tables, Table("re-read every 500 ms", ["", *growing], _sides(growing))])


def _beside(pairs: tuple[str, ...]) -> dict[str, str]:
    """Read ``NAME=FOLDER`` options."""
    found = dict[str, str]()
    for pair in pairs:
        name, equals, folder = pair.partition("=")
        if name not in (DOUBLE, PRUNED, MEDUSA, EQUAL) or name in found or not (equals and folder):
            raise BadConfig(
                f"--beside is {pair!r}; give NAME=FOLDER once each for double, pruned, medusa and equal, such as"
                " pruned=runs/pruned"
            )
        found[name] = folder
    return found


def _sides(table: Mapping[str, Mapping[str, Any]]) -> list[list[Any]]:
    """Turn figures per way into lines of one figure each."""
    names = [name for name in next(iter(table.values())) if name != "acceptance"]
    lines = [[name, *(way[name] for way in table.values())] for name in names]
    return [*lines, ["drafts kept", *(share_of_drafts(way["acceptance"]) for way in table.values())]]
