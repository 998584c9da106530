"""What runs beside a device: a model, its engine, and nothing of any stream but what the engine keeps."""

from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass

from streamtrans.allocator import give_back, settle
from streamtrans.core import Job, Reading, StateHandle, Tokens, milliseconds
from streamtrans.engine import EngineStats
from streamtrans.runtime import ModelChoice, load
from streamtrans.stream import Settings, Spellers


@dataclass(frozen=True, slots=True)
class Offer:
    """What a model can do, for who hasn't got it."""

    model_name: str
    languages: tuple[str, ...]
    translations: tuple[tuple[str, tuple[str, ...]], ...]
    max_segment_ms: int
    tokenizer: Spellers
    word: Tokens
    settings: Settings
    slots: int
    """Texts that one worker decodes at once."""


@dataclass(frozen=True, slots=True)
class Pulse:
    """That a worker lives, and what it has done."""

    process: int
    owner: str
    """Of the handles that it gives out; another one once it was started anew."""
    stats: EngineStats


class Worker:
    """The actor: its methods are called from elsewhere, many at once."""

    def __init__(self, choice: ModelChoice, slots: int) -> None:
        give_back()
        self._loaded = load(choice, slots=slots)
        settle()

    async def offer(self) -> Offer:
        """Say what the model can do."""
        loaded = self._loaded
        return Offer(
            model_name=loaded.name,
            languages=loaded.languages,
            translations=loaded.translations,
            max_segment_ms=min(30_000, milliseconds(loaded.model.max_samples)),
            tokenizer=loaded.spellers,
            word=loaded.word,
            settings=loaded.settings,
            slots=loaded.engine.capacity,
        )

    async def pulse(self) -> Pulse:
        """Say that all is well."""
        engine = self._loaded.engine
        return Pulse(os.getpid(), engine.owner, engine.stats)

    async def read(self, job: Job) -> Reading:
        """Read ``job``; whoever cancels this withdraws it."""
        reading = await asyncio.wrap_future(self._loaded.engine.submit(job))
        assert isinstance(reading, Reading)
        return reading

    async def release(self, state: StateHandle) -> None:
        """Forget what is kept under ``state``."""
        self._loaded.engine.release(state)
