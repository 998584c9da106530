"""The calls of the model and of the detectors: timed, counted, and tried when they have failed."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields
from typing import TYPE_CHECKING, Any

import numpy as np

from streamtrans.core import DecodeStats, Detect, Detection, Job, Request
from streamtrans.engine.outcomes import attempt, detection
from streamtrans.engine.stats import EngineStats
from streamtrans.engine.watch import Stopwatch
from streamtrans.model.api import (
    CacheSlots,
    Choices,
    Forward,
    Guess,
    Heard,
    Hearing,
    Propose,
    SpeechModel,
    TextMemory,
    TextModel,
    WritingModel,
    Written,
    anything,
)

if TYPE_CHECKING:
    from streamtrans.vad import Vad

_NOTHING = EngineStats()


class Device:
    """What the device thread calls; ``stats`` and ``watch`` may be read by any thread.

    Args:
        model: the weights.
        vads: makes the detector of a name; called once per name.
        slots: caches of the model.
        stall_s: see :class:`~streamtrans.engine.watch.Stopwatch`.
    """

    def __init__(self, model: SpeechModel, vads: Callable[[str], Vad], slots: CacheSlots, stall_s: float) -> None:
        self.model = model
        self.slots = slots
        self.watch = Stopwatch(stall_s)
        # Never changed, but replaced as a whole: other threads read it.
        self._counts: dict[str, Any] = {each.name: getattr(_NOTHING, each.name) for each in fields(EngineStats)}
        self._make_vad = vads
        self._vads: dict[str, Vad] = {}

    @property
    def stats(self) -> EngineStats:
        """A snapshot of what was counted so far."""
        return EngineStats(**self._counts)

    def count(self, **more: float | DecodeStats) -> None:
        """Add to the counters, to all of them at once for whoever looks."""
        counts = self._counts.copy()
        for name, each in more.items():
            counts[name] += each
        self._counts = counts

    def detect(self, detects: Sequence[Detect]) -> list[Detection | Exception]:
        """Ask one detector about several streams; they all name the same."""
        name = detects[0].vad
        if name not in self._vads:
            self._vads[name] = self._make_vad(name)
        with self.watch.call():
            answers = self._vads[name].detect([(detect.windows, detect.state) for detect in detects])
        self.count(detects=len(detects), detect_batches=1)
        return [
            detection(detect, tuple(probabilities.tolist()), state)
            for detect, (probabilities, state) in zip(detects, answers, strict=True)
        ]

    def listen(self, hearings: Sequence[Hearing]) -> list[Heard]:
        """Hear what is new to each stream."""
        with self.watch.call():
            found = self.model.listen(hearings)
        self.count(encodes=len(hearings), encode_batches=1, samples=sum(heard.encoded for heard in found))
        return found

    def read(self, translator: TextModel, texts: Sequence[Written]) -> list[TextMemory]:
        """Read texts that are to be translated."""
        with self._decoding():
            return translator.read(texts)

    def step(self, model: WritingModel, forwards: Sequence[Forward]) -> list[Choices]:
        """Run one pass of a model."""
        with self._decoding():
            choices = model.step(forwards)
        self.count(forwards=len(forwards), passes=1)
        return choices

    def propose(self, proposals: Sequence[Propose]) -> list[Guess]:
        """Run the speculative network."""
        with self._decoding():
            guesses = self.model.propose(proposals)
        self.count(guesses=len(proposals), guess_batches=1)
        return guesses

    def try_silence(self, failed: Request) -> object:
        """Try what can't fail on a sound device, silence of the same length; return the exception where it does."""
        if isinstance(failed, Detect):
            return attempt(lambda: self.detect([Detect(failed.vad, np.zeros_like(failed.windows), None)])[0])
        return attempt(lambda: self._read_silence(failed))

    def _read_silence(self, job: Job) -> None:
        [heard] = self.listen([Hearing(np.zeros(max(0, job.end - job.start), np.float32), job.start)])
        prompt = self.model.prompt(*anything(self.model))
        cache = self.slots.open(heard.memory, prompt)
        try:
            self.step(self.model, [Forward(prompt[cache.length :], cache, rows=1)])
        finally:
            self.slots.wipe(cache)
            self.slots.release(cache)

    @contextmanager
    def _decoding(self) -> Iterator[None]:
        started = time.perf_counter()
        with self.watch.call():
            yield
        self.count(decode_s=time.perf_counter() - started)
