"""KVSPN: the parasitic network that drafts the next token from the base decoder's keys and values.

```
 token y_i ─embed─▶ block 1 ──▶ block 2 ──▶ block 3 ──norm──▶ logits of y_{i+1}
                      ▲            ▲            ▲
      base K/V of     │            │            │      positions < i only: the base has not read y_i yet
                   layers 1-4   layers 5-8   layers 9-12     each group's keys laid end to end: 4 × i keys
```

It has no keys or values of its own: block ``l`` attends to those that the base wrote for group ``l``. Embeddings,
positions and the output projection are the base's. Source: arXiv 2508.11189, section 2.2.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from streamtrans.model.layers import Attention, Crossing, FeedForward, attend_or_zero


class CrossModelAttention(nn.Module):
    """Queries of our own, keys and values of the base decoder."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.q_proj = nn.Linear(width, width)
        self.out_proj = nn.Linear(width, width)

    def forward(self, x: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None) -> Tensor:
        """Attend ``(B, T, E)`` to a group's flattened keys ``(B, H, N, D)``; zero where none is visible."""
        queries = self.q_proj(x).unflatten(-1, (self.heads, -1)).transpose(1, 2)
        heads = attend_or_zero(queries, keys, values, mask)
        return self.out_proj(heads.transpose(1, 2).flatten(-2))


class KvspnBlock(FeedForward):
    """Cross-model attention with the norm on its output, then a decoder layer's cross-attention and MLP."""

    def __init__(self, width: int, heads: int, inner: int) -> None:
        super().__init__()
        self.base_attn = CrossModelAttention(width, heads)
        self.base_attn_layer_norm = nn.LayerNorm(width)
        self.encoder_attn = Attention(width, heads)
        self.encoder_attn_layer_norm = nn.LayerNorm(width)
        self.make_feed_forward(width, inner)

    def forward(self, x: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None, crossing: Crossing) -> Tensor:
        """Map ``(B, T, E)`` to the same shape; ``mask`` ``(B or 1, 1, T, N)`` is true at visible base keys."""
        x = x + self.base_attn_layer_norm(self.base_attn(x, keys, values, mask))
        queries = self.encoder_attn.queries(self.encoder_attn_layer_norm(x))
        x = x + self.encoder_attn.merge(crossing.attend(queries))
        return self.add_feed_forward(x)


class Kvspn(nn.Module):
    """The blocks and the last norm; embeddings in and logits out belong to the base decoder."""

    def __init__(self, *, blocks: int, width: int, heads: int, inner: int) -> None:
        super().__init__()
        self.blocks: Sequence[KvspnBlock] = nn.ModuleList(  # type: ignore[assignment]
            KvspnBlock(width, heads, inner) for _ in range(blocks)
        )
        self.layer_norm = nn.LayerNorm(width)

    def forward(
        self,
        embedded: Tensor,
        groups: Sequence[tuple[Tensor, Tensor]],
        mask: Tensor | None,
        crossings: Sequence[Crossing],
    ) -> Tensor:
        """Return normalised hidden states ``(B, T, E)`` that score the token after each input token.

        Args:
            embedded: ``(B, T, E)`` the base's token and position embeddings.
            groups: per block, the base's keys and values of its layers, flattened to ``(B, H, N, D)``.
            mask: ``(B or 1, 1, T, N)``, true at keys of strictly earlier positions; ``None`` where all are.
            crossings: per block, its attention to the encoder.
        """
        x = embedded
        for block, (keys, values), crossing in zip(self.blocks, groups, crossings, strict=True):
            x = block(x, keys, values, mask, crossing)
        hidden: Tensor = self.layer_norm(x)
        return hidden


def flatten_group(layers: Sequence[Tensor]) -> Tensor:
    """Lay the keys (or values) of a group's layers, each ``(B, H, T, D)``, end to end: time outer, layer inner."""
    return torch.stack(tuple(layers), dim=3).flatten(2, 3)
