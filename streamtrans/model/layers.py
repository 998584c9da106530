"""Attention, encoder and decoder layers with Whisper's shapes and Whisper's parameter names.

A layer is weights. Where its keys and values come from and go to is the business of a *history* (self-attention)
and of a *crossing* (attention to the encoder), so that training, plain decoding and the slots of the engine run
the very same layer code.

Source of the shapes: Radford et al. 2022, "Robust Speech Recognition via Large-Scale Weak Supervision".
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class History(Protocol):
    """Keys and values of the text read so far, for one decoder layer."""

    def attend(self, queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        """Add keys and values ``(B, H, T, D)``; return what queries of that shape see of all there are."""
        ...


class Crossing(Protocol):
    """Attention to keys that others wrote: the encoder's, or for KVSPN those of the base decoder."""

    def attend(self, queries: Tensor) -> Tensor:
        """Return ``(B, H, T, D)`` for queries of the same shape."""
        ...


def attend(queries: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None) -> Tensor:
    """Return scaled dot-product attention ``(B, H, T, D)``.

    ``mask`` is true where a key is visible, or numbers to add to the scores. Fewer heads of keys than of queries are
    shared by neighbours.
    """
    if keys.shape[1] != queries.shape[1]:
        each = queries.shape[1] // keys.shape[1]
        keys, values = keys.repeat_interleave(each, 1), values.repeat_interleave(each, 1)
    if queries.device.type == "cpu" and queries.dtype == torch.bfloat16:
        # torch's fused CPU kernel is 3 to 6 times slower than two products in bf16, most of all backward.
        scores = (queries * queries.shape[-1] ** -0.5) @ keys.transpose(-1, -2)
        if mask is not None:
            scores = scores + mask if mask.is_floating_point() else scores.masked_fill(~mask, float("-inf"))
        return scores.softmax(-1, dtype=torch.bfloat16) @ values
    return F.scaled_dot_product_attention(queries, keys, values, attn_mask=mask)


def bounded(x: Tensor) -> Tensor:
    """Hold float16 away from its infinities, as Whisper's encoder is run in transformers; other types have room."""
    if x.dtype != torch.float16:
        return x
    most = torch.finfo(x.dtype).max - 1000
    return x.clamp(-most, most)


def attend_or_zero(queries: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None) -> Tensor:
    """Attend as :func:`attend`, but answer zero, with zero gradient, where a query sees no key at all."""
    if mask is None:
        return attend(queries, keys, values, None)
    blind = ~mask.any(-1, keepdim=True)
    # A blind query looks everywhere instead, for a softmax over nothing is NaN; its answer is dropped.
    seen = attend(queries, keys, values, mask | blind)
    return seen.masked_fill(blind, 0.0)


class Attention(nn.Module):
    """The four projections of multi-head attention; keys carry no bias in Whisper, and one in translators of texts."""

    def __init__(self, width: int, heads: int, *, key_bias: bool = False, heard: int = 0) -> None:
        super().__init__()
        self.heads = heads
        heard = heard or width  # of what keys and values are made of
        self.q_proj = nn.Linear(width, width)
        self.k_proj = nn.Linear(heard, width, bias=key_bias)
        self.v_proj = nn.Linear(heard, width)
        self.out_proj = nn.Linear(width, width)
        # For inference, model.linear joins what reads the same rows.
        self.qkv_proj: nn.Module | None = None
        self.kv_proj: nn.Module | None = None

    def split(self, x: Tensor) -> Tensor:
        """Reshape ``(B, T, E)`` to ``(B, H, T, D)``."""
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)

    def queries(self, x: Tensor) -> Tensor:
        """Project ``(B, T, E)`` to queries ``(B, H, T, D)``."""
        return self.split(self.q_proj(x))

    def keys_values(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Project ``(B, T, E)`` to keys and values ``(B, H, T, D)``."""
        if self.kv_proj is None:
            return self.split(self.k_proj(x)), self.split(self.v_proj(x))
        keys, values = split_joined(self.kv_proj(x), 2, self.heads)
        return keys, values

    def project(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Project ``(B, T, E)`` to queries, keys and values ``(B, H, T, D)`` of attention to itself."""
        if self.qkv_proj is None:
            return self.queries(x), *self.keys_values(x)
        queries, keys, values = split_joined(self.qkv_proj(x), 3, self.heads)
        return queries, keys, values

    def merge(self, heads: Tensor) -> Tensor:
        """Project attended ``(B, H, T, D)`` back to ``(B, T, E)``."""
        return self.out_proj(heads.transpose(1, 2).flatten(-2))


def split_joined(x: Tensor, parts: int, heads: int) -> tuple[Tensor, ...]:
    """Take projections ``(B, T, parts * E)`` that were computed as one apart, into ``(B, H, T, D)`` each."""
    return x.view(*x.shape[:-1], parts * heads, -1).transpose(1, 2).chunk(parts, 1)


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

    def forward(self, x: Tensor, mask: Tensor | None, rotation: tuple[Tensor, Tensor] | None = None) -> Tensor:
        """Map ``(B, S, E)`` to the same shape; ``mask`` ``(B or 1, 1, 1 or S, S)`` is true where a frame is visible."""
        h = self.self_attn_layer_norm(x)
        queries, keys, values = self.self_attn.project(h)
        if rotation is not None:
            queries, keys = rotate(queries, rotation), rotate(keys, rotation)
        x = x + self.self_attn.merge(attend(queries, keys, values, mask))
        return bounded(self.add_feed_forward(x))

    def go_on(
        self, x: Tensor, past: tuple[Tensor, Tensor], mask: Tensor | None, rotation: tuple[Tensor, Tensor]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Map the frames ``(B, F, E)`` after those whose keys and values ``(B, H, C, D)`` are ``past``.

        ``mask`` is ``(B, 1, F, C + F)``, ``rotation`` counts all ``C + F`` frames. Returns the mapped frames and
        their own keys and values ``(B, H, F, D)``, the keys not yet turned.
        """
        queries, keys, values = self.self_attn.project(self.self_attn_layer_norm(x))
        cosines, sines = rotation
        queries = rotate(queries, (cosines[-x.shape[1] :], sines[-x.shape[1] :]))
        seen = attend(queries, rotate(torch.cat([past[0], keys], 2), rotation), torch.cat([past[1], values], 2), mask)
        return bounded(self.add_feed_forward(x + self.self_attn.merge(seen))), keys, values


class DecoderLayer(FeedForward):
    """Causal self-attention, attention to the encoder and MLP, normalised first."""

    def __init__(self, width: int, heads: int, inner: int, heard: int) -> None:
        super().__init__()
        self.self_attn = Attention(width, heads)
        self.self_attn_layer_norm = nn.LayerNorm(width)
        self.encoder_attn = Attention(width, heads, heard=heard)
        self.encoder_attn_layer_norm = nn.LayerNorm(width)
        self.make_feed_forward(width, inner)

    def forward(self, x: Tensor, history: History, crossing: Crossing) -> Tensor:
        """Map ``(B, T, E)`` to the same shape, writing its keys and values to ``history``."""
        h = self.self_attn_layer_norm(x)
        x = x + self.self_attn.merge(history.attend(*self.self_attn.project(h)))
        queries = self.encoder_attn.queries(self.encoder_attn_layer_norm(x))
        x = x + self.encoder_attn.merge(crossing.attend(queries))
        return self.add_feed_forward(x)


class SpeechEncoder(nn.Module):
    """Two convolutions (the second halves the frame rate), layers; positions are Whisper's sinusoids, or rotary.

    Rotary positions (Su et al. 2021) are relative: nothing in a feature says how long the stream has run.
    """

    def __init__(
        self, *, mels: int, width: int, heads: int, inner: int, layers: int, positions: int, rotary: bool = False
    ) -> None:
        super().__init__()
        self.conv1 = nn.Conv1d(mels, width, 3, padding=1)
        self.conv2 = nn.Conv1d(width, width, 3, stride=2, padding=1)
        self.head_width = width // heads
        self.embed_positions: nn.Embedding | None = None
        if not rotary:
            self.embed_positions = nn.Embedding(positions, width)
            self.embed_positions.weight.requires_grad_(False)
            with torch.no_grad():
                self.embed_positions.weight.copy_(sinusoids(positions, width))
        self.layers: Sequence[EncoderLayer] = nn.ModuleList(  # type: ignore[assignment]
            EncoderLayer(width, heads, inner) for _ in range(layers)
        )
        self.layer_norm = nn.LayerNorm(width)

    def forward(
        self, mel: Tensor, frames: Tensor | None = None, blocks: Blocks | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """Encode log-mel features.

        Args:
            mel: ``(B, M, T)``; rows are padded at the end.
            frames: ``(B,)`` real mel frames of each row; ``None`` means that all of ``T`` is real.
            blocks: how far attention may look; ``None`` means everywhere.

        Returns:
            Features ``(B, S, E)`` with ``S = ceil(T / 2)``, and the visibility of frames ``(B, S)``
            (``None`` where all are real).
        """
        real = visible = None
        if frames is not None:
            real = torch.arange(mel.shape[-1], device=mel.device) < frames[:, None]
            visible = real[:, ::2]
        x = self.convolve(mel, real)
        rotation = None
        if self.embed_positions is None:
            rotation = rotations(torch.arange(x.shape[1], device=x.device), self.head_width, x.dtype)
        else:
            x = x + self.embed_positions.weight[: x.shape[1]]
        mask = None if visible is None else visible[:, None, None]
        if blocks is not None:
            near = blocks.mask(x.shape[1], x.device)[None, None]
            mask = near if mask is None else near & mask
        for layer in self.layers:
            x = layer(x, mask, rotation)
        return self.layer_norm(x), visible

    def convolve(self, mel: Tensor, real: Tensor | None) -> Tensor:
        """Map ``(B, M, T)``, of which the columns ``real`` ``(B, T)`` count, to ``(B, ceil(T / 2), E)``."""
        if real is None:
            x = F.gelu(self.conv1(mel))
        else:
            # A row must not notice that it was padded: what is beside it counts as the convolution's own zeros.
            x = F.gelu(self.conv1(mel.masked_fill(~real[:, None], 0.0))).masked_fill(~real[:, None], 0.0)
        return F.gelu(self.conv2(x)).transpose(1, 2)

    def go_on(
        self, mel: Tensor, real: Tensor | None, frames: int, past: Tensor, mask: Tensor | None
    ) -> tuple[Tensor, list[Tensor], list[Tensor]]:
        """Encode the frames that follow others, with rotary positions.

        Positions are counted from the first frame of ``past``: attention asks for distances only, so numbers stay
        small however long a stream has run.

        Args:
            mel: ``(B, M, 2 + T)``; the first two columns belong to the frame before, for the convolutions.
            real: ``(B, 2 + T)`` columns that count, ``None`` where all do.
            frames: ``F``, how many are encoded of the ``ceil(T / 2)`` that there are.
            past: ``(2, L, B, H, C, D)`` keys, not turned, and values of each layer for the ``C`` frames before.
            mask: ``(B, 1, F, C + F)``, true where a frame is visible; ``None`` where everything is.

        Returns:
            Features ``(B, F, E)``, and the keys and the values ``(B, H, F, D)`` of each layer.
        """
        x = self.convolve(mel, real)[:, 1 : 1 + frames]
        rotation = rotations(torch.arange(past.shape[-2] + frames, device=x.device), self.head_width, x.dtype)
        keys, values = [], []
        for number, layer in enumerate(self.layers):
            x, own_keys, own_values = layer.go_on(x, (past[0, number], past[1, number]), mask, rotation)
            keys.append(own_keys)
            values.append(own_values)
        features: Tensor = self.layer_norm(x)
        return features, keys, values


class TextDecoder(nn.Module):
    """Token and position embeddings, decoder layers, and logits through the token embedding.

    What it attends to may be as wide as ``heard``; 0: as wide as it is itself.
    """

    def __init__(
        self, *, vocabulary: int, width: int, heads: int, inner: int, layers: int, positions: int, heard: int = 0
    ) -> None:
        super().__init__()
        self.embed_tokens = nn.Embedding(vocabulary, width)
        self.embed_positions = nn.Embedding(positions, width)
        self.layers: Sequence[DecoderLayer] = nn.ModuleList(  # type: ignore[assignment]
            DecoderLayer(width, heads, inner, heard) for _ in range(layers)
        )
        self.layer_norm = nn.LayerNorm(width)
        self.head: nn.Module | None = None  # for inference, model.linear packs a copy of the token embedding

    def embed(self, tokens: Tensor, positions: Tensor) -> Tensor:
        """Embed ``(B, T)`` tokens at ``(B, T)`` or ``(T,)`` positions to ``(B, T, E)``."""
        return self.embed_tokens(tokens) + self.embed_positions(positions)

    def logits(self, hidden: Tensor) -> Tensor:
        """Score the vocabulary for normalised hidden states ``(..., E)``."""
        return F.linear(hidden, self.embed_tokens.weight) if self.head is None else self.head(hidden)


@dataclass(frozen=True, slots=True)
class Blocks:
    """Block-causal attention of an encoder: both ways inside a block, only back across blocks.

    ``size`` frames make a block: larger hears better and later. A block sees ``left`` frames before its first:
    larger hears better and costs more. Frames of 40 ms in the embedded model, of 20 ms in Whisper.
    """

    size: int
    left: int

    def mask(self, frames: int, device: torch.device) -> Tensor:
        """Return ``(frames, frames)``, true where the row's frame sees the column's."""
        steps = torch.arange(frames, device=device)
        return self._near(steps, steps)

    def mask_after(self, past: Sequence[int], new: Sequence[int], device: torch.device) -> Tensor | None:
        """Return what rows of ``new`` frames, the first of them at the beginning of a block, see.

        The columns are ``max(past)`` frames before, of which each row has the last ``past``, then ``max(new)``:
        ``(B, 1, max(new), max(past) + max(new))``; ``None`` says that everything is visible. A frame that is
        padding sees itself, for a softmax over nothing is NaN.
        """
        before, after = max(past), max(new)
        if min(past) == before <= self.left and min(new) == after <= self.size:
            return None
        steps, columns = torch.arange(after, device=device), torch.arange(-before, after, device=device)
        known, fresh = torch.tensor([past, new], device=device)[..., None]
        there = (columns >= -known) & (columns < fresh)
        return ((self._near(steps, columns) & there[:, None]) | (columns == steps[:, None]))[:, None]

    def _near(self, rows: Tensor, columns: Tensor) -> Tensor:
        start = (rows // self.size * self.size)[:, None]
        return (columns < start + self.size) & (columns >= start - self.left)


def rotations(positions: Tensor, width: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Return cosines and sines ``(T, width / 2)`` of rotary positions (base 10 000) for heads of ``width``."""
    rates = 10_000.0 ** (-torch.arange(0, width, 2, device=positions.device, dtype=torch.float64) / width)
    angles = positions[:, None] * rates
    return angles.cos().to(dtype), angles.sin().to(dtype)


def rotate(heads: Tensor, rotation: tuple[Tensor, Tensor]) -> Tensor:
    """Turn queries or keys ``(B, H, T, D)`` by their positions; halves of a head are the pairs that turn."""
    cosines, sines = (part.to(heads.dtype) for part in rotation)
    first, second = heads.chunk(2, -1)
    return torch.cat([first * cosines - second * sines, first * sines + second * cosines], -1)


def sinusoids(length: int, width: int, longest: float = 10_000.0) -> Tensor:
    """Return Whisper's encoder positions ``(length, width)``: sines, then cosines."""
    rates = torch.exp(-math.log(longest) / (width // 2 - 1) * torch.arange(width // 2))
    angles = torch.arange(length)[:, None] * rates
    return torch.cat([angles.sin(), angles.cos()], dim=1)
