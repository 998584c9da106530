"""Turn a Whisper checkpoint into a whisperM2M one: fewer decoder layers, a text encoder, a fresh KVSPN.

The layers kept are spread evenly with the first and the last among them, as Distil-Whisper does; the text
encoder starts from the self-attention and the MLP of the first decoder layers. Source: arXiv 2508.11189, section 2.1.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import nn

from streamtrans.core import SAMPLE_RATE, BadConfig, BadModel
from streamtrans.model.cache import Heads
from streamtrans.model.config import NetworkConfig, read_features, read_json
from streamtrans.model.features import FeatureConfig
from streamtrans.model.loading import find_folder, load_network, read_alignment_heads
from streamtrans.model.network import Network, parameters_by_part, spread_layers
from streamtrans.text import Tokenizer, canonical

LANGUAGES = ("en", "zh", "de", "es", "fr", "it")
"""The languages of the paper."""

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
    seed: int = 0,
) -> dict[str, int]:
    """Write a whisperM2M folder made of a stock Whisper one, and count its parameters per part.

    The result has to be trained: KVSPN is random, and the decoder misses the layers that were dropped.

    Raises:
        BadModel: the source is no stock Whisper folder.
        BadConfig: the destination exists and isn't empty, or a number of layers doesn't fit.
    """
    folder, target = find_folder(source), Path(destination)
    raw = read_json(folder / "config.json")
    if raw.get("model_type") != "whisper":
        raise BadModel(f"{folder} holds a {raw.get('model_type')!r} model; convert takes a stock Whisper checkpoint")
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise BadConfig(f"{target} exists already; name a new folder")
    before = NetworkConfig.of(raw)
    features = read_features(folder, before)
    heads = read_alignment_heads(folder, before, distilled=before.decoder_layers < before.encoder_layers)
    kept = kept_layers(before.decoder_layers, decoder_layers)
    if not 0 < text_encoder_layers <= before.decoder_layers:
        raise BadConfig(
            f"the text encoder starts from decoder layers: it can have 1 to {before.decoder_layers}, "
            f"not {text_encoder_layers}"
        )
    tokenizer = Tokenizer.load(folder)
    for language in languages:
        tokenizer.language_token(language)
    stock = load_network(folder, before)
    after = replace(
        before,
        decoder_layers=decoder_layers,
        text_encoder_layers=text_encoder_layers,
        speculator_blocks=speculator_blocks,
        speculator_ffn_dim=before.decoder_ffn_dim,
    )
    torch.manual_seed(seed)
    network = _inherit(stock, Network(after), kept, text_encoder_layers)
    target.mkdir(parents=True, exist_ok=True)
    save_file(
        {name: tensor.contiguous() for name, tensor in network.state_dict().items()},
        target / "model.safetensors",
    )
    settings = raw | after.asdict()
    settings |= {
        "model_type": "whisper_m2m",
        "architectures": ["WhisperM2M"],
        "languages": [canonical(language) for language in languages],
        "kept_decoder_layers": kept,
    }
    (target / "config.json").write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")
    for name in COMPANIONS:
        if (folder / name).exists():
            shutil.copyfile(folder / name, target / name)
    (target / "tokenizer.json").write_text(tokenizer.layout(), encoding="utf-8")
    _write_features(target / "preprocessor_config.json", features)
    _renumber_heads(target / "generation_config.json", heads, kept)
    return parameters_by_part(network)


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
        left = [[kept.index(layer), head] for layer, head in heads if layer in kept]
        file.write_text(json.dumps(settings | {"alignment_heads": left}, indent=2) + "\n", encoding="utf-8")


def _inherit(stock: Network, network: Network, kept: Sequence[int], text_layers: int) -> Network:
    """Fill ``network`` with what it has in common with ``stock``; the speculator keeps its fresh weights."""
    old, new = stock.model.decoder, network.model.decoder
    network.to(old.layer_norm.weight.dtype)
    network.model.encoder.load_state_dict(stock.model.encoder.state_dict())
    for name in ("embed_tokens", "embed_positions", "layer_norm"):
        getattr(new, name).load_state_dict(getattr(old, name).state_dict())
    for layer, origin in zip(new.layers, kept, strict=True):
        layer.load_state_dict(old.layers[origin].state_dict())
    assert network.text_encoder is not None
    reader: nn.Module
    for reader, donor in zip(network.text_encoder.layers, old.layers[:text_layers], strict=True):
        wanted = reader.state_dict().keys()
        reader.load_state_dict({name: value for name, value in donor.state_dict().items() if name in wanted})
    return network
