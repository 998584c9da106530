"""Stock Whisper: many languages in, a transcript of them or English out; audio padded to 30 s."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from streamtrans.core import BadModel, Tokens, UnsupportedLanguage
from streamtrans.model.config import NetworkConfig, read_features, read_json
from streamtrans.model.loading import load_network, read_alignment_heads
from streamtrans.model.speech import Manner, TorchSpeechModel
from streamtrans.text import Tokenizer, canonical


@dataclass(frozen=True, slots=True)
class Prompts:
    """Whisper's prompt: start, spoken language, task, no timestamps. English-only models have a shorter one."""

    tokenizer: Tokenizer
    multilingual: bool

    @property
    def length(self) -> int:
        """Tokens of every prompt."""
        return 4 if self.multilingual else 2

    def __call__(self, target: str, source: str | None) -> Tokens:
        """Return the prompt for a text in ``target``; Whisper must be told the spoken language.

        Raises:
            UnsupportedLanguage: Whisper can't write ``target`` from ``source``, or ``source`` isn't known.
        """
        target = canonical(target)
        quiet = self._required("<|notimestamps|>")
        if not self.multilingual:
            if target != "en" or (source is not None and canonical(source) != "en"):
                raise UnsupportedLanguage("this Whisper is English-only: source and target must be en")
            return (self.tokenizer.sot, quiet)
        if source is None:
            raise UnsupportedLanguage("stock Whisper must be told the spoken language: name one source language")
        source = canonical(source)
        spoken = self.tokenizer.language_token(source)
        if target == source:
            return (self.tokenizer.sot, spoken, self._required("<|transcribe|>"), quiet)
        if target == "en":
            return (self.tokenizer.sot, spoken, self._required("<|translate|>"), quiet)
        raise UnsupportedLanguage(
            f"stock Whisper writes the spoken language or English, not {source} to {target}; "
            "a whisperM2M model translates between all of its languages"
        )

    def _required(self, name: str) -> int:
        token = self.tokenizer.special(name)
        if token is None:
            raise BadModel(f"the tokenizer lacks Whisper's {name}")
        return token


def load(folder: Path, *, device: torch.device, dtype: torch.dtype) -> TorchSpeechModel:
    """Load a stock Whisper folder."""
    raw = read_json(folder / "config.json")
    config = NetworkConfig.of(raw)
    tokenizer = Tokenizer.load(folder)
    specials = {token for token in range(config.vocab_size) if tokenizer.is_special(token)} - {tokenizer.eot}
    generation = folder / "generation_config.json"
    lists = read_json(generation) if generation.exists() else raw

    def listed(key: str) -> set[int]:
        return {token for token in lists.get(key) or () if 0 <= token < config.vocab_size}

    # Language codes and timestamps are commands; the listed ones are signs such as "♪" that Whisper overuses, and
    # at the beginning a space and end-of-text: its texts are never empty.
    suppressed = specials | listed("suppress_tokens")
    multilingual = (bool(tokenizer.languages) and config.vocab_size >= 51865) or len(tokenizer.languages) > 1
    prompts = Prompts(tokenizer, multilingual)
    return TorchSpeechModel(
        folder.name,
        load_network(folder, config),
        tokenizer,
        read_features(folder),
        Manner(
            languages=tokenizer.languages if multilingual else ("en",),
            prompt=prompts,
            padded=True,
            suppressed=frozenset(suppressed - {tokenizer.eot}),
            begin_suppressed=frozenset(listed("begin_suppress_tokens")),
            begin=prompts.length,
            alignment_heads=read_alignment_heads(folder, config),
        ),
        device=device,
        dtype=dtype,
    )
