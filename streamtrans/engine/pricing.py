"""What a draft costs this model on this machine, in passes over one token: measured at start-up, and kept.

Law: costs decide how far ahead is guessed and nothing else; at k = 1 what is written doesn't depend on them.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
import os
import time
from collections.abc import Callable
from dataclasses import asdict, fields
from pathlib import Path

import numpy as np

from streamtrans.core import SAMPLE_RATE, BadConfig
from streamtrans.decode import DraftCosts
from streamtrans.model.api import Forward, Propose, SpeechModel, anything
from streamtrans.model.machine import kept, processor

BUDGET_S = 0.6
"""What measuring twice may take; larger is steadier, and later to serve. At least one round is made after the first."""

AGREED = 0.2
"""How far two measurements of what a draft costs may be apart to be kept; larger keeps what a busy machine said."""

_READ = 16
"""Tokens that stand before a pass: the middle of a sentence."""

_HEARD = 4 * SAMPLE_RATE

_log = logging.getLogger(__name__)


def priced(model: SpeechModel, about: object, *, alone: bool) -> DraftCosts:
    """Return what drafts cost a model with a speculative network: as was measured here before, or measured now.

    It is measured twice, and kept where both agree. Else something disturbed it: it serves this run, and no other.

    Args:
        model: nothing else may be asked of it meanwhile.
        about: what its costs depend on besides the machine: shape, precision, threads, versions.
        alone: one thread computes, so that its own time is what a pass takes, however busy the machine is.
    """
    file = _file(about)
    if file is not None and (kept := _read(file)) is not None:
        return kept
    clock = time.thread_time if alone else time.perf_counter
    first, costs = (measure(model, BUDGET_S / 2, clock) for _ in range(2))
    _log.info("drafts cost %s passes", costs)
    if not _agree(first, costs):
        _log.info("measured before, %s: they are measured again next time", first)
    elif file is not None:
        _keep(file, costs)
    return costs


def _agree(one: DraftCosts, other: DraftCosts) -> bool:
    """Say whether drafts of one token and of many cost about the same by both."""
    pairs = [
        [1 + costs.opening + count * (costs.guess + costs.verify) for costs in (one, other)]
        for count in (1, one.longest)
    ]
    return all(max(pair) <= (1 + AGREED) * min(pair) for pair in pairs)


def measure(
    model: SpeechModel, budget_s: float = BUDGET_S, clock: Callable[[], float] = time.perf_counter
) -> DraftCosts:
    """Time passes over one, two and many tokens, and guesses, in turn; the quickest of each is what it costs.

    Whatever else the machine does makes a pass slower and never quicker.
    """
    longest = DraftCosts().longest
    noise = np.random.default_rng(0).normal(0, 0.01, min(_HEARD, model.max_samples)).astype(np.float32)
    slots = model.allocate(1)
    prompt = model.prompt(*anything(model))
    cache = slots.open(model.encode([noise])[0], prompt)
    room = model.max_tokens - longest - 2
    line = (*prompt, *(prompt[-1:] * max(0, _READ - len(prompt))))[: max(len(prompt), room)]
    model.step([Forward(line[cache.length :], cache, rows=1)])
    read = cache.length

    def verify(count: int) -> None:
        fresh = line[-1:] * count
        model.step([Forward(fresh, cache, rows=count, draft=fresh[1:])])
        cache.truncate(read)

    def guess() -> None:
        model.propose([Propose(line[-1:], cache, 1)])

    passes: tuple[Callable[[], None], ...] = (
        lambda: verify(1),
        lambda: verify(2),
        lambda: verify(longest + 1),
        guess,
    )
    quickest, began = [math.inf] * len(passes), time.perf_counter()
    for number in range(1_000):
        for at, run in enumerate(passes):
            started = clock()
            run()
            if number:  # the first time memory is touched, and kernels are chosen
                quickest[at] = min(quickest[at], clock() - started)
        if number and time.perf_counter() - began > budget_s:
            break
    slots.release(cache)
    step, two, many, one = (max(seconds, 1e-9) for seconds in quickest)
    return DraftCosts(
        guess=round(one / step, 3),
        opening=round(max(0.0, two / step - 1), 3),
        verify=round(max(0.0, (many - two) / (longest - 1) / step), 3),
        longest=longest,
    )


def _file(about: object) -> Path | None:
    """Return the file of what was measured, ``None`` where there is no place for one."""
    key = json.dumps([*processor(), about], sort_keys=True, default=str)
    try:
        return kept("costs") / f"{hashlib.sha256(key.encode()).hexdigest()[:32]}.json"
    except OSError:
        return None


def _read(file: Path) -> DraftCosts | None:
    """Return what a file says, ``None`` where it says nothing that can be."""
    try:
        said = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    if not isinstance(said, dict) or said.keys() != {field.name for field in fields(DraftCosts)}:
        return None
    try:
        return DraftCosts(**said)
    except BadConfig:
        return None


def _keep(file: Path, costs: DraftCosts) -> None:
    """Write a file whole or not at all; who can't measures again next time."""
    made = file.with_suffix(f".{os.getpid()}")
    try:
        made.write_text(json.dumps(asdict(costs)), encoding="utf-8")
        made.replace(file)
    except OSError as error:
        _log.info("what drafts cost can't be kept: %s", error)
