"""Whether this machine keeps up with somebody who speaks: a segment grows, and is read at every step of it."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from streamtrans.core import SAMPLE_RATE, DecodeStats, Job, Reading, StateHandle, Target, milliseconds, samples

if TYPE_CHECKING:
    from streamtrans.audio import Samples
    from streamtrans.runtime import Loaded

PATIENCE_S = 60.0
"""What is slower isn't measured to its end."""
FULL = 0.7
"""Of the time that somebody speaks, how much may be spent on readings: the rest is for what comes in bursts."""
LATE_S = 2.0
"""A reading may take so long; captions come late then, and are fewer."""
ALL_BUT_FULL = 0.9
"""Of the memory of a machine, how much one process may take."""


@dataclass(frozen=True, slots=True)
class Pace:
    """What it took to read a growing segment."""

    heard_s: float
    """Sound that was there in the end."""
    spent_s: float
    """Wall time of all readings together."""
    encode_ms: float
    """Of one reading, on average: hearing, and everything else that isn't decoding."""
    pass_ms: float
    """One pass of a model that writes."""
    passes: float
    """Of one reading."""
    last_s: float
    """The last reading, of the whole segment."""
    readings: int

    @property
    def factor(self) -> float:
        """Time spent per time heard."""
        return self.spent_s / self.heard_s

    @property
    def streams(self) -> int:
        """Speakers at once that one machine keeps up with."""
        return int(FULL / self.factor + 1e-9)


def measure(
    loaded: Loaded, speech: Samples, targets: tuple[str, ...], source: str | None, clock: Callable[[], float]
) -> Pace:
    """Read ``speech`` as a segment that grows by the usual step, each reading with the one before as its draft."""
    step = samples(loaded.session_config(targets, source).reading_interval_ms)
    first = tuple(map(Target, targets))
    loaded.engine.submit(Job(0, 0, step, True, speech[:step], first, source)).result()  # a server is warm, too
    before, began = loaded.engine.stats, clock()
    drafts: dict[str, tuple[int, ...]] = dict.fromkeys(targets, ())
    state: StateHandle | None = None
    heard, spent, last_s, readings, stats = 0, 0.0, 0.0, 0, DecodeStats()
    for end in range(step, len(speech) + 1, step):
        wanted = tuple(Target(language, draft=drafts[language]) for language in targets)
        new = speech[heard if state is not None else 0 : end]
        asked = clock()
        reading = loaded.engine.submit(Job(0, 0, end, False, new, wanted, source, state, keep=True)).result()
        last_s = clock() - asked
        assert isinstance(reading, Reading), "a job is answered by a reading"
        heard, state, readings, spent = end, reading.state, readings + 1, spent + last_s
        for language, hypothesis in zip(targets, reading.hypotheses, strict=True):
            drafts[language] = hypothesis.tokens
            stats += hypothesis.stats
        if clock() - began > PATIENCE_S:
            break
    if state is not None:
        loaded.engine.release(state)
    after = loaded.engine.stats
    decoding_s, passes = after.decode_s - before.decode_s, max(1, after.passes - before.passes)
    return Pace(
        heard / SAMPLE_RATE,
        spent,
        1000 * max(0.0, spent - decoding_s) / readings,
        1000 * decoding_s / passes,
        passes / readings,
        last_s,
        readings,
    )


def verdict(pace: Pace, taken_gb: float | None, memory_gb: float | None) -> tuple[bool, str]:
    """Say whether that is live, and in words why."""
    figures = (
        f"reading {pace.heard_s:.1f} s of speech while it grows takes {pace.factor:.2f} of its time ({pace.readings}"
        f" readings: {pace.encode_ms:.0f} ms to hear, {pace.passes:.1f} passes of {pace.pass_ms:.1f} ms each; the last"
        f" {milliseconds(int(pace.last_s * SAMPLE_RATE))} ms)"
    )
    if taken_gb is not None and memory_gb is not None:
        figures += f", {taken_gb:.1f} of {memory_gb:.0f} GB of memory"
        if taken_gb > ALL_BUT_FULL * memory_gb:
            return False, f"no: it needs more memory than there is; {figures}"
    if pace.streams >= 1:
        many = "one stream" if pace.streams == 1 else f"about {pace.streams} streams at once"
        return True, f"yes, {many}: {figures}"
    if pace.last_s <= LATE_S:
        return True, f"yes, but captions come late and fewer, and for one stream only: {figures}"
    return False, f"no, whoever speaks would wait for his captions longer and longer: {figures}"


def taken_gb() -> float | None:
    """Return how much memory this process has taken at most; Windows doesn't tell."""
    if sys.platform == "win32":
        return None
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**30


def now() -> float:
    """Return the time that is measured in."""
    return time.perf_counter()
