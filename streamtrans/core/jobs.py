"""What a session asks of the engine, and what the engine answers."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

Tokens = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Target:
    """One translation wanted of a job.

    ``prefix`` holds tokens already promised to the viewer: the answer starts with them.
    ``draft`` is the previous reading (it may start with ``prefix``): a guess that costs one pass to verify.
    ``biases``, where given, hold one stability bias β in [0, 1) per token of ``draft``: until the first token that
    the model rejects, a token of probability p counts as ``(1 - β) p + β``, all others as ``(1 - β) p``.
    """

    language: str
    prefix: Tokens = ()
    draft: Tokens = ()
    biases: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class StateHandle:
    """Names what an engine keeps of a run of speech: ``number`` means something to ``owner`` alone."""

    owner: str
    number: int


@dataclass(frozen=True, slots=True)
class Job:
    """Read the samples ``[start, end)`` of one segment in every language of ``targets``.

    ``audio`` is mono float32 at 16 kHz, and ends at ``end``. Without ``state`` it is all of these samples, with it only
    those that the engine has not got yet: none where it has heard further. ``last`` marks the final reading.
    ``source`` is the spoken language where it is known, for families that need it. ``state`` is the handle of the
    newest :class:`Reading` of the same run of speech, ``None`` where a run begins: with it a model that hears in blocks
    encodes what is new, and hears across a cut in continuous speech. It is used up by the job, whatever comes of it;
    ``keep`` asks for a new one. ``forget`` names what no job will ask for any more.
    """

    segment: int
    start: int
    end: int
    last: bool
    audio: npt.NDArray[np.float32]
    targets: tuple[Target, ...]
    source: str | None = None
    state: StateHandle | None = None
    keep: bool = False
    forget: StateHandle | None = None


@dataclass(frozen=True, slots=True)
class DecodeStats:
    """What one hypothesis cost. ``passes`` counts forward passes of the target model."""

    passes: int = 0
    tokens: int = 0
    drafted: int = 0
    accepted: int = 0
    by_drafter: dict[str, tuple[int, int]] = field(default_factory=dict)
    """Drafter name → (drafted, accepted)."""

    def __add__(self, other: DecodeStats) -> DecodeStats:
        merged = dict(self.by_drafter)
        for name, (drafted, accepted) in other.by_drafter.items():
            before = merged.get(name, (0, 0))
            merged[name] = (before[0] + drafted, before[1] + accepted)
        return DecodeStats(
            self.passes + other.passes,
            self.tokens + other.tokens,
            self.drafted + other.drafted,
            self.accepted + other.accepted,
            merged,
        )


@dataclass(frozen=True, slots=True)
class Doubt:
    """Why a text may not be what was asked for: it seems to be in ``language``, ``None`` where nobody can tell yet.

    Where it is ``chatter`` it says something else than what was said, in whatever language.
    Only what is ``certain`` is held back from the reader; the rest is shown, and promised later. Where chatter was
    ``cut`` off its end, what is left is the text.
    """

    language: str | None = None
    certain: bool = False
    chatter: bool = False
    cut: bool = False

    @property
    def told(self) -> bool:
        """Whether there is something to tell a reader."""
        return self.language is not None or self.chatter


@dataclass(frozen=True, slots=True)
class Hypothesis:
    """The token sequence believed now, without prompt and without end-of-text.

    ``logprobs`` holds one natural-log probability per token. ``complete`` is false where the
    length limit, and not end-of-text, ended it. ``ends``, where the model can tell, says per token until which sample
    of the stream it was listening when it wrote it: the end of the frame in the middle of its attention. A token
    of the job's prefix has an entry too. ``sources``, of a translated text, says per token how many tokens of the
    transcript it rests on: it never falls from one to the next. ``doubt``, where there is any, is that of the engine.
    """

    tokens: Tokens
    logprobs: tuple[float, ...]
    complete: bool = True
    stats: DecodeStats = DecodeStats()
    ends: tuple[int, ...] = ()
    sources: tuple[int, ...] = ()
    doubt: Doubt | None = None


@dataclass(frozen=True, slots=True)
class Reading:
    """The answer to a :class:`Job`: one hypothesis per target, in the job's order; ``state`` goes into the next job."""

    hypotheses: tuple[Hypothesis, ...]
    state: StateHandle | None = None


@dataclass(frozen=True, slots=True)
class Detect:
    """Ask for the speech probability of consecutive windows of one stream.

    ``windows`` has shape ``(count, window)``, mono float32; ``state`` is what the previous
    :class:`Detection` of this stream returned, ``None`` at its beginning. ``vad`` names the detector.
    """

    vad: str
    windows: npt.NDArray[np.float32]
    state: object | None


@dataclass(frozen=True, slots=True)
class Detection:
    """One probability per window, and the state to hand in with the next windows."""

    probabilities: tuple[float, ...]
    state: object | None


Request = Detect | Job
