"""Decide how much of a reading may be promised: one number per reading.

Law: a policy is a pure function of the readings of one segment in one language.
"""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Sequence
from types import MappingProxyType
from typing import Protocol

from streamtrans.core import BadConfig, Tokens


class Policy(Protocol):
    """Say how many tokens of the newest reading may be promised.

    The session lowers the answer to a word boundary, and never below what is promised already.
    ``memory`` is how many of the newest readings it wants to see.
    """

    memory: int

    def promise(self, readings: Sequence[Tokens]) -> int:
        """Return the number of tokens of ``readings[-1]`` to promise.

        ``readings`` holds at least one and at most ``memory`` hypotheses, oldest first.
        """
        ...


class Hold:
    """Promise all but the last ``n`` tokens: what is new is what changes (mask-k, Arivazhagan 2020)."""

    memory = 1

    def __init__(self, n: int) -> None:
        """Hold back ``n`` tokens: larger withdraws less and promises later."""
        if n < 0:
            raise BadConfig(f"policy 'hold' holds back {n} tokens; use 0 or more")
        self.n = n

    def promise(self, readings: Sequence[Tokens]) -> int:
        """Return the length of the newest reading less ``n``."""
        return max(0, len(readings[-1]) - self.n)


class Agreement:
    """Promise what the last ``n`` readings have in common (local agreement, Liu 2020, Polák 2022)."""

    def __init__(self, n: int) -> None:
        """Ask ``n`` readings to agree: larger promises later and errs less; 1 promises everything."""
        if n < 1:
            raise BadConfig(f"policy 'agreement' asks {n} readings to agree; use 1 or more")
        self.memory = n

    def promise(self, readings: Sequence[Tokens]) -> int:
        """Return the length of the longest common prefix, 0 while there are fewer than ``n`` readings."""
        if len(readings) < self.memory:
            return 0
        newest = readings[-self.memory :]
        for position, column in enumerate(zip(*newest, strict=False)):
            if len(set(column)) > 1:
                return position
        return min(map(len, newest))


class Final:
    """Promise nothing before the segment is closed."""

    memory = 1

    def __init__(self, n: int) -> None:
        """Take a number, for all policies do; it changes nothing."""
        self.n = n

    def promise(self, readings: Sequence[Tokens]) -> int:  # noqa: ARG002 (the protocol's signature)
        """Return 0."""
        return 0


POLICIES: MappingProxyType[str, str] = MappingProxyType(
    {
        "hold": "streamtrans.stream.policies:Hold",
        "agreement": "streamtrans.stream.policies:Agreement",
        "final": "streamtrans.stream.policies:Final",
    }
)
"""Name → import path; anything else of the form ``package.module:Class`` is taken as a path itself."""


def load_policy(name: str, n: int) -> Policy:
    """Make the policy called ``name`` with its number.

    Raises:
        BadConfig: no such policy, or the number is out of its range.
    """
    path = POLICIES.get(name, name)
    module, _, attribute = path.partition(":")
    if not attribute:
        close = difflib.get_close_matches(name, POLICIES, n=1, cutoff=0.0)
        raise BadConfig(
            f"unknown policy {name!r}: did you mean {close[0]!r}? Known are {', '.join(POLICIES)}, "
            "or a path 'package.module:Class'"
        )
    try:
        make = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise BadConfig(f"policy {name!r} cannot be imported: {error}") from error
    policy: Policy = make(n)
    return policy
