"""Our engine, as it is served, without the guard that reads a second time."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, cast

import numpy as np
import torch

from streamtrans.audio import Samples
from streamtrans.bench.racing import BESIDE, Entrant
from streamtrans.core import BadModel, Job, Reading, StateHandle, Target, Tokens
from streamtrans.engine import Engine, EngineConfig
from streamtrans.model.loading import load_model
from streamtrans.stream.guards import without_loop
from streamtrans.vad import load_vad

if TYPE_CHECKING:
    from streamtrans.model.api import SpeechModel


class Ours:
    """Reads anew what it doesn't know; of audio that has grown it hears what is new, and drafts its last reading."""

    def __init__(self, entrant: Entrant) -> None:
        """Load the model.

        Raises:
            BadModel: it can only be read as it was trained.
        """
        torch.set_num_threads(entrant.threads)
        model = load_model(entrant.folder, device="cpu", dtype=entrant.precision)
        if entrant.who == BESIDE and model.manner.padded:
            raise BadModel(f"{model.name} pads its audio; --beside names a model that doesn't")
        model.manner = replace(model.manner, padded=entrant.padded)
        self.vocabulary = model.vocabulary
        self.engine = Engine(cast("SpeechModel", model), load_vad, EngineConfig(slots=1, max_batch=1, guard=False))
        self.tail = entrant.tail
        self.heard: Samples = np.zeros(0, np.float32)
        self.state: StateHandle | None = None
        self.tokens: Tokens = ()

    def read(self, audio: Samples, language: str, most: int) -> str:
        """Read it all, loops too, which no draft repeats; ``most`` is what the engine allows anyway."""
        del most
        # Silence that was put behind what was heard isn't what came next: then all is sent again.
        before, speech = len(self.heard), np.trim_zeros(audio, "b") if self.tail else audio
        grown = 0 < before < len(speech) and np.array_equal(speech[:before], self.heard)
        state, draft = (self.state, self.tokens) if grown else (None, ())
        target = Target(language, draft=draft)
        new = audio if state is None else audio[before:]
        job = Job(0, 0, len(audio), False, new, (target,), language, state, keep=not self.tail)
        if not grown and self.state is not None:
            job = replace(job, forget=self.state)
        reading = self.engine.submit(job).result()
        if not isinstance(reading, Reading):
            raise TypeError(f"a job is answered by a Reading, not by a {type(reading).__name__}")
        [hypothesis] = reading.hypotheses
        kept = without_loop(hypothesis.tokens, 0, self.vocabulary.decode, complete=hypothesis.complete)
        self.heard, self.state, self.tokens = speech, reading.state, hypothesis.tokens[:kept]
        return self.vocabulary.decode(hypothesis.tokens)
