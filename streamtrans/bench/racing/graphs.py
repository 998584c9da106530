"""Whisper as two OpenVINO graphs: what is heard becomes keys and values; tokens and these become logits.

transformers' modules are traced layer by layer, because its own decoder keeps a cache that can't be traced. Int8 are
weights alone, a scale per row, which OpenVINO's CPU plugin reads as they are.
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import gelu, scaled_dot_product_attention

from streamtrans.bench.racing.theirs import FILTERS, GRAPHS, WINDOW, load_openvino
from streamtrans.model.features import mel_filters


class Hear(nn.Module):
    """Log-mel frames ``(1, M, T)`` → keys and values of every layer of the decoder, ``(2 L, 1, H, S, D)``."""

    def __init__(self, whisper: Any) -> None:
        super().__init__()
        self.encoder, self.decoder = whisper.model.encoder, whisper.model.decoder

    def forward(self, mel: Tensor) -> Tensor:
        """Encode the whole of it, however long."""
        encoder = self.encoder
        x = gelu(encoder.conv2(gelu(encoder.conv1(mel)))).permute(0, 2, 1)
        x = x + encoder.embed_positions.weight[: x.shape[1]]
        for layer in encoder.layers:
            normed = layer.self_attn_layer_norm(x)
            query, key, value = _heads(layer.self_attn, normed, normed)
            x = x + _joined(layer.self_attn, scaled_dot_product_attention(query, key, value))
            x = x + layer.fc2(gelu(layer.fc1(layer.final_layer_norm(x))))
        x = encoder.layer_norm(x)
        pairs = [_heads(layer.encoder_attn, None, x)[1:] for layer in self.decoder.layers]
        return torch.stack([part for pair in pairs for part in pair])


class Write(nn.Module):
    """Tokens ``(1, n)``, what was read before and what was heard → logits ``(1, V)`` of the last, and what is read now.

    What was read is ``(2 L, 1, H, P, D)``, as what was heard.
    """

    def __init__(self, whisper: Any) -> None:
        super().__init__()
        self.decoder = whisper.model.decoder
        self.head = whisper.proj_out

    def forward(self, tokens: Tensor, past: Tensor, heard: Tensor) -> tuple[Tensor, Tensor]:
        """Read the tokens after what was read before."""
        decoder = self.decoder
        before = past.shape[3]
        places = torch.arange(tokens.shape[1]) + before
        mask = torch.arange(before + tokens.shape[1])[None] <= places[:, None]
        x = decoder.embed_tokens(tokens) + decoder.embed_positions.weight[places]
        read = []
        for number, layer in enumerate(decoder.layers):
            normed = layer.self_attn_layer_norm(x)
            query, key, value = _heads(layer.self_attn, normed, normed)
            key = torch.cat([past[2 * number], key], dim=2)
            value = torch.cat([past[2 * number + 1], value], dim=2)
            read += [key, value]
            x = x + _joined(layer.self_attn, scaled_dot_product_attention(query, key, value, attn_mask=mask))
            query, _, _ = _heads(layer.encoder_attn, layer.encoder_attn_layer_norm(x), None)
            seen = scaled_dot_product_attention(query, heard[2 * number], heard[2 * number + 1])
            x = x + _joined(layer.encoder_attn, seen)
            x = x + layer.fc2(gelu(layer.fc1(layer.final_layer_norm(x))))
        return self.head(decoder.layer_norm(x[:, -1])), torch.stack(read)


class Bytes(nn.Module):
    """A linear layer whose weights are whole numbers in a byte each, and a scale per row."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        scales = linear.weight.abs().amax(1, keepdim=True).clamp(min=1e-9) / 127
        self.register_buffer("whole", (linear.weight / scales).round().to(torch.int8))
        self.register_buffer("scales", scales)
        self.bias = linear.bias

    def forward(self, x: Tensor) -> Tensor:
        """Multiply."""
        whole, scales = self.get_buffer("whole"), self.get_buffer("scales")
        return torch.nn.functional.linear(x, whole.to(torch.float32) * scales, self.bias)


def write_graphs(whisper: Any, folder: Path, precision: str) -> None:
    """Write transformers' ``whisper`` as graphs in ``int8`` or ``float32``."""
    openvino = load_openvino()
    whisper = copy.deepcopy(whisper)
    if precision == "int8":
        _to_bytes(whisper)
    config = whisper.config
    pairs, heads = 2 * config.decoder_layers, config.decoder_attention_heads
    width = config.d_model // heads
    mel, heard = torch.zeros(1, config.num_mel_bins, 200), torch.zeros(pairs, 1, heads, 100, width)
    past = torch.zeros(pairs, 1, heads, 3, width)
    shapes = ([1, config.num_mel_bins, -1], [1, -1], [pairs, 1, heads, -1, width])
    folder.mkdir(parents=True, exist_ok=True)
    with torch.no_grad():
        hear = openvino.convert_model(Hear(whisper).eval(), example_input=(mel,), input=[shapes[0]])
        tokens = torch.tensor([[1, 2, 3]])
        write = openvino.convert_model(
            Write(whisper).eval(), example_input=(tokens, past, heard), input=[shapes[1], shapes[2], shapes[2]]
        )
    for graph, name in zip((hear, write), GRAPHS, strict=True):
        openvino.save_model(graph, folder / name, compress_to_fp16=False)
    np.save(folder / FILTERS, mel_filters(config.num_mel_bins, WINDOW).numpy().astype(np.float32))


def _heads(attention: Any, asking: Tensor | None, answering: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    """Return queries, keys and values ``(1, H, n, D)``; empty where nothing asks or answers."""

    def split(x: Tensor) -> Tensor:
        return x.reshape(1, -1, attention.num_heads, attention.head_dim).transpose(1, 2)

    nothing = torch.zeros(0)
    query = nothing if asking is None else split(attention.q_proj(asking))
    if answering is None:
        return query, nothing, nothing
    return query, split(attention.k_proj(answering)), split(attention.v_proj(answering))


def _joined(attention: Any, x: Tensor) -> Tensor:
    projected: Tensor = attention.out_proj(x.transpose(1, 2).flatten(2))
    return projected


def _to_bytes(module: nn.Module) -> None:
    for name, child in module.named_children():
        if isinstance(child, nn.Linear):
            setattr(module, name, Bytes(child))
        else:
            _to_bytes(child)
