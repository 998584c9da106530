"""The tables of arXiv 2508.11189, and the same rows measured on models of our own.

Theirs: Whisper Medium's shape on one H800, CoVoST 2. Ours: whatever is handed in, on this machine. Ratios compare;
milliseconds and BLEU don't.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from streamtrans.bench.drafting import Way


@dataclass(frozen=True, slots=True)
class PaperRow:
    """A row of the paper: our way of decoding that corresponds, and what the authors report.

    ``speed`` is relative to the base model's greedy decoding, ``bleu`` the change against its BLEU there.
    """

    name: str
    way: Way
    speed: float | None = None
    bleu: float | None = None


DOUBLE, PRUNED, MEDUSA, EQUAL = "double", "pruned", "medusa", "equal"
"""The models beside the base: unpruned depth, eight layers, Medusa's heads, and a KVSPN trained as these were."""

_INF = math.inf

TABLE_1 = (
    PaperRow("unpruned depth (24 layers)", Way(model=DOUBLE), 8.7 / 16.5, 36.1 - 37.0),
    PaperRow("base (12 layers)", Way(), 1.0, 0.0),
    PaperRow("base + KVSPN, k = 1", Way("kvspn"), 8.7 / 6.4, 0.0),
)
"""Depth: speed and CoVoST 2 X-EN against Whisper Medium, fine-tuned."""

TABLE_2 = (
    PaperRow("greedy", Way(), 1.0, 0.0),
    PaperRow("greedy, k = 1", Way("kvspn"), 1.37, 37.55 - 37.51),
    PaperRow("greedy, k = 2", Way("kvspn", 2), 1.41, 37.03 - 37.51),
    PaperRow("greedy, k = 3", Way("kvspn", 3), 1.43, 36.68 - 37.51),
    PaperRow("greedy, no validation", Way("kvspn", _INF), 1.48, 36.28 - 37.51),
    PaperRow("beam 3", Way(beams=3), 0.84, 38.05 - 37.51),
    PaperRow("beam 3, k = 1", Way("kvspn", beams=3), 1.10, 37.89 - 37.51),
    PaperRow("beam 3, k = 2", Way("kvspn", 2, beams=3), 1.13, 37.74 - 37.51),
    PaperRow("beam 3, k = 3", Way("kvspn", 3, beams=3), 1.13, 37.76 - 37.51),
    PaperRow("beam 3, no validation", Way("kvspn", _INF, beams=3), 1.16, 37.71 - 37.51),
)
"""How strictly drafts are verified, greedy and with three beams."""

TABLE_3 = (
    PaperRow("base (12 layers)", Way(), 1.0, 0.0),
    PaperRow("pruned to 8 layers", Way(model=PRUNED), 1.45, 34.91 - 37.51),
    PaperRow("Medusa, no validation", Way("kvspn", _INF, model=MEDUSA), 1.49, 32.55 - 37.51),
    PaperRow("Medusa, k = 2", Way("kvspn", 2, model=MEDUSA), 1.19, 36.54 - 37.51),
    PaperRow("Medusa, k = 1", Way("kvspn", model=MEDUSA), 1.07, 37.50 - 37.51),
    PaperRow("KVSPN, no validation", Way("kvspn", _INF), 1.48, 36.28 - 37.51),
    PaperRow("KVSPN, k = 2", Way("kvspn", 2), 1.41, 37.03 - 37.51),
    PaperRow("KVSPN, k = 1", Way("kvspn"), 1.37, 37.55 - 37.51),
    PaperRow("KVSPN on Medusa's budget, k = 1", Way("kvspn", model=EQUAL)),
    PaperRow("KVSPN, k = 1, 2 tokens", Way("kvspn", count=2)),
    PaperRow("KVSPN, k = 1, 4 tokens", Way("kvspn", count=4)),
    PaperRow("KVSPN, k = 1, adaptive", Way("kvspn", count=None)),
    PaperRow("n-grams of the text itself", Way("ngram")),
)
"""Against other ways to be faster; the rows without figures of theirs are ours alone."""

TABLES: Mapping[str, Sequence[PaperRow]] = {"depth": TABLE_1, "validation": TABLE_2, "methods": TABLE_3}


def ways_for(models: Mapping[str, Any]) -> tuple[Way, ...]:
    """Return every way of decoding that the tables show and these models can do, greedy without drafts first."""
    first, *_ = models.values()
    found: dict[Way, None] = {}
    for row in (row for table in TABLES.values() for row in table):
        model = models.get(row.way.model) if row.way.model else first
        if model is not None and ("kvspn" not in row.way.drafter or model.has_speculator):
            found[row.way] = None
    return (Way(), *(way for way in found if way != Way()))


def fill_tables(figures: Mapping[str, Mapping[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """Lay measured figures (per way's name, of :func:`compare_drafters`) beside the paper's.

    BLEU is given as the difference to the first way's, on the same texts. Rows that weren't measured are left out.
    """
    base = figures[Way().name]
    return {
        title: [
            {
                "row": row.name,
                "bleu_change": round(mine["bleu"] - base["bleu"], 2),
                "paper_bleu_change": None if row.bleu is None else round(row.bleu, 2),
                "ms_per_token": mine["ms_per_token"],
                "speed": mine["speed"],
                "paper_speed": None if row.speed is None else round(row.speed, 2),
                "drafts_kept": mine["acceptance"].get("kvspn"),
                "passes_per_token": mine["passes_per_token"],
            }
            for row in rows
            if (mine := figures.get(row.way.name)) is not None
        ]
        for title, rows in TABLES.items()
    }
