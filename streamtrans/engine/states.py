"""What the engine keeps of runs of speech between jobs, each under a handle that its session holds.

```
 kept     start ................ end                     samples, and what the model remembers of them
 job            start ..................... end          reads these samples
                                | audio    |             and brings those that are new
```
Law: kept or asked again as a whole, a job reads the same; a handle that isn't known is said to be lost.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count

import numpy as np
import numpy.typing as npt

from streamtrans.core import BadAudio, Job, Lost, StateHandle


@dataclass(frozen=True, slots=True, eq=False)
class Kept:
    """The ``samples`` of a stream from ``start`` on, and the model's ``state`` after them."""

    start: int
    samples: npt.NDArray[np.float32]
    state: object | None = None
    at: float = field(default_factory=time.monotonic)

    @property
    def end(self) -> int:
        """The sample behind the last."""
        return self.start + len(self.samples)

    def heard(self, job: Job) -> npt.NDArray[np.float32]:
        """Return the samples that ``job`` reads."""
        return self.samples[: job.end - self.start]


class States:
    """Keeps until it is taken, dropped, or ``age_s`` old; any thread may drop."""

    def __init__(self, age_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.owner = uuid.uuid4().hex
        self._age_s = age_s
        self._clock = clock
        self._numbers = count(1)
        self._kept: dict[int, Kept] = {}  # oldest first

    def __len__(self) -> int:
        return len(self._kept)

    def take(self, job: Job) -> Kept:
        """Return all that ``job`` reads, and what is remembered of it; its handle is used up.

        Raises:
            Lost: its handle isn't known, or what is kept doesn't go with its audio.
            BadAudio: it has no handle and doesn't bring all of its samples.
        """
        if job.forget is not None:
            self.drop(job.forget)
        if job.state is None:
            if len(job.audio) != job.end - job.start:
                raise BadAudio(f"a job about samples {job.start} to {job.end} brings {len(job.audio)} of them")
            return Kept(job.start, job.audio)
        kept = self._kept.pop(job.state.number, None) if job.state.owner == self.owner else None
        if kept is None:
            raise Lost("what was heard before is not kept here: ask again with all of the audio")
        new = job.end - len(job.audio)
        if not kept.start <= job.start <= kept.end or (kept.end != new and (len(job.audio) or kept.end < job.end)):
            raise Lost(f"samples up to {kept.end} are kept here and those from {new} on were sent: ask again with all")
        samples = np.concatenate([kept.samples[job.start - kept.start :], job.audio])
        return Kept(job.start, samples, kept.state)

    def put(self, kept: Kept, state: object | None) -> StateHandle:
        """Keep what a job has heard, with the model's new ``state``; return the handle to go on with."""
        number = next(self._numbers)
        self._kept[number] = Kept(kept.start, kept.samples, state, self._clock())
        return StateHandle(self.owner, number)

    def drop(self, handle: StateHandle) -> None:
        """Forget what is kept under ``handle``, if it is here."""
        if handle.owner == self.owner:
            self._kept.pop(handle.number, None)

    def sweep(self) -> None:
        """Forget what nobody has come back for."""
        now = self._clock()
        for number, kept in [*self._kept.items()]:
            if now - kept.at <= self._age_s:
                return
            self._kept.pop(number, None)
