"""An engine that answers at once, and says what a test tells it to say."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Protocol

import numpy as np
import numpy.typing as npt

from streamtrans.core import (
    DecodeStats,
    Detect,
    Detection,
    EngineClosed,
    EngineLike,
    Health,
    Hypothesis,
    Job,
    Reading,
    Reply,
    Request,
    StateHandle,
    StreamtransError,
    Target,
)
from streamtrans.engine.outcomes import detection
from streamtrans.engine.states import States

Model = Callable[[Job, Target], Hypothesis]
"""What to answer for one target of a job."""


class Detector(Protocol):
    """What the engine needs of a VAD."""

    def detect(
        self, streams: Sequence[tuple[npt.NDArray[np.float32], object | None]]
    ) -> list[tuple[npt.NDArray[np.float32], object | None]]:
        """Return probabilities and new state per stream."""
        ...


class InstantEngine:
    """Answer in ``submit`` itself: every future is done when it is returned.

    A :class:`StreamtransError` that the model or the detector raises becomes the future's error.
    """

    def __init__(self, model: Model, vad: Detector, *, capacity: int = 16) -> None:
        """Answer jobs with ``model`` and detections with ``vad``; ``requests`` keeps all that was asked."""
        self.requests: list[Request] = []
        self.capacity = capacity
        self.states = States(math.inf)
        self._jobs: list[Job] = []
        self._model = model
        self._vad = vad
        self._closed = False

    @property
    def health(self) -> Health:
        """It is well until it is closed."""
        return Health.CLOSED if self._closed else Health.SERVING

    def submit(self, request: Request) -> Reply:
        """Return the answer, or its error, in a reply that is done."""
        future = Reply()
        self.requests.append(request)
        try:
            if self._closed:
                raise EngineClosed("the engine was shut down")
            future.set_result(self._answer(request))
        except StreamtransError as error:
            future.set_exception(error)
        return future

    def release(self, state: StateHandle) -> None:
        """Forget a stream."""
        self.states.drop(state)

    def close(self, timeout_s: float = 0.0) -> None:  # noqa: ARG002
        """Answer no more."""
        self._closed = True

    @property
    def jobs(self) -> list[Job]:
        """The jobs read so far, in order, each with all of its audio."""
        return self._jobs

    def _answer(self, request: Request) -> Detection | Reading:
        if isinstance(request, Detect):
            [(probabilities, state)] = self._vad.detect([(request.windows, request.state)])
            outcome = detection(request, tuple(probabilities.tolist()), state)
            if isinstance(outcome, Exception):
                raise outcome
            return outcome
        kept = self.states.take(request)
        job = replace(request, audio=kept.heard(request), state=None)
        self._jobs.append(job)
        hypotheses = tuple(self._model(job, target) for target in request.targets)
        return Reading(hypotheses, self.states.put(kept, None) if request.keep else None)


def hypothesis(tokens: Sequence[int], probability: float = 1.0) -> Hypothesis:
    """Return a hypothesis whose tokens all have the same probability."""
    tokens = tuple(tokens)
    return Hypothesis(tokens, (math.log(probability),) * len(tokens), stats=DecodeStats(passes=1, tokens=len(tokens)))


class Relay:
    """An engine that passes everything on to another; tests override what they are about."""

    def __init__(self, engine: EngineLike) -> None:
        self.engine = engine

    @property
    def capacity(self) -> int:
        """What the other can decode at once."""
        return self.engine.capacity

    @property
    def health(self) -> Health:
        """Whether the other answers."""
        return self.engine.health

    def submit(self, request: Request) -> Reply:
        """Ask the other."""
        return self.engine.submit(request)

    def release(self, state: StateHandle) -> None:
        """Let the other forget a stream."""
        self.engine.release(state)

    def close(self, timeout_s: float = 0.0) -> None:
        """Close the other."""
        self.engine.close(timeout_s)
