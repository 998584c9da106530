"""Whisper in whisper.cpp's own file, written from a Hugging Face folder.

The layout is that of its ``convert-h5-to-ggml.py`` and, for ``q8_0``, of its ``quantize``: a header of eleven numbers,
the mel filters, the base vocabulary as bytes, then tensors under OpenAI's names. In ``q8_0`` 32 weights share a scale.

```
magic | header | filters | words | (dims, name, kind | shape, innermost first | name | data) …
```
"""

from __future__ import annotations

import json
import re
import struct
from pathlib import Path
from typing import BinaryIO

import numpy as np
import numpy.typing as npt
from safetensors.numpy import load_file

from streamtrans.core import BadConfig
from streamtrans.model.config import read_json
from streamtrans.model.features import mel_filters
from streamtrans.text.tokenizer import byte_alphabet

_MAGIC = 0x67676D6C
_FLOAT32, _FLOAT16, _Q8_0 = 0, 1, 8
_FILES = {"float16": 1, "q8_0": 2_007}
"""Precision → kind of file: whisper.cpp's number, and a thousand times the version of its blocks."""

_HEADER = (
    *("vocab_size", "max_source_positions", "d_model", "encoder_attention_heads", "encoder_layers"),
    *("max_target_positions", "d_model", "decoder_attention_heads", "decoder_layers", "num_mel_bins"),
)

_BLOCK = 32
"""Weights that share a scale."""

_NAMES = (
    (r"^model\.", ""),
    (r"\.layers\.", ".blocks."),
    (r"self_attn_layer_norm", "attn_ln"),
    (r"encoder_attn_layer_norm", "cross_attn_ln"),
    (r"final_layer_norm", "mlp_ln"),
    (r"encoder_attn\.", "cross_attn."),
    (r"self_attn\.", "attn."),
    (r"attn\.q_proj", "attn.query"),
    (r"attn\.k_proj", "attn.key"),
    (r"attn\.v_proj", "attn.value"),
    (r"attn\.out_proj", "attn.out"),
    (r"fc1", "mlp.0"),
    (r"fc2", "mlp.2"),
    (r"embed_tokens", "token_embedding"),
    (r"embed_positions\.weight", "positional_embedding"),
    (r"^encoder\.layer_norm", "encoder.ln_post"),
    (r"^decoder\.layer_norm", "decoder.ln"),
)


def write_ggml(folder: Path, path: Path, precision: str) -> None:
    """Write the weights of a stock Whisper ``folder`` to ``path`` in ``float16`` or ``q8_0``.

    Raises:
        BadConfig: its layers aren't four times as wide inside, or a row of weights can't be cut into blocks.
    """
    config = read_json(folder / "config.json")
    if any(config[f"{half}_ffn_dim"] != 4 * config["d_model"] for half in ("encoder", "decoder")):
        raise BadConfig(f"{folder}: whisper.cpp knows networks alone whose layers are four times as wide inside")
    words = _words(folder)
    with path.open("wb") as file:
        file.write(struct.pack("<i", _MAGIC))
        _numbers(file, *(config[name] for name in _HEADER), _FILES[precision])
        filters = mel_filters(config["num_mel_bins"], 400).numpy().astype("<f4")
        _numbers(file, *filters.shape)
        file.write(filters.tobytes())
        _numbers(file, len(words))
        for word in words:
            _numbers(file, len(word))
            file.write(word)
        for key, weights in sorted(load_file(folder / "model.safetensors").items()):
            if key != "proj_out.weight":  # it is the embedding of tokens
                _tensor(file, _renamed(key), weights.astype(np.float32), precision)


def _words(folder: Path) -> list[bytes]:
    """Return the base vocabulary in order: what comes before end-of-text. whisper.cpp knows the other tokens itself."""
    layout = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    end = min(entry["id"] for entry in layout["added_tokens"])
    letters = {letter: byte for byte, letter in byte_alphabet().items()}
    pieces = sorted((number, piece) for piece, number in layout["model"]["vocab"].items() if number < end)
    return [bytes(letters[letter] for letter in piece) for _, piece in pieces]


def _renamed(key: str) -> str:
    for pattern, name in _NAMES:
        key = re.sub(pattern, name, key)
    return key


def _numbers(file: BinaryIO, *numbers: int) -> None:
    file.write(struct.pack(f"<{len(numbers)}i", *numbers))


def _tensor(file: BinaryIO, name: str, weights: npt.NDArray[np.float32], precision: str) -> None:
    if re.fullmatch(r"encoder\.conv\d\.bias", name):
        weights = weights[:, None]
    plain = weights.ndim == 1 or name.endswith(("bias", "positional_embedding"))
    kind = _FLOAT32 if plain else _Q8_0 if precision == "q8_0" and weights.ndim == 2 else _FLOAT16
    said = name.encode()
    _numbers(file, weights.ndim, len(said), kind, *reversed(weights.shape))
    file.write(said)
    if kind == _Q8_0:
        file.write(_blocks(name, weights))
    else:
        file.write(weights.astype("<f4" if kind == _FLOAT32 else "<f2").tobytes())


def _blocks(name: str, weights: npt.NDArray[np.float32]) -> bytes:
    """Return blocks of a scale in half precision and 32 signed bytes."""
    if weights.shape[-1] % _BLOCK:
        raise BadConfig(f"{name} has rows of {weights.shape[-1]} weights; q8_0 wants a multiple of {_BLOCK}")
    blocks = weights.reshape(-1, _BLOCK)
    scales = np.abs(blocks).max(axis=1, keepdims=True) / 127
    whole = np.rint(np.divide(blocks, scales, out=np.zeros_like(blocks), where=scales > 0))
    packed = np.empty(len(blocks), [("scale", "<f2"), ("whole", "i1", _BLOCK)])
    packed["scale"], packed["whole"] = scales[:, 0], whole
    return packed.tobytes()
