"""The two lessons of an anchored run: what learns, what the anchor answers, and how far they are apart.

*hearing* needs no labels: adapters of the encoder learn to give, for audio at its own length, the features that the
stock encoder gives for the same audio padded with silence, and features over which the stock decoder says the same,
end-of-text included. *directions* teaches the decoder every language of what the finished encoder heard ahead; where
stock Whisper knows the task (transcripts, into English) it is held near what stock Whisper said.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass
from typing import Protocol, TypeVar

import torch
from torch import Tensor, nn

from streamtrans.model.network import Network, Texts
from streamtrans.train.anchored.batches import HeardBatch, Prompting
from streamtrans.train.anchored.heard import BELIEVED, Heard
from streamtrans.train.anchored.recipe import AnchoredStage
from streamtrans.train.anchored.scoring import anchored_cross_entropy
from streamtrans.train.anchored.taught import TaughtBatch
from streamtrans.train.finetune.adapters import ADAPTER, deltas
from streamtrans.train.losses import divergence

Part = TypeVar("Part", bound=nn.Module)
Given_contra = TypeVar("Given_contra", contravariant=True)
MEL_PER_SECOND = 100
ADAPTED = ("q_proj", "k_proj", "v_proj", "out_proj", "fc1", "fc2")
WORK = torch.bfloat16
"""What is frozen is computed in, and what learns too where that is safe: twice as fast where processors have it."""


@dataclass(frozen=True, slots=True)
class Answered:
    """A batch and what the anchor says to it.

    ``features`` ``(B, S, E)`` of the real frames and ``visible`` ``(B, S)``; ``hidden`` ``(1, N, E)`` of its decoder.
    """

    batch: HeardBatch
    features: Tensor
    visible: Tensor
    hidden: Tensor

    @property
    def seconds(self) -> float:
        """Audio in the batch."""
        return float(self.batch.frames.sum()) / MEL_PER_SECOND


class Lesson(Protocol[Given_contra]):
    """Something that learns from an anchor."""

    @property
    def network(self) -> nn.Module:
        """What learns, with all around it."""
        ...

    @property
    def trained(self) -> dict[str, nn.Parameter]:
        """What learns, by name."""
        ...

    def loss(self, given: Given_contra) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the weighted loss, and its terms."""
        ...

    def tensors(self, values: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the whole network's tensors under their checkpoint names, ``values`` in the place of what learns."""
        ...


class Hearing:
    """Adapters of the encoder, taught by the stock model."""

    def __init__(self, stock: Network, stage: AnchoredStage, asking: Prompting) -> None:
        from peft import LoraConfig, inject_adapter_in_model

        self.stage, self.asking = stage, asking
        self.stock = {name: tensor.clone() for name, tensor in stock.state_dict().items()}
        self.anchor = frozen(stock)
        self.network = frozen(deepcopy(stock))
        adapters = LoraConfig(
            r=stage.rank, lora_alpha=2 * stage.rank, target_modules=rf".*\.({'|'.join(map(re.escape, ADAPTED))})"
        )
        inject_adapter_in_model(adapters, self.network.model.encoder, ADAPTER)
        for parameter in self.trained.values():
            parameter.data = parameter.data.float()

    @property
    def trained(self) -> dict[str, nn.Parameter]:
        """The adapters."""
        named = self.network.model.encoder.named_parameters()
        found = {name: parameter for name, parameter in named if ".lora_" in name}
        for parameter in found.values():
            parameter.requires_grad_(True)
        return found

    @torch.no_grad()
    def ask(self, batch: HeardBatch) -> Answered:
        """Hear the padded audio, which never changes; only the frames of the audio itself are to be learnt."""
        features, visible = self.anchor.model.encoder(batch.padded.to(WORK), batch.padded_frames)
        texts, _ = read_texts(batch.anchor, batch.labels, self.asking.length)
        hidden, _ = self.anchor.read_targets(texts, features, visible)
        length = (batch.mel.shape[-1] + 1) // 2
        return Answered(batch, features[:, :length], _visible(batch.frames, length), hidden)

    def loss(self, given: Answered) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the distance of features and of what the stock decoder says over them."""
        batch = given.batch
        features, visible = self.network.model.encoder(batch.mel.to(WORK), batch.frames)
        heard, wanted = features[visible].float(), given.features[given.visible].float()
        terms = {"features": (heard - wanted).square().mean() / wanted.var()}
        texts, labels = read_texts(batch.anchor, batch.labels, self.asking.length)
        hidden, _ = self.network.read_targets(texts, features, visible)
        terms |= _apart(hidden, given.hidden, self.network, labels, self.asking.tokenizer.eot)
        weights = {"features": self.stage.features, "anchor": self.stage.anchor, "ending": self.stage.ending}
        return torch.stack([weights[name] * term for name, term in terms.items()]).sum(), terms

    def tensors(self, values: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the stock network with the adapters added up."""
        prefix = "model.encoder."
        with swapped(self.trained, values):
            added = deltas(self.network.model.encoder)
        return {
            name: tensor + added[name.removeprefix(prefix)] if name.removeprefix(prefix) in added else tensor
            for name, tensor in self.stock.items()
        }


class Listener:
    """The finished encoder, and the stock decoder over what it hears: what *directions* learns from."""

    def __init__(self, stock: Network, start: Network, asking: Prompting) -> None:
        self.ears, self.anchor, self.prompt = frozen(start.model.encoder), frozen(stock), asking.length

    @torch.no_grad()
    def hear(self, batch: HeardBatch) -> Heard:
        """Return what is kept of a batch."""
        features, visible = self.ears(batch.mel.to(WORK), batch.frames)
        texts, labels = read_texts(batch.anchor, batch.labels, self.prompt)
        hidden, _ = self.anchor.read_targets(texts, features, visible)
        ids = torch.zeros(*batch.labels.shape, BELIEVED, dtype=torch.int32).flatten(0, 1)
        shares = torch.zeros(ids.shape, dtype=torch.float16)
        asked = labels[0] >= 0
        logits = self.anchor.model.decoder.logits(hidden[0, asked]).float()
        best, where = logits.topk(BELIEVED)
        ids[texts.where[asked]] = where.int()
        shares[texts.where[asked]] = best.softmax(-1).half()
        count = len(batch.spoken)
        return Heard(
            features=features[visible],
            lengths=visible.sum(1).int(),
            spoken=batch.spoken.int(),
            texts=batch.texts.int(),
            ids=ids.unflatten(0, batch.labels.shape)[:, self.prompt - 1 :].unflatten(0, (count, -1)),
            shares=shares.unflatten(0, batch.labels.shape)[:, self.prompt - 1 :].unflatten(0, (count, -1)),
        )


class Directions:
    """The decoder, on features of an encoder that is finished."""

    def __init__(self, start: Network, stage: AnchoredStage, asking: Prompting) -> None:
        self.stage, self.asking = stage, asking
        self.network = start.float().requires_grad_(False)
        decoder = self.network.model.decoder
        parts: tuple[nn.Module, ...] = (*decoder.layers, decoder.layer_norm, decoder.embed_positions)
        for part in parts:
            part.requires_grad_(True)

    @property
    def trained(self) -> dict[str, nn.Parameter]:
        """The decoder but for its tokens: rare ones would be forgotten."""
        return {name: value for name, value in self.network.named_parameters() if value.requires_grad}

    def loss(self, batch: TaughtBatch) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the cross-entropy of all texts, and the distance from the stock decoder where it knows the task."""
        texts, labels = read_texts(batch.tokens, batch.labels, self.asking.length)
        hidden, _ = self.network.read_targets(texts, batch.features, batch.visible)
        asked = labels[0] >= 0
        ids, shares = (table.flatten(0, 1)[texts.where[asked]] for table in (batch.ids, batch.shares))
        projection = self.network.model.decoder.embed_tokens.weight
        return anchored_cross_entropy(
            hidden[0, asked], projection, labels[0, asked], ids, shares, pull=self.stage.anchor, known=self.stage.known
        )

    def tensors(self, values: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the network."""
        return {**self.network.state_dict(), **values}


def frozen(part: Part) -> Part:
    """Return a part as it is computed where it doesn't learn."""
    return part.to(WORK).eval().requires_grad_(False)


def read_texts(tokens: Tensor, labels: Tensor, prompt: int) -> tuple[Texts, Tensor]:
    """Lay padded texts ``(N, Y)`` with prompts of ``prompt`` tokens end to end; returns them and their labels.

    A text of which nothing is asked isn't read.
    """
    real = labels >= 0
    real[:, : prompt - 1] = real.any(1, keepdim=True)
    texts = Texts(tokens, real)
    return texts, labels.flatten()[texts.where][None]


class swapped:
    """Other values in the place of parameters, for as long as the context lasts."""

    def __init__(self, parameters: Mapping[str, nn.Parameter], values: Mapping[str, Tensor]) -> None:
        self.parameters, self.values = parameters, values

    def __enter__(self) -> None:
        self.own = {name: parameter.data for name, parameter in self.parameters.items()}
        for name, parameter in self.parameters.items():
            parameter.data = self.values[name].to(parameter.dtype)

    def __exit__(self, *_: object) -> None:
        for name, parameter in self.parameters.items():
            parameter.data = self.own[name]


def _visible(frames: Tensor, length: int) -> Tensor:
    return torch.arange(length, device=frames.device) < ((frames + 1) // 2)[:, None]


def _apart(hidden: Tensor, anchor: Tensor, network: Network, labels: Tensor, eot: int) -> dict[str, Tensor]:
    """Return the KL divergence from the anchor at all labelled positions, and at the ends of texts alone."""
    projection = network.model.decoder.embed_tokens.weight
    ends = labels.masked_fill(labels != eot, -1)
    return {
        "anchor": divergence(hidden, anchor, projection, labels),
        "ending": divergence(hidden, anchor, projection, ends),
    }
