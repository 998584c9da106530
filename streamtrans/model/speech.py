"""The model that the engine runs: a network in a dtype on a device, behind the verbs of ``model.api``.

Law: a model remembers nothing between calls, and a batch of one equals a row of many.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from streamtrans.core import SAMPLE_RATE, AudioTooLong, Tokens
from streamtrans.model.api import Choices, Forward, Propose
from streamtrans.model.cache import (
    CrossingPair,
    EncodedSpeech,
    SlotBatch,
    SlotCache,
    SlotCrossing,
    SlotHistory,
    Slots,
)
from streamtrans.model.features import FeatureConfig, LogMel
from streamtrans.model.layers import Attention
from streamtrans.model.network import Network
from streamtrans.text import Tokenizer


@dataclass(frozen=True, slots=True)
class Manner:
    """What a model family does differently from another with the same layers.

    ``prompt`` maps (target, source or None) to the tokens that ask for it. ``padded`` families were trained on
    audio padded to full length and must be given it. ``suppressed`` tokens are never chosen.
    """

    languages: tuple[str, ...]
    prompt: Callable[[str, str | None], Tokens]
    padded: bool
    suppressed: frozenset[int]


class TorchSpeechModel:
    """Weights behind three verbs: encode, step, propose. Stateless; one thread calls it."""

    def __init__(
        self,
        name: str,
        network: Network,
        tokenizer: Tokenizer,
        features: FeatureConfig,
        manner: Manner,
        *,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self.name = name
        self.tokenizer = tokenizer
        self.device, self.dtype = torch.device(device), dtype
        self.network = network.to(device=self.device, dtype=dtype).eval().requires_grad_(False)
        self.config = network.config
        self.manner = manner
        self.log_mel = LogMel(features, self.device, dtype)
        mask = torch.zeros(self.config.vocab_size, device=self.device, dtype=self._score_type())
        mask[sorted(manner.suppressed)] = float("-inf")
        self.suppression = mask

    @property
    def eot(self) -> int:
        """The end-of-text token."""
        return self.tokenizer.eot

    @property
    def languages(self) -> tuple[str, ...]:
        """Codes the model can write."""
        return self.manner.languages

    @property
    def max_tokens(self) -> int:
        """Text positions including the prompt."""
        return self.config.max_target_positions

    @property
    def frame_samples(self) -> int:
        """Samples per encoder frame."""
        return 2 * self.log_mel.config.hop

    @property
    def max_samples(self) -> int:
        """Longest audio of one segment."""
        return self.config.max_source_positions * self.frame_samples

    @property
    def has_speculator(self) -> bool:
        """Whether the checkpoint holds a KVSPN."""
        return self.network.speculator is not None

    def prompt(self, target: str, source: str | None) -> Tokens:
        """Return the tokens that ask for a text in ``target``."""
        return self.manner.prompt(target, source)

    def allocate(self, slots: int) -> Slots:
        """Allocate decoder caches for ``slots`` texts at once."""
        return Slots(self.config, slots, self.device, self.dtype)

    @torch.inference_mode()
    def encode(self, audios: Sequence[npt.NDArray[np.float32]]) -> list[EncodedSpeech]:
        """Encode each stretch of audio ``(samples,)`` in one batch, without 30 s padding unless the family wants it."""
        mels = [self._frames(audio) for audio in audios]
        lengths = [mel.shape[-1] for mel in mels]
        longest = max(lengths)
        even = min(lengths) == longest
        stacked = torch.cat([torch.nn.functional.pad(mel, (0, longest - mel.shape[-1])) for mel in mels])
        frames = None if even else torch.tensor(lengths, device=self.device)
        features, _ = self.network.model.encoder(stacked, frames)
        decoder = [self._project(layer.encoder_attn, features) for layer in self.network.model.decoder.layers]
        blocks = () if self.network.speculator is None else self.network.speculator.blocks
        speculator = [self._project(block.encoder_attn, features) for block in blocks]
        return [
            EncodedSpeech(
                frames=(size := (length + 1) // 2),
                decoder=tuple(CrossingPair(k[row, :, :, :size], v[row, :, :size]) for k, v in decoder),
                speculator=tuple(CrossingPair(k[row, :, :, :size], v[row, :, :size]) for k, v in speculator),
            )
            for row, length in enumerate(lengths)
        ]

    @torch.inference_mode()
    def step(self, forwards: Sequence[Forward]) -> list[Choices]:
        """Run one pass over a ragged batch; moves each cache on by its tokens."""
        order = sorted(range(len(forwards)), key=lambda at: _slot(forwards[at].cache))
        asked = [forwards[at] for at in order]
        caches = [_cache(item.cache) for item in asked]
        counts = [len(item.tokens) for item in asked]
        for cache, count in zip(caches, counts, strict=True):
            if cache.length + count > self.max_tokens:
                raise ValueError(f"{cache.length} + {count} positions exceed the model's {self.max_tokens}")
        batch = SlotBatch(caches, counts, self.device)
        tokens = self._stack([item.tokens for item in asked])
        decoder = self.network.model.decoder
        x = decoder.embed(tokens, batch.embedded_positions)
        for number, layer in enumerate(decoder.layers):
            x = layer(x, SlotHistory(batch, number), SlotCrossing(batch, number))
        places = [
            (row, place)
            for row, item in enumerate(asked)
            for place in range(len(item.tokens) - item.rows, len(item.tokens))
        ]
        where = torch.tensor(places, device=self.device)
        scores = self._scores(decoder.layer_norm(x[where[:, 0], where[:, 1]]))
        answers = self._choices(scores, [item.draft for item in asked], [item.rows for item in asked])
        for cache, count in zip(caches, counts, strict=True):
            cache.length += count
        found: list[Choices | None] = [None] * len(forwards)
        for at, answer in zip(order, answers, strict=True):
            found[at] = answer
        return [answer for answer in found if answer is not None]

    @torch.inference_mode()
    def propose(self, proposals: Sequence[Propose]) -> list[int]:
        """Draft one token for each text with KVSPN, in one pass."""
        assert self.network.speculator is not None, "this model has no KVSPN"
        order = sorted(range(len(proposals)), key=lambda at: _slot(proposals[at].cache))
        caches = [_cache(proposals[at].cache) for at in order]
        batch = SlotBatch(caches, [1] * len(caches), self.device)
        tokens = self._stack([(proposals[at].token,) for at in order])
        blocks = range(self.config.speculator_blocks)
        hidden = self.network.speculator(
            self.network.model.decoder.embed(tokens, batch.embedded_positions),
            [batch.group(number) for number in blocks],
            batch.earlier_flat(),
            [SlotCrossing(batch, self.config.decoder_layers + number) for number in blocks],
        )
        drafts = self._scores(hidden[:, 0]).argmax(-1).tolist()
        found = [0] * len(proposals)
        for at, draft in zip(order, drafts, strict=True):
            found[at] = draft
        return found

    def _frames(self, audio: npt.NDArray[np.float32]) -> Tensor:
        if len(audio) > self.max_samples:
            raise AudioTooLong(
                f"a segment of {len(audio) / SAMPLE_RATE:.1f} s exceeds the model's "
                f"{self.max_samples / SAMPLE_RATE:.1f} s; let the segmenter cut earlier (max_segment_ms)"
            )
        samples = torch.from_numpy(np.ascontiguousarray(audio)).to(self.device)
        if self.manner.padded:
            samples = torch.nn.functional.pad(samples, (0, self.max_samples - len(samples)))
        return self.log_mel(samples[None])

    def _project(self, attention: Attention, features: Tensor) -> tuple[Tensor, Tensor]:
        keys, values = attention.keys_values(features)
        return keys.transpose(-1, -2), values

    def _stack(self, lines: Sequence[Tokens]) -> Tensor:
        longest = max(len(line) for line in lines)
        return torch.tensor([(*line, *(self.eot,) * (longest - len(line))) for line in lines], device=self.device)

    def _score_type(self) -> torch.dtype:
        return torch.float64 if self.dtype == torch.float64 else torch.float32

    def _scores(self, hidden: Tensor) -> Tensor:
        """Return logits ``(R, V)`` with suppressed tokens at minus infinity."""
        return self.network.model.decoder.logits(hidden).to(self._score_type()) + self.suppression

    def _choices(self, scores: Tensor, drafts: Sequence[Tokens], rows: Sequence[int]) -> list[Choices]:
        best, choice = scores.max(-1)
        logprobs = (best - scores.logsumexp(-1)).tolist()
        tokens = choice.tolist()
        ranks = self._ranks(scores, choice, drafts, rows)
        found, at = [], 0
        for draft, count in zip(drafts, rows, strict=True):
            found.append(
                Choices(
                    tokens=tuple(tokens[at : at + count]),
                    logprobs=tuple(logprobs[at : at + count]),
                    ranks=tuple(ranks[at : at + len(draft)]),
                )
            )
            at += count
        return found

    def _ranks(self, scores: Tensor, choice: Tensor, drafts: Sequence[Tokens], rows: Sequence[int]) -> list[int]:
        """Return, per row, how many tokens the model prefers to the draft's; the last row of each text has none."""
        if not any(drafts):
            return [0] * scores.shape[0]
        line: list[int] = []
        for draft, count in zip(drafts, rows, strict=True):
            line += [*draft, *(self.eot,) * (count - len(draft))]
        drafted = torch.tensor(line, device=self.device)
        own = scores.gather(1, drafted[:, None])
        # Where the draft is the choice itself its rank is 0 by definition, whatever ties there are.
        ahead = (scores > own).sum(-1) + ((scores == own).cumsum(-1).gather(1, drafted[:, None])[:, 0] - 1)
        return torch.where(choice == drafted, 0, ahead).tolist()


def _cache(cache: object) -> SlotCache:
    assert isinstance(cache, SlotCache), "a torch model steps only the caches of its own slots"
    return cache


def _slot(cache: object) -> int:
    return _cache(cache).slot
