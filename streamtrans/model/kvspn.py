"""KVSPN: the parasitic network that drafts the next token from the base decoder's keys and values.

```
 token y_i ─embed─▶ block 1 ──▶ block 2 ──▶ block 3 ──norm──▶ logits of y_{i+1}
                      ▲            ▲            ▲
      base K/V of     │            │            │      positions < i only: the base has not read y_i yet
                   layers 1-4   layers 5-8   layers 9-12     each group's keys laid end to end: 4 × i keys
```

Block ``l`` attends to the keys that the base wrote for group ``l``. Embeddings, positions and the output projection
are the base's. Source: arXiv 2508.11189, section 2.2. Where it guesses on from its own guesses, the base has written
no keys for these: either they are a hole that KVSPN was trained to bear, or (``own_keys``, ours) each block writes
keys of its own for them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor, nn

from streamtrans.model.layers import Attention, Crossing, FeedForward, split_joined


class Group(Protocol):
    """The base's keys and values of one group of layers, read so far."""

    def attend(self, queries: Tensor, own: tuple[Tensor, Tensor] | None) -> Tensor:
        """Return ``(B, H, T, D)`` for queries of that shape; zero where nothing is visible.

        Args:
            queries: one per token that the base has not read.
            own: KVSPN's own keys and values of these same tokens, where it has them: those up to a query are
                visible to it, in the place of the keys that the base has yet to write.
        """
        ...


class CrossModelAttention(nn.Module):
    """Queries of our own, keys and values of the base decoder."""

    def __init__(self, width: int, heads: int, own_keys: bool) -> None:
        super().__init__()
        self.heads = heads
        self.q_proj = nn.Linear(width, width)
        self.out_proj = nn.Linear(width, width)
        self.k_proj = nn.Linear(width, width, bias=False) if own_keys else None
        self.v_proj = nn.Linear(width, width) if own_keys else None
        self.qkv_proj: nn.Module | None = None  # for inference, model.linear joins the three

    def forward(self, x: Tensor, group: Group) -> Tensor:
        """Attend ``(B, T, E)`` to the keys of a group of base layers; the answer's shape is the same."""
        queries, own = self._project(x)
        return self.out_proj(group.attend(queries, own).transpose(1, 2).flatten(-2))

    def _project(self, x: Tensor) -> tuple[Tensor, tuple[Tensor, Tensor] | None]:
        if self.qkv_proj is not None:
            queries, keys, values = split_joined(self.qkv_proj(x), 3, self.heads)
            return queries, (keys, values)
        queries = self._split(self.q_proj(x))
        if self.k_proj is None or self.v_proj is None:
            return queries, None
        return queries, (self._split(self.k_proj(x)), self._split(self.v_proj(x)))

    def _split(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)


class KvspnBlock(FeedForward):
    """Cross-model attention with the norm on its output, then a decoder layer's cross-attention and MLP."""

    def __init__(self, width: int, heads: int, inner: int, own_keys: bool, heard: int) -> None:
        super().__init__()
        self.base_attn = CrossModelAttention(width, heads, own_keys)
        self.base_attn_layer_norm = nn.LayerNorm(width)
        self.encoder_attn = Attention(width, heads, heard=heard)
        self.encoder_attn_layer_norm = nn.LayerNorm(width)
        self.make_feed_forward(width, inner)

    def forward(self, x: Tensor, group: Group, crossing: Crossing) -> Tensor:
        """Map ``(B, T, E)`` to the same shape, attending to the group's base keys, then to the encoder."""
        x = x + self.base_attn_layer_norm(self.base_attn(x, group))
        queries = self.encoder_attn.queries(self.encoder_attn_layer_norm(x))
        x = x + self.encoder_attn.merge(crossing.attend(queries))
        return self.add_feed_forward(x)


class Kvspn(nn.Module):
    """The blocks and the last norm; embeddings in and logits out belong to the base decoder."""

    draft_tokens: Tensor | None
    """Tokens ``(V',)`` that are scored, sorted; ``None`` where all are."""

    def __init__(
        self,
        *,
        blocks: int,
        width: int,
        heads: int,
        inner: int,
        own_keys: bool = False,
        vocabulary: int = 0,
        heard: int = 0,
    ) -> None:
        super().__init__()
        self.register_buffer("draft_tokens", torch.arange(vocabulary) if vocabulary else None)
        self.blocks: Sequence[KvspnBlock] = nn.ModuleList(  # type: ignore[assignment]
            KvspnBlock(width, heads, inner, own_keys, heard) for _ in range(blocks)
        )
        self.layer_norm = nn.LayerNorm(width)

    def forward(
        self,
        embedded: Tensor,
        groups: Sequence[Group],
        crossings: Sequence[Crossing],
    ) -> Tensor:
        """Return normalised hidden states ``(B, T, E)`` that score the token after each input token.

        Args:
            embedded: ``(B, T, E)`` the base's token and position embeddings.
            groups: per block, its attention to the base's keys of its layers at strictly earlier positions;
                zero where there is none yet.
            crossings: per block, its attention to the encoder.
        """
        x = embedded
        for block, group, crossing in zip(self.blocks, groups, crossings, strict=True):
            x = block(x, group, crossing)
        hidden: Tensor = self.layer_norm(x)
        return hidden


def flatten_group(layers: Sequence[Tensor]) -> Tensor:
    """Lay the keys (or values) of a group's layers, each ``(B, H, T, D)``, end to end: time outer, layer inner."""
    return torch.stack(tuple(layers), dim=3).flatten(2, 3)
