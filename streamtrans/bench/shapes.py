"""Networks of Whisper's sizes with random weights, for measurements that need a size and no sense."""

from __future__ import annotations

import torch

from streamtrans.model.config import NetworkConfig
from streamtrans.model.features import FeatureConfig
from streamtrans.model.linear import PRECISIONS
from streamtrans.model.network import Network
from streamtrans.model.speech import Manner, TorchSpeechModel
from streamtrans.text import Tokenizer, train_tokenizer

WIDTHS = {"nano": 192, "tiny": 384, "base": 512, "small": 768, "medium": 1024}
"""Whisper's sizes, and the embedded model's → ``d_model``. A head is 64 wide (nano's 32), an MLP 4 times the model."""

LAYERS = {"nano": 12, "tiny": 4, "base": 6, "small": 12, "medium": 24}
"""Their decoder layers."""


def whisper_shape(name: str, layers: int, frames: int = 1500) -> NetworkConfig:
    """Return a stock Whisper's shape with a decoder and an encoder of ``layers``."""
    width = WIDTHS[name]
    heads = width // (32 if name == "nano" else 64)
    return NetworkConfig(
        d_model=width,
        encoder_layers=layers,
        encoder_attention_heads=heads,
        encoder_ffn_dim=4 * width,
        decoder_layers=layers,
        decoder_attention_heads=heads,
        decoder_ffn_dim=512 if name == "nano" else 4 * width,
        vocab_size=6000 if name == "nano" else 51_865,
        max_source_positions=frames,
    )


def random_network(config: NetworkConfig, seed: int = 0) -> Network:
    """Make a network that always writes its last token again, by far: no rounding changes what it says."""
    torch.manual_seed(seed)
    with torch.device("meta"):
        network = Network(config)
    network.to_empty(device="cpu")
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if parameter.ndim == 1:
                parameter.fill_(float(name.endswith("layer_norm.weight")))
            elif "embed_tokens" in name:
                parameter.normal_()
            else:
                parameter.normal_(0.0, 0.4 * parameter[0].numel() ** -0.5)
        # Logits no further apart than a trained model's: exponentials that are nearly zero (-100) are slow ones.
        for last in (network.model.decoder, network.speculator):
            if last is not None:
                last.layer_norm.weight.fill_(30.0 / config.d_model)
    return network


def random_model(network: Network, precision: str) -> TorchSpeechModel:
    """Put a network behind the model's verbs, not packed yet; it never ends a text."""
    tokenizer = Tokenizer(train_tokenizer(["any text will do here"], 300, ["en"]))
    manner = Manner(("en",), lambda *_: (tokenizer.sot,), padded=True, suppressed=frozenset({tokenizer.eot}))
    dtype = PRECISIONS.get(precision, torch.float32)
    return TorchSpeechModel("random", network, tokenizer, FeatureConfig(), manner, dtype=dtype)
