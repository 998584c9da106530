"""Qwen2-Audio: frames pooled by two, a decoder of the Qwen2 kind, asked in ChatML.

```
<|im_start|>system ⏎ You are a professional translator.<|im_end|> ⏎ <|im_start|>user ⏎ Audio 1: <|audio_bos|> audio
<|audio_eos|> ⏎ Translate the English speech into German:<|im_end|> ⏎ <|im_start|>assistant ⏎
```
The template is that of its processor, the words are those of arXiv 2505.20237: what is taught here is asked alike. The
encoder is told where silence was added, and doesn't hear it: only real audio is encoded.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from streamtrans.core import BadModel, Tokens
from streamtrans.model.audio_lm.folder import build, part, usual_whisper
from streamtrans.model.audio_lm.model import AudioLanguageModel, Manner, around
from streamtrans.model.audio_lm.network import AudioNetwork, Pooling, TowerShape
from streamtrans.model.causal.kvspn import Speculation
from streamtrans.model.causal.network import Shape
from streamtrans.model.causal.words import BEGIN, END, Words, chat_words
from streamtrans.model.config import read_json, shown, whole
from streamtrans.model.loading import languages_of
from streamtrans.text import display_name

SYSTEM = "You are a professional translator."
AUDIO, AUDIO_BEGIN, AUDIO_END = "<|AUDIO|>", "<|audio_bos|>", "<|audio_eos|>"
LANGUAGES = ("en", "zh", "yue", "fr", "de", "es", "it", "ja")
"""What it was taught to hear and to write, where its ``config.json`` lists no others."""

_TEXT = {
    "model_type": "qwen2",
    "vocab_size": 151_936,
    "hidden_size": 4096,
    "intermediate_size": 22_016,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 32,
    "max_position_embeddings": 32_768,
    "rms_norm_eps": 1e-6,
}
"""What folders leave out where it is as transformers has it."""
_AUDIO = {
    "num_mel_bins": 128,
    "encoder_layers": 32,
    "encoder_attention_heads": 20,
    "encoder_ffn_dim": 5120,
    "d_model": 1280,
    "max_source_positions": 1500,
}


def order(source: str | None, target: str) -> str:
    """Return what it is told to do (for translations, as in arXiv 2505.20237)."""
    spoken = "" if source is None else f"{display_name(source)} "
    if source == target:
        return f"Transcribe the {spoken}speech:"
    return f"Translate the {spoken}speech into {display_name(target)}:"


def shapes(raw: Mapping[str, Any]) -> tuple[TowerShape, Shape]:
    """Return the sizes that a ``config.json`` gives encoder and decoder.

    Raises:
        BadModel: one is wrong, or asks for arithmetic that isn't done here.
    """
    audio = part(raw, "audio_config", _AUDIO)
    usual_whisper(audio)
    size = whole(audio, _AUDIO)
    tower = TowerShape(
        mels=size["num_mel_bins"],
        width=size["d_model"],
        heads=size["encoder_attention_heads"],
        inner=size["encoder_ffn_dim"],
        layers=size["encoder_layers"],
        positions=size["max_source_positions"],
    )
    text = part(raw, "text_config", _TEXT)
    if text["model_type"] != "qwen2":
        raise BadModel(f"text_config: model_type is {shown(text['model_type'])}; every Qwen2-Audio has 'qwen2'")
    return tower, Shape.of(text)


def load(folder: Path, *, device: torch.device, dtype: torch.dtype, packed: str | None = None) -> AudioLanguageModel:
    """Load a Qwen2-Audio folder."""
    raw = read_json(folder / "config.json")
    tower, language = shapes(raw)
    said = folder / "generation_config.json"
    ends = read_json(said).get("eos_token_id") if said.exists() else part(raw, "text_config", {}).get("eos_token_id")
    words = chat_words(folder, language.vocab_size, ends)
    with torch.device("meta"):
        network = AudioNetwork(
            tower, Pooling(tower.width, language.hidden_size), language, Speculation.of(raw, language)
        )
    languages = languages_of(folder, raw) if "languages" in raw else LANGUAGES
    manner = Manner(languages, *_asking(folder, words), padded=False)
    return build(folder, network, words.vocabulary, words.rules, manner, device=device, dtype=dtype, packed=packed)


def _asking(folder: Path, words: Words) -> tuple[Tokens, Any]:
    """Return what stands before the audio, and who says what stands behind it."""
    audio = words.backend.numbers.get(AUDIO)
    if audio is None or not {AUDIO_BEGIN, AUDIO_END} <= words.backend.numbers.keys():
        raise BadModel(
            f"{folder / 'tokenizer.json'} has no {AUDIO}, {AUDIO_BEGIN} and {AUDIO_END}: is it Qwen2-Audio's?"
        )

    def asked(target: str, source: str | None) -> tuple[Tokens, Tokens]:
        turns = f"{BEGIN}system\n{SYSTEM}{END}\n{BEGIN}user\nAudio 1: {AUDIO_BEGIN}{AUDIO}{AUDIO_END}\n"
        tokens, _ = words.backend.commanded(f"{turns}{order(source, target)}{END}\n{BEGIN}assistant\n")
        return around(tokens, audio)

    return asked("en", None)[0], lambda target, source: asked(target, source)[1]
