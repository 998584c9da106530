"""Learn a run's two vocabularies: the model's own, and a small one of sounds for CTC."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from streamtrans.core import BadConfig
from streamtrans.corpus import normalise, read_table, romanise
from streamtrans.text import Tokenizer
from streamtrans.text.training import train_tokenizer
from streamtrans.train.recipe import Recipe

TATOEBA_SHARE = 3
"""One in so many Tatoeba rows counts: the vocabulary should fit spoken requests first."""


def prepare_vocabularies(recipe: Recipe, folder: Path) -> None:
    """Write ``tokenizer.json`` and ``phones/tokenizer.json`` into ``folder`` unless they are there."""
    if (folder / "tokenizer.json").exists() and (folder / "phones" / "tokenizer.json").exists():
        return
    texts = list(_texts(Path(recipe.data.tables)))
    words = train_tokenizer([text for _, text in texts], recipe.vocabulary, recipe.languages)
    words.save(str(folder / "tokenizer.json"))
    sounds = train_tokenizer([romanise(text, code) for code, text in texts], recipe.ctc_vocabulary, recipe.languages)
    (folder / "phones").mkdir(exist_ok=True)
    sounds.save(str(folder / "phones" / "tokenizer.json"))


def frequent_tokens(recipe: Recipe, tokenizer: Tokenizer, count: int) -> Tensor:
    """Return the ``count`` tokens that the training texts use most, end-of-text first among them, sorted."""
    uses = Counter[int]({tokenizer.eot: 1})
    for _, text in _texts(Path(recipe.data.tables)):
        uses.update(tokenizer.encode(text))
    uses[tokenizer.eot] = uses.total()
    chosen = [token for token, _ in uses.most_common(count)]
    if len(chosen) < count:
        raise BadConfig(f"the training texts use {len(chosen)} tokens; draft_vocabulary can't be {count}")
    return torch.tensor(sorted(chosen))


def _texts(tables: Path) -> Iterator[tuple[str, str]]:
    for row in read_table(tables / "massive_train.tsv", on_error="skip"):
        yield from ((code, normalise(text, code)) for code, text in row.texts.items())
    for table in sorted(tables.glob("tatoeba_*.tsv")):
        for row in read_table(table, on_error="skip")[::TATOEBA_SHARE]:
            yield from ((code, normalise(text, code)) for code, text in row.texts.items())
