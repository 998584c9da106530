"""The networks: Whisper's encoder and decoder; whisperM2M's text encoder and KVSPN beside them.

The parameter names are those of Hugging Face checkpoints, so a state dict loads without a translation table.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from streamtrans.model.config import NetworkConfig
from streamtrans.model.kvspn import Kvspn, flatten_group
from streamtrans.model.layers import (
    Attention,
    Crossing,
    EncoderLayer,
    SpeechEncoder,
    TextDecoder,
    attend,
    attend_or_zero,
)


class Texts:
    """A batch of texts of unequal length, laid end to end: padding costs nothing outside of attention.

    ``tokens`` ``(B, T)`` are padded at the end; ``real`` ``(B, T)`` is true at tokens. A tensor of rows is
    ``(1, N, …)`` with one row per real token, text after text.
    """

    def __init__(self, tokens: Tensor, real: Tensor) -> None:
        self.count, self.length = tokens.shape
        self.where = real.flatten().nonzero()[:, 0]
        self.rows = tokens.flatten()[self.where][None]
        self.positions = self.where % self.length
        self.texts = self.where // self.length

    def spread(self, heads: Tensor) -> Tensor:
        """Lay rows ``(1, H, N, D)`` out as texts ``(B, H, T, D)``, zeros behind their ends."""
        rows = heads[0].transpose(0, 1)
        grid = rows.new_zeros(self.count * self.length, *rows.shape[1:]).index_copy(0, self.where, rows)
        return grid.unflatten(0, (self.count, self.length)).transpose(1, 2)

    def collect(self, heads: Tensor) -> Tensor:
        """Undo :meth:`spread`."""
        return heads.transpose(1, 2).flatten(0, 1).index_select(0, self.where).transpose(0, 1)[None]


class CausalHistory:
    """The history of whole texts read at once: everything up to and including a position is visible."""

    def __init__(self, texts: Texts) -> None:
        self.texts = texts
        steps = torch.arange(texts.length, device=texts.where.device)
        self.mask = (steps[:, None] >= steps)[None, None]
        self.keys: list[Tensor] = []
        self.values: list[Tensor] = []

    def attend(self, queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        """Attend to what stands before, and remember the layer's keys and values for KVSPN."""
        spread = self.texts.spread
        self.keys.append(spread(keys))
        self.values.append(spread(values))
        return self.texts.collect(attend(spread(queries), self.keys[-1], self.values[-1], self.mask))


@dataclass(frozen=True, slots=True)
class CausalGroup:
    """The keys of one group of layers, for KVSPN reading whole texts in chains.

    A chain is what KVSPN guesses before the base reads on: ``starts`` ``(T,)`` says where each position's chain
    begins. The base's keys are visible before that (the newest ``window`` of them, where it is not 0), KVSPN's own
    (where it has them) from there on. ``size`` layers were laid end to end.
    """

    texts: Texts
    keys: Tensor
    values: Tensor
    size: int
    starts: Tensor
    window: int = 0

    def attend(self, queries: Tensor, own: tuple[Tensor, Tensor] | None) -> Tensor:
        """Attend rows ``(1, H, N, D)`` to what is visible of their texts."""
        steps = torch.arange(self.texts.length, device=self.starts.device)
        seen = steps < self.starts[:, None]
        if self.window:
            seen &= steps >= self.starts[:, None] - self.window
        mask = seen.repeat_interleave(self.size, dim=1)
        keys, values = self.keys, self.values
        if own is not None:
            chain = (steps >= self.starts[:, None]) & (steps <= steps[:, None])
            mask = torch.cat([mask, chain], 1)
            keys = torch.cat([keys, self.texts.spread(own[0])], 2)
            values = torch.cat([values, self.texts.spread(own[1])], 2)
        return self.texts.collect(attend_or_zero(self.texts.spread(queries), keys, values, mask[None, None]))


@dataclass(frozen=True, slots=True)
class TextsCrossing:
    """Attention of texts laid end to end to their utterances."""

    texts: Texts
    crossing: FullCrossing

    def attend(self, queries: Tensor) -> Tensor:
        """Attend rows ``(1, H, N, D)`` to every real frame of their utterance."""
        return self.texts.collect(self.crossing.attend(self.texts.spread(queries)))


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
            width=config.encoder_width or config.d_model,
            heads=config.encoder_attention_heads,
            inner=config.encoder_ffn_dim,
            layers=config.encoder_layers,
            positions=config.max_source_positions,
            rotary=config.encoder_rotary,
        )
        self.decoder = TextDecoder(
            vocabulary=config.vocab_size,
            width=config.d_model,
            heads=config.decoder_attention_heads,
            inner=config.decoder_ffn_dim,
            layers=config.decoder_layers,
            positions=config.max_target_positions,
            heard=config.encoder_width,
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
                own_keys=config.speculator_own_keys,
                vocabulary=config.draft_vocabulary,
                heard=config.encoder_width,
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
        self,
        texts: Texts,
        features: Tensor,
        visible: Tensor | None,
        *,
        chains: Tensor | None = None,
        through: bool = True,
    ) -> tuple[Tensor, Tensor | None]:
        """Score whole target texts at once (teacher forcing).

        Args:
            texts: prompts and texts, ``n`` of them for each utterance, standing together.
            features: ``(B, S, E)`` from the speech or the text encoder.
            visible: ``(B, S)`` true at real features, or ``None``.
            chains: ``(T,)`` where the chain of each position begins: also run KVSPN on the same tokens, each chain
                guessed before the base reads it. ``arange(T)`` guesses one token at a time.
            through: let KVSPN's gradient flow into the base's keys and values.

        Returns:
            Hidden states ``(1, N, E)`` of the base and of KVSPN (``None`` unless asked for), one per real token:
            each scores the token after it through ``model.decoder.logits``.
        """
        decoder = self.model.decoder
        mask = None if visible is None else visible[:, None, None]
        history = CausalHistory(texts)
        embedded = decoder.embed(texts.rows, texts.positions)
        x = embedded
        for layer in decoder.layers:
            x = layer(x, history, TextsCrossing(texts, cross(layer.encoder_attn, features, mask)))
        hidden: Tensor = decoder.layer_norm(x)
        if chains is None:
            return hidden, None
        assert self.speculator is not None, "this network was made without a speculator"
        keys, values = history.keys, history.values
        if not through:
            keys, values = [k.detach() for k in keys], [v.detach() for v in values]
        read = self.config.speculator_reads
        groups = [
            CausalGroup(
                texts,
                flatten_group([keys[layer] for layer in layers]),
                flatten_group([values[layer] for layer in layers]),
                len(layers),
                # A hidden state has read its own token: the base's keys are there up to and including it.
                chains if self.config.speculator_input == "token" else chains + 1,
                self.config.speculator_window,
            )
            for layers in read
        ]
        crossings: list[Crossing] = [
            TextsCrossing(texts, cross(block.encoder_attn, features, mask)) for block in self.speculator.blocks
        ]
        start = embedded if self.config.speculator_input == "token" else hidden if through else hidden.detach()
        return hidden, self.speculator(start, groups, crossings)


def spread_layers(depth: int, wanted: int) -> list[int]:
    """Return which of ``depth`` layers make a stack of ``wanted``: evenly spread, the first and the last among them.

    Of fewer some are left out, of more some stand there twice.
    """
    return [round(step * (depth - 1) / max(1, wanted - 1)) for step in range(wanted)]


def parameters_by_part(network: Network) -> dict[str, int]:
    """Count parameters per part, as the paper counts: fixed sinusoidal positions are left out."""
    sinusoids = network.model.encoder.embed_positions
    fixed = 0 if sinusoids is None else sinusoids.weight.numel()
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
