"""whisperM2M: any of its languages in, any of them out; the language token names the target.

The spoken language is not told. Audio is read at its own length. Source: arXiv 2508.11189, section 2.1.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import torch

from streamtrans.core import BadModel, Tokens, UnsupportedLanguage
from streamtrans.model.config import NetworkConfig, read_features, read_json, shown
from streamtrans.model.loading import check_vocabulary, load_network, read_alignment_heads
from streamtrans.model.speech import Manner, TorchSpeechModel
from streamtrans.text import Tokenizer, canonical, written

TARGET = "<|{target}|>"
"""Stands in a prompt's pattern for the token of the language to write."""


@dataclass(frozen=True, slots=True)
class Prompts:
    """Start of transcript, then what ``pattern`` says: the language to write and, in some models, Whisper's orders."""

    tokenizer: Tokenizer
    languages: tuple[str, ...]
    pattern: tuple[str, ...] = (TARGET,)

    def __call__(self, target: str, source: str | None) -> Tokens:
        """Return the prompt for ``target``; ``source`` is only checked.

        Raises:
            UnsupportedLanguage: the model knows one of the two not.
        """
        for code in (written(target), canonical(source or target)):
            if code not in self.languages:
                raise UnsupportedLanguage(f"this model has no language {code!r}; it has {', '.join(self.languages)}")
        orders = (self.tokenizer.special(name) for name in self.pattern)
        language = self.tokenizer.language_token(target)
        return (self.tokenizer.sot, *(language if token is None else token for token in orders))


def manner(tokenizer: Tokenizer, languages: tuple[str, ...], pattern: tuple[str, ...] = (TARGET,)) -> Manner:
    """Return how a whisperM2M is asked and what it never writes: special tokens, but for end-of-text."""
    specials = {token for token in range(tokenizer.size) if tokenizer.is_special(token)}
    return Manner(
        languages=languages,
        prompt=Prompts(tokenizer, languages, pattern),
        padded=False,
        suppressed=frozenset(specials - {tokenizer.eot}),
    )


def load(folder: Path, *, device: torch.device, dtype: torch.dtype, packed: str | None = None) -> TorchSpeechModel:
    """Load a whisperM2M folder; the text encoder, which only training needs, is left aside.

    It is laid out for speed where ``packed`` says how; else it can learn.
    """
    raw = read_json(folder / "config.json")
    config = replace(NetworkConfig.of(raw), text_encoder_layers=0)
    features = read_features(folder, config.num_mel_bins)
    tokenizer = Tokenizer.load(folder)
    check_vocabulary(folder, tokenizer, config)
    languages = _languages(folder, raw.get("languages"), tokenizer)
    pattern = _pattern(folder, raw.get("prompt", [TARGET]), tokenizer)
    model = TorchSpeechModel(
        folder.name,
        load_network(folder, config),
        tokenizer,
        features,
        replace(manner(tokenizer, languages, pattern), alignment_heads=read_alignment_heads(folder, config)),
        device=device,
        dtype=dtype,
    )
    if packed is not None:
        model.pack(packed)
    return model


def _pattern(folder: Path, listed: object, tokenizer: Tokenizer) -> tuple[str, ...]:
    """Return how a ``config.json`` says that the model is asked: the language once, and orders that there are."""
    names = [str(name) for name in listed] if isinstance(listed, list) else []
    if names.count(TARGET) != 1 or any(tokenizer.special(name) is None for name in names if name != TARGET):
        raise BadModel(
            f"{folder / 'config.json'}: prompt is {shown(listed)}; give a list with {TARGET} once and special tokens of"
            " the vocabulary, such as <|transcribe|>"
        )
    return tuple(names)


def _languages(folder: Path, listed: object, tokenizer: Tokenizer) -> tuple[str, ...]:
    """Return the languages that a ``config.json`` lists, or all of the vocabulary where it lists none."""
    if listed is None:
        return tokenizer.languages
    known = set(tokenizer.languages)
    codes = listed if isinstance(listed, list) else []
    twice = len({*map(str, codes)}) < len(codes)
    if not codes or twice or not all(isinstance(code, str) and code in known for code in codes):
        raise BadModel(
            f"{folder}: languages of config.json is {shown(listed)}; give a list, each once, of those that have"
            f" a token: {', '.join(tokenizer.languages)}"
        )
    return tuple(codes)
