"""Parallel sentences in an order without repeats: every row of a table is seen before any is seen again.

Law: what stands at a position of the order follows from the tables, their shares and the seed alone.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from streamtrans.core import BadConfig
from streamtrans.corpus.casing import Casing
from streamtrans.corpus.tables import Row, read_table

CASED = 80_000
"""Rows, in about, in which the spelling of words is counted: more know rarer words and take longer."""


class Parallel:
    """Rows of several tables, shuffled together.

    An epoch holds ``share`` of each table's rows: of 0.5 every row comes up in two epochs, of 2 twice in one.
    """

    def __init__(self, tables: Sequence[Sequence[Row]], shares: Sequence[float], seed: int) -> None:
        """Count an epoch.

        Raises:
            BadConfig: an epoch would be empty.
        """
        self.tables, self.seed = tables, seed
        self._counts = [round(share * len(table)) for table, share in zip(tables, shares, strict=True)]
        if not sum(self._counts):
            raise BadConfig("the tables have no row that is to be drawn: give one of them rows and a share")
        self._epochs: dict[int, npt.NDArray[np.int64]] = {}

    def __len__(self) -> int:
        """Rows of an epoch."""
        return sum(self._counts)

    def row(self, position: int) -> Row:
        """Return the row at a position of the endless order."""
        epoch, at = divmod(position, len(self))
        if epoch not in self._epochs:
            self._epochs = {epoch: self._shuffled(epoch)}
        table, number = self._epochs[epoch][at]
        return self.tables[int(table)][int(number)]

    def _shuffled(self, epoch: int) -> npt.NDArray[np.int64]:
        """Return an epoch ``(rows, 2)``: table and number of each row."""
        parts = []
        for table, count in enumerate(self._counts):
            if not count:
                continue
            size = len(self.tables[table])
            first, last = epoch * count, (epoch + 1) * count - 1
            rounds = range(first // size, last // size + 1)
            order = np.concatenate(
                [np.random.default_rng([self.seed, table, turn]).permutation(size) for turn in rounds]
            )
            drawn = order[first - rounds[0] * size :][:count]
            parts.append(np.stack([np.full(count, table), drawn], 1))
        return np.random.default_rng([self.seed, len(self.tables), epoch]).permutation(np.concatenate(parts))


def read_parallel(
    folder: Path, shares: Mapping[str, float], seed: int, *, most_words: int, uncased: Collection[str] = ()
) -> Parallel:
    """Read the tables that ``shares`` names (``tatoeba2_*`` names many), and put their rows in order.

    Texts of the ``uncased`` tables, which have neither capitals nor marks, get those that the other tables have. Rows
    that are no translations of each other stay out, and so do texts of more than ``most_words`` words (or twice as many
    Han characters), of less than two letters, or with slots to be filled.

    Raises:
        BadConfig: a name fits no table, or a table can't be read.
    """
    tables: list[list[Row]] = []
    weights: list[float] = []
    plain: list[int] = []
    for name, share in shares.items():
        files = sorted(folder.glob(f"{name}.tsv"))
        if not files:
            raise BadConfig(f"there is no table {name}.tsv in {folder}")
        for file in files:
            rows = read_table(file, allow_kinds=("none", "refill"), on_error="skip", least=2)
            tables.append([kept for row in rows if (kept := _fitting(row, most_words)) is not None])
            weights.append(share)
            plain += [len(weights) - 1] if name in uncased else []
    if plain:
        cased = [row for at, table in enumerate(tables) if at not in plain for row in table]
        casing = Casing(cased[:: max(1, len(cased) // CASED)])
        for at in plain:
            tables[at] = [_restored(row, casing) for row in tables[at]]
    return Parallel(tables, weights, seed)


_LETTERS = re.compile(r"[^\W\d_].*[^\W\d_]", re.DOTALL)
_HAN = re.compile("[\u3400-\u4dbf\u4e00-\u9fff]")


def _fitting(row: Row, most_words: int) -> Row | None:
    texts = {code: text for code, text in row.texts.items() if _fits(text, most_words)}
    return Row(row.id, texts, row.kind) if len(texts) > 1 else None


def _restored(row: Row, casing: Casing) -> Row:
    return Row(row.id, {code: casing.restore(text, code) for code, text in row.texts.items()}, row.kind)


def _fits(text: str, most_words: int) -> bool:
    if "[" in text or text.count(" ") >= most_words or not _LETTERS.search(text):
        return False
    return text.isascii() or len(text) <= 2 * most_words or len(_HAN.findall(text)) <= 2 * most_words
