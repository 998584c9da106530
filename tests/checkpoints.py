"""Tiny random checkpoints: stock Whisper through transformers, whisperM2M through our own network."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors.torch import save_file
from tokenizers import AddedToken
from transformers import (
    PreTrainedTokenizerFast,
    Qwen2AudioConfig,
    Qwen2AudioForConditionalGeneration,
    Qwen2AudioProcessor,
    WhisperConfig,
    WhisperFeatureExtractor,
    WhisperForConditionalGeneration,
)

from streamtrans.model.config import NetworkConfig
from streamtrans.model.network import Network
from streamtrans.text import train_tokenizer

TEXTS = [
    "turn on the light in the kitchen",
    "mach das licht in der küche an",
    "打开厨房的灯",
    "what is the weather",
] * 3
SPECULATORS: dict[str, dict[str, int | str]] = {
    "hole": {},
    "own keys": {"speculator_own_keys": True},
    "window": {"speculator_window": 3},
    "top window, own keys": {"speculator_own_keys": True, "speculator_window": 2, "speculator_keys": "top"},
    "short vocabulary": {"draft_vocabulary": 210},
    "short vocabulary, own keys": {"draft_vocabulary": 210, "speculator_own_keys": True},
    "medusa": {"speculator_input": "hidden"},
    "medusa, short vocabulary": {"speculator_input": "hidden", "draft_vocabulary": 210},
}
"""Kinds of speculative networks, by what their configuration adds."""
WHISPER_SPECIALS = ["<|translate|>", "<|transcribe|>", "<|notimestamps|>", "<|0.00|>", "<|0.02|>"]


def write_tokenizer(folder: Path) -> int:
    tokenizer = train_tokenizer(TEXTS, 320, ["en", "de", "zh"])
    tokenizer.add_special_tokens([AddedToken(name, special=True) for name in WHISPER_SPECIALS])
    tokenizer.save(str(folder / "tokenizer.json"))
    return int(tokenizer.get_vocab_size())


def make_whisper(folder: Path, *, seed: int = 0, **shape: int) -> WhisperForConditionalGeneration:
    """Save a random stock Whisper with audio of at most 2 s, and return transformers' model of it."""
    torch.manual_seed(seed)
    size = write_tokenizer(folder)
    config = WhisperConfig(
        vocab_size=size,
        max_source_positions=100,
        max_target_positions=48,
        pad_token_id=0,
        bos_token_id=0,
        eos_token_id=0,
        decoder_start_token_id=1,
        suppress_tokens=[],
        begin_suppress_tokens=[],
        **shape,
    )
    model = WhisperForConditionalGeneration(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.mul_(4.0)  # transformers' initial weights are so small that all logits look alike
    model.save_pretrained(folder)
    WhisperFeatureExtractor(feature_size=config.num_mel_bins, chunk_length=2).save_pretrained(folder)
    return model


def make_whisper_m2m(folder: Path, *, seed: int = 0, **shape: int | str) -> Network:
    """Save a random whisperM2M with KVSPN and return its network."""
    torch.manual_seed(seed)
    size = write_tokenizer(folder)
    config = NetworkConfig(
        **{
            "d_model": 24,
            "encoder_layers": 2,
            "encoder_attention_heads": 3,
            "encoder_ffn_dim": 40,
            "decoder_layers": 4,
            "decoder_attention_heads": 2,
            "decoder_ffn_dim": 32,
            "vocab_size": size,
            "num_mel_bins": 20,
            "max_source_positions": 100,
            "max_target_positions": 48,
            "text_encoder_layers": 1,
            "speculator_blocks": 2,
            **shape,
        }
    )
    network = Network(config).eval()
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if parameter.ndim > 1 and "positions" not in name:
                parameter.mul_(2.5)
    raw = {"model_type": "whisper_m2m", "languages": ["en", "de", "zh"], **config.asdict()}
    (folder / "config.json").write_text(json.dumps(raw))
    features = {"feature_size": config.num_mel_bins, "n_fft": 400, "hop_length": 160, "scaling": "fixed"}
    (folder / "preprocessor_config.json").write_text(json.dumps(features))
    save_file(network.state_dict(), folder / "model.safetensors")
    return network


def make_qwen2_audio(
    folder: Path, *, layers: int = 5, positions: int = 1500, seed: int = 0, **text: int
) -> Qwen2AudioForConditionalGeneration:
    """Save a random Qwen2-Audio with its processor, and return transformers' model of it.

    Its audio has at most 50 ``positions`` a second; ``text`` changes its language model.
    """
    torch.manual_seed(seed)
    tokenizer = train_tokenizer(TEXTS, 320, ["en", "de", "zh"])
    names = ["<|AUDIO|>", "<|audio_bos|>", "<|audio_eos|>", "<|im_start|>", "<|im_end|>"]
    tokenizer.add_special_tokens([AddedToken(name, special=True) for name in names])
    end = tokenizer.token_to_id("<|im_end|>")
    config = Qwen2AudioConfig(
        audio_config={
            "num_mel_bins": 80,
            "d_model": 16,
            "encoder_layers": 1,
            "encoder_attention_heads": 2,
            "encoder_ffn_dim": 16,
            "max_source_positions": positions,
        },
        text_config={
            "model_type": "qwen2",
            "vocab_size": tokenizer.get_vocab_size(),
            "hidden_size": 16,
            "intermediate_size": 24,
            "num_hidden_layers": layers,
            "num_attention_heads": 2,
            "num_key_value_heads": 2,
            "eos_token_id": end,
            **text,
        },
        audio_token_index=tokenizer.token_to_id("<|AUDIO|>"),
    )
    model = Qwen2AudioForConditionalGeneration(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.mul_(8.0)
        for name, parameter in model.named_parameters():
            if name.endswith("bias"):
                parameter.normal_(0, 0.1)
    model.generation_config.eos_token_id = end
    model.save_pretrained(folder)
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|im_end|>", pad_token="<|im_end|>")
    features = WhisperFeatureExtractor(feature_size=80, chunk_length=positions // 50)
    Qwen2AudioProcessor(features, fast).save_pretrained(folder)
    return model
