"""The model that the engine runs: a network in a dtype on a device, behind the verbs of ``model.api``.

Law: a model remembers nothing between calls, and a batch of one equals a row of many.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, islice

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from streamtrans.core import SAMPLE_RATE, AudioTooLong, BadAnswer, BadModel, Tokens
from streamtrans.model.api import Choices, Forward, Guess, Heard, Hearing, Propose
from streamtrans.model.cache import (
    Alignment,
    CrossingPair,
    EncodedSpeech,
    Heads,
    SlotBatch,
    SlotCache,
    SlotHistory,
    Slots,
    SlotSpan,
)
from streamtrans.model.features import FeatureConfig, LogMel
from streamtrans.model.guessing import Guesser, best_candidates
from streamtrans.model.hearing import BlockHearing
from streamtrans.model.layers import Blocks
from streamtrans.model.linear import pack
from streamtrans.model.network import Network
from streamtrans.text import Tokenizer, canonical, tokens_per_second


@dataclass(frozen=True, slots=True)
class Manner:
    """What a model family does differently from another with the same layers.

    ``prompt`` maps (target, source or None) to the tokens that ask for it. ``padded`` families were trained on
    audio padded to full length and must be given it. ``suppressed`` tokens are never chosen, those that are
    ``begin_suppressed`` not at position ``begin``, where texts begin. The ``alignment_heads`` of the decoder's
    attention to the encoder look at what is being said; without such nobody knows where a token comes from.
    ``translations`` lists per spoken language what it can become; empty: any of ``languages`` becomes any.
    """

    languages: tuple[str, ...]
    prompt: Callable[[str, str | None], Tokens]
    padded: bool
    suppressed: frozenset[int]
    begin_suppressed: frozenset[int] = frozenset()
    begin: int = 0
    alignment_heads: Heads = ()
    translations: tuple[tuple[str, tuple[str, ...]], ...] = ()


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
        self.parameters = sum(parameter.numel() for parameter in self.network.parameters())
        self.precision = str(dtype).removeprefix("torch.")
        self.config = network.config
        self.manner = manner
        self._rates: dict[str, float] = {}  # tokens per second, by language
        self.log_mel = LogMel(features, self.device, dtype)
        mask = torch.zeros(self.config.vocab_size, device=self.device, dtype=self._score_type())
        mask[sorted(manner.suppressed)] = float("-inf")
        self.suppression = mask
        self._hearing: BlockHearing | None = None
        self.hear_in(Blocks(self.config.encoder_block, self.config.encoder_left) if self.config.encoder_block else None)
        self.guesser = Guesser(self.network, mask, tokenizer.eot) if self.has_speculator else None

    @property
    def eot(self) -> int:
        """The end-of-text token."""
        return self.tokenizer.eot

    @property
    def languages(self) -> tuple[str, ...]:
        """Codes the model can write."""
        return self.manner.languages

    @property
    def translations(self) -> tuple[tuple[str, tuple[str, ...]], ...]:
        """Spoken language and what the model makes of it; empty: any of its languages becomes any."""
        return self.manner.translations

    def tokens_per_second(self, language: str) -> float:
        """Return how many tokens the fastest speech needs per second in ``language``."""
        code = canonical(language)
        if code not in self._rates:
            self._rates[code] = tokens_per_second(self.tokenizer, code)
        return self._rates[code]

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

    def pack(self, precision: str | None) -> None:
        """Lay the linears out for speed, once, after loading: see :func:`streamtrans.model.linear.pack`."""
        pack(self.network, precision)
        if precision is not None:
            self.precision = precision
            if self.guesser is not None:
                self.guesser.pack(precision)

    @property
    def draft_acceptance(self) -> float:
        """The share of KVSPN's guesses that are usually right."""
        return self.config.speculator_acceptance

    def prompt(self, target: str, source: str | None) -> Tokens:
        """Return the tokens that ask for a text in ``target``."""
        return self.manner.prompt(target, source)

    def allocate(self, slots: int) -> Slots:
        """Allocate decoder caches for ``slots`` texts at once."""
        return Slots(self.config, slots, self.device, self.dtype)

    @torch.inference_mode()
    def encode(self, audios: Sequence[npt.NDArray[np.float32]]) -> list[EncodedSpeech]:
        """Encode each stretch of audio ``(samples,)`` in one batch, without 30 s padding unless the family wants it."""
        return self.remember(*self.hear(audios))

    @torch.inference_mode()
    def hear(self, audios: Sequence[npt.NDArray[np.float32]]) -> tuple[Tensor, list[int]]:
        """Return what the encoder makes of each stretch of audio, ``(B, S, E)``, and how many frames are real."""
        mels = [self._frames(audio) for audio in audios]
        lengths = [mel.shape[-1] for mel in mels]
        longest = max(lengths)
        even = min(lengths) == longest
        stacked = torch.cat([torch.nn.functional.pad(mel, (0, longest - mel.shape[-1])) for mel in mels])
        frames = None if even else torch.tensor(lengths, device=self.device)
        features, _ = self.network.model.encoder(stacked, frames)
        return features, [(length + 1) // 2 for length in lengths]

    @torch.inference_mode()
    def listen(self, hearings: Sequence[Hearing]) -> list[Heard]:
        """Go on hearing several streams in one batch; networks that don't hear in blocks begin anew each time."""
        for hearing in hearings:
            self._check_length(hearing.audio)
        if self._hearing is None:
            return self._listen_anew(hearings)
        found = self._hearing.listen(hearings)
        whole = [at for at, hearing in enumerate(hearings) if hearing.whole]
        for at, anew in zip(whole, self._listen_anew([hearings[at] for at in whole]), strict=True):
            found[at] = replace(anew, state=found[at].state, encoded=found[at].encoded + anew.encoded)
        return found

    @property
    def blocks(self) -> Blocks | None:
        """How :meth:`listen` hears a stream; ``None``: all that it is given at once."""
        return None if self._hearing is None else self._hearing.blocks

    def hear_in(self, blocks: Blocks | None) -> None:
        """Let :meth:`listen` hear in other blocks than the checkpoint says, for measurements.

        Raises:
            BadModel: the network hears a clip as a whole, by its positions or its features.
        """
        if blocks is None:
            self._hearing = None
            return
        if not self.config.encoder_rotary or self.manner.padded or self.log_mel.config.scaling != "fixed":
            raise BadModel(
                f"{self.name} can't hear in blocks of {blocks.size} frames: that takes rotary positions, features of"
                " fixed scaling, and audio of any length; set encoder_block to 0"
            )
        self._hearing = BlockHearing(self.network.model.encoder, self.log_mel, blocks, self._crossings, self.config)

    @torch.inference_mode()
    def remember(self, features: Tensor, frames: Sequence[int]) -> list[EncodedSpeech]:
        """Project features ``(B, S, E)``, of which each row has ``frames`` real ones, for all that attend to them."""
        pairs, cut = self._crossings(features), self.config.decoder_layers
        return [
            EncodedSpeech(
                frames=size,
                decoder=tuple(CrossingPair(k[row, :, :, :size], v[row, :, :size]) for k, v in pairs[:cut]),
                speculator=tuple(CrossingPair(k[row, :, :, :size], v[row, :, :size]) for k, v in pairs[cut:]),
            )
            for row, size in enumerate(frames)
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
        batch = SlotBatch(caches)
        span = SlotSpan(batch, counts)
        decoder = self.network.model.decoder
        x = decoder.embed(self._stack([item.tokens for item in asked]), span.embedded_positions)
        alignment = Alignment(self.manner.alignment_heads)
        for number, layer in enumerate(decoder.layers):
            x = layer(x, SlotHistory(span, number), batch.crossing(number, alignment.of(number)))
        hidden = decoder.layer_norm(self._answered(x, asked))
        scores = self._scores(hidden)
        self._mask_begin(scores, asked)
        answers = _with_frames(alignment, self._with_candidates(scores, self._choices(scores, asked), asked), counts)
        found, rows = [*answers], hidden.split([item.rows for item in asked])
        for at, cache, count, states, answer in zip(order, caches, counts, rows, answers, strict=True):
            cache.length += count
            found[at] = answer
            if self.config.speculator_input == "hidden":
                cache.keep_hidden(states)
        return found

    @torch.inference_mode()
    def propose(self, proposals: Sequence[Propose]) -> list[Guess]:
        """Guess what follows each text with KVSPN."""
        assert self.guesser is not None, "this model has no KVSPN"
        order = sorted(range(len(proposals)), key=lambda at: _slot(proposals[at].cache))
        asked = [proposals[at] for at in order]
        found = self.guesser.guess(asked, [_cache(item.cache) for item in asked])
        back = dict(zip(order, found, strict=True))
        return [back[at] for at in range(len(proposals))]

    def _listen_anew(self, hearings: Sequence[Hearing]) -> list[Heard]:
        memories = self.encode([hearing.audio for hearing in hearings]) if hearings else []
        return [
            Heard(memory, None, item.start, len(item.audio)) for memory, item in zip(memories, hearings, strict=True)
        ]

    def _check_length(self, audio: npt.NDArray[np.float32]) -> None:
        if len(audio) > self.max_samples:
            raise AudioTooLong(
                f"a segment of {len(audio) / SAMPLE_RATE:.1f} s exceeds the model's "
                f"{self.max_samples / SAMPLE_RATE:.1f} s; let the segmenter cut earlier (max_segment_ms)"
            )

    def _frames(self, audio: npt.NDArray[np.float32]) -> Tensor:
        self._check_length(audio)
        samples = torch.from_numpy(np.ascontiguousarray(audio)).to(self.device)
        if self.manner.padded:
            samples = torch.nn.functional.pad(samples, (0, self.max_samples - len(samples)))
        return self.log_mel(samples[None])

    def _crossings(self, features: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Return keys ``(B, H, D, S)`` and values ``(B, H, S, D)`` for the decoder's layers, then KVSPN's blocks."""
        readers = [layer.encoder_attn for layer in self.network.model.decoder.layers]
        if self.network.speculator is not None:
            readers += [block.encoder_attn for block in self.network.speculator.blocks]
        projected = [reader.keys_values(features) for reader in readers]
        total = sum(part.sum(dtype=self._score_type()) for pair in projected for part in pair)
        if not math.isfinite(total):
            raise BadAnswer(f"{self.name} hears numbers that aren't finite in this audio, so nothing can be read of it")
        return [(keys.transpose(-1, -2), values) for keys, values in projected]

    def _stack(self, lines: Sequence[Tokens]) -> Tensor:
        longest = max(len(line) for line in lines)
        return torch.tensor([(*line, *(self.eot,) * (longest - len(line))) for line in lines], device=self.device)

    def _score_type(self) -> torch.dtype:
        return torch.float64 if self.dtype == torch.float64 else torch.float32

    def _scores(self, hidden: Tensor) -> Tensor:
        """Return logits ``(R, V)`` with suppressed tokens at minus infinity."""
        return self.network.model.decoder.logits(hidden).to(self._score_type()) + self.suppression

    def _answered(self, x: Tensor, asked: Sequence[Forward]) -> Tensor:
        """Return the rows ``(R, E)`` that are to be answered, text after text."""
        if len({(len(item.tokens), item.rows) for item in asked}) == 1:
            return x[:, -asked[0].rows :].flatten(0, 1)
        places = [
            (row, place)
            for row, item in enumerate(asked)
            for place in range(len(item.tokens) - item.rows, len(item.tokens))
        ]
        where = torch.tensor(places, device=self.device)
        return x[where[:, 0], where[:, 1]]

    def _mask_begin(self, scores: Tensor, asked: Sequence[Forward]) -> None:
        """Mask what may not begin a text, in those of the rows ``(R, V)`` that choose a first token."""
        if not self.manner.begin_suppressed:
            return
        rows, start = [], 0
        for item in asked:
            first = item.cache.length + len(item.tokens) - item.rows  # the position whose row is answered first
            place = self.manner.begin - 1 - first
            rows += [start + place] if 0 <= place < item.rows else []
            start += item.rows
        if rows:
            tokens = sorted(self.manner.begin_suppressed)
            scores[torch.tensor(rows)[:, None], torch.tensor(tokens)] = float("-inf")

    def _choices(self, scores: Tensor, asked: Sequence[Forward]) -> list[Choices]:
        best, choice = scores.max(-1)
        rest = (scores - best[:, None]).exp_().sum(-1).log_()
        tokens, logprobs = choice.tolist(), (-rest).tolist()
        if not all(map(math.isfinite, logprobs)):
            raise BadAnswer(f"the scores of {self.name} aren't finite, so there is nothing to choose from")
        starts = [0, *accumulate(item.rows for item in asked)]
        drafted = {
            row: token
            for start, item in zip(starts, asked, strict=False)
            for row, token in enumerate(item.draft, start)
        }
        # Where the draft is the choice itself its rank is 0 by definition, whatever ties there are.
        judged = {row: (0, logprobs[row]) for row in drafted}
        judged |= self._judge(scores, best + rest, {row: new for row, new in drafted.items() if new != tokens[row]})
        found = []
        for start, item in zip(starts, asked, strict=False):
            draft = [judged[row] for row in range(start, start + len(item.draft))]
            found.append(
                Choices(
                    tokens=tuple(tokens[start : start + item.rows]),
                    logprobs=tuple(logprobs[start : start + item.rows]),
                    ranks=tuple(rank for rank, _ in draft),
                    draft_logprobs=tuple(logprob for _, logprob in draft),
                )
            )
        return found

    def _with_candidates(self, scores: Tensor, answers: list[Choices], asked: Sequence[Forward]) -> list[Choices]:
        """Add the best tokens of each row ``(R, V)`` for the texts that want some, in one selection for all."""
        if not any(item.width for item in asked):
            return answers
        rows = iter(best_candidates(scores, [item.width for item in asked for _ in range(item.rows)]))
        return [
            replace(answer, candidates=tuple(islice(rows, item.rows)) if item.width else ())
            for answer, item in zip(answers, asked, strict=True)
        ]

    def _judge(self, scores: Tensor, totals: Tensor, missed: dict[int, int]) -> dict[int, tuple[int, float]]:
        """Return how many tokens the model prefers to each missed draft (row → token), and its log-probability."""
        if not missed:
            return {}
        rows, tokens = torch.tensor([[*missed], [*missed.values()]], device=self.device)
        scores = scores[rows]
        own = scores.gather(1, tokens[:, None])
        lower = torch.arange(scores.shape[1], device=self.device) < tokens[:, None]
        ahead = ((scores > own) | ((scores == own) & lower)).sum(-1)
        logprobs = own[:, 0] - totals[rows]
        return dict(zip(missed, zip(ahead.tolist(), logprobs.tolist(), strict=True), strict=True))


def _with_frames(alignment: Alignment, answers: list[Choices], counts: Sequence[int]) -> list[Choices]:
    """Add where the model looked at each of the ``counts`` tokens of each text, if it has heads that tell."""
    lines = alignment.frames() or [[] for _ in answers]
    return [
        replace(answer, frames=tuple(line[:count])) if line else answer
        for answer, line, count in zip(answers, lines, counts, strict=True)
    ]


def _cache(cache: object) -> SlotCache:
    assert isinstance(cache, SlotCache), "a torch model steps only the caches of its own slots"
    return cache


def _slot(cache: object) -> int:
    return _cache(cache).slot
