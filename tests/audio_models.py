"""Tiny random audio language models. Chunks are two seconds long, unless told, where the published ones are thirty."""

from __future__ import annotations

import base64
import json
import shutil
import tempfile
from pathlib import Path

import torch
from safetensors.torch import save_file
from transformers import LlamaConfig, VoxtralConfig, VoxtralForConditionalGeneration, WhisperFeatureExtractor

from streamtrans.compress.speculator import add_speculator
from streamtrans.model.audio_lm.network import AudioNetwork, Stacking
from streamtrans.model.audio_lm.qwen2_audio import shapes
from tests.checkpoints import make_qwen2_audio, write_tokenizer
from tests.translators import enlarged

CHUNK_S, POSITIONS = 2, 100
SPECIAL = {0: "<unk>", 1: "<s>", 2: "</s>", 3: "[INST]", 4: "[/INST]", 5: "[AVAILABLE_TOOLS]", 6: "[/AVAILABLE_TOOLS]"}
SPECIAL |= {7: "[TOOL_RESULTS]", 8: "[/TOOL_RESULTS]", 9: "[TOOL_CALLS]", 10: "[IMG]", 11: "<pad>", 12: "[IMG_BREAK]"}
SPECIAL |= {13: "[IMG_END]", 14: "[PREFIX]", 15: "[MIDDLE]", 16: "[SUFFIX]", 17: "[SYSTEM_PROMPT]"}
SPECIAL |= {18: "[/SYSTEM_PROMPT]", 19: "[TOOL_CONTENT]", 24: "[AUDIO]", 25: "[BEGIN_AUDIO]", 34: "[TRANSCRIBE]"}
AUDIO = 24


def write_tekken(folder: Path, *, mels: int = 20, positions: int = POSITIONS, **changes: object) -> int:
    """Write a ``tekken.json`` in the layout of Voxtral's; return how many tokens it has."""
    words = [bytes([byte]) for byte in range(256)] + [b"th", b" t", b" th", b"the", b" the", b"an", b"in", b"er", b" a"]
    special = [{"rank": at, "token_str": SPECIAL.get(at, f"<SPECIAL_{at}>"), "is_control": True} for at in range(40)]
    raw = {
        "config": {
            "pattern": r"[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s+",
            "num_vocab_tokens": len(words),
            "default_vocab_size": len(words) + len(special),
            "default_num_special_tokens": len(special),
            "version": "v7",
        },
        "vocab": [
            {"rank": at, "token_bytes": base64.b64encode(word).decode(), "token_str": None}
            for at, word in enumerate(words)
        ],
        "special_tokens": special,
        "audio": {
            "sampling_rate": 16_000,
            "frame_rate": 12.5,
            "audio_encoding_config": {"num_mel_bins": mels, "window_size": 400, "hop_length": 160},
            "chunk_length_s": positions / 50,
        },
        "version": 1,
        "type": "Tekken",
    } | changes
    (folder / "tekken.json").write_text(json.dumps(raw))
    return len(words) + len(special)


def make_voxtral(
    folder: Path, *, mels: int = 20, positions: int = POSITIONS, seed: int = 0
) -> VoxtralForConditionalGeneration:
    """Save a random Voxtral with its tokenizer and features, and return transformers' model of it."""
    torch.manual_seed(seed)
    folder.mkdir(exist_ok=True)
    size = write_tekken(folder, mels=mels, positions=positions)
    audio = {
        "num_mel_bins": mels,
        "hidden_size": 12,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 3,
        "max_source_positions": positions,
    }
    text = LlamaConfig(
        vocab_size=size + 3,
        hidden_size=24,
        intermediate_size=40,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=8,
        rope_theta=1e8,
        max_position_embeddings=4096,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=11,
    )
    model = enlarged(
        VoxtralForConditionalGeneration(VoxtralConfig(audio_config=audio, text_config=text, audio_token_id=AUDIO))
    )
    model.save_pretrained(folder)
    WhisperFeatureExtractor(feature_size=mels, chunk_length=positions // 50).save_pretrained(folder)
    return model


def make_qwen(folder: Path, *, layers: int = 3, positions: int = POSITIONS, seed: int = 0):
    """Save a random Qwen2-Audio whose chunks have so many ``positions``, and return transformers' model of it."""
    folder.mkdir(exist_ok=True)
    text = {"num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 2048}
    return make_qwen2_audio(folder, layers=layers, positions=positions, seed=seed, **text)


def make_drafting_qwen(folder: Path, **shape: int) -> None:
    """Save a random Qwen2-Audio with a KVSPN that nobody has trained."""
    with tempfile.TemporaryDirectory() as whole:
        make_qwen(Path(whole), layers=6, seed=3, **shape)
        shutil.rmtree(folder, ignore_errors=True)
        add_speculator(whole, folder, blocks=2)


def make_drafting_stacked(folder: Path, *, positions: int = POSITIONS) -> None:
    """Save a random model of our own kind, with a KVSPN that nobody has trained; transformers has none of it."""
    torch.manual_seed(5)
    with tempfile.TemporaryDirectory() as whole:
        size = write_tokenizer(Path(whole))
        audio = {
            "num_mel_bins": 80,
            "d_model": 16,
            "encoder_layers": 1,
            "encoder_attention_heads": 2,
            "encoder_ffn_dim": 16,
            "max_source_positions": positions,
        }
        text = {
            "model_type": "qwen2",
            "vocab_size": size,
            "hidden_size": 16,
            "intermediate_size": 24,
            "num_hidden_layers": 4,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "max_position_embeddings": 2048,
            "tie_word_embeddings": True,
        }
        kind = {"model_type": "stacked_audio", "languages": ["en", "de", "zh"], "stacked": 4}
        raw = {**kind, "audio_config": audio, "text_config": text}
        tower, language = shapes(raw)
        network = enlarged(AudioNetwork(tower, Stacking(16, 16, 4), language))
        (Path(whole) / "config.json").write_text(json.dumps(raw))
        (Path(whole) / "preprocessor_config.json").write_text(json.dumps({"feature_size": 80}))
        save_file(network.state_dict(), Path(whole) / "model.safetensors")
        shutil.rmtree(folder, ignore_errors=True)
        add_speculator(whole, folder, blocks=2)


MAKERS = {"qwen2_audio": make_qwen, "voxtral": make_voxtral}
LAWFUL = {**MAKERS, "qwen2_audio with KVSPN": make_drafting_qwen, "stacked_audio with KVSPN": make_drafting_stacked}
