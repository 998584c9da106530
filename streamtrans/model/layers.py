"""Attention, encoder and decoder layers with Whisper's shapes and Whisper's parameter names.

A layer is weights. Where its keys and values come from and go to is the business of a *history* (self-attention)
and of a *crossing* (attention to the encoder), so that training, plain decoding and the slots of the engine run
the very same layer code.

Source of the shapes: Radford et al. 2022, "Robust Speech Recognition via Large-Scale Weak Supervision".
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class History(Protocol):
    """Keys and values of the text read so far, for one decoder layer."""

    def extend(self, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        """Add ``(B, H, T, D)`` and return all keys, all values and the mask (true = visible)."""
        ...


class Crossing(Protocol):
    """Attention to what the encoder said, for one decoder layer."""

    def attend(self, queries: Tensor) -> Tensor:
        """Return ``(B, H, T, D)`` for queries of the same shape."""
        ...


def attend(queries: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None) -> Tensor:
    """Return scaled dot-product attention ``(B, H, T, D)``; ``mask`` is true where a key is visible."""
    if queries.device.type == "cpu" and queries.dtype == torch.bfloat16:
        # torch's fused CPU kernel is 3 to 6 times slower than two products in bf16, most of all backward.
        scores = (queries * queries.shape[-1] ** -0.5) @ keys.transpose(-1, -2)
        if mask is not None:
            scores = scores.masked_fill(~mask, float("-inf"))
        return scores.softmax(-1, dtype=torch.bfloat16) @ values
    return F.scaled_dot_product_attention(queries, keys, values, attn_mask=mask)


def attend_or_zero(queries: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None) -> Tensor:
    """Attend as :func:`attend`, but answer zero, with zero gradient, where a query sees no key at all."""
    if mask is None:
        return attend(queries, keys, values, None)
    blind = ~mask.any(-1, keepdim=True)
    # A blind query looks everywhere instead, for a softmax over nothing is NaN; its answer is dropped.
    seen = attend(queries, keys, values, mask | blind)
    return seen.masked_fill(blind, 0.0)


class Attention(nn.Module):
    """The four projections of multi-head attention; keys carry no bias, as in Whisper."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.q_proj = nn.Linear(width, width)
        self.k_proj = nn.Linear(width, width, bias=False)
        self.v_proj = nn.Linear(width, width)
        self.out_proj = nn.Linear(width, width)

    def split(self, x: Tensor) -> Tensor:
        """Reshape ``(B, T, E)`` to ``(B, H, T, D)``."""
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)

    def queries(self, x: Tensor) -> Tensor:
        """Project ``(B, T, E)`` to queries ``(B, H, T, D)``."""
        return self.split(self.q_proj(x))

    def keys_values(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Project ``(B, T, E)`` to keys and values ``(B, H, T, D)``."""
        return self.split(self.k_proj(x)), self.split(self.v_proj(x))

    def merge(self, heads: Tensor) -> Tensor:
        """Project attended ``(B, H, T, D)`` back to ``(B, T, E)``."""
        return self.out_proj(heads.transpose(1, 2).flatten(-2))


class FeedForward(nn.Module):
    """Hold the two linears of a layer's MLP under the names the checkpoint gives them."""

    fc1: nn.Linear
    fc2: nn.Linear
    final_layer_norm: nn.LayerNorm

    def add_feed_forward(self, x: Tensor) -> Tensor:
        """Return ``x`` plus the MLP of its normalised self; shapes ``(B, T, E)``."""
        return x + self.fc2(F.gelu(self.fc1(self.final_layer_norm(x))))

    def make_feed_forward(self, width: int, inner: int) -> None:
        """Create the MLP of a layer."""
        self.fc1 = nn.Linear(width, inner)
        self.fc2 = nn.Linear(inner, width)
        self.final_layer_norm = nn.LayerNorm(width)


class EncoderLayer(FeedForward):
    """Bidirectional self-attention and MLP, normalised first."""

    def __init__(self, width: int, heads: int, inner: int) -> None:
        super().__init__()
        self.self_attn = Attention(width, heads)
        self.self_attn_layer_norm = nn.LayerNorm(width)
        self.make_feed_forward(width, inner)

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """Map ``(B, S, E)`` to the same shape; ``mask`` ``(B, 1, 1, S)`` is true at real frames."""
        h = self.self_attn_layer_norm(x)
        keys, values = self.self_attn.keys_values(h)
        x = x + self.self_attn.merge(attend(self.self_attn.queries(h), keys, values, mask))
        return self.add_feed_forward(x)


class DecoderLayer(FeedForward):
    """Causal self-attention, attention to the encoder and MLP, normalised first."""

    def __init__(self, width: int, heads: int, inner: int) -> None:
        super().__init__()
        self.self_attn = Attention(width, heads)
        self.self_attn_layer_norm = nn.LayerNorm(width)
        self.encoder_attn = Attention(width, heads)
        self.encoder_attn_layer_norm = nn.LayerNorm(width)
        self.make_feed_forward(width, inner)

    def forward(self, x: Tensor, history: History, crossing: Crossing) -> Tensor:
        """Map ``(B, T, E)`` to the same shape, writing its keys and values to ``history``."""
        h = self.self_attn_layer_norm(x)
        queries = self.self_attn.queries(h)
        keys, values, mask = history.extend(*self.self_attn.keys_values(h))
        x = x + self.self_attn.merge(attend(queries, keys, values, mask))
        queries = self.encoder_attn.queries(self.encoder_attn_layer_norm(x))
        x = x + self.encoder_attn.merge(crossing.attend(queries))
        return self.add_feed_forward(x)


class SpeechEncoder(nn.Module):
    """Two convolutions (the second halves the frame rate), fixed sinusoidal positions, layers."""

    def __init__(self, *, mels: int, width: int, heads: int, inner: int, layers: int, positions: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv1d(mels, width, 3, padding=1)
        self.conv2 = nn.Conv1d(width, width, 3, stride=2, padding=1)
        self.embed_positions = nn.Embedding(positions, width)
        self.embed_positions.weight.requires_grad_(False)
        with torch.no_grad():
            self.embed_positions.weight.copy_(sinusoids(positions, width))
        self.layers = nn.ModuleList(EncoderLayer(width, heads, inner) for _ in range(layers))
        self.layer_norm = nn.LayerNorm(width)

    def forward(self, mel: Tensor, frames: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """Encode log-mel features.

        Args:
            mel: ``(B, M, T)``; rows are padded at the end.
            frames: ``(B,)`` real mel frames of each row; ``None`` means that all of ``T`` is real.

        Returns:
            Features ``(B, S, E)`` with ``S = ceil(T / 2)``, and the visibility of frames ``(B, S)``
            (``None`` where all are real).
        """
        visible = None
        if frames is not None:
            real = torch.arange(mel.shape[-1], device=mel.device) < frames[:, None]
            # A row must not notice that it was padded: what lies behind it counts as the convolution's own zeros.
            x = F.gelu(self.conv1(mel.masked_fill(~real[:, None], 0.0))).masked_fill(~real[:, None], 0.0)
            visible = real[:, ::2]
        else:
            x = F.gelu(self.conv1(mel))
        x = F.gelu(self.conv2(x)).transpose(1, 2)
        x = x + self.embed_positions.weight[: x.shape[1]]
        mask = None if visible is None else visible[:, None, None]
        for layer in self.layers:
            x = layer(x, mask)
        return self.layer_norm(x), visible


class TextDecoder(nn.Module):
    """Token and position embeddings, decoder layers, and logits through the token embedding."""

    def __init__(self, *, vocabulary: int, width: int, heads: int, inner: int, layers: int, positions: int) -> None:
        super().__init__()
        self.embed_tokens = nn.Embedding(vocabulary, width)
        self.embed_positions = nn.Embedding(positions, width)
        self.layers: Sequence[DecoderLayer] = nn.ModuleList(  # type: ignore[assignment]
            DecoderLayer(width, heads, inner) for _ in range(layers)
        )
        self.layer_norm = nn.LayerNorm(width)

    def embed(self, tokens: Tensor, positions: Tensor) -> Tensor:
        """Embed ``(B, T)`` tokens at ``(B, T)`` or ``(T,)`` positions to ``(B, T, E)``."""
        return self.embed_tokens(tokens) + self.embed_positions(positions)

    def logits(self, hidden: Tensor) -> Tensor:
        """Score the vocabulary for normalised hidden states ``(..., E)``."""
        return F.linear(hidden, self.embed_tokens.weight)


def sinusoids(length: int, width: int, longest: float = 10_000.0) -> Tensor:
    """Return Whisper's encoder positions ``(length, width)``: sines, then cosines."""
    rates = torch.exp(-math.log(longest) / (width // 2 - 1) * torch.arange(width // 2))
    angles = torch.arange(length)[:, None] * rates
    return torch.cat([angles.sin(), angles.cos()], dim=1)
