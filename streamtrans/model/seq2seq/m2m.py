"""M2M-100, NLLB-200 and SMaLL-100: one network, three ways to name languages.

| | language codes | before the text | the translation begins with |
|---|---|---|---|
| M2M-100 | ``__de__`` | the source | end-of-text, the target |
| NLLB-200 | ``deu_Latn`` | the source | end-of-text, the target |
| SMaLL-100 | ``__de__`` | the target | end-of-text |

Sources: Fan et al. 2020, NLLB Team 2022, Mohammadshahi et al. 2022.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from streamtrans.core import BadModel
from streamtrans.model.config import read_json, shown, tokens_of
from streamtrans.model.seq2seq.network import Shape, norm_first
from streamtrans.model.seq2seq.translator import Question, Translator, load_seq2seq, number
from streamtrans.model.writing import known
from streamtrans.text import LANGUAGES, Pieces
from streamtrans.text.languages import script, three_letters
from streamtrans.text.sentencepieces import Backend, Cutter, pieces

_BEFORE = 2
"""fairseq counts positions from the number of the padding token on."""

_CODES = {
    "m2m100": """af am ar ast az ba be bg bn br bs ca ceb cs cy da de el en es et fa ff fi fr fy ga gd gl gu ha he hi
        hr ht hu hy id ig ilo is it ja jv ka kk km kn ko lb lg ln lo lt lv mg mk ml mn mr ms my ne nl no ns oc or pa pl
        ps pt ro ru sd si sk sl so sq sr ss su sv sw ta th tl tn tr uk ur uz vi wo xh yi yo zh zu""",
    "wmt21": "en ha is ja cs ru zh de",
}
"""Languages in the order of their tokens, which stand behind those of ``vocab.json``."""

_SCRIPTS = {"sr": "cyrl", "uz": "latn", "yue": "hant", "ko": "hang"}
"""Where a language is written in several, or FLORES names the script otherwise."""


@dataclass(frozen=True, slots=True)
class Codes:
    """The languages of a translator, by the tokens that name them."""

    name: str
    tokens: Mapping[str, int]
    start: int
    """What every translation begins with."""
    at_source: bool = False
    """Whether the target stands before the text, in the place of the source."""

    def targets(self, source: str) -> tuple[str, ...]:
        """Return all others, for any becomes any."""
        return tuple(code for code in self.tokens if code != source) if source in self.tokens else ()

    def __call__(self, target: str, source: str) -> Question:
        """Return how to ask for a translation."""
        wanted, given = self._token(target, "writes"), self._token(source, "reads")
        return Question((wanted,), (self.start,)) if self.at_source else Question((given,), (self.start, wanted))

    def _token(self, language: str, does: str) -> int:
        return self.tokens[known(self.name, does, language, self.tokens)]


@dataclass(frozen=True, slots=True)
class _Words:
    """A tokenizer: what its pieces spell, which of them are commands, who cuts texts, and languages by token."""

    pieces: list[bytes]
    special: frozenset[int]
    cut: Callable[[str], Any]
    languages: dict[str, int]


def load(folder: Path, *, device: torch.device, dtype: torch.dtype, packed: str | None = None) -> Translator:
    """Load a folder of M2M-100, NLLB or SMaLL-100."""
    raw = read_json(folder / "config.json")
    shape = Shape.of(raw)
    said = read_json(folder / "tokenizer_config.json") if (folder / "tokenizer_config.json").exists() else {}
    if not any((folder / name).exists() for name in ("tokenizer.json", "vocab.json")):
        raise BadModel(f"{folder} has neither tokenizer.json, as NLLB-200 has, nor vocab.json, as M2M-100 has")
    words = _flores(folder, shape) if (folder / "tokenizer.json").exists() else _numbered(folder, shape, said)
    eos, start = raw.get("eos_token_id", 2), raw.get("decoder_start_token_id", 2)
    if not all(type(token) is int and 0 <= token < shape.vocab_size for token in (eos, start)):
        raise BadModel(f"{folder / 'config.json'}: eos_token_id and decoder_start_token_id must be tokens of it")
    small = said.get("tokenizer_class") == "SMALL100Tokenizer" or shape.decoder_layers < shape.encoder_layers
    codes = Codes(folder.name, words.languages, start, at_source=small and "deu_Latn" not in words.languages)
    network = load_seq2seq(folder, shape, norm_first, sinusoids(shape.positions, shape.d_model, dtype))
    vocabulary = Pieces(words.pieces, eos, words.cut)
    model = Translator(
        folder.name, network, vocabulary, codes, special=words.special, cut=words.cut, device=device, dtype=dtype
    )
    if packed is not None:
        model.pack(packed)
    return model


def sinusoids(length: int, width: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """Return fairseq's positions ``(length, width)``: sines, then cosines."""
    rates = torch.exp(torch.arange(width // 2) * (-math.log(10_000) / (width // 2 - 1)))
    angles = torch.arange(_BEFORE, _BEFORE + length)[:, None] * rates
    return torch.cat([angles.sin(), angles.cos()], 1).to(dtype)


def _numbered(folder: Path, shape: Shape, said: dict[str, Any]) -> _Words:
    """Read ``vocab.json`` and the SentencePiece model beside it: tokens of languages stand behind those of pieces."""
    file = folder / "vocab.json"
    numbers = tokens_of(read_json(file), shape.vocab_size, file)
    kind = said.get("language_codes", "m2m100")
    if kind not in _CODES:
        raise BadModel(
            f"{folder / 'tokenizer_config.json'}: language_codes is {shown(kind)}; known: {', '.join(_CODES)}"
        )
    codes = _CODES[kind].split()
    if len(numbers) + len(codes) > shape.vocab_size:
        raise BadModel(f"{file} has {len(numbers)} pieces, and {len(codes)} languages don't fit behind them")
    languages = {code: len(numbers) + at for at, code in enumerate(codes) if code in LANGUAGES}
    commands = {number(numbers, name, file) for name in ("<s>", "<pad>", "</s>", "<unk>")}
    special = frozenset(commands | set(range(len(numbers), shape.vocab_size)))
    cut = Cutter(folder / "sentencepiece.bpe.model", numbers, numbers["<unk>"])
    return _Words(pieces(numbers, shape.vocab_size, commands), special, cut, languages)


def _flores(folder: Path, shape: Shape) -> _Words:
    """Read ``tokenizer.json``, where languages are named as in FLORES-200."""
    file = folder / "tokenizer.json"
    backend = Backend(file)
    numbers = tokens_of(backend.numbers, shape.vocab_size, file)
    named = {code: f"{three_letters(code)}_{(_SCRIPTS.get(code) or script(code)).title()}" for code in LANGUAGES}
    languages = {code: numbers[name] for code, name in named.items() if name in numbers}
    if not languages:
        raise BadModel(f"{file} names no language as in FLORES-200, such as deu_Latn")
    special = backend.special | set(languages.values()) | {number(numbers, "<unk>", file)}
    unnumbered = set(range(shape.vocab_size)) - set(numbers.values())
    return _Words(pieces(numbers, shape.vocab_size, special), frozenset(special | unnumbered), backend, languages)
