"""An audio language model under the names of its checkpoints: encoder, projector, decoder of the Llama kind, KVSPN.

```
 mel ─▶ audio_tower ─▶ 50 frames/s ─ joined by 2 or 4 ─▶ multi_modal_projector ─▶ positions of language_model
```
Sources: Chu et al. 2024 (Qwen2-Audio); Liu et al. 2025 (Voxtral).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from streamtrans.model.cache import CrossingPair
from streamtrans.model.causal.kvspn import CausalKvspn, Speculation
from streamtrans.model.causal.network import CausalNetwork, Shape
from streamtrans.model.layers import SpeechEncoder, attend
from streamtrans.model.linear import join


@dataclass(frozen=True, slots=True)
class TowerShape:
    """Sizes of the encoder; it reads ``2 * positions`` mel frames at once."""

    mels: int
    width: int
    heads: int
    inner: int
    layers: int
    positions: int


class Pooling(nn.Module):
    """Qwen2-Audio's projector: the mean of two frames is normalised, then projected."""

    each = 2

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.linear = nn.Linear(width, hidden)

    def forward(self, frames: Tensor, norm: nn.Module) -> Tensor:
        """Map ``(B, S, E)`` to ``(B, S // 2, W)``."""
        pairs = frames[:, : frames.shape[1] // 2 * 2].unflatten(1, (-1, 2))
        projected: Tensor = self.linear(norm(pairs.mean(2)))
        return projected


class Stacking(nn.Module):
    """Voxtral's projector: ``each`` normalised frames are laid end to end, then projected twice."""

    def __init__(self, width: int, hidden: int, each: int) -> None:
        super().__init__()
        self.each = each
        self.linear_1 = nn.Linear(width * each, hidden, bias=False)
        self.linear_2 = nn.Linear(hidden, hidden, bias=False)

    def forward(self, frames: Tensor, norm: nn.Module) -> Tensor:
        """Map ``(B, S, E)`` to ``(B, S // each, W)``."""
        whole = frames[:, : frames.shape[1] // self.each * self.each]
        stacked = norm(whole).unflatten(1, (-1, self.each)).flatten(2)
        projected: Tensor = self.linear_2(F.gelu(self.linear_1(stacked)))
        return projected


class AudioNetwork(nn.Module):
    """The network."""

    def __init__(
        self,
        tower: TowerShape,
        projector: Pooling | Stacking,
        language: Shape,
        speculation: Speculation | None = None,
    ) -> None:
        super().__init__()
        self.tower_shape = tower
        self.audio_tower = SpeechEncoder(
            mels=tower.mels,
            width=tower.width,
            heads=tower.heads,
            inner=tower.inner,
            layers=tower.layers,
            positions=tower.positions,
        )
        self.multi_modal_projector = projector
        self.language_model = CausalNetwork(language)
        self.speculator = None if speculation is None else CausalKvspn(language, speculation)

    def hear(self, mel: Tensor, frames: Tensor | None, ends: Tensor | None = None) -> Tensor:
        """Return what the decoder reads of audio.

        Args:
            mel: ``(B, M, T)``; what stands beside the frames that count is silence, as the convolutions hear it.
            frames: ``(B,)`` encoder frames of each row that count; ``None``: all ``T / 2``.
            ends: ``(B,)`` mel frames of each row behind which there is nothing, not even silence.

        Returns:
            Embeddings ``(B, S, W)``, one per ``each`` encoder frames.
        """
        tower = self.audio_tower
        assert tower.embed_positions is not None, "these encoders count from the beginning"
        real = None if ends is None else torch.arange(mel.shape[-1], device=mel.device) < ends[:, None]
        x, mask = tower.convolve(mel, real), None
        if frames is not None:
            x = x[:, : int(frames.max())]
            mask = (torch.arange(x.shape[1], device=x.device) < frames[:, None])[:, None, None]
        x = x + tower.embed_positions.weight[: x.shape[1]]
        for layer in tower.layers:
            x = layer(x, mask)
        heard: Tensor = self.multi_modal_projector(x, tower.layer_norm)
        return heard

    def prefix(self, embedded: Tensor, past: Sequence[CrossingPair]) -> list[tuple[Tensor, Tensor]]:
        """Let the decoder read embeddings ``(B, T, W)`` behind what all of them stand behind.

        ``past`` has keys and values ``(H, P, D)`` of each layer, or nothing. Returns per layer those of ``P + T``
        positions, ``(B, H, P + T, D)``.
        """
        known = past[0].keys.shape[1] if past else 0
        count = embedded.shape[1]
        places = torch.arange(known + count, device=embedded.device)
        mask = places <= places[known:, None]
        histories = [
            Prefix(mask, past[number] if past else None) for number in range(len(self.language_model.model.layers))
        ]
        self.language_model(embedded, histories, places[known:])
        return [(history.keys, history.values) for history in histories]

    def pack(self, precision: str) -> None:
        """Lay the linears out for speed, once: see :mod:`streamtrans.model.linear`."""
        join(self.audio_tower, precision)
        join(self.multi_modal_projector, precision)
        self.language_model.pack(precision)
        if self.speculator is not None:
            join(self.speculator, precision)


class Prefix:
    """The history of what stands before all texts: it grows once, and keeps what was read."""

    def __init__(self, mask: Tensor, past: CrossingPair | None) -> None:
        self.mask, self.past = mask, past
        self.keys = self.values = mask

    def attend(self, queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        """Add keys and values ``(B, H, T, D)`` to those before them; attend to everything up to each of them."""
        if self.past is not None:
            rows = len(keys)
            before = (part.expand(rows, *part.shape) for part in (self.past.keys, self.past.values))
            keys, values = (torch.cat(parts, 2) for parts in zip(before, (keys, values), strict=True))
        self.keys, self.values = keys, values
        return attend(queries, keys, values, self.mask)
