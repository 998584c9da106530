"""Stock Whisper and its kin: many languages in, a transcript of them or English out; audio padded to 30 s.

What a checkpoint was trained for isn't written in any one place. English-only ones say so in their generation config
or by the size of their vocabulary. Distilled ones (turbo, Distil-Whisper, Kotoba) have fewer decoder layers than
encoder layers, and were taught transcripts alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from streamtrans.core import BadModel, Tokens, UnsupportedLanguage
from streamtrans.model.config import NetworkConfig, read_features, read_json, shown
from streamtrans.model.loading import check_vocabulary, load_network, read_alignment_heads
from streamtrans.model.speech import Manner, TorchSpeechModel
from streamtrans.text import Tokenizer, canonical, written

ENGLISH_VOCABULARY = 51_864
"""Tokens of the English-only checkpoints; multilingual ones have one more, or two."""

PRUNED_FROM = "pruned_from"
"""In the ``config.json`` of a pruned checkpoint: how many layers there were before any was removed."""


@dataclass(frozen=True, slots=True)
class Prompts:
    """Whisper's prompt: start, spoken language, task, no timestamps. English-only models have a shorter one.

    ``translates`` says whether speech can become English; without it there are transcripts only.
    """

    tokenizer: Tokenizer
    multilingual: bool
    translates: bool = True

    @property
    def length(self) -> int:
        """Tokens of every prompt."""
        return 4 if self.multilingual else 2

    @property
    def languages(self) -> tuple[str, ...]:
        """What may be spoken."""
        return self.tokenizer.languages if self.multilingual else ("en",)

    @property
    def translations(self) -> tuple[tuple[str, tuple[str, ...]], ...]:
        """Spoken language and what it can become."""
        english = ("en",) if self.translates and "en" in self.languages else ()
        return tuple((code, tuple(dict.fromkeys((code, *english)))) for code in self.languages)

    def __call__(self, target: str, source: str | None) -> Tokens:
        """Return the prompt for a text in ``target``; Whisper must be told the spoken language.

        Raises:
            UnsupportedLanguage: Whisper can't write ``target`` from ``source``, or ``source`` isn't known.
        """
        target = written(target)
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
        if not self.translates:
            raise UnsupportedLanguage(
                f"this Whisper is distilled, and writes the spoken language only, not {source} to {target}; "
                "stock checkpoints such as whisper-large-v3 also write English"
            )
        if target == "en":
            return (self.tokenizer.sot, spoken, self._required("<|translate|>"), quiet)
        raise UnsupportedLanguage(
            f"stock Whisper writes the spoken language or English, not {source} to {target}; "
            "a whisperM2M model translates between all of its languages"
        )

    def untaught(self, target: str, source: str | None) -> Tokens:
        """Return the prompt that asks for what it was never taught: a transcript as if ``target`` were spoken.

        Larger checkpoints translate then, now and then; smaller ones copy and loop.

        Raises:
            UnsupportedLanguage: no token names ``target``, or the spoken language isn't named.
        """
        if source is None:
            raise UnsupportedLanguage("stock Whisper must be told the spoken language: name one source language")
        language = self.tokenizer.language_token(written(target))
        return (self.tokenizer.sot, language, self._required("<|transcribe|>"), self._required("<|notimestamps|>"))

    def _required(self, name: str) -> int:
        token = self.tokenizer.special(name)
        if token is None:
            raise BadModel(f"the tokenizer lacks Whisper's {name}")
        return token


def load(folder: Path, *, device: torch.device, dtype: torch.dtype, packed: str | None = None) -> TorchSpeechModel:
    """Load a stock Whisper folder, laid out for speed where ``packed`` says how; else it can learn."""
    raw = read_json(folder / "config.json")
    config = NetworkConfig.of(raw)
    features = read_features(folder, config.num_mel_bins)
    tokenizer = Tokenizer.load(folder)
    check_vocabulary(folder, tokenizer, config)
    specials = {token for token in range(config.vocab_size) if tokenizer.is_special(token)} - {tokenizer.eot}
    generation = folder / "generation_config.json"
    said = read_json(generation) if generation.exists() else raw
    # Language codes and timestamps are commands; the listed ones are signs such as "♪" that Whisper overuses, and
    # at the beginning a space and end-of-text: its texts are never empty.
    suppressed = specials | _listed(said, "suppress_tokens", config)
    if (features.window, features.hop, features.scaling) != (400, 160, "clip"):
        raise BadModel(
            f"{folder} wants windows of {features.window} samples, {features.hop} apart, scaled {features.scaling!r};"
            " every stock Whisper was trained with 400, 160, 'clip'"
        )
    distilled = _distilled(folder, raw, config)
    prompts = Prompts(tokenizer, _multilingual(said, tokenizer, config), translates=not distilled)
    for source, targets in prompts.translations:
        for target in targets:
            prompts(target, source)  # a command that the tokenizer lacks is found here, not by the first reading
    model = TorchSpeechModel(
        folder.name,
        load_network(folder, config),
        tokenizer,
        features,
        Manner(
            languages=prompts.languages,
            prompt=prompts,
            padded=True,
            suppressed=frozenset(suppressed - {tokenizer.eot}),
            begin_suppressed=frozenset(_listed(said, "begin_suppress_tokens", config)),
            begin=prompts.length,
            alignment_heads=read_alignment_heads(folder, config, distilled=distilled),
            translations=prompts.translations,
            untaught=prompts.untaught if prompts.multilingual else None,
        ),
        device=device,
        dtype=dtype,
    )
    if packed is not None:
        model.pack(packed)
    return model


def _distilled(folder: Path, raw: dict[str, Any], config: NetworkConfig) -> bool:
    """Say whether a checkpoint learnt from a deeper one; what was pruned is what it was with all of its layers.

    Raises:
        BadModel: what the folder says of its layers before pruning makes no sense.
    """
    before = raw.get(PRUNED_FROM)
    if before is None:
        return config.decoder_layers < config.encoder_layers
    said = before if isinstance(before, dict) else {}
    encoder, decoder = said.get("encoder_layers"), said.get("decoder_layers")
    if not (isinstance(encoder, int) and isinstance(decoder, int) and 0 < decoder <= 512 and 0 < encoder <= 512):
        raise BadModel(
            f"{folder / 'config.json'}: {PRUNED_FROM} is {shown(before)}; give encoder_layers and decoder_layers, 1 to"
            " 512 each"
        )
    return decoder < encoder


def _multilingual(said: dict[str, Any], tokenizer: Tokenizer, config: NetworkConfig) -> bool:
    """Say whether a checkpoint asks for the spoken language; English-only ones hold tokens of all languages, too."""
    told = said.get("is_multilingual")
    if isinstance(told, bool):
        return told
    return bool(tokenizer.languages) and config.vocab_size != ENGLISH_VOCABULARY


def _listed(said: dict[str, Any], key: str, config: NetworkConfig) -> set[int]:
    """Return the tokens of a list in the generation config; what the vocabulary lacks is left aside."""
    tokens = said.get(key) or []
    if not isinstance(tokens, list) or not all(type(token) is int for token in tokens):
        raise BadModel(f"{key} of the generation config is {shown(tokens)}; give a list of tokens")
    return {token for token in tokens if 0 <= token < config.vocab_size}
