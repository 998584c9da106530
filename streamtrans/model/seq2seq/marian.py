"""Opus-MT: Marian's translators, of one language into another, or into those that ``>>de<<`` before the text names."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from streamtrans.core import BadModel, UnsupportedLanguage
from streamtrans.model.config import read_json, shown, tokens_of
from streamtrans.model.seq2seq.network import Shape, norm_last
from streamtrans.model.seq2seq.translator import Question, Translator, load_seq2seq, number
from streamtrans.model.writing import known
from streamtrans.text import LANGUAGES, Pieces, canonical
from streamtrans.text.languages import of_three_letters
from streamtrans.text.sentencepieces import Cutter, pieces

_ASKS = re.compile(r">>(\w+)<<")


@dataclass(frozen=True, slots=True)
class Pair:
    """What is read, and what is written of it: by the token that asks for it, ``None`` where there is one only."""

    name: str
    sources: tuple[str, ...]
    written: Mapping[str, int | None]
    start: int

    def targets(self, source: str) -> tuple[str, ...]:
        """Return what a text in ``source`` can become."""
        return tuple(code for code in self.written if code != source) if source in self.sources else ()

    def __call__(self, target: str, source: str) -> Question:
        """Return how to ask for a translation."""
        known(self.name, "reads", source, self.sources)
        asks = self.written[known(self.name, "writes", target, self.written)]
        return Question(() if asks is None else (asks,), (self.start,))


def load(folder: Path, *, device: torch.device, dtype: torch.dtype, packed: str | None = None) -> Translator:
    """Load a folder of Opus-MT."""
    raw, said = read_json(folder / "config.json"), read_json(folder / "tokenizer_config.json")
    shape = Shape.of(raw)
    if said.get("separate_vocabs") or not raw.get("share_encoder_decoder_embeddings", True):
        raise BadModel(f"{folder} has a vocabulary for each language, and only those that share one are read")
    file = folder / "vocab.json"
    numbers = tokens_of(read_json(file), shape.vocab_size, file)
    eos, unknown, pad = (number(numbers, name, file) for name in ("</s>", "<unk>", "<pad>"))
    asks = {name: token for name, token in numbers.items() if _ASKS.fullmatch(name)}
    special = frozenset({eos, unknown, pad, *asks.values()} | set(range(shape.vocab_size)) - set(numbers.values()))
    start = raw.get("decoder_start_token_id", pad)
    if type(start) is not int or not 0 <= start < shape.vocab_size:
        raise BadModel(f"{folder / 'config.json'}: decoder_start_token_id is {shown(start)}; it must be a token of it")
    pair = _pair(folder, said, asks, start)
    spelt = pieces(numbers, shape.vocab_size, special)
    vocabulary = Pieces(spelt, eos, Cutter(folder / "target.spm", numbers, unknown))
    network = load_seq2seq(folder, shape, norm_last, sinusoids(shape.positions, shape.d_model, dtype))
    cut = Cutter(folder / "source.spm", numbers, unknown)
    model = Translator(folder.name, network, vocabulary, pair, special=special, cut=cut, device=device, dtype=dtype)
    if packed is not None:
        model.pack(packed)
    return model


def sinusoids(length: int, width: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """Return Marian's positions ``(length, width)``: sines, then cosines."""
    rates = 10_000.0 ** (-torch.arange(0, width, 2, dtype=torch.float64) / width)
    angles = torch.arange(length)[:, None] * rates
    return torch.cat([angles.sin(), angles.cos()], 1).to(dtype)


def _pair(folder: Path, said: dict[str, Any], asks: Mapping[str, int], start: int) -> Pair:
    """Read the languages from ``tokenizer_config.json``; a group of languages, such as ``ROMANCE``, may be any.

    Of several tokens for one language, such as ``>>es<<`` and ``>>es_VE<<``, the one of its own name is it, or else the
    first.

    Raises:
        BadModel: it doesn't say what it writes.
    """
    source, target = (_code(said.get(name)) for name in ("source_lang", "target_lang"))
    written = dict[str, int | None]()
    for name, token in asks.items():
        tag = name[2:-2]
        code = _code(tag)
        if code is not None and (code == tag or code not in written):
            written[code] = token
    if not asks:
        if target is None:
            raise BadModel(
                f"{folder / 'tokenizer_config.json'}: target_lang is {shown(said.get('target_lang'))}, which names no"
                " language, and no token asks for one"
            )
        written = {target: None}
    return Pair(folder.name, tuple(LANGUAGES) if source is None else (source,), written, start)


def _code(tag: object) -> str | None:
    """Return the code of a language that we know."""
    try:
        return canonical(tag) if isinstance(tag, str) else None
    except UnsupportedLanguage:
        return of_three_letters(tag) if isinstance(tag, str) else None
