"""What hearing costs while one run of speech goes on and on, and what re-encoding costs beside it.

Every block of new audio is one hearing, as if each were read at once. The speech is cut into segments without a pause,
so that memories begin in the middle of the run, as in a session.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from statistics import median
from typing import Annotated, Any

import numpy as np

from streamtrans.audio import Samples
from streamtrans.bench.measurement import Progress, Report, Table, silent
from streamtrans.bench.talk import talk
from streamtrans.core import SAMPLE_RATE, BadConfig, Group, Option
from streamtrans.model.api import Hearing
from streamtrans.model.hearing import EncoderState
from streamtrans.model.layers import Blocks
from streamtrans.model.speech import TorchSpeechModel
from streamtrans.runtime import ModelChoice, identity, load_alone

_AT = (1, 2, 5, 15, 30)
_MINUTE = 60 * SAMPLE_RATE
_STATM = Path("/proc/self/statm")
_PAGE = 4096


@dataclass(frozen=True, slots=True)
class HearingConfig:
    """What is measured: the minutes ``at`` of a run that goes on to the last of them.

    Raises:
        BadConfig: a number is out of range.
    """

    at: tuple[int, ...] = _AT
    segment_s: float = 8.0
    """Where continuous speech is cut: longer memories cost more to lay together."""
    every: int = 4
    """Every so many hearings of a measured minute the same audio is also re-encoded: fewer take longer."""

    def __post_init__(self) -> None:
        if not self.at or list(self.at) != sorted(set(self.at)) or self.at[0] < 1:
            raise BadConfig(f"minutes are {self.at}; give whole numbers from 1 up, in order")
        if self.segment_s <= 0 or self.every < 1:
            raise BadConfig(f"segment_s is {self.segment_s}, every {self.every}; give more than 0, and 1 or more")


@dataclass(frozen=True, slots=True, kw_only=True)
class LongHearing:
    """Hear one long run of speech block by block: cost per second of audio, state and memory as it goes on.

    Beside it what re-encoding the segment, or all that the model can hold, would cost. On the CPU.
    """

    minutes: Annotated[int, Option("Length of the run; 1, 2, 5, 15, 30 and the last are told.", least=1)] = 30
    streams: Annotated[int, Option("Streams heard together, beside one alone.", least=1)] = 8
    segment_s: Annotated[float, Option("Seconds after which the speech is cut, without a pause.")] = 8.0
    blocks: Annotated[int | None, Option("Encoder frames per block. By default the model's.", least=1)] = None
    choice: Annotated[ModelChoice, Group("model", "dtype", "threads")] = field(
        default_factory=lambda: ModelChoice(threads=1)
    )

    def measure(self, progress: Progress = silent) -> Report:
        """Hear one stream, then many."""
        weights = load_alone(replace(self.choice, device="cpu"))
        if self.blocks is not None:
            weights.hear_in(Blocks(self.blocks, weights.config.encoder_left))
        at = tuple(sorted({*(minute for minute in _AT if minute < self.minutes), self.minutes}))
        config, speech = HearingConfig(at, self.segment_s), _speech(self.minutes, self.streams)
        found = {
            str(count): measure_hearing(
                weights, speech[:count], config, progress=partial(progress, f"minutes of {count}")
            )
            for count in sorted({1, self.streams})
        }
        size = {"blocks": weights.blocks.size, "left": weights.blocks.left} if weights.blocks else {}
        about = {"model": identity(self.choice.model), "precision": weights.precision, "segment_s": self.segment_s}
        tables = []
        for count, minutes in found.items():
            rows = [[name, *(told.get(name) for told in minutes.values())] for name in next(iter(minutes.values()))]
            tables.append(Table(f"streams: {count}; by minute of the run", ["", *minutes], rows))
        return Report({**about, **size, "streams": found}, tables)


def _speech(minutes: int, streams: int) -> list[Samples]:
    """Return a run without a pause for each stream: all say the same, each beginning at another place.

    Raises:
        BadConfig: there is nothing to speak with.
    """
    try:
        spoken = talk(60 * minutes, pause_s=(0.0, 0.0))
    except BadConfig as error:
        raise BadConfig(f"there is no speech to hear: {error}") from None
    length = 60 * minutes * SAMPLE_RATE
    return [np.roll(spoken, -number * length // streams)[:length] for number in range(streams)]


@dataclass(slots=True)
class _Stream:
    """A speaker who never pauses: where the open segment began, and what the encoder remembers."""

    audio: Samples
    phase: int
    start: int = 0
    state: object | None = None

    def segment(self, before: int, end: int, longest: int) -> Samples:
        """Return the open segment's audio up to ``end``; every ``longest`` samples another one is opened."""
        if (end + self.phase) // longest != (before + self.phase) // longest:
            self.start = before
        return self.audio[self.start : end]


def measure_hearing(
    model: TorchSpeechModel,
    speech: Sequence[Samples],
    config: HearingConfig,
    *,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, dict[str, Any]]:
    """Let all ``speech`` be heard block by block, each hearing a batch of all of it.

    Args:
        model: it must hear in blocks.
        speech: runs of speech ``(samples,)``, as long as the last minute that is measured.
        config: what is measured.
        progress: told the minutes heard, and of how many.

    Returns:
        Per minute: milliseconds of this thread per second of audio and stream, median over the minute's hearings;
        the same for re-encoding the segment so far, and the last audio that the model can hold; the most bytes that a
        stream's state held, and those of the process at the minute's end (``None`` where the system doesn't tell).

    Raises:
        BadConfig: the speech is too short, or the model doesn't hear in blocks, or not for so long.
    """
    if model.blocks is None:
        raise BadConfig(f"{model.name} doesn't hear in blocks: there is nothing to go on from")
    step, longest = model.blocks.size * model.frame_samples, round(config.segment_s * SAMPLE_RATE)
    last = config.at[-1] * _MINUTE
    if longest + step > model.max_samples or longest < step:
        raise BadConfig(f"segments of {config.segment_s:g} s don't fit {model.name}: take a block or more, and less")
    if not speech or min(map(len, speech)) < last:
        raise BadConfig(f"{config.at[-1]} minutes of speech are needed for every stream")
    streams = [_Stream(audio, number * longest // len(speech)) for number, audio in enumerate(speech)]
    found: dict[str, dict[str, Any]] = {}
    for minute in range(1, config.at[-1] + 1):
        gathered = _Minute(model, step / SAMPLE_RATE)
        for number in range((minute - 1) * _MINUTE // step + 1, minute * _MINUTE // step + 1):
            end = number * step
            segments = [stream.segment(end - step, end, longest) for stream in streams]
            gathered.hear(streams, segments)
            if minute in config.at and number % config.every == 0:
                gathered.encode_again(segments, [audio[max(0, end - model.max_samples) : end] for audio in speech])
        if minute in config.at:
            found[str(minute)] = gathered.figures()
        if progress is not None:
            progress(minute, config.at[-1])
    return found


class _Minute:
    """Gathers what the hearings of one minute cost."""

    def __init__(self, model: TorchSpeechModel, step_s: float) -> None:
        self.model, self.step_s = model, step_s
        self.costs: dict[str, list[float]] = {"blocks": [], "segment": [], "window": []}
        self.state_bytes = 0

    def hear(self, streams: Sequence[_Stream], segments: Sequence[Samples]) -> None:
        hearings = [Hearing(audio, stream.start, stream.state) for stream, audio in zip(streams, segments, strict=True)]
        began = time.thread_time()
        heard = self.model.listen(hearings)
        self._add("blocks", began, len(streams))
        for stream, one in zip(streams, heard, strict=True):
            stream.state = one.state
            assert isinstance(one.state, EncoderState)
            self.state_bytes = max(self.state_bytes, one.state.nbytes)

    def encode_again(self, segments: Sequence[Samples], windows: Sequence[Samples]) -> None:
        for name, audios in (("segment", segments), ("window", windows)):
            began = time.thread_time()
            self.model.encode(audios)
            self._add(name, began, len(audios))

    def _add(self, name: str, began: float, streams: int) -> None:
        self.costs[name].append(1000 * (time.thread_time() - began) / self.step_s / streams)

    def figures(self) -> dict[str, Any]:
        costs = {f"{name}_ms_per_s": round(median(each), 3) for name, each in self.costs.items() if each}
        return {**costs, "hearings": len(self.costs["blocks"]), "state_bytes": self.state_bytes, "rss_bytes": _rss()}


def _rss() -> int | None:
    """Return the memory that this process holds now; proc(5): the second field, in pages."""
    return int(_STATM.read_text().split()[1]) * _PAGE if _STATM.exists() else None
