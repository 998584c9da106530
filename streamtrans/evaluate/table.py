"""From a sweep to the table that a server chooses from: what wins, in the order in which it is offered."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from streamtrans.core import BadConfig
from streamtrans.stream import POLICIES, SessionConfig, Settings
from streamtrans.stream import Setting as Row
from streamtrans.stream.settings import FILE

CALM = 0.2
"""Erasure that a default may have in mode ``live`` (few revisions, Arivazhagan et al. 2020)."""
LOSS = {"live": 1.0, "stable": 2.0, "final": 100.0}
"""BLEU that a default may lose against decoding the same segments offline, by mode."""


def row_of(figures: Mapping[str, Any]) -> Row | None:
    """Return one evaluated setting as a row of the table, or ``None`` where something wasn't measured, or
    a value is set that rows don't have.

    Args:
        figures: of one setting, as :func:`streamtrans.evaluate.report.averaged` returns them.
    """
    means = figures["average"]
    measured = (means.get("normalized_erasure"), means.get("stream_laal_ms"), means.get("bleu_lost"))
    if any(value is None for value in measured):
        return None
    values = figures["values"]
    if not set(values) <= {item.name for item in fields(Row)} or values.get("policy", "hold") not in POLICIES:
        return None  # it was set in a way that the table can't tell a server
    config = SessionConfig(("en",), **values)
    chosen = {item.name: getattr(config, item.name) for item in fields(Row) if item.name in SessionConfig.__slots__}
    erasure, latency_ms, bleu_loss = measured
    return Row(name=figures["setting"], erasure=erasure, latency_ms=latency_ms, bleu_loss=bleu_loss, **chosen)


def winners(rows: Sequence[Row]) -> list[Row]:
    """Return what is worth choosing from: rows that no other of their mode beats in all three, defaults first.

    A mode's default keeps :data:`CALM` and :data:`LOSS`, and is the soonest that does; where none does, it is the
    calmest, or loses least.
    """
    kept = [row for row in rows if not any(_beats(other, row) for other in rows if other is not row)]
    defaults = [_default([row for row in kept if row.mode == mode]) for mode in dict.fromkeys(row.mode for row in kept)]
    return [*defaults, *(row for row in kept if row not in defaults)]


def write_table(folder: Path, settings: Sequence[Mapping[str, Any]], about: Mapping[str, Any]) -> list[Row]:
    """Write ``streaming.json`` of a model folder from a sweep's settings, with what it was measured on.

    Raises:
        BadConfig: there is no such folder, or nothing was measured.
    """
    rows = winners([row for row in map(row_of, settings) if row is not None])
    if not rows:
        raise BadConfig("no setting has a quality, an erasure and a latency: give talks with references and --offline")
    if not (folder / "config.json").exists():
        raise BadConfig(f"{folder} is no model folder: it holds no config.json")
    level = Settings.load(folder).level_db  # of the model, and none of what was compared
    about_level = {} if level is None else {"level_db": level}
    text = json.dumps({"measured": dict(about), **about_level, "settings": [asdict(row) for row in rows]}, indent=2)
    (folder / FILE).write_text(text + "\n", encoding="utf-8")
    return rows


def _beats(other: Row, row: Row) -> bool:
    mine, theirs = (row.erasure, row.latency_ms, row.bleu_loss), (other.erasure, other.latency_ms, other.bleu_loss)
    return other.mode == row.mode and theirs != mine and all(a <= b for a, b in zip(theirs, mine, strict=True))


def _default(rows: Sequence[Row]) -> Row:
    good = [row for row in rows if row.erasure <= CALM and row.bleu_loss <= LOSS[row.mode]]
    if good:
        return min(good, key=lambda row: row.latency_ms)
    return min(rows, key=lambda row: (max(0.0, row.erasure - CALM), row.bleu_loss))
