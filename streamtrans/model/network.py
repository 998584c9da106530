"""The networks: Whisper's encoder and decoder; whisperM2M's text encoder and KVSPN beside them.

The parameter names are those of Hugging Face checkpoints, so a state dict loads without a translation table.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from streamtrans.model.config import NetworkConfig
from streamtrans.model.kvspn import Kvspn, flatten_group
from streamtrans.model.layers import Attention, Crossing, EncoderLayer, SpeechEncoder, TextDecoder, attend


class CausalHistory:
    """The history of a whole text read at once: everything up to and including a position is visible."""

    def __init__(self, mask: Tensor) -> None:
        self.mask = mask
        self.keys: list[Tensor] = []
        self.values: list[Tensor] = []

    def extend(self, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        """Remember the layer's keys and values for KVSPN and hand them back."""
        self.keys.append(keys)
        self.values.append(values)
        return keys, values, self.mask


@dataclass(frozen=True, slots=True)
class FullCrossing:
    """Attention to a padded batch of encoder features: keys and values ``(B, H, S, D)``.

    A batch of ``B * n`` texts may attend to ``B`` utterances, the ``n`` texts of an utterance standing together:
    they become queries of one attention, and the features are projected once.
    """

    keys: Tensor
    values: Tensor
    mask: Tensor | None

    def attend(self, queries: Tensor) -> Tensor:
        """Attend to every real frame."""
        texts, heads, length, width = queries.shape
        utterances = self.keys.shape[0]
        if texts == utterances:
            return attend(queries, self.keys, self.values, self.mask)
        folded = queries.unflatten(0, (utterances, -1)).transpose(1, 2).reshape(utterances, heads, -1, width)
        seen = attend(folded, self.keys, self.values, self.mask)
        return seen.unflatten(2, (-1, length)).transpose(1, 2).flatten(0, 1)


def cross(attention: Attention, features: Tensor, mask: Tensor | None) -> FullCrossing:
    """Project features ``(B, S, E)`` once for one attention to the encoder."""
    keys, values = attention.keys_values(features)
    return FullCrossing(keys, values, mask)


class TextEncoder(nn.Module):
    """Reads the source text in training, in the place of the speech encoder (bidirectional)."""

    def __init__(self, *, width: int, heads: int, inner: int, layers: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(EncoderLayer(width, heads, inner) for _ in range(layers))
        self.layer_norm = nn.LayerNorm(width)

    def forward(self, embedded: Tensor, visible: Tensor) -> Tensor:
        """Map embedded text ``(B, T, E)`` with visibility ``(B, T)`` to features ``(B, T, E)``."""
        x = embedded
        for layer in self.layers:
            x = layer(x, visible[:, None, None])
        features: Tensor = self.layer_norm(x)
        return features


class Backbone(nn.Module):
    """The pair that Hugging Face stores under ``model.``."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.encoder = SpeechEncoder(
            mels=config.num_mel_bins,
            width=config.d_model,
            heads=config.encoder_attention_heads,
            inner=config.encoder_ffn_dim,
            layers=config.encoder_layers,
            positions=config.max_source_positions,
        )
        self.decoder = TextDecoder(
            vocabulary=config.vocab_size,
            width=config.d_model,
            heads=config.decoder_attention_heads,
            inner=config.decoder_ffn_dim,
            layers=config.decoder_layers,
            positions=config.max_target_positions,
        )


class Network(nn.Module):
    """A Whisper, with whisperM2M's additions where the configuration asks for them."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.config = config
        self.model = Backbone(config)
        heads = config.decoder_attention_heads
        self.text_encoder = (
            TextEncoder(
                width=config.d_model,
                heads=heads,
                inner=config.decoder_ffn_dim,
                layers=config.text_encoder_layers,
            )
            if config.text_encoder_layers
            else None
        )
        self.speculator = (
            Kvspn(
                blocks=config.speculator_blocks,
                width=config.d_model,
                heads=heads,
                inner=config.speculator_ffn_dim or config.decoder_ffn_dim,
            )
            if config.speculator_blocks
            else None
        )

    def read_text(self, tokens: Tensor, visible: Tensor) -> Tensor:
        """Encode source text ``(B, T)`` for machine translation; returns features ``(B, T, E)``."""
        assert self.text_encoder is not None, "this network was made without a text encoder"
        positions = torch.arange(tokens.shape[1], device=tokens.device)
        features: Tensor = self.text_encoder(self.model.decoder.embed(tokens, positions), visible)
        return features

    def read_targets(
        self, tokens: Tensor, features: Tensor, visible: Tensor | None, *, speculate: bool
    ) -> tuple[Tensor, Tensor | None]:
        """Score whole target texts at once (teacher forcing).

        Args:
            tokens: ``(B * n, T)`` prompt and text, ``n`` texts for each utterance.
            features: ``(B, S, E)`` from the speech or the text encoder.
            visible: ``(B, S)`` true at real features, or ``None``.
            speculate: also run KVSPN on the same tokens.

        Returns:
            Hidden states ``(B * n, T, E)`` of the base and of KVSPN (``None`` unless asked for): position ``t``
            scores token ``t + 1`` through ``model.decoder.logits``.
        """
        decoder, length = self.model.decoder, tokens.shape[1]
        mask = None if visible is None else visible[:, None, None]
        steps = torch.arange(length, device=tokens.device)
        history = CausalHistory((steps[:, None] >= steps)[None, None])
        embedded = decoder.embed(tokens, steps)
        x = embedded
        for layer in decoder.layers:
            x = layer(x, history, cross(layer.encoder_attn, features, mask))
        hidden: Tensor = decoder.layer_norm(x)
        if not speculate:
            return hidden, None
        return hidden, self._speculate(embedded, history, features, mask)

    def _speculate(self, embedded: Tensor, history: CausalHistory, features: Tensor, mask: Tensor | None) -> Tensor:
        assert self.speculator is not None, "this network was made without a speculator"
        size, steps = self.config.group, torch.arange(embedded.shape[1], device=embedded.device)
        groups = [
            (flatten_group(history.keys[at : at + size]), flatten_group(history.values[at : at + size]))
            for at in range(0, self.config.decoder_layers, size)
        ]
        earlier = (steps[:, None] > steps).repeat_interleave(size, dim=1)[None, None]
        crossings: Sequence[Crossing] = [cross(block.encoder_attn, features, mask) for block in self.speculator.blocks]
        hidden: Tensor = self.speculator(embedded, groups, earlier, crossings)
        return hidden


def parameters_by_part(network: Network) -> dict[str, int]:
    """Count parameters per part, as the paper counts: fixed sinusoidal positions are left out."""
    fixed = network.model.encoder.embed_positions.weight.numel()
    parts: dict[str, nn.Module | None] = {
        "encoder": network.model.encoder,
        "decoder": network.model.decoder,
        "text_encoder": network.text_encoder,
        "speculator": network.speculator,
    }
    counts = {name: sum(p.numel() for p in part.parameters()) for name, part in parts.items() if part is not None}
    counts["encoder"] -= fixed
    counts["speech_translation"] = counts["encoder"] + counts["decoder"]
    counts["with_speculator"] = counts["speech_translation"] + counts.get("speculator", 0)
    return counts
