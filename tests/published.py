"""The checkpoints that people publish, with their real layouts and vocabularies, and shapes a hundred times smaller."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from itertools import islice, product
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from streamtrans.model.config import NetworkConfig
from streamtrans.model.network import Network
from streamtrans.text import LANGUAGES
from streamtrans.text.tokenizer import byte_alphabet

WIDTH = 2
"""Of an attention head; the published ones have 64."""


@dataclass(frozen=True)
class Published:
    """What tells one checkpoint from another: layers, heads, mel bins, vocabulary, and what its files say."""

    encoder: int
    decoder: int
    heads: int
    mels: int = 80
    vocabulary: int = 51_865
    alignment: tuple[tuple[int, int], ...] = ()
    said: bool = True  # whether the generation config says is_multilingual, which the oldest folders don't

    @property
    def english(self) -> bool:
        return self.vocabulary == 51_864

    @property
    def config(self) -> NetworkConfig:
        width = WIDTH * self.heads
        return NetworkConfig(
            d_model=width,
            encoder_layers=self.encoder,
            encoder_attention_heads=self.heads,
            encoder_ffn_dim=2 * width,
            decoder_layers=self.decoder,
            decoder_attention_heads=self.heads,
            decoder_ffn_dim=2 * width,
            vocab_size=self.vocabulary,
            num_mel_bins=self.mels,
            max_source_positions=50,
            max_target_positions=48,
        )


LARGE_2 = Published(32, 32, 20, alignment=((10, 12), (27, 15)))
LARGE_3 = Published(32, 32, 20, 128, 51_866, ((7, 0), (25, 6)))
PUBLISHED = {
    "whisper-tiny": Published(4, 4, 6, alignment=((2, 2), (3, 5))),
    "whisper-tiny.en": Published(4, 4, 6, vocabulary=51_864, alignment=((1, 0), (3, 4))),
    "whisper-base": Published(6, 6, 8, alignment=((3, 1), (5, 6))),
    "whisper-base.en": Published(6, 6, 8, vocabulary=51_864, alignment=((3, 3), (5, 7))),
    "whisper-small": Published(12, 12, 12, alignment=((5, 3), (10, 5))),
    "whisper-small.en": Published(12, 12, 12, vocabulary=51_864, alignment=((6, 6), (11, 4))),
    "whisper-medium": Published(24, 24, 16, alignment=((13, 15), (23, 4))),
    "whisper-medium.en": Published(24, 24, 16, vocabulary=51_864, alignment=((11, 4), (21, 12)), said=False),
    "whisper-large": replace(LARGE_2, said=False),
    "whisper-large-v2": LARGE_2,
    "whisper-large-v3": LARGE_3,
    "whisper-large-v3-turbo": Published(32, 4, 20, 128, 51_866, ((2, 4), (3, 17))),
    "distil-small.en": Published(12, 4, 12, vocabulary=51_864, alignment=((6, 6), (11, 4))),
    "distil-medium.en": Published(24, 2, 16, vocabulary=51_864, alignment=((11, 4), (21, 12))),
    "distil-large-v2": replace(LARGE_2, decoder=2),
    "distil-large-v3": replace(LARGE_3, decoder=2),
    "kotoba-whisper-v1.0": replace(LARGE_3, decoder=2, said=False),
    "kotoba-whisper-v2.0": replace(LARGE_3, decoder=2),
}
DISTILLED = (
    "whisper-large-v3-turbo",
    "distil-large-v2",
    "distil-large-v3",
    "kotoba-whisper-v1.0",
    "kotoba-whisper-v2.0",
)


def make_published(folder: Path, name: str, *, seed: int = 0) -> Published:
    """Write the folder of a checkpoint, with random weights in half precision."""
    shape = PUBLISHED[name]
    torch.manual_seed(seed)
    network = Network(shape.config)
    weights = {key: tensor.half().contiguous() for key, tensor in network.state_dict().items()}
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    numbers = write_vocabulary(folder, shape)
    config = {key: value for key, value in shape.config.asdict().items() if key in PLAIN}
    eot, sot = numbers["<|endoftext|>"], numbers["<|startoftranscript|>"]
    config |= {"model_type": "whisper", "activation_function": "gelu", "scale_embedding": False}
    config |= {"eos_token_id": eot, "pad_token_id": eot, "decoder_start_token_id": sot}
    _write(folder / "config.json", config)
    generation: dict[str, Any] = {"alignment_heads": [list(pair) for pair in shape.alignment]}
    generation |= {"suppress_tokens": [1, 2, 7, 50_361], "begin_suppress_tokens": [220, eot], "max_length": 448}
    if shape.said:
        generation["is_multilingual"] = not shape.english
    _write(folder / "generation_config.json", generation)
    features = {"feature_extractor_type": "WhisperFeatureExtractor", "feature_size": shape.mels, "n_fft": 400}
    _write(folder / "preprocessor_config.json", features | {"hop_length": 160, "sampling_rate": 16_000})
    return shape


PLAIN = (
    *("d_model", "encoder_layers", "encoder_attention_heads", "encoder_ffn_dim", "decoder_layers"),
    *("decoder_attention_heads", "decoder_ffn_dim", "vocab_size", "num_mel_bins", "max_source_positions"),
    "max_target_positions",
)
"""Keys that a stock ``config.json`` has."""


def write_vocabulary(folder: Path, shape: Published) -> dict[str, int]:
    """Write ``tokenizer.json`` in the layout of the published ones; return the numbers of its special tokens."""
    base = 50_256 if shape.english else 50_257
    pieces = list(byte_alphabet().values())
    fillers = ("".join(letters) for letters in product("abcdefghij", repeat=5))  # words that no merge makes
    vocab = {piece: number for number, piece in enumerate([*pieces, *islice(fillers, base - len(pieces))])}
    codes = ["jw" if code == "jv" else code for code in LANGUAGES if code != "yue" or shape.vocabulary == 51_866]
    names = ["<|endoftext|>", "<|startoftranscript|>", *(f"<|{code}|>" for code in codes)]
    names += ["<|translate|>", "<|transcribe|>", "<|startoflm|>", "<|startofprev|>", "<|nospeech|>"]
    names += ["<|notimestamps|>", *(f"<|{number / 50:.2f}|>" for number in range(1_501))]
    numbers = {name: base + place for place, name in enumerate(names)}
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    split = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    layout = {
        "version": "1.0",
        "added_tokens": [{"id": number, "content": name, **flags} for name, number in numbers.items()],
        "pre_tokenizer": split,
        "decoder": split,
        "model": {"type": "BPE", "vocab": vocab, "merges": []},
    }
    _write(folder / "tokenizer.json", layout)
    assert base + len(names) == shape.vocabulary
    return numbers


def split_vocabulary(folder: Path) -> None:
    """Say what ``tokenizer.json`` says as folders did before there was one: in three files."""
    layout = json.loads((folder / "tokenizer.json").read_text())
    _write(folder / "vocab.json", layout["model"]["vocab"])
    merges = [" ".join(pair) for pair in layout["model"]["merges"]]
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *merges, ""]))
    _write(folder / "added_tokens.json", {entry["content"]: entry["id"] for entry in layout["added_tokens"]})
    (folder / "tokenizer.json").unlink()


def join_processor(folder: Path) -> None:
    """Move the features to where transformers 5 saves them."""
    features = json.loads((folder / "preprocessor_config.json").read_text())
    _write(folder / "processor_config.json", {"feature_extractor": features, "processor_class": "WhisperProcessor"})
    (folder / "preprocessor_config.json").unlink()


def _write(path: Path, content: object) -> None:
    path.write_text(json.dumps(content), encoding="utf-8")
