"""The model that the engine runs: a network in a dtype on a device, behind the verbs of ``model.api``.

Law: a model remembers nothing between calls, and a batch of one equals a row of many.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from streamtrans.core import BadConfig, BadModel, Tokens
from streamtrans.model.api import Forward, Guess, Heard, Hearing, Propose
from streamtrans.model.cache import (
    Alignment,
    CrossingPair,
    EncodedSpeech,
    Heads,
    SlotBatch,
    SlotCache,
    SlotHistory,
    SlotShape,
    SlotSpan,
    middles,
)
from streamtrans.model.config import NetworkConfig
from streamtrans.model.ear import Ear, check_finite, make_ear
from streamtrans.model.features import FeatureConfig, LogMel, check_length
from streamtrans.model.fused import Passage, Stack, decoder_stack
from streamtrans.model.guessing import Guesser
from streamtrans.model.hearing import BlockHearing
from streamtrans.model.layers import Attention, Blocks
from streamtrans.model.linear import JOINED, make_panels, pack
from streamtrans.model.network import Network
from streamtrans.model.scoring import Rules
from streamtrans.model.writing import Frames, Writer, slot_cache, slot_of
from streamtrans.text import Tokenizer


@dataclass(frozen=True, slots=True)
class Manner:
    """What a model family does differently from another with the same layers.

    ``prompt`` maps (target, source or None) to the tokens that ask for it. ``padded`` families were trained on
    audio padded to full length and must be given it. ``suppressed`` tokens are never chosen, those that are
    ``begin_suppressed`` not at position ``begin``, where texts begin. The ``alignment_heads`` of the decoder's
    attention to the encoder look at what is being said; without such nobody knows where a token comes from.
    ``translations`` lists per spoken language what it can become; empty: any of ``languages`` becomes any.
    ``untaught`` maps other pairs to what may be tried, where there is something.
    """

    languages: tuple[str, ...]
    prompt: Callable[[str, str | None], Tokens]
    padded: bool
    suppressed: frozenset[int]
    begin_suppressed: frozenset[int] = frozenset()
    begin: int = 0
    alignment_heads: Heads = ()
    translations: tuple[tuple[str, tuple[str, ...]], ...] = ()
    untaught: Callable[[str, str | None], Tokens] | None = None


class TorchSpeechModel(Writer):
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
        config = network.config
        rules = Rules(config.vocab_size, tokenizer.eot, manner.suppressed, manner.begin_suppressed, manner.begin)
        super().__init__(name, tokenizer, rules, device=device, dtype=dtype)
        self.tokenizer = tokenizer
        self.network = self._held(network)
        self.config = config
        self.keeps_states = config.speculator_input == "hidden"
        self.manner = manner
        self.zero_shot = False
        self.log_mel = LogMel(features, self.device, dtype)
        self.ear: Ear | None = None
        """Its encoder, where hearing in blocks can be one call."""
        self._hearing: BlockHearing | None = None
        self.hear_in(Blocks(config.encoder_block, config.encoder_left) if config.encoder_block else None)
        self.guesser = Guesser(self.network, self.suppression, tokenizer.eot) if self.has_speculator else None
        self.stack: Stack | None = None
        """Its decoder, where a pass can be one call."""

    @property
    def languages(self) -> tuple[str, ...]:
        """Codes the model can write."""
        return self.manner.languages

    @property
    def translations(self) -> tuple[tuple[str, tuple[str, ...]], ...]:
        """Spoken language and what the model makes of it; empty: any of its languages becomes any."""
        return () if self.zero_shot else self.manner.translations

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

    def _pack(self, precision: str) -> None:
        if self._hearing is not None and precision != JOINED:
            self.ear = make_ear(self.network.model.encoder, self.log_mel, self._readers(), precision, self.name)
            self.hear_in(self.blocks)
        make = pack(self.network, precision)
        if self.ear is not None:
            self.ear.share()
        if precision != JOINED and self.guesser is not None:
            self.guesser.pack(precision, make)
        if make is make_panels:
            self.stack = decoder_stack(self.network.model.decoder)

    @property
    def draft_acceptance(self) -> float:
        """The share of KVSPN's guesses that are usually right."""
        return self.config.speculator_acceptance

    def taught(self, target: str, source: str | None) -> bool:
        """Say whether the checkpoint was trained for it, or is asked all the same."""
        known = dict(self.manner.translations)
        return not known or source is None or target in known.get(source, ())

    def prompt(self, target: str, source: str | None) -> Tokens:
        """Return the tokens that ask for a text in ``target``."""
        if self.zero_shot and not self.taught(target, source) and self.manner.untaught is not None:
            return self.manner.untaught(target, source)
        return self.manner.prompt(target, source)

    def ask_for_anything(self) -> None:
        """From now on, ask for languages that the checkpoint wasn't trained to write, too.

        Raises:
            BadConfig: it writes any of its languages anyway, or there is no way to ask.
        """
        if self.manner.untaught is None:
            raise BadConfig(f"{self.name} can't be asked for what it wasn't taught; stock multilingual Whisper can")
        self.zero_shot = True

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
            check_length(hearing.audio, self.max_samples)
        if self._hearing is None:
            return self._listen_anew(hearings)
        if self.ear is not None and self.ear.readers != self._readers():  # who measures takes some away
            self.ear = None
            self.hear_in(self.blocks)
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
        encoder = self.network.model.encoder
        self._hearing = BlockHearing(encoder, self.log_mel, blocks, self._crossings, self.config, ear=self.ear)

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
    def propose(self, proposals: Sequence[Propose]) -> list[Guess]:
        """Guess what follows each text with KVSPN."""
        assert self.guesser is not None, "this model has no KVSPN"
        order = sorted(range(len(proposals)), key=lambda at: slot_of(proposals[at].cache))
        asked = [proposals[at] for at in order]
        found = self.guesser.guess(asked, [slot_cache(item.cache) for item in asked])
        back = dict(zip(order, found, strict=True))
        return [back[at] for at in range(len(proposals))]

    def _listen_anew(self, hearings: Sequence[Hearing]) -> list[Heard]:
        memories = self.encode([hearing.audio for hearing in hearings]) if hearings else []
        return [
            Heard(memory, None, item.start, len(item.audio)) for memory, item in zip(memories, hearings, strict=True)
        ]

    def _frames(self, audio: npt.NDArray[np.float32]) -> Tensor:
        check_length(audio, self.max_samples)
        samples = torch.from_numpy(np.ascontiguousarray(audio)).to(self.device)
        if self.manner.padded:
            samples = torch.nn.functional.pad(samples, (0, self.max_samples - len(samples)))
        return self.log_mel(samples[None])

    def _readers(self) -> list[Attention]:
        """Return what attends to the encoder: the decoder's layers, then KVSPN's blocks."""
        readers = [layer.encoder_attn for layer in self.network.model.decoder.layers]
        if self.network.speculator is not None:
            readers += [block.encoder_attn for block in self.network.speculator.blocks]
        return readers

    def _crossings(self, features: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Return keys ``(B, H, D, S)`` and values ``(B, H, S, D)`` for the decoder's layers, then KVSPN's blocks."""
        projected = [reader.keys_values(features) for reader in self._readers()]
        check_finite(self.name, float(sum(part.sum(dtype=self.scorer.dtype) for pair in projected for part in pair)))
        return [(keys.transpose(-1, -2), values) for keys, values in projected]

    def _pass(self, asked: Sequence[Forward], caches: Sequence[SlotCache]) -> tuple[Tensor, Frames]:
        decoder = self.network.model.decoder
        if self.stack is None:
            return super()._pass(asked, caches)
        if not self.stack.made_of(decoder.layers):  # who measures takes some away
            self.stack = decoder_stack(decoder)
        passages = [Passage(cache, len(item.tokens)) for item, cache in zip(asked, caches, strict=True)]
        tokens = [token for item in asked for token in item.tokens]
        places = [place for each in passages for place in range(each.cache.end, each.cache.end + each.count)]
        x = decoder.embed(*torch.tensor([tokens, places])).float()
        heads = self.manner.alignment_heads
        seen = self.stack.run(x, passages, watched=heads)
        lines = middles(seen.sum(0)).split([each.count for each in passages]) if heads else ()
        rows = [
            row
            for end, item in zip(accumulate(each.count for each in passages), asked, strict=True)
            for row in range(end - item.rows, end)
        ]
        return x if len(rows) == len(x) else x[rows], [line.tolist() for line in lines]

    def _read(self, tokens: Tensor, batch: SlotBatch, span: SlotSpan) -> tuple[Tensor, Frames]:
        decoder = self.network.model.decoder
        x = decoder.embed(tokens, span.embedded_positions)
        alignment = Alignment(self.manner.alignment_heads)
        for number, layer in enumerate(decoder.layers):
            x = layer(x, SlotHistory(span, number), batch.crossing(number, alignment.of(number)))
        return x, alignment.frames()

    @property
    def shape(self) -> SlotShape:
        """What one of its slots holds."""
        return slot_shape(self.config)

    def _score(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        decoder = self.network.model.decoder
        hidden = decoder.layer_norm(rows) if self.stack is None else self.stack.normalise(rows)
        return hidden, decoder.logits(hidden)


def slot_shape(config: NetworkConfig) -> SlotShape:
    """Return what a slot of a Whisper-shaped network holds."""
    return SlotShape(
        heads=config.decoder_attention_heads,
        width=config.head_width,
        layers=config.decoder_layers,
        positions=config.max_target_positions,
        crossings=config.decoder_layers + config.speculator_blocks,
        frames=config.max_source_positions,
        group=config.group if config.speculator_blocks else 1,
    )
