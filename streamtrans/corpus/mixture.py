"""Draw parallel sentences from several tables at chosen rates."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from streamtrans.core import BadConfig
from streamtrans.corpus.agreement import SLOT
from streamtrans.corpus.refill import Template, parse_template
from streamtrans.corpus.tables import Row, has_digits, normalise, read_table

_HAN_CHARACTER = re.compile("[\u3400-\u4dbf\u4e00-\u9fff]")


@dataclass(frozen=True, slots=True)
class MixtureConfig:
    """How often each kind of sentence is drawn; a weight of 0 leaves its tables unread."""

    requests: float = 0.55  # spoken requests that say the same in all six languages
    templates: float = 0.2  # requests with entities refilled: more names, fewer sentence patterns
    tatoeba: float = 0.25  # everyday sentences in pairs of languages: more words
    max_words: int = 14  # longer Tatoeba sentences are left out; larger means slower training steps
    max_han: int = 24  # the same for Chinese, in characters


class Mixture:
    """Parallel sentences drawn at random.

    A table is a list of rows; rows with slots are refilled anew each time they are drawn, rows of the kind
    ``localised`` and rows with digits are left out. Everything drawn is in normal form.
    """

    def __init__(self, tables: Sequence[Sequence[Row]], weights: Sequence[float] | None = None) -> None:
        """Prepare the tables.

        Args:
            tables: rows, as :func:`~streamtrans.corpus.read_table` returns them.
            weights: how often each table is drawn; by default as often as it has rows.

        Raises:
            BadConfig: the weights fit no table, or a weighted table has no usable row.
        """
        self._tables = [_usable(table) for table in tables]
        rates = [float(len(table)) for table in self._tables] if weights is None else list(weights)
        if len(rates) != len(tables) or not any(rates) or min(rates) < 0:
            raise BadConfig(f"{len(tables)} tables need as many weights of 0 or more, not all 0; got {weights}")
        for number, (table, rate) in enumerate(zip(self._tables, rates, strict=True)):
            if rate > 0 and not table:
                raise BadConfig(f"table {number} of the mixture has no usable row; give it the weight 0")
        self._shares = np.cumsum(rates)

    @classmethod
    def from_folder(cls, folder: Path | str, config: MixtureConfig | None = None) -> Mixture:
        """Mix the tables of ``folder`` as :func:`~streamtrans.corpus.prepare` writes them."""
        config = config or MixtureConfig()
        folder = Path(folder)
        tables: list[list[Row]] = []
        weights: list[float] = []
        if config.requests > 0:
            tables.append(read_table(folder / "massive_train.tsv", allow_kinds=("none",)))
            weights.append(config.requests)
        if config.templates > 0:
            tables.append(read_table(folder / "massive_templates.tsv"))
            weights.append(config.templates)
        if config.tatoeba > 0:
            pairs = [
                fitting(read_table(path), max_words=config.max_words, max_han=config.max_han)
                for path in sorted(folder.glob("tatoeba_*.tsv"))
            ]
            if not pairs:
                raise BadConfig(f"there is no tatoeba_*.tsv in {folder}; give tatoeba the weight 0 to do without")
            # Equal weights per pair, whatever the number of its sentences.
            tables += pairs
            weights += [config.tatoeba / len(pairs)] * len(pairs)
        return cls(tables, weights)

    @property
    def sizes(self) -> tuple[int, ...]:
        """The number of usable rows of each table."""
        return tuple(len(table) for table in self._tables)

    def sample(self, rng: np.random.Generator) -> Row:
        """Draw a sentence: language → text in normal form, two languages or more."""
        number = int(np.searchsorted(self._shares, rng.random() * self._shares[-1], side="right"))
        table = self._tables[number]
        while True:
            drawn = table[int(rng.integers(len(table)))]
            if isinstance(drawn, Template):
                return Row(drawn.id, drawn.fill(rng), "refill")
            texts = {language: normalise(text, language) for language, text in drawn.texts.items()}
            if all(texts.values()):
                return Row(drawn.id, texts, drawn.kind)


def fitting(rows: Sequence[Row], *, max_words: int, max_han: int) -> list[Row]:
    """Return the rows whose texts all have at most so many words, or Han characters."""
    return [row for row in rows if all(_fits(text, max_words, max_han) for text in row.texts.values())]


def _fits(text: str, max_words: int, max_han: int) -> bool:
    han = len(_HAN_CHARACTER.findall(text))
    return han <= max_han and len(text.split()) <= max_words


def _usable(rows: Sequence[Row]) -> list[Row | Template]:
    """Leave out what no model should learn from, and cut templates at their slots."""
    usable: list[Row | Template] = []
    for row in rows:
        if row.kind == "localised" or any(has_digits(text) for text in row.texts.values()):
            continue
        if not any(SLOT.search(text) for text in row.texts.values()):
            if all(_has_words(text) for text in row.texts.values()):
                usable.append(row)
        elif (template := parse_template(row)) is not None:
            usable.append(template)
    return usable


def _has_words(text: str) -> bool:
    """Say whether anything of ``text`` is left in normal form."""
    return any(character.isalnum() for character in text)
