"""Hearing a stream in blocks: what is new is encoded, what was heard before is in a value that the stream holds.

```
 origin                        kept        frames                heard     (frames from origin on; heard in samples)
   │ block │ block │ … │ block │ block │ block │ remainder         │
                          ├─── context: K, V ──┤                       of the layers' last `left` frames
                               ├── keys, values┤                       what texts attend to, from the segment's start on
                                             ├──── samples ────────┤   not encoded yet, and what windows reach back to
```

A block is encoded for good once the convolutions and the windows at its end have all their sound; what follows is
encoded provisionally, up to the end of the audio, at every hearing. Law: after any chunking the memory is that of
the run's audio heard at once with the same blocks; nothing that a state holds grows with the run's age.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from streamtrans.core import BadModel
from streamtrans.model.api import Heard, Hearing
from streamtrans.model.cache import CrossingPair, EncodedSpeech
from streamtrans.model.config import NetworkConfig
from streamtrans.model.ear import Ear, Sound
from streamtrans.model.features import LogMel
from streamtrans.model.layers import Blocks, SpeechEncoder

Samples = npt.NDArray[np.float32]

Project = Callable[[Tensor], Sequence[tuple[Tensor, Tensor]]]
"""Features ``(B, S, E)`` → keys ``(B, H, D, S)`` and values ``(B, H, S, D)`` of each that attends to them."""


@dataclass(frozen=True, slots=True, eq=False)
class EncoderState:
    """What a stream remembers of a run of speech; made and read by :class:`BlockHearing` only.

    ``origin`` and ``heard`` are samples of the stream; ``frames`` are encoded for good, counted from ``origin``.
    ``samples`` end at ``heard``. ``context`` ``(2, L, H, C, D)`` holds each layer's keys, not turned to their
    positions, and values, in what they were computed in: float32 where hearing is one call. ``keys`` ``(A, H, D, S)``
    and ``values`` ``(A, H, S, D)`` are what texts attend to, for the frames from ``kept`` up to ``frames``.
    """

    origin: int
    heard: int
    frames: int
    kept: int
    samples: Samples
    context: Tensor
    keys: Tensor
    values: Tensor

    @property
    def nbytes(self) -> int:
        """Bytes held, those included that a view keeps alive."""
        stores = {
            store.data_ptr(): store.nbytes()
            for store in (tensor.untyped_storage() for tensor in (self.context, self.keys, self.values))
        }
        return self.samples.nbytes + sum(stores.values())


@dataclass(frozen=True, slots=True)
class _Plan:
    """What is done for one hearing: frames ``[state.frames, upto)`` are encoded, those below ``frames`` for good.

    ``samples`` end at ``heard``, ``total`` samples after the origin. The memory asked for is ``[first, last)``.
    """

    state: EncoderState
    samples: Samples
    heard: int
    frames: int
    upto: int
    first: int
    last: int

    @property
    def total(self) -> int:
        return self.heard - self.state.origin

    @property
    def new(self) -> int:
        return self.upto - self.state.frames


@dataclass(frozen=True, slots=True)
class _Fresh:
    """What one forward gave one row: layers' ``(2, L, H, F, D)``, and keys and values of what attends to it."""

    layers: Tensor
    keys: Tensor
    values: Tensor


class BlockHearing:
    """Encodes what is new of several streams in one forward. Holds weights, no state.

    Args:
        encoder: with rotary positions.
        log_mel: with fixed scaling, so that a frame doesn't depend on what comes later.
        blocks: how far attention looks.
        project: what makes crossing keys and values of features: the decoder's layers first, then KVSPN's blocks.
        config: of the network.
        ear: all of these for one call, where there can be such.

    Raises:
        BadModel: windows have no middle.
    """

    def __init__(
        self,
        encoder: SpeechEncoder,
        log_mel: LogMel,
        blocks: Blocks,
        project: Project,
        config: NetworkConfig,
        *,
        ear: Ear | None = None,
    ) -> None:
        if log_mel.config.window % 2:
            raise BadModel(
                f"features: window is {log_mel.config.window}; an encoder that hears in blocks takes an even number, so"
                " that windows have a middle; change n_fft, or set encoder_block to 0"
            )
        self.ear = ear
        if ear is not None:
            ear.hear_in(blocks)
        self.encoder, self.log_mel, self.blocks, self.project = encoder, log_mel, blocks, project
        self.positions, self.decoder_layers = config.max_source_positions, config.decoder_layers
        self.hop, self.half = log_mel.config.hop, log_mel.config.window // 2
        self.frame_samples = 2 * self.hop
        self.device, self.dtype = encoder.conv1.weight.device, encoder.conv1.weight.dtype

    def listen(self, hearings: Sequence[Hearing]) -> list[Heard]:
        """Go on with each run of speech, or begin one.

        For those that are to be heard ``whole`` the state alone counts: it goes on, block by block.
        """
        plans = [self._plan(hearing) for hearing in hearings]
        rows = [plan for plan in plans if plan.new]
        fresh = iter(self._encode(rows) if rows else ())
        return [self._heard(plan, next(fresh) if plan.new else None) for plan in plans]

    # ---- what is to be done ----

    def _plan(self, hearing: Hearing) -> _Plan:
        state = self._state(hearing)
        end = hearing.start + len(hearing.audio)
        heard = max(state.heard, end)
        samples = state.samples
        if end > state.heard:
            samples = np.concatenate([samples, hearing.audio[state.heard - hearing.start :]])
        # The last frame of a block reads the mel frame that stands at the block's end: it must have all its samples,
        # and its whole hop, for only then the run heard at once has it too.
        settled = heard - state.origin - max(self.hop, self.half)
        frames = max(state.frames, settled // self.frame_samples // self.blocks.size * self.blocks.size)
        first, last = self._window(hearing, state)
        upto = frames if hearing.whole or last <= frames else self._frames(heard - state.origin)
        return _Plan(state, samples, heard, frames, upto, first, last)

    def _state(self, hearing: Hearing) -> EncoderState:
        """Return the state to go on from: a fresh one where samples or frames of the segment are missing."""
        state = hearing.state
        if isinstance(state, EncoderState) and state.origin <= hearing.start <= state.heard:
            first, _ = self._window(hearing, state)
            return state if first >= state.kept else self._begin(hearing.start)
        return self._begin(hearing.start)

    def _begin(self, start: int) -> EncoderState:
        layers = self.encoder.layers
        shape = 2, len(layers), layers[0].self_attn.heads, 0, self.encoder.head_width
        made = self.dtype if self.ear is None else torch.float32
        context = torch.zeros(shape, device=self.device, dtype=made)
        nothing = context.new_zeros(0, 0, 0, 0, dtype=self.dtype)
        return EncoderState(start, start, 0, 0, np.zeros(0, np.float32), context, nothing, nothing)

    def _window(self, hearing: Hearing, state: EncoderState) -> tuple[int, int]:
        """Return the frames ``[first, last)`` of what is asked: at least one, at most as many as a memory holds."""
        begin = hearing.start - state.origin
        last = self._frames(begin + len(hearing.audio))
        return max(min(begin // self.frame_samples, last - 1), last - self.positions), last

    def _frames(self, samples: int) -> int:
        """Return how many frames the run has when ``samples`` of it were heard."""
        return (self.log_mel.config.frames(samples) + 1) // 2

    # ---- doing it ----

    def _encode(self, plans: Sequence[_Plan]) -> list[_Fresh]:
        if self.ear is not None:
            made = self.ear.hear([self._stretch(plan) for plan in plans])
            # What goes on isn't rounded: else it would matter how many blocks are heard in one call.
            return [_Fresh(layers, *(part.to(self.dtype) for part in parts)) for layers, *parts in made]
        mel, real = self._mel(plans)
        past = [plan.state.context.to(self.dtype) for plan in plans]
        known = [context.shape[-2] for context in past]
        longest = max(known)
        stacked = torch.stack(
            [torch.nn.functional.pad(context, (0, 0, longest - context.shape[-2], 0)) for context in past], 2
        )
        new = [plan.new for plan in plans]
        mask = self.blocks.mask_after(known, new, self.device)
        features, layer_keys, layer_values = self.encoder.go_on(mel, real, max(new), stacked, mask)
        layers = torch.stack([torch.stack(layer_keys), torch.stack(layer_values)])
        keys, values = (torch.stack(parts) for parts in zip(*self.project(features), strict=True))
        return [
            _Fresh(layers[:, :, row, :, :count], keys[:, row, ..., :count], values[:, row, :, :count])
            for row, count in enumerate(new)
        ]

    def _mel(self, plans: Sequence[_Plan]) -> tuple[Tensor, Tensor]:
        """Return columns ``(B, M, 2 + T)``, the first two of them from before the frames, and which are real."""
        stretches = [self._stretch(plan) for plan in plans]
        sounds, ends = [each.samples for each in stretches], [each.end for each in stretches]
        longest = max(ends)
        length = (longest - 1) * self.hop + 2 * self.half
        padded = np.stack([np.pad(sound, (0, length - len(sound))) for sound in sounds])
        mel = self.log_mel.windows(torch.from_numpy(padded).to(self.device), longest)
        columns = torch.arange(longest, device=self.device)
        first, end = torch.tensor([[each.begin for each in stretches], ends], device=self.device)[..., None]
        return mel, (columns >= first) & (columns < end)

    def _stretch(self, plan: _Plan) -> Sound:
        """Return what is new of a run, from two columns before its frames on."""
        column = 2 * plan.state.frames - 2
        total = self.log_mel.config.frames(plan.total)
        end = total if plan.upto > plan.frames else 2 * plan.frames + 1
        sound = self._sound(plan, column, end)
        return Sound(sound, max(0, -column), end - column, plan.new, plan.state.context)

    def _sound(self, plan: _Plan, column: int, end: int) -> Samples:
        """Return what the mel frames ``[column, end)`` of the run read, mirrored at its edges as in a clip.

        Frames before the run's first are given silence: nobody looks at them.
        """
        samples, total = plan.samples, plan.total
        if total < 2 * self.half:  # a clip is at least one window long
            samples = np.pad(samples, (0, 2 * self.half - total))
            total = 2 * self.half
        begin = max(0, column) * self.hop - self.half
        stop = (end - 1) * self.hop + self.half
        sound = samples[max(0, begin) - (total - len(samples)) : len(samples) - max(0, total - stop)]
        mirrored = samples[max(0, -begin) : 0 : -1] if begin < 0 else samples[:0]
        after = samples[-1 - max(0, stop - total) : -1][::-1] if stop > total else samples[:0]
        silence = np.zeros(max(0, -column) * self.hop, np.float32)
        return np.concatenate([silence, mirrored, sound, after])

    # ---- what is left of it ----

    def _heard(self, plan: _Plan, fresh: _Fresh | None) -> Heard:
        keys, values = self._crossing(plan, fresh)
        asked = plan.last - plan.first
        pairs = tuple(map(CrossingPair, keys[..., :asked], values[..., :asked, :]))
        memory = EncodedSpeech(asked, pairs[: self.decoder_layers], pairs[self.decoder_layers :])
        settled = max(0, plan.frames - plan.first)
        needed = plan.total - max(0, (2 * plan.frames - 2) * self.hop - self.half)
        state = EncoderState(
            origin=plan.state.origin,
            heard=plan.heard,
            frames=plan.frames,
            kept=plan.first,
            samples=plan.samples[len(plan.samples) - needed :].copy(),
            context=self._context(plan, fresh),
            keys=keys[..., :settled],
            values=values[..., :settled, :],
        )
        begin = state.origin + plan.first * self.frame_samples
        return Heard(memory, state, begin, plan.new * self.frame_samples)

    def _crossing(self, plan: _Plan, fresh: _Fresh | None) -> tuple[Tensor, Tensor]:
        """Return keys and values of the frames from ``first`` on, those that were kept and those that are new."""
        past, old = plan.state, plan.first - plan.state.kept
        keys, values = past.keys[..., old:], past.values[..., old:, :]
        if fresh is None:
            return keys, values
        new = max(0, plan.first - past.frames)
        fresh_keys, fresh_values = fresh.keys[..., new:], fresh.values[..., new:, :]
        if not keys.shape[-1]:
            # Copied all the same: a state that keeps a view keeps its neighbours' rows.
            return fresh_keys.clone(), fresh_values.clone()
        return torch.cat([keys, fresh_keys], -1), torch.cat([values, fresh_values], -2)

    def _context(self, plan: _Plan, fresh: _Fresh | None) -> Tensor:
        """Return the layers' keys and values of the last frames that are encoded for good."""
        context, grown, left = plan.state.context, plan.frames - plan.state.frames, self.blocks.left
        if fresh is None or not grown:
            return context
        known = context.shape[-2]
        old = min(known, max(0, left - grown))
        return torch.cat([context[..., known - old :, :], fresh.layers[..., max(0, grown - left) : grown, :]], -2)
