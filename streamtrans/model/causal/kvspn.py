"""KVSPN beside a decoder of the Llama kind: whatever it reads, audio too, is among the base's own keys.

```
 token at i ─embed─▶ block 1 ──▶ block 2 ──▶ … ──norm──▶ the base's logits of i + 1
                      ▲            ▲
     base K/V of a group of layers, of positions < i: what stands before the text, audio in it, and the text
```
There is no attention to an encoder, for the base has none. Queries turn as the base's keys did. Guesses that follow
guesses find no keys of these. Source of the idea: arXiv 2508.11189, section 2.2, which leaves decoder-only models for
later.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from streamtrans.core import BadModel
from streamtrans.model.api import Guess, Propose
from streamtrans.model.cache import SlotBatch, SlotCache
from streamtrans.model.causal.network import CausalNetwork, GatedMlp, RmsNorm, Shape
from streamtrans.model.config import shown, whole
from streamtrans.model.guessing import Chain, SlotGroup, SlotSight, add_best
from streamtrans.model.kvspn import Group
from streamtrans.model.layers import rotate


@dataclass(frozen=True, slots=True)
class Speculation:
    """What ``config.json`` says of a KVSPN: the keys are those of a whisperM2M."""

    speculator_blocks: int
    group: int
    inner: int
    speculator_window: int
    acceptance: float

    @classmethod
    def of(cls, raw: Mapping[str, Any], base: Shape) -> Speculation | None:
        """Read it; ``None`` where there is none.

        Raises:
            BadModel: a number is wrong, or layers can't be split into so many groups.
        """
        usual = {"speculator_blocks": 0, "speculator_ffn_dim": 0, "speculator_window": 0}
        numbers = whole({**usual, **raw}, usual)
        blocks, share = numbers["speculator_blocks"], raw.get("speculator_acceptance", 0.7)
        if type(share) not in (int, float) or not 0 <= share <= 1:
            raise BadModel(f"speculator_acceptance is {shown(share)}; it is a share, 0 to 1")
        if not blocks:
            return None
        if base.num_hidden_layers % blocks:
            raise BadModel(
                f"{base.num_hidden_layers} decoder layers cannot be split into {blocks} equal groups; speculator_blocks"
                " must divide num_hidden_layers"
            )
        inner = numbers["speculator_ffn_dim"] or base.intermediate_size
        return cls(blocks, base.num_hidden_layers // blocks, inner, numbers["speculator_window"], float(share))

    @property
    def speculator_reads(self) -> tuple[range, ...]:
        """Per block, the layers whose keys it reads."""
        return tuple(range(at, at + self.group) for at in range(0, self.speculator_blocks * self.group, self.group))


class BaseAttention(nn.Module):
    """Queries of our own, keys and values of the base."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.width = shape.head_dim
        self.q_proj = nn.Linear(shape.hidden_size, shape.num_attention_heads * shape.head_dim)
        self.out_proj = nn.Linear(shape.num_attention_heads * shape.head_dim, shape.hidden_size)

    def forward(self, x: Tensor, group: Group, rotation: tuple[Tensor, Tensor]) -> Tensor:
        """Attend ``(B, T, E)`` to the keys of a group of base layers; the answer's shape is the same."""
        queries = rotate(self.q_proj(x).unflatten(-1, (-1, self.width)).transpose(1, 2), rotation)
        seen: Tensor = self.out_proj(group.attend(queries, None).transpose(1, 2).flatten(-2))
        return seen


class Block(nn.Module):
    """Attention to the base with the norm on its output, then the MLP of a layer."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.base_attn = BaseAttention(shape)
        self.base_attn_layernorm = RmsNorm(shape.hidden_size, shape.rms_norm_eps)
        self.post_attention_layernorm = RmsNorm(shape.hidden_size, shape.rms_norm_eps)
        self.mlp = GatedMlp(shape)

    def forward(self, x: Tensor, group: Group, rotation: tuple[Tensor, Tensor]) -> Tensor:
        """Map ``(B, T, E)`` to the same shape."""
        x = x + self.base_attn_layernorm(self.base_attn(x, group, rotation))
        mapped: Tensor = x + self.mlp(self.post_attention_layernorm(x))
        return mapped


class CausalKvspn(nn.Module):
    """The blocks and the last norm; embeddings in and logits out belong to the base."""

    def __init__(self, base: Shape, speculation: Speculation) -> None:
        super().__init__()
        self.speculation = speculation
        shape = replace(base, intermediate_size=speculation.inner)
        self.blocks: Sequence[Block] = nn.ModuleList(  # type: ignore[assignment]
            Block(shape) for _ in range(speculation.speculator_blocks)
        )
        self.norm = RmsNorm(base.hidden_size, base.rms_norm_eps)

    def forward(self, embedded: Tensor, groups: Sequence[Group], rotation: tuple[Tensor, Tensor]) -> Tensor:
        """Return normalised states ``(B, T, E)`` that score the token after each of those ``embedded``."""
        x = embedded
        for block, group in zip(self.blocks, groups, strict=True):
            x = block(x, group, rotation)
        hidden: Tensor = self.norm(x)
        return hidden

    def guess(
        self,
        base: CausalNetwork,
        proposals: Sequence[Propose],
        caches: Sequence[SlotCache],
        suppression: Tensor,
        eot: int,
    ) -> list[Guess]:
        """Guess what follows each text, in as many passes as the longest guess has tokens."""
        batch = SlotBatch(caches)
        device, last = batch.slots.device, batch.slots.shape.positions - 1
        chains = [Chain(proposal, cache.end, last + 1, eot) for proposal, cache in zip(proposals, caches, strict=True)]
        sight = SlotSight(batch, self.speculation, 1, None)
        groups = [SlotGroup(sight, number) for number in range(len(self.blocks))]
        tokens = torch.tensor([chain.unread[-1:] for chain in chains], device=device)
        places = torch.tensor([[chain.newest] for chain in chains], device=device)
        while not all(chain.done for chain in chains):
            embedded = base.model.embed_tokens(tokens)
            hidden = self(embedded, groups, base.rotation(places, embedded.dtype))[:, -1]
            tokens = add_best(chains, base.logits(hidden).to(suppression.dtype) + suppression)[:, None]
            places = (places + 1).clamp(max=last)
        return [Guess(tuple(chain.tokens), tuple(chain.logprobs), chain.candidates) for chain in chains]
