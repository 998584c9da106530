"""An encoder-decoder of texts as fairseq and Marian build it, under the names of their checkpoints.

Sources: Vaswani et al. 2017; Fan et al. 2020 (M2M-100, norms before each part); Junczys-Dowmunt et al. 2018 (Marian,
norms behind each).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from streamtrans.core import BadModel
from streamtrans.model.config import shown, whole
from streamtrans.model.layers import Attention, Crossing, History, attend
from streamtrans.model.linear import JOINED, join, make_linear

MOST = 512
"""Positions that are kept ready for a text: three times what anybody says in half a minute."""

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {"relu": F.relu, "swish": F.silu, "silu": F.silu, "gelu": F.gelu}

L = TypeVar("L", bound=nn.Module)

Order = Callable[[Tensor, nn.LayerNorm, Callable[[Tensor], Tensor]], Tensor]
"""How a part of a layer, its norm and what goes around it are put together."""


def norm_first(x: Tensor, norm: nn.LayerNorm, part: Callable[[Tensor], Tensor]) -> Tensor:
    """Add what ``part`` makes of the normalised ``x``."""
    return x + part(norm(x))


def norm_last(x: Tensor, norm: nn.LayerNorm, part: Callable[[Tensor], Tensor]) -> Tensor:
    """Add what ``part`` makes of ``x``, and normalise the sum."""
    normalised: Tensor = norm(x + part(x))
    return normalised


@dataclass(frozen=True, slots=True)
class Shape:
    """Sizes as ``config.json`` names them."""

    d_model: int
    encoder_layers: int
    encoder_attention_heads: int
    encoder_ffn_dim: int
    decoder_layers: int
    decoder_attention_heads: int
    decoder_ffn_dim: int
    vocab_size: int
    max_position_embeddings: int
    activation_function: str
    scale_embedding: bool

    @classmethod
    def of(cls, raw: dict[str, Any]) -> Shape:
        """Pick them out of a ``config.json``.

        Raises:
            BadModel: one is missing or no size that a network can have.
        """
        missing = [name for name in cls.__dataclass_fields__ if name not in raw]
        if missing:
            raise BadModel(f"config.json lacks {', '.join(missing)}: is this a translator's checkpoint?")
        whole(raw, [name for name, item in cls.__dataclass_fields__.items() if item.type == "int"])
        if type(raw["scale_embedding"]) is not bool:
            raise BadModel(f"scale_embedding is {shown(raw['scale_embedding'])}; it must be true or false")
        shape = cls(**{name: raw[name] for name in cls.__dataclass_fields__})
        if str(shape.activation_function) not in ACTIVATIONS:
            raise BadModel(
                f"activation_function is {shown(shape.activation_function)}; known: {', '.join(ACTIVATIONS)}"
            )
        for heads in (shape.encoder_attention_heads, shape.decoder_attention_heads):
            if shape.d_model % (2 * heads):
                raise BadModel(f"d_model {shape.d_model} does not divide into {heads} attention heads of even width")
        return shape

    @property
    def positions(self) -> int:
        """Tokens that a text may have."""
        return min(self.max_position_embeddings, MOST)


class Part(nn.Module):
    """What encoder and decoder layers have in common."""

    def __init__(
        self, width: int, heads: int, inner: int, order: Order, activation: Callable[[Tensor], Tensor]
    ) -> None:
        super().__init__()
        self.order, self.activation = order, activation
        self.self_attn = Attention(width, heads, key_bias=True)
        self.self_attn_layer_norm = nn.LayerNorm(width)
        self.fc1 = nn.Linear(width, inner)
        self.fc2 = nn.Linear(inner, width)
        self.final_layer_norm = nn.LayerNorm(width)

    def feed_forward(self, x: Tensor) -> Tensor:
        """Map ``(B, T, E)`` to the same shape, with the norm and the sum around it."""
        return self.order(x, self.final_layer_norm, lambda h: self.fc2(self.activation(self.fc1(h))))


class EncoderLayer(Part):
    """Attention both ways, and MLP."""

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """Map ``(B, S, E)`` to the same shape; ``mask`` ``(B, 1, 1, S)`` is true where a token is real."""
        own = self.self_attn
        x = self.order(x, self.self_attn_layer_norm, lambda h: own.merge(attend(*own.project(h), mask)))
        return self.feed_forward(x)


class DecoderLayer(Part):
    """Attention back, attention to the encoder, and MLP."""

    def __init__(
        self, width: int, heads: int, inner: int, order: Order, activation: Callable[[Tensor], Tensor]
    ) -> None:
        super().__init__(width, heads, inner, order, activation)
        self.encoder_attn = Attention(width, heads, key_bias=True)
        self.encoder_attn_layer_norm = nn.LayerNorm(width)

    def forward(self, x: Tensor, history: History, crossing: Crossing) -> Tensor:
        """Map ``(B, T, E)`` to the same shape, writing its keys and values to ``history``."""
        own, other = self.self_attn, self.encoder_attn
        x = self.order(x, self.self_attn_layer_norm, lambda h: own.merge(history.attend(*own.project(h))))
        x = self.order(x, self.encoder_attn_layer_norm, lambda h: other.merge(crossing.attend(other.queries(h))))
        return self.feed_forward(x)


class Stack(nn.Module, Generic[L]):
    """Layers, and the norm behind them where norms stand first."""

    def __init__(self, layers: Sequence[L], width: int, order: Order) -> None:
        super().__init__()
        self.layers: Sequence[L] = nn.ModuleList(layers)  # type: ignore[assignment]
        self.layer_norm = nn.LayerNorm(width) if order is norm_first else nn.Identity()


class Body(nn.Module):
    """What checkpoints have under ``model.``."""

    def __init__(self, shape: Shape, order: Order) -> None:
        super().__init__()
        width, activation = shape.d_model, ACTIVATIONS[shape.activation_function]
        self.shared = nn.Embedding(shape.vocab_size, width)
        encoder, decoder = (
            (shape.encoder_attention_heads, shape.encoder_ffn_dim, order, activation),
            (shape.decoder_attention_heads, shape.decoder_ffn_dim, order, activation),
        )
        self.encoder = Stack([EncoderLayer(width, *encoder) for _ in range(shape.encoder_layers)], width, order)
        self.decoder = Stack([DecoderLayer(width, *decoder) for _ in range(shape.decoder_layers)], width, order)


class Seq2Seq(nn.Module):
    """The network, one embedding for all that is read and written.

    Args:
        shape: its sizes.
        order: where norms stand.
        positions: ``(P, E)``, added to the embeddings of position 0 and on.
    """

    def __init__(self, shape: Shape, order: Order, positions: Tensor) -> None:
        super().__init__()
        self.shape = shape
        self.model = Body(shape, order)
        self.final_logits_bias = nn.Buffer(torch.zeros(1, shape.vocab_size))
        self.positions = nn.Buffer(positions, persistent=False)
        self.scale = math.sqrt(shape.d_model) if shape.scale_embedding else 1.0
        self.head: nn.Module | None = None  # for inference a packed copy of the embedding

    def embed(self, tokens: Tensor, positions: Tensor) -> Tensor:
        """Embed ``(B, T)`` tokens at ``(B, T)`` or ``(T,)`` positions to ``(B, T, E)``."""
        return self.model.shared(tokens) * self.scale + self.positions[positions]

    def encode(self, tokens: Tensor, real: Tensor | None) -> Tensor:
        """Map ``(B, S)`` tokens, of which those in ``real`` ``(B, S)`` count, to features ``(B, S, E)``."""
        x = self.embed(tokens, torch.arange(tokens.shape[1], device=tokens.device))
        mask = None if real is None else real[:, None, None]
        for layer in self.model.encoder.layers:
            x = layer(x, mask)
        features: Tensor = self.model.encoder.layer_norm(x)
        return features

    def logits(self, hidden: Tensor) -> Tensor:
        """Score the vocabulary for the decoder's normalised states ``(..., E)``."""
        scores = F.linear(hidden, self.model.shared.weight) if self.head is None else self.head(hidden)
        return scores + self.final_logits_bias[0]

    @torch.no_grad()
    def pack(self, precision: str) -> None:
        """Lay the linears out for speed, once: see :mod:`streamtrans.model.linear`."""
        for part in (self.model.encoder, self.model.decoder):
            join(part, precision)
        if precision != JOINED:
            self.head = make_linear(self.model.shared.weight, None, precision)
