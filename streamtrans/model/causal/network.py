"""A decoder as Llama is built, under the names of its checkpoints: RMS norms, rotary positions, gated MLP, shared keys.

Qwen2's have biases on queries, keys and values besides. Source: Touvron et al. 2023; heads that share keys: Ainslie et
al. 2023.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from streamtrans.core import BadModel
from streamtrans.model.config import shown, whole
from streamtrans.model.layers import History, rotate
from streamtrans.model.linear import JOINED, join, make_linear

MOST = 768
"""Positions that are kept ready for a prompt and its answer: twice half a minute of speech, and what is around it."""


@dataclass(frozen=True, slots=True)
class Shape:
    """Sizes as ``config.json`` names them."""

    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    head_dim: int
    vocab_size: int
    max_position_embeddings: int
    rms_norm_eps: float
    theta: float
    tied: bool
    bias: bool
    """Queries, keys and values have one."""
    out_bias: bool
    """And what attention makes of them."""

    @classmethod
    def of(cls, raw: dict[str, Any]) -> Shape:
        """Pick them out of a ``config.json``.

        Raises:
            BadModel: one is missing or no size that a network can have, or it asks for arithmetic that isn't done here.
        """
        heads, width = raw.get("num_attention_heads"), raw.get("hidden_size")
        usual = width // heads if type(heads) is int and heads > 0 and type(width) is int else None
        said = {"num_key_value_heads": heads, **{name: each for name, each in raw.items() if each is not None}}
        said.setdefault("head_dim", usual)
        sizes = whole(said, [name for name, item in cls.__dataclass_fields__.items() if item.type == "int"])
        rope = said.get("rope_parameters") or said.get("rope_scaling") or {}
        kind = rope.get("rope_type", rope.get("type", "default")) if isinstance(rope, dict) else rope
        theta = rope.get("rope_theta", said.get("rope_theta", 10_000.0)) if isinstance(rope, dict) else None
        epsilon = said.get("rms_norm_eps", 1e-6)
        for name, value, fits in (
            ("rope_type", kind, kind == "default"),
            ("hidden_act", said.get("hidden_act", "silu"), said.get("hidden_act", "silu") == "silu"),
            ("mlp_bias", said.get("mlp_bias", False), not said.get("mlp_bias", False)),
            ("use_sliding_window", said.get("use_sliding_window", False), not said.get("use_sliding_window", False)),
            ("rope_theta", theta, isinstance(theta, int | float) and 1 < theta < 1e12),
            ("rms_norm_eps", epsilon, isinstance(epsilon, float) and 0 < epsilon < 1),
        ):
            if not fits:
                raise BadModel(f"{name} is {shown(value)}, and no network of that kind is read")
        if said["num_attention_heads"] % said["num_key_value_heads"] or said["head_dim"] % 2:
            raise BadModel(
                f"{said['num_attention_heads']} heads of width {said['head_dim']} can't share the keys of"
                f" {said['num_key_value_heads']}"
            )
        tied, biased = bool(said.get("tie_word_embeddings", False)), bool(said.get("attention_bias", False))
        bias = biased or said.get("model_type") == "qwen2"
        epsilon, theta = float(epsilon), float(theta or 0)
        return cls(**sizes, rms_norm_eps=epsilon, theta=theta, tied=tied, bias=bias, out_bias=biased)

    @property
    def positions(self) -> int:
        """Tokens that a prompt and its answer may have."""
        return min(self.max_position_embeddings, MOST)


class RmsNorm(nn.Module):
    """Divides by the root of the mean square, computed in no less than float32."""

    def __init__(self, width: int, epsilon: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.epsilon = epsilon

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(..., E)`` to the same shape."""
        wide = x.to(torch.promote_types(x.dtype, torch.float32))
        wide = wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + self.epsilon)
        return self.weight * wide.to(x.dtype)


class SharedHeads(nn.Module):
    """Attention back, whose keys and values several heads of queries share."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.width = width = shape.head_dim
        heads, shared, bias = shape.num_attention_heads, shape.num_key_value_heads, shape.bias
        self.q_proj = nn.Linear(shape.hidden_size, heads * width, bias=bias)
        self.k_proj = nn.Linear(shape.hidden_size, shared * width, bias=bias)
        self.v_proj = nn.Linear(shape.hidden_size, shared * width, bias=bias)
        self.o_proj = nn.Linear(heads * width, shape.hidden_size, bias=shape.out_bias)

    def forward(self, x: Tensor, history: History, rotation: tuple[Tensor, Tensor]) -> Tensor:
        """Map ``(B, T, E)`` to the same shape, writing its keys and values to ``history``."""
        queries, keys, values = (
            part(x).unflatten(-1, (-1, self.width)).transpose(1, 2) for part in (self.q_proj, self.k_proj, self.v_proj)
        )
        seen = history.attend(rotate(queries, rotation), rotate(keys, rotation), values)
        mapped: Tensor = self.o_proj(seen.transpose(1, 2).flatten(-2))
        return mapped


class GatedMlp(nn.Module):
    """The MLP of a layer."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(shape.hidden_size, shape.intermediate_size, bias=False)
        self.up_proj = nn.Linear(shape.hidden_size, shape.intermediate_size, bias=False)
        self.down_proj = nn.Linear(shape.intermediate_size, shape.hidden_size, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(B, T, E)`` to the same shape."""
        mapped: Tensor = self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))
        return mapped


class Layer(nn.Module):
    """Attention back, and MLP; each normalised first."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.input_layernorm = RmsNorm(shape.hidden_size, shape.rms_norm_eps)
        self.self_attn = SharedHeads(shape)
        self.post_attention_layernorm = RmsNorm(shape.hidden_size, shape.rms_norm_eps)
        self.mlp = GatedMlp(shape)

    def forward(self, x: Tensor, history: History, rotation: tuple[Tensor, Tensor]) -> Tensor:
        """Map ``(B, T, E)`` to the same shape."""
        x = x + self.self_attn(self.input_layernorm(x), history, rotation)
        mapped: Tensor = x + self.mlp(self.post_attention_layernorm(x))
        return mapped


class Body(nn.Module):
    """What checkpoints have under ``model.``."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.embed_tokens = nn.Embedding(shape.vocab_size, shape.hidden_size)
        self.layers: Sequence[Layer] = nn.ModuleList(  # type: ignore[assignment]
            Layer(shape) for _ in range(shape.num_hidden_layers)
        )
        self.norm = RmsNorm(shape.hidden_size, shape.rms_norm_eps)


class CausalNetwork(nn.Module):
    """The network; where nothing else is stored, the embedding scores the vocabulary too."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        self.model = Body(shape)
        self.lm_head: nn.Module | None = None
        if not shape.tied:
            self.lm_head = nn.Linear(shape.hidden_size, shape.vocab_size, bias=False)

    def forward(self, x: Tensor, histories: Sequence[History], positions: Tensor) -> Tensor:
        """Map embeddings ``(B, T, E)`` at ``positions`` ``(T,)`` or ``(B, T)`` to the last layer's states."""
        rotation = self.rotation(positions, x.dtype)
        for layer, history in zip(self.model.layers, histories, strict=True):
            x = layer(x, history, rotation)
        return x

    def rotation(self, positions: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """Return cosines and sines for positions ``(T,)`` or ``(B, T)``, to be used on ``(B, H, T, D)``."""
        width = self.shape.head_dim
        rates = self.shape.theta ** (-torch.arange(0, width, 2, device=positions.device, dtype=torch.float64) / width)
        angles = (positions[..., None] * rates).unsqueeze(-3)
        return angles.cos().to(dtype), angles.sin().to(dtype)

    def score(self, states: Tensor) -> tuple[Tensor, Tensor]:
        """Return normalised states and logits ``(..., V)`` for the last layer's states ``(..., E)``."""
        hidden = self.model.norm(states)
        return hidden, self.logits(hidden)

    def logits(self, hidden: Tensor) -> Tensor:
        """Score the vocabulary for normalised states ``(..., E)``."""
        if self.lm_head is None:
            return F.linear(hidden, self.model.embed_tokens.weight)
        scores: Tensor = self.lm_head(hidden)
        return scores

    @torch.no_grad()
    def pack(self, precision: str) -> None:
        """Lay the linears out for speed, once: see :mod:`streamtrans.model.linear`."""
        join(self, precision)
        if self.lm_head is None and precision != JOINED:
            self.lm_head = make_linear(self.model.embed_tokens.weight, None, precision)
