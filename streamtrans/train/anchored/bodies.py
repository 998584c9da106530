"""Two bodies of about equal size for one ear: decoders that learn from nothing, of the same features and texts.

```
 encoder-decoder   frames ◀─attends─ decoder ─▶ text          a whisperM2M whose decoder has a width of its own
 decoder-only      frames, some as one position │ text ─▶     an audio language model: model/audio_lm/stacked.py
```
Both spell with the tokens of the base. What these mean is taken from it as well, in fewer dimensions, and stays.

Law: what a body reads in training is what it computes where it is served.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from streamtrans.core import BadConfig
from streamtrans.model.api import Memory, SpeechModel
from streamtrans.model.audio_lm.model import AudioLanguageModel
from streamtrans.model.audio_lm.network import AudioNetwork, Stacking
from streamtrans.model.audio_lm.qwen2_audio import shapes
from streamtrans.model.audio_lm.stacked import ORDERS, asking
from streamtrans.model.causal.kvspn import Speculation
from streamtrans.model.config import NetworkConfig, read_features, read_json
from streamtrans.model.kvspn import flatten_group
from streamtrans.model.layers import attend
from streamtrans.model.network import Network, Texts
from streamtrans.model.speech import TorchSpeechModel
from streamtrans.model.whisper_m2m import manner
from streamtrans.text import Tokenizer
from streamtrans.train.anchored.recipe import AnchoredRecipe, AnchoredStage, BodyRecipe
from streamtrans.train.trainer import initialise, start_speculator


class Body(ABC):
    """A decoder over features of the finished encoder, with a KVSPN where it has one."""

    network: nn.Module
    before: int
    """Tokens of the prompt that stand before the audio: texts begin behind these."""

    @property
    @abstractmethod
    def embedding(self) -> Tensor:
        """What tokens mean ``(V, W)``, which scores them as well."""

    @property
    @abstractmethod
    def speculator(self) -> nn.Module:
        """The KVSPN."""

    @abstractmethod
    def start_speculator(self) -> None:
        """Let KVSPN start from the layers whose keys it reads."""

    @abstractmethod
    def read(
        self, texts: Texts, features: Tensor, visible: Tensor, *, guess: bool = False
    ) -> tuple[Tensor, Tensor | None]:
        """Return states ``(1, N, W)`` of the base, and of KVSPN where it is to guess, that score each next token."""

    @abstractmethod
    def model(self) -> SpeechModel:
        """Return what is served, of the same weights; from then on nothing of them learns, unless it is told to."""

    @abstractmethod
    def remember(self, features: Sequence[Tensor]) -> Sequence[Memory]:
        """Return what :meth:`model` writes texts about features ``(S, E)`` of."""

    @abstractmethod
    def settings(self) -> dict[str, Any]:
        """Return what ``config.json`` says."""


def make_body(recipe: AnchoredRecipe, stage: AnchoredStage, start: Network) -> Body:
    """Make the untrained body that a stage is about, with the encoder of what it starts from.

    Raises:
        BadConfig: it is wider than the base, whose tokens it takes, or stacks more frames than the base hears.
    """
    named = recipe.stage(stage.beside) if stage.beside else stage
    assert named.body is not None, "recipes are checked"
    if named.body.width > start.config.d_model:
        raise BadConfig(f"body: width is {named.body.width}, and the base's tokens have {start.config.d_model} numbers")
    if named.body.stacked > start.config.max_source_positions:
        frames = start.config.max_source_positions
        raise BadConfig(f"body: stacked is {named.body.stacked}, and the base's encoder has {frames} frames")
    blocks = stage.blocks if stage.beside else 0
    if blocks and named.body.layers % blocks:
        raise BadConfig(f"stage {stage.name}: {named.body.layers} layers can't be split into {blocks} equal groups")
    made = Attending if named.body.kind == "encoder-decoder" else Reading
    return made(Path(recipe.base), named.body, named.written or recipe.languages, start, blocks)


class Attending(Body):
    """The encoder-decoder."""

    before = 0

    def __init__(self, base: Path, body: BodyRecipe, languages: Sequence[str], start: Network, blocks: int) -> None:
        self.base, self.languages = base, tuple(languages)
        size = start.config
        config = NetworkConfig(
            d_model=body.width,
            encoder_width=size.d_model,
            encoder_layers=size.encoder_layers,
            encoder_attention_heads=size.encoder_attention_heads,
            encoder_ffn_dim=size.encoder_ffn_dim,
            encoder_rotary=size.encoder_rotary,
            num_mel_bins=size.num_mel_bins,
            max_source_positions=size.max_source_positions,
            max_target_positions=size.max_target_positions,
            decoder_layers=body.layers,
            decoder_attention_heads=body.heads,
            decoder_ffn_dim=body.inner,
            vocab_size=size.vocab_size,
            speculator_blocks=blocks,
        )
        self.network: Network = Network(config)
        initialise(self.network, body.width)
        decoder = self.network.model.decoder
        take_over(self.network.model.encoder, decoder.embed_tokens, start)

    @property
    def embedding(self) -> Tensor:
        """The embedding of the decoder."""
        return self.network.model.decoder.embed_tokens.weight

    @property
    def speculator(self) -> nn.Module:
        """The KVSPN, which starts from the decoder's own layers."""
        assert self.network.speculator is not None, "this body was made without one"
        return self.network.speculator

    def start_speculator(self) -> None:
        """Let KVSPN start from the layers whose keys it reads."""
        start_speculator(self.network)

    def read(
        self, texts: Texts, features: Tensor, visible: Tensor, *, guess: bool = False
    ) -> tuple[Tensor, Tensor | None]:
        """Read texts as whisperM2M does."""
        chains = torch.arange(texts.length) if guess else None
        return self.network.read_targets(texts, features, visible, chains=chains)

    @cached_property
    def _served(self) -> TorchSpeechModel:
        tokenizer = Tokenizer.load(self.base)
        asked = manner(tokenizer, self.languages, ORDERS)
        return TorchSpeechModel("body", self.network, tokenizer, read_features(self.base), asked)

    def model(self) -> SpeechModel:
        """Return a whisperM2M."""
        return cast("SpeechModel", self._served)

    def remember(self, features: Sequence[Tensor]) -> Sequence[Memory]:
        """Project features for all that attend to them."""
        padded = nn.utils.rnn.pad_sequence([*features], batch_first=True)
        return self._served.remember(padded, [len(each) for each in features])

    def settings(self) -> dict[str, Any]:
        """Return those of the base with other sizes."""
        said = read_json(self.base / "config.json")
        return said | self.network.config.asdict() | {"languages": [*self.languages], "prompt": [*ORDERS]}


class Reading(Body):
    """The decoder alone, which reads audio as it reads text."""

    before = 1

    def __init__(self, base: Path, body: BodyRecipe, languages: Sequence[str], start: Network, blocks: int) -> None:
        self.base, self.languages, self.stacked, size = base, tuple(languages), body.stacked, start.config
        self._settings: dict[str, Any] = {
            "model_type": "stacked_audio",
            "languages": [*languages],
            "stacked": body.stacked,
            "audio_config": {
                "num_mel_bins": size.num_mel_bins,
                "d_model": size.d_model,
                "encoder_layers": size.encoder_layers,
                "encoder_attention_heads": size.encoder_attention_heads,
                "encoder_ffn_dim": size.encoder_ffn_dim,
                "max_source_positions": size.max_source_positions,
            },
            "text_config": {
                "model_type": "qwen2",
                "vocab_size": size.vocab_size,
                "hidden_size": body.width,
                "intermediate_size": body.inner,
                "num_hidden_layers": body.layers,
                "num_attention_heads": body.heads,
                "num_key_value_heads": body.heads,
                "max_position_embeddings": size.max_source_positions // body.stacked + size.max_target_positions,
                "tie_word_embeddings": True,
            },
            "speculator_blocks": blocks,
        }
        tower, shape = shapes(self._settings)
        projector = Stacking(tower.width, body.width, body.stacked)
        self.network: AudioNetwork = AudioNetwork(tower, projector, shape, Speculation.of(self._settings, shape))
        initialise(self.network, body.width)
        take_over(self.network.audio_tower, self.network.language_model.model.embed_tokens, start)
        self._sot = Tokenizer.load(base).sot

    @property
    def embedding(self) -> Tensor:
        """The embedding of the decoder."""
        return self.network.language_model.model.embed_tokens.weight

    @property
    def speculator(self) -> nn.Module:
        """The KVSPN."""
        assert self.network.speculator is not None, "this body was made without one"
        return self.network.speculator

    @torch.no_grad()
    def start_speculator(self) -> None:
        """Let KVSPN start from the layers whose keys it reads."""
        kvspn, base = self.network.speculator, self.network.language_model.model
        assert kvspn is not None, "this body was made without one"
        for block, layers in zip(kvspn.blocks, kvspn.speculation.speculator_reads, strict=True):
            top = base.layers[layers[-1]]
            block.base_attn.q_proj.load_state_dict(top.self_attn.q_proj.state_dict())
            block.base_attn.out_proj.weight.copy_(top.self_attn.o_proj.weight)
            block.mlp.load_state_dict(top.mlp.state_dict())
            block.post_attention_layernorm.load_state_dict(top.post_attention_layernorm.state_dict())
        kvspn.norm.load_state_dict(base.norm.state_dict())

    def read(
        self, texts: Texts, features: Tensor, visible: Tensor, *, guess: bool = False
    ) -> tuple[Tensor, Tensor | None]:
        """Read audio, once for all texts about it, and then these, laid end to end."""
        language = self.network.language_model
        sot = language.model.embed_tokens(torch.full((len(features), 1), self._sot))
        audio = self.network.multi_modal_projector(features, nn.Identity())
        layers = self.network.prefix(torch.cat([sot, audio.to(sot.dtype)], 1), ())
        each = texts.count // len(features)
        # Audio is padded at its end, which nothing before it sees; what stands behind it doesn't, either.
        ends = (1 + visible.sum(1) // self.stacked).repeat_interleave(each)
        there = torch.arange(1 + audio.shape[1]) < ends[:, None]
        places = (texts.positions + ends[texts.texts])[None]
        mask = seen(texts, there)
        histories = [Behind(texts, keys, values, mask) for keys, values in layers]
        embedded = language.model.embed_tokens(texts.rows)
        hidden = language.model.norm(language(embedded, histories, places))
        if not guess:
            return hidden, None
        kvspn = self.network.speculator
        assert kvspn is not None, "this body was made without one"
        before = seen(texts, there, back=1)
        groups = [Group([histories[layer] for layer in read], before) for read in kvspn.speculation.speculator_reads]
        return hidden, kvspn(embedded, groups, language.rotation(places, embedded.dtype))

    @cached_property
    def _served(self) -> AudioLanguageModel:
        tokenizer = Tokenizer.load(self.base)
        asked, rules = asking(tokenizer, self.languages, len(self.embedding))
        features = read_features(self.base)
        model = AudioLanguageModel("body", self.network, tokenizer, rules, features=features, manner=asked)
        model.ready()
        return model

    def model(self) -> SpeechModel:
        """Return an audio language model."""
        return cast("SpeechModel", self._served)

    def remember(self, features: Sequence[Tensor]) -> Sequence[Memory]:
        """Let the decoder read features."""
        project = self.network.multi_modal_projector
        return self._served.remember([project(each[None], nn.Identity())[0] for each in features])

    def settings(self) -> dict[str, Any]:
        """Return the sizes."""
        return self._settings


class Behind:
    """The history of one layer for texts ``(nB, T)`` behind ``B`` prefixes, ``n`` of them behind each.

    Keys and values of the prefixes are ``(B, H, P, D)``; ``mask`` ``(nB, 1, T, P + T)`` says what is visible.
    """

    def __init__(self, texts: Texts, keys: Tensor, values: Tensor, mask: Tensor) -> None:
        self.texts, self.mask = texts, mask
        each = texts.count // len(keys)
        self.keys, self.values = keys.repeat_interleave(each, 0), values.repeat_interleave(each, 0)

    def attend(self, queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        """Attend to the prefix and to what stands before, and remember all keys and values for KVSPN."""
        self.keys, self.values = (
            torch.cat([before, self.texts.spread(own)], 2) for before, own in ((self.keys, keys), (self.values, values))
        )
        return self.texts.collect(attend(self.texts.spread(queries), self.keys, self.values, self.mask))


class Group:
    """What KVSPN reads of a group of layers, of which each position is visible as ``mask`` says."""

    def __init__(self, layers: Sequence[Behind], mask: Tensor) -> None:
        self.texts, self.mask = layers[0].texts, mask.repeat_interleave(len(layers), -1)
        self.keys = flatten_group([layer.keys for layer in layers])
        self.values = flatten_group([layer.values for layer in layers])

    def attend(self, queries: Tensor, own: tuple[Tensor, Tensor] | None) -> Tensor:
        """Attend rows ``(1, H, N, D)`` to what is visible of their texts."""
        assert own is None, "it has no keys of its own beside a decoder"
        return self.texts.collect(attend(self.texts.spread(queries), self.keys, self.values, self.mask))


def seen(texts: Texts, there: Tensor, back: int = 0) -> Tensor:
    """Return what tokens see ``(nB, 1, T, P + T)``: of the prefix what is ``there`` ``(nB, P)``, and text before them.

    A token sees itself and what stands before it, or only what stands ``back`` positions before it and more.
    """
    steps = torch.arange(texts.length)
    own = (steps <= steps[:, None] - back).expand(texts.count, -1, -1)
    return torch.cat([there[:, None].expand(-1, texts.length, -1), own], -1)[:, None]


@torch.no_grad()
def take_over(encoder: nn.Module, tokens: nn.Embedding, start: Network) -> None:
    """Give a body the finished encoder and what is most of its tokens' meaning; neither learns.

    The directions in which the base's tokens differ most are kept (principal components, not centred), at the size of a
    fresh embedding.
    """
    encoder.load_state_dict(start.model.encoder.state_dict())
    encoder.requires_grad_(False)
    meaning, width = start.model.decoder.embed_tokens.weight.double(), tokens.embedding_dim
    _, directions = torch.linalg.eigh(meaning.T @ meaning)
    kept = meaning @ directions[:, -width:]
    tokens.weight.copy_(kept / (math.sqrt(width) * kept.std()))
    tokens.requires_grad_(False)
