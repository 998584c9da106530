"""Beam search for whole utterances: answers jobs in the engine's place, offline.

Law: a job gets what its languages get alone, and with drafts at k = 1 what it gets without.
"""

from __future__ import annotations

import time
from concurrent.futures import Future
from dataclasses import replace
from types import TracebackType
from typing import TYPE_CHECKING, Self

from streamtrans.core import BadConfig, Detection, Job, Reading
from streamtrans.decode import parse_drafters
from streamtrans.decode.beam import BeamConfig, beam, converse_beams
from streamtrans.engine import EngineConfig, EngineStats
from streamtrans.model.api import Hearing

if TYPE_CHECKING:
    from streamtrans.model.api import SpeechModel


class BeamEngine:
    """Decodes a job when it is submitted, on the caller's thread: all beams of all its languages share passes.

    Previous readings aren't drafted: beams disagree with them about as often as among themselves.

    Args:
        model: the weights.
        beams: texts kept per language.
        config: who drafts, where KVSPN alone counts, how strictly drafts are verified, and how long texts may be.

    Raises:
        BadConfig: the drafter needs a speculative network and the model has none, or ``beams`` is below 1.
    """

    def __init__(self, model: SpeechModel, beams: int, config: EngineConfig) -> None:
        speculate = model.has_speculator if config.drafter is None else parse_drafters(config.drafter).needs_speculator
        if speculate and not model.has_speculator:
            raise BadConfig(f"drafter {config.drafter!r} needs a speculative network, and {model.name} has none")
        self._model, self._config = model, config
        self._search = BeamConfig(beams, speculate=speculate, top_k=config.top_k)
        self._slots = model.allocate(config.slots * self._search.caches)
        self.stats = EngineStats()

    def submit(self, job: Job) -> Future[Detection | Reading]:
        """Decode a job and return its reading as a future that is answered already."""
        answer: Future[Detection | Reading] = Future()
        started = time.perf_counter()
        reading = self._read(job)
        self.stats = replace(
            self.stats,
            encodes=self.stats.encodes + 1,
            samples=self.stats.samples + len(job.audio),
            readings=self.stats.readings + 1,
            decode=sum((each.stats for each in reading.hypotheses), self.stats.decode),
            busy_s=self.stats.busy_s + time.perf_counter() - started,
        )
        answer.set_result(reading)
        return answer

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass

    def _read(self, job: Job) -> Reading:
        model, eot = self._model, self._model.eot
        if len(job.targets) > self._config.slots:
            raise BadConfig(f"a job in {len(job.targets)} languages was given room for {self._config.slots}")
        prompts = [model.prompt(target.language, job.source) for target in job.targets]
        memory = model.listen([Hearing(job.audio, job.start)])[0].memory
        held, talks = [], []
        for target, prompt in zip(job.targets, prompts, strict=True):
            caches = [self._slots.open(memory) for _ in range(self._search.caches)]
            limit = self._config.limit(
                model.max_tokens, prompt, len(job.audio), model.tokens_per_second(target.language)
            )
            talks.append(beam(prompt, target.prefix, caches, self._search, eot=eot, limit=limit))
            held += caches
        try:
            return Reading(tuple(found[0].hypothesis for found in converse_beams(model, talks)))
        finally:
            for cache in held:
                self._slots.release(cache)
