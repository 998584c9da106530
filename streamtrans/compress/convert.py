"""Turn a Whisper checkpoint into a whisperM2M one: fewer decoder layers, a text encoder, a fresh KVSPN.

The layers kept are spread evenly with the first and the last among them, as Distil-Whisper does; the text
encoder starts from the self-attention and the MLP of the first decoder layers. Source: arXiv 2508.11189, section 2.1.
A small model spends much of itself on the vocabulary of a hundred languages: it may be cut to what its own need.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import nn

from streamtrans.compress.vocabulary import count_tokens, cut_vocabulary
from streamtrans.core import SAMPLE_RATE, BadConfig, BadModel
from streamtrans.model.cache import Heads
from streamtrans.model.config import NetworkConfig, read_features, read_json
from streamtrans.model.features import FeatureConfig
from streamtrans.model.loading import find_folder, load_network, read_alignment_heads
from streamtrans.model.network import Network, parameters_by_part, spread_layers
from streamtrans.model.whisper_m2m import TARGET
from streamtrans.text import Tokenizer, canonical

LANGUAGES = ("en", "zh", "de", "es", "fr", "it")
"""The languages of the paper."""

PROMPTS = {"short": (TARGET,), "whisper": (TARGET, "<|transcribe|>", "<|notimestamps|>")}
"""What follows the start of a transcript: the language to write alone, as in the paper, or Whisper's own prompt with
the language to write where the spoken one was, which the stock decoder half understands."""
TOKEN_KEYS = (
    "bos_token_id",
    "eos_token_id",
    "pad_token_id",
    "decoder_start_token_id",
    "suppress_tokens",
    "begin_suppress_tokens",
)


COMPANIONS = ("generation_config.json", "tokenizer_config.json")
"""What is copied as it is. The tokenizer and the features are written anew: folders say them in several ways."""


def convert(
    source: str | Path,
    destination: str | Path,
    *,
    decoder_layers: int = 12,
    text_encoder_layers: int = 6,
    speculator_blocks: int = 3,
    languages: Sequence[str] = LANGUAGES,
    vocabulary: int | None = None,
    texts: Iterable[str] = (),
    prompt: str = "short",
    seed: int = 0,
) -> dict[str, int]:
    """Write a whisperM2M folder made of a stock Whisper one, and count its parameters per part.

    The result has to be trained: KVSPN is random, and the decoder misses the layers that were dropped.

    Args:
        source: a stock Whisper folder, or a hub name.
        destination: the folder to write.
        decoder_layers: how many stay.
        text_encoder_layers: 0 for a model that learns from speech alone.
        speculator_blocks: blocks of KVSPN; 0 leaves it for later.
        languages: what the model hears and writes.
        vocabulary: how many tokens stay, those that ``texts`` use most; ``None`` keeps all.
        texts: what the model is to write well.
        prompt: how it is asked, one of :data:`PROMPTS`.
        seed: of KVSPN's random weights.

    Raises:
        BadModel: the source is no stock Whisper folder.
        BadConfig: the destination exists and isn't empty, or a number of layers or tokens doesn't fit.
    """
    folder, target = find_folder(source), Path(destination)
    raw = _stock_settings(folder, target, prompt)
    before = NetworkConfig.of(raw)
    features = read_features(folder, before.num_mel_bins)
    heads = read_alignment_heads(folder, before, distilled=before.decoder_layers < before.encoder_layers)
    kept = kept_layers(before.decoder_layers, decoder_layers)
    layout, tokens = _vocabulary(Tokenizer.load(folder), languages, vocabulary, texts)
    after = replace(
        before,
        vocab_size=before.vocab_size if tokens is None else len(tokens),
        decoder_layers=decoder_layers,
        text_encoder_layers=_begun(text_encoder_layers, before),
        speculator_blocks=speculator_blocks,
        speculator_ffn_dim=before.decoder_ffn_dim,
    )
    stock = load_network(folder, before)
    torch.manual_seed(seed)
    network = _inherit(stock, Network(after), kept, tokens)
    target.mkdir(parents=True, exist_ok=True)
    save_file({name: each.contiguous() for name, each in network.state_dict().items()}, target / "model.safetensors")
    asked = {"languages": [canonical(language) for language in languages], "prompt": [*PROMPTS[prompt]]}
    _write_settings(target, raw | after.asdict() | {"kept_decoder_layers": kept} | asked, tokens)
    (target / "tokenizer.json").write_text(layout, encoding="utf-8")
    _write_features(target / "preprocessor_config.json", features)
    _copy_companions(folder, target, heads, kept, tokens)
    return parameters_by_part(network)


def _stock_settings(folder: Path, target: Path, prompt: str) -> dict[str, Any]:
    """Return the configuration of a stock Whisper, and refuse what could only fail later."""
    raw = read_json(folder / "config.json")
    if raw.get("model_type") != "whisper":
        raise BadModel(f"{folder} holds a {raw.get('model_type')!r} model; convert takes a stock Whisper checkpoint")
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise BadConfig(f"{target} exists already; name a new folder")
    if prompt not in PROMPTS:
        raise BadConfig(f"prompt is {prompt!r}; use {' or '.join(PROMPTS)}")
    return raw


def _begun(layers: int, before: NetworkConfig) -> int:
    """Return the number of layers of the text encoder, if the decoder has as many for it to begin with."""
    if not 0 <= layers <= before.decoder_layers:
        raise BadConfig(
            f"the text encoder starts from decoder layers: it can have 0 to {before.decoder_layers}, not {layers}"
        )
    return layers


def _vocabulary(
    tokenizer: Tokenizer, languages: Sequence[str], count: int | None, texts: Iterable[str]
) -> tuple[str, list[int] | None]:
    """Return the ``tokenizer.json`` of what stays, and which of the old tokens these are; ``None``: all."""
    for language in languages:
        tokenizer.language_token(language)
    if count is None:
        return tokenizer.layout(), None
    layout, tokens = cut_vocabulary(tokenizer, count_tokens(tokenizer, texts), count, languages)
    return json.dumps(layout, ensure_ascii=False), tokens


def _write_settings(target: Path, settings: dict[str, Any], tokens: Sequence[int] | None) -> None:
    settings |= {"model_type": "whisper_m2m", "architectures": ["WhisperM2M"]}
    if tokens is not None:
        settings |= {name: _renumbered(settings[name], tokens) for name in TOKEN_KEYS if name in settings}
    (target / "config.json").write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")


def _copy_companions(
    folder: Path, target: Path, heads: Heads, kept: Sequence[int], tokens: Sequence[int] | None
) -> None:
    for name in COMPANIONS:
        if (folder / name).exists():
            shutil.copyfile(folder / name, target / name)
    _renumber_heads(target / "generation_config.json", heads, kept)
    if tokens is not None:
        _renumber_tokens(target / "generation_config.json", tokens)


def kept_layers(depth: int, kept: int) -> list[int]:
    """Return which of ``depth`` layers stay when ``kept`` do: the first, the last, the others evenly between.

    Raises:
        BadConfig: more layers should stay than there are, or fewer than two of several.
    """
    if kept > depth or kept < min(2, depth):
        raise BadConfig(f"of {depth} decoder layers {min(2, depth)} to {depth} can be kept, not {kept}")
    return spread_layers(depth, kept)


def _write_features(file: Path, features: FeatureConfig) -> None:
    """Write how sound becomes frames, as every version of transformers reads it."""
    settings = {
        "feature_extractor_type": "WhisperFeatureExtractor",
        "feature_size": features.mels,
        "n_fft": features.window,
        "hop_length": features.hop,
        "sampling_rate": SAMPLE_RATE,
        "scaling": features.scaling,
    }
    file.write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")


def _renumber_heads(file: Path, heads: Heads, kept: Sequence[int]) -> None:
    """Count the layers of a generation config's alignment heads anew; those of dropped layers go."""
    settings = read_json(file) if file.exists() else {}
    if settings.get("alignment_heads"):
        left = renumbered_heads(heads, kept)
        file.write_text(json.dumps(settings | {"alignment_heads": left}, indent=2) + "\n", encoding="utf-8")


def renumbered_heads(heads: Heads, kept: Sequence[int]) -> list[list[int]]:
    """Return the heads of layers that are kept, [layer, head], their layers counted anew."""
    return [[kept.index(layer), head] for layer, head in heads if layer in kept]


def _renumber_tokens(file: Path, tokens: Sequence[int]) -> None:
    """Keep of a generation config what names tokens that are left, by their new numbers."""
    settings = read_json(file) if file.exists() else {}
    kept = {name: settings[name] for name in ("alignment_heads",) if name in settings}
    kept |= {name: _renumbered(settings[name], tokens) for name in TOKEN_KEYS if name in settings}
    file.write_text(json.dumps(kept, indent=2) + "\n", encoding="utf-8")


def _renumbered(old: object, tokens: Sequence[int]) -> object:
    """Return the new number of a token, or of those of a list that are left."""
    numbers = {token: number for number, token in enumerate(tokens)}
    if isinstance(old, list):
        return [numbers[token] for token in old if token in numbers]
    return numbers.get(old) if isinstance(old, int) else old


def _inherit(stock: Network, network: Network, kept: Sequence[int], tokens: Sequence[int] | None) -> Network:
    """Fill ``network`` with what it has in common with ``stock``; the speculator keeps its fresh weights."""
    old, new = stock.model.decoder, network.model.decoder
    network.to(old.layer_norm.weight.dtype)
    network.model.encoder.load_state_dict(stock.model.encoder.state_dict())
    for name in ("embed_positions", "layer_norm"):
        getattr(new, name).load_state_dict(getattr(old, name).state_dict())
    with torch.no_grad():
        rows = old.embed_tokens.weight
        new.embed_tokens.weight.copy_(rows if tokens is None else rows[list(tokens)])
    for layer, origin in zip(new.layers, kept, strict=True):
        layer.load_state_dict(old.layers[origin].state_dict())
    if network.text_encoder is None:
        return network
    reader: nn.Module
    for reader, donor in zip(network.text_encoder.layers, old.layers, strict=False):
        wanted = reader.state_dict().keys()
        reader.load_state_dict({name: value for name, value in donor.state_dict().items() if name in wanted})
    return network
