"""Which sentences are spoken to a model that is scored, and by whom."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np

from streamtrans.core import BadConfig
from streamtrans.corpus import (
    Row,
    Speaker,
    Utterance,
    normalise,
    own_sentences,
    read_table,
    spoken,
    spoken_for_evaluation,
)
from streamtrans.corpus.augment import CLEAN

T = TypeVar("T")

DEV_TABLE = "massive_dev.tsv"
PREPARED = Path("data/text")
"""Where ``streamtrans corpus prepare`` puts its tables."""


def dev_rows(tables: Path | None, *, allow_kinds: Collection[str] | None = None) -> list[Row]:
    """Read the evaluation table: ``tables`` itself, or the one of its name in that folder.

    ``None`` takes that of ``data/text``, and where nobody has made it the sentences that come with the package.

    Raises:
        BadConfig: there is no such table, or it is malformed.
    """
    if tables is None and not (PREPARED / DEV_TABLE).exists():
        return own_sentences()
    tables = tables or PREPARED
    table = tables / DEV_TABLE if tables.is_dir() or not tables.suffix else tables
    return read_table(table, allow_kinds=allow_kinds)


def training_speaker() -> Callable[[Row, str], Utterance]:
    """Return who speaks with voices that training heard, without augmentation: unseen sentences, known voices."""
    speaker = Speaker()

    def speak(row: Row, language: str) -> Utterance:
        texts = {code: normalise(text, code) for code, text in row.texts.items()}
        rng = np.random.default_rng(zlib.crc32(f"{row.id} {language}".encode()))
        known = Row(row.id, texts, row.kind)
        return spoken(rng, known, speaker=speaker, augmentation=CLEAN, source_weights={language: 1.0})

    return speak


def evaluation_speaker() -> Callable[[Row, str], Utterance]:
    """Return who speaks with the voices that no training heard."""
    speaker = Speaker()
    return lambda row, language: spoken_for_evaluation(row, language, speaker)


def sample(rows: Sequence[T], count: int | None) -> list[T]:
    """Return ``count`` rows evenly spread over ``rows``, always the same; all where there are no more.

    Raises:
        BadConfig: there are no rows.
    """
    if not rows:
        raise BadConfig("the table has no rows: there is nothing to speak")
    if count is None or count >= len(rows):
        return list(rows)
    return [rows[index * len(rows) // count] for index in range(count)]
