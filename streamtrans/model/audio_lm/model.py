"""The model that the engine runs: what is heard becomes a prefix that all texts about it share.

```
 before │ audio ─────────────────────────── │ prompt │ text
 read   │ anew with every hearing, but for  │ with the text, in the pass that verifies its draft
 once   │ whole chunks that sound the same  │
```
The encoder hears both ways, so whatever is new changes all frames of its chunk: only what stands before the audio, and
chunks that are complete, need not be read again.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from streamtrans.core import BadAnswer, BadModel, Tokens
from streamtrans.model.api import Guess, Heard, Hearing, Propose
from streamtrans.model.audio_lm.network import AudioNetwork
from streamtrans.model.cache import CrossingPair, EncodedSpeech, SlotBatch, SlotHistory, SlotShape, SlotSpan
from streamtrans.model.features import FeatureConfig, LogMel, check_length
from streamtrans.model.scoring import Rules
from streamtrans.model.writing import Frames, Writer, known, slot_cache
from streamtrans.text import Vocabulary

TEXT = 448
"""Positions that are kept ready for a prompt and its text: as many as Whisper's."""

Samples = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Manner:
    """What a model family does differently from another with the same parts.

    ``before`` stands before the audio of every prompt; ``ask`` maps (target, source or None) to what stands behind it.
    ``padded`` families are given whole chunks, filled up with silence that they hear; the others are told what is
    silence that was added, so what they say doesn't depend on it, and none is encoded. Those that are ``ended`` learnt
    of audio behind which there is nothing at all. ``chunks`` are read at most.
    """

    languages: tuple[str, ...]
    before: Tokens
    ask: Callable[[str, str | None], Tokens]
    padded: bool
    chunks: int = 1
    ended: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class _Kept:
    """Complete chunks: the mel frames ``(M, T)`` of each, and the prefix that they end."""

    chunks: tuple[Tensor, ...]
    prefix: tuple[CrossingPair, ...]


@dataclass(frozen=True, slots=True)
class _Plan:
    """One hearing: its mel frames in chunks, the first ``kept`` of which were read before, with what stands there."""

    chunks: tuple[Tensor, ...]
    frames: int
    kept: int
    past: tuple[CrossingPair, ...]


class AudioLanguageModel(Writer):
    """Weights behind three verbs: listen, step, propose. Stateless; one thread calls it."""

    asked_in_words = True

    def __init__(
        self,
        name: str,
        network: AudioNetwork,
        vocabulary: Vocabulary,
        rules: Rules,
        *,
        features: FeatureConfig,
        manner: Manner,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__(name, vocabulary, rules, device=device, dtype=dtype)
        self.network = self._held(network)
        self.manner = manner
        self._ask = functools.cache(manner.ask)  # some take milliseconds
        self.log_mel = LogMel(features, self.device, dtype)
        self.hop, self.each = features.hop, network.multi_modal_projector.each
        self.chunk = 2 * network.tower_shape.positions
        """Mel frames that the encoder reads at once."""
        self.before: tuple[CrossingPair, ...] = ()
        """Keys and values of what stands before all audio; read when the weights are as they will be."""

    @property
    def languages(self) -> tuple[str, ...]:
        """Codes the model can write."""
        return self.manner.languages

    @property
    def translations(self) -> tuple[tuple[str, tuple[str, ...]], ...]:
        """Nothing: any of its languages becomes any."""
        return ()

    @property
    def frame_samples(self) -> int:
        """Samples per position of the decoder."""
        return 2 * self.hop * self.each

    @property
    def max_samples(self) -> int:
        """Longest audio of one segment."""
        return self.manner.chunks * self.chunk * self.hop

    @property
    def has_speculator(self) -> bool:
        """Whether the checkpoint holds a KVSPN."""
        return self.network.speculator is not None

    @property
    def draft_acceptance(self) -> float:
        """The share of KVSPN's guesses that are usually right; 0 without one."""
        return 0.0 if self.network.speculator is None else self.network.speculator.speculation.acceptance

    @property
    def shape(self) -> SlotShape:
        """What one of its slots holds: the longest prefix, and a text."""
        shape = self.network.language_model.shape
        positions = self._longest + self.max_tokens
        speculator = self.network.speculator
        group = 1 if speculator is None else speculator.speculation.group
        return SlotShape(shape.num_key_value_heads, shape.head_dim, shape.num_hidden_layers, positions, group=group)

    @property
    def max_tokens(self) -> int:
        """Text positions including the prompt."""
        return min(TEXT, self.network.language_model.shape.max_position_embeddings - self._longest)

    @property
    def _longest(self) -> int:
        return len(self.manner.before) + self.manner.chunks * self.chunk // (2 * self.each)

    def taught(self, target: str, source: str | None) -> bool:
        """Say yes: whatever is not refused it was taught."""
        del target, source
        return True

    def prompt(self, target: str, source: str | None) -> Tokens:
        """Return the tokens that ask for a text in ``target``, which stand behind the audio."""
        written = known(self.name, "writes", target, self.languages)
        return self._ask(written, None if source is None else known(self.name, "hears", source, self.languages))

    def encode(self, audios: Sequence[Samples]) -> list[EncodedSpeech]:
        """Encode each stretch of audio ``(samples,)`` in one batch."""
        return [memory for memory, _ in self._hear([(audio, None) for audio in audios])]

    def listen(self, hearings: Sequence[Hearing]) -> list[Heard]:
        """Hear all that each stream brings, in one batch."""
        found = self._hear([(hearing.audio, hearing.state) for hearing in hearings])
        return [
            Heard(memory, state, hearing.start, len(hearing.audio))
            for (memory, state), hearing in zip(found, hearings, strict=True)
        ]

    @torch.inference_mode()
    def remember(self, lines: Sequence[Tensor]) -> list[EncodedSpeech]:
        """Let the decoder read what stands for audio, embeddings ``(T, W)`` each, for all texts about it."""
        prefixes = self._read_on(lines, self.before)
        return [EncodedSpeech(len(line), prefix=prefix) for line, prefix in zip(lines, prefixes, strict=True)]

    @torch.inference_mode()
    def propose(self, proposals: Sequence[Propose]) -> list[Guess]:
        """Guess what follows each text with KVSPN."""
        network = self.network
        assert network.speculator is not None, "this model has no KVSPN"
        caches = [slot_cache(item.cache) for item in proposals]
        return network.speculator.guess(network.language_model, proposals, caches, self.suppression, self.eot)

    def _pack(self, precision: str) -> None:
        self.network.pack(precision)

    @torch.inference_mode()
    def ready(self) -> None:
        """Read what stands before all audio, once, after the weights were laid out."""
        if self.max_tokens <= 0:
            raise BadModel(f"{self.name} holds fewer positions than {self._longest}, which its longest audio takes")
        self.before = self._read_on([self._embed(self.manner.before)], ())[0]

    @torch.inference_mode()
    def _hear(self, audios: Sequence[tuple[Samples, object | None]]) -> list[tuple[EncodedSpeech, object | None]]:
        for audio, _ in audios:
            check_length(audio, self.max_samples)
        longest = max((len(audio) for audio, _ in audios), default=0)
        plans = [self._plan(audio, state, longest) for audio, state in audios]
        heard = self._encode(plans)
        found: dict[int, tuple[EncodedSpeech, object | None]] = {}
        for kept in {plan.kept for plan in plans}:
            rows = [row for row, plan in enumerate(plans) if plan.kept == kept]
            if kept:  # each behind its own
                prefixes = [self._read_on([heard[row]], plans[row].past)[0] for row in rows]
            else:
                prefixes = self._read_on([heard[row] for row in rows], self.before)
            for row, prefix in zip(rows, prefixes, strict=True):
                found[row] = self._found(plans[row], prefix, len(audios[row][0]))
        return [found[row] for row in range(len(audios))]

    def _plan(self, audio: Samples, state: object | None, longest: int) -> _Plan:
        """Lay out one hearing, the audio of whose batch is up to ``longest`` samples long."""
        window, chunk = self.log_mel.config.window, self.chunk * self.hop
        count = max(len(audio), window)
        # Frames that count look over their end: at what stands there in a whole chunk, silence.
        padded = -(-count // chunk) * chunk if self.manner.padded else min(max(longest, window) + 4 * self.hop, chunk)
        if self.manner.ended:
            padded = count
        samples = torch.from_numpy(np.pad(audio, (0, padded - len(audio)))).to(self.device)
        chunks = self.log_mel(samples[None])[0].split(self.chunk, -1)
        kept = 0
        if isinstance(state, _Kept):
            same = (torch.equal(old, new) for old, new in zip(state.chunks, chunks[:-1], strict=False))
            kept = next((at for at, equal in enumerate(same) if not equal), min(len(state.chunks), len(chunks) - 1))
        past = state.prefix if isinstance(state, _Kept) and kept else self.before
        frames = (
            count // self.hop if self.manner.ended else -(-count // self.hop)
        )  # as the processor's mask counts them
        end = len(self.manner.before) + kept * self.chunk // (2 * self.each)
        past = tuple(CrossingPair(pair.keys[:, :end], pair.values[:, :end]) for pair in past)
        return _Plan(chunks, (frames + 1) // 2, kept, past)

    def _encode(self, plans: Sequence[_Plan]) -> list[Tensor]:
        """Return what the decoder is to read of each, ``(T, W)``, all encoded in one batch."""
        if not plans:
            return []
        chunks = [chunk for plan in plans for chunk in plan.chunks[plan.kept :]]
        stacked = torch.nn.utils.rnn.pad_sequence([chunk.T for chunk in chunks], batch_first=True).mT
        frames = None if self.manner.padded else torch.tensor([plan.frames for plan in plans], device=self.device)
        lengths = [chunk.shape[-1] for chunk in chunks]
        ends = torch.tensor(lengths, device=self.device) if self.manner.ended else None
        heard = self.network.hear(stacked, frames, ends)
        if not math.isfinite(heard.sum(dtype=self.scorer.dtype)):
            raise BadAnswer(f"{self.name} hears numbers that aren't finite in this audio, so nothing can be read of it")
        parts = heard.split([len(plan.chunks) - plan.kept for plan in plans])
        if self.manner.padded:
            return [part.flatten(0, 1) for part in parts]
        return [part[0, : plan.frames // self.each] for part, plan in zip(parts, plans, strict=True)]

    def _found(
        self, plan: _Plan, prefix: tuple[CrossingPair, ...], samples: int
    ) -> tuple[EncodedSpeech, object | None]:
        before, each = len(self.manner.before), self.chunk // (2 * self.each)
        memory = EncodedSpeech(prefix[0].keys.shape[1] - before, prefix=prefix)
        whole = samples // (self.chunk * self.hop) if self.manner.chunks > 1 else 0
        if not whole:
            return memory, None
        # Copied, for a view would keep all of it.
        cut = [(pair.keys[:, : before + whole * each], pair.values[:, : before + whole * each]) for pair in prefix]
        kept = tuple(CrossingPair(keys.clone(), values.clone()) for keys, values in cut)
        return memory, _Kept(tuple(chunk.clone() for chunk in plan.chunks[:whole]), kept)

    def _read_on(self, lines: Sequence[Tensor], past: Sequence[CrossingPair]) -> list[tuple[CrossingPair, ...]]:
        """Return the prefixes that lines of embeddings ``(T, W)`` make behind ``past``, all read in one batch."""
        known = past[0].keys.shape[1] if past else 0
        stacked = torch.nn.utils.rnn.pad_sequence([*lines], batch_first=True)
        layers = self.network.prefix(stacked, past)
        ends = [known + len(line) for line in lines]
        return [
            tuple(CrossingPair(keys[row, :, :end], values[row, :, :end]) for keys, values in layers)
            for row, end in enumerate(ends)
        ]

    def _embed(self, tokens: Iterable[int]) -> Tensor:
        embedded: Tensor = self.network.language_model.model.embed_tokens(torch.tensor([*tokens], device=self.device))
        return embedded

    def _read(self, tokens: Tensor, batch: SlotBatch, span: SlotSpan) -> tuple[Tensor, Frames]:
        del batch
        language = self.network.language_model
        histories = [SlotHistory(span, number) for number in range(len(language.model.layers))]
        return language(language.model.embed_tokens(tokens), histories, span.embedded_positions), ()

    def _score(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        return self.network.language_model.score(rows)


def around(tokens: Sequence[int], audio: int) -> tuple[Tokens, Tokens]:
    """Return what stands before and behind the places of audio in a prompt.

    Raises:
        ValueError: there are none.
    """
    places = [at for at, token in enumerate(tokens) if token == audio]
    if not places:
        raise ValueError("a prompt without a place for audio")
    return tuple(tokens[: places[0]]), tuple(tokens[places[-1] + 1 :])
