"""Decide how much of a reading may be promised: one number per reading.

Law: a policy is a pure function of the readings of one segment in one language.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Protocol

from streamtrans.core import BadConfig, Hypothesis, milliseconds, samples
from streamtrans.foreign import Table


@dataclass(frozen=True, slots=True)
class Span:
    """What of a segment a reading has heard: samples ``[start, end)`` of the stream."""

    segment: int
    start: int
    end: int


class Policy(Protocol):
    """Say how many tokens of the newest reading may be promised.

    The session lowers the answer to a word boundary, and never below what is promised already.
    ``memory`` is how many of the newest readings it wants to see.
    """

    memory: int

    def promise(self, readings: Sequence[Hypothesis], span: Span) -> int:
        """Return the number of tokens of ``readings[-1]``, which heard ``span``, to promise.

        ``readings`` holds at least one and at most ``memory`` hypotheses, oldest first.
        """
        ...


class Hold:
    """Promise all but the last ``n`` tokens: what is new is what changes (hold-n, Liu et al. 2020)."""

    memory = 1

    def __init__(self, n: int) -> None:
        """Hold back ``n`` tokens: larger withdraws less and promises later."""
        if n < 0:
            raise BadConfig(f"policy 'hold' holds back {n} tokens; use 0 or more")
        self.n = n

    def promise(self, readings: Sequence[Hypothesis], span: Span) -> int:  # noqa: ARG002 (the protocol's signature)
        """Return the length of the newest reading less ``n``."""
        return max(0, len(readings[-1].tokens) - self.n)


class Agreement:
    """Promise what the last ``n`` readings have in common (local agreement, Liu et al. 2020, Polák et al. 2022)."""

    def __init__(self, n: int) -> None:
        """Ask ``n`` readings to agree: larger promises later and errs less; 1 promises everything."""
        if n < 1:
            raise BadConfig(f"policy 'agreement' asks {n} readings to agree; use 1 or more")
        self.memory = n

    def promise(self, readings: Sequence[Hypothesis], span: Span) -> int:  # noqa: ARG002
        """Return the length of the longest common prefix, 0 while there are fewer than ``n`` readings."""
        if len(readings) < self.memory:
            return 0
        newest = [reading.tokens for reading in readings[-self.memory :]]
        return len(list(takewhile(lambda column: len(set(column)) == 1, zip(*newest, strict=False))))


class Threshold:
    """Promise tokens up to the first that the model gives less than ``n`` percent.

    The translating model's own probabilities, nothing else, decide.
    """

    memory = 1

    def __init__(self, n: int) -> None:
        """Ask for a probability of ``n`` percent: larger promises later and errs less; 100 only what is certain."""
        if not 0 <= n <= 100:
            raise BadConfig(f"policy 'threshold' asks for {n} percent; use 0 to 100")
        self.least = math.log(n / 100) if n else -math.inf

    def promise(self, readings: Sequence[Hypothesis], span: Span) -> int:  # noqa: ARG002
        """Return the number of leading tokens that are probable enough."""
        return len(list(takewhile(lambda logprob: logprob >= self.least, readings[-1].logprobs)))


class AlignAtt:
    """Promise tokens until one listens to the newest ``n`` ms of audio (AlignAtt, Papi et al. 2023).

    What was written while listening to the end of the audio may change with what comes next. Needs a model with
    alignment heads; without them nothing is promised before the end.
    """

    memory = 1

    def __init__(self, n: int) -> None:
        """Keep ``n`` ms of distance from the end: larger promises later and errs less."""
        if n < 0:
            raise BadConfig(f"policy 'alignatt' keeps {n} ms of distance; use 0 or more")
        self.distance = samples(n)

    def promise(self, readings: Sequence[Hypothesis], span: Span) -> int:
        """Return the number of leading tokens that listened far enough from the end."""
        return len(list(takewhile(lambda end: end <= span.end - self.distance, readings[-1].ends)))


class WaitK:
    """Promise a word per 280 ms of speech after the first ``n`` (wait-k, Ma et al. 2019; fixed steps, Ma et al. 2020).

    The reference that adaptive policies are compared with. Tokens stand for words.
    """

    memory = 1
    STEP_MS = 280

    def __init__(self, n: int) -> None:
        """Stay ``n`` steps behind: larger promises later and errs less."""
        if n < 0:
            raise BadConfig(f"policy 'waitk' stays {n} steps behind; use 0 or more")
        self.n = n

    def promise(self, readings: Sequence[Hypothesis], span: Span) -> int:
        """Return the number of steps heard less ``n``, at most what there is."""
        steps = milliseconds(span.end - span.start) // self.STEP_MS
        return min(max(0, steps - self.n), len(readings[-1].tokens))


class Final:
    """Promise nothing before the segment is closed."""

    memory = 1

    def __init__(self, n: int) -> None:
        """Take a number, for all policies do; it changes nothing."""
        self.n = n

    def promise(self, readings: Sequence[Hypothesis], span: Span) -> int:  # noqa: ARG002
        """Return 0."""
        return 0


POLICIES: Table[Callable[[int], Policy]] = Table(
    "policy",
    {
        "hold": "streamtrans.stream.policies:Hold",
        "agreement": "streamtrans.stream.policies:Agreement",
        "threshold": "streamtrans.stream.policies:Threshold",
        "alignatt": "streamtrans.stream.policies:AlignAtt",
        "waitk": "streamtrans.stream.policies:WaitK",
        "final": "streamtrans.stream.policies:Final",
    },
)
"""Name → ``module:Class``. A policy of an installed package is named by its path, as a
:class:`~streamtrans.foreign.Chosen` name."""


def load_policy(name: str, n: int) -> Policy:
    """Make the policy called ``name`` with its number.

    Raises:
        BadConfig: no such policy, or the number is out of its range.
    """
    return POLICIES.load(name)(n)
