"""What was said before anybody asked for a language: read again, in that language, from the audio that is kept.

Law: of each finished segment whose audio is kept whole there is one final caption more, as if the language had been
asked for in time. One reading is under way at a time, and what is kept doesn't grow.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

import numpy as np

from streamtrans.core import EngineLike, Hypothesis, Job, Reading, Target, samples
from streamtrans.server.hub import Hub
from streamtrans.server.intake import Samples
from streamtrans.server.kept import Said
from streamtrans.stream import Line, Span, awaitable

KEPT = samples(30_000)
"""Audio that is kept: larger reaches further back, and takes 32 KB more per second and stream."""

_FULL_SCALE = 32_768

_PATIENCE_S = 30.0
"""How long one reading may take, its turn included; what is lost is asked once more."""

_POLL_S = 0.05
"""How often is looked whether a segment that has just ended has its finals."""


class Earlier:
    """The newest audio of one stream, and those of its languages that are catching up.

    Args:
        hub: gets the captions.
        engine: reads.
        line: language → an empty line of the stream.
        source: the spoken language, where it is known.
        begins: position of the first sample that is heard.
    """

    def __init__(
        self, hub: Hub, engine: EngineLike, line: Callable[[str], Line], source: str | None, begins: int = 0
    ) -> None:
        self._hub, self._engine, self._line, self._source = hub, engine, line, source
        self._audio = np.zeros(KEPT, np.int16)
        self._begins = self._ends = begins
        self._catching: dict[str, asyncio.Task[None]] = {}

    def hear(self, heard: Samples) -> None:
        """Keep ``(n,)`` samples of any number, instead of the oldest."""
        newest = heard[-KEPT:]
        self._ends += len(heard)
        at = np.arange(self._ends - len(newest), self._ends) % KEPT
        self._audio[at] = np.rint(newest * _FULL_SCALE).clip(-_FULL_SCALE, _FULL_SCALE - 1)

    def audio(self, start: int, end: int) -> Samples | None:
        """Return samples ``[start, end)``; ``None`` where they aren't kept whole."""
        if not max(self._begins, self._ends - KEPT) <= start <= end <= self._ends:
            return None
        return np.divide(self._audio[np.arange(start, end) % KEPT], _FULL_SCALE, dtype=np.float32)

    def begin(self, language: str) -> None:
        """Catch up in ``language``, of which the segments that have ended know nothing."""
        lacking = [said for said in self._hub.said if said.ended is not None and language not in said.captions]
        self._catching[language] = asyncio.create_task(self._catch_up(language, lacking))

    def end(self, language: str) -> None:
        """Leave off: nobody reads ``language`` any more."""
        if (catching := self._catching.pop(language, None)) is not None:
            catching.cancel()

    async def caught_up(self, language: str) -> None:
        """Wait until all is read in ``language`` that can be."""
        if (catching := self._catching.get(language)) is not None:
            await asyncio.wait([catching])

    async def _catch_up(self, language: str, lacking: Iterable[Said]) -> None:
        for said in lacking:
            while not said.finished and not self._hub.closed:
                await asyncio.sleep(_POLL_S)
            assert said.ended is not None
            span = Span(said.started.segment, said.started.start, said.ended.end)
            sound = self.audio(span.start, span.end)
            if sound is not None:
                spoken = any(caption.committed for caption in said.captions.values())
                line = self._line(language)
                read = await self._read(line, span, sound) if spoken else None
                self._hub.post(line.finish(read, span))

    async def _read(self, line: Line, span: Span, sound: Samples) -> Hypothesis | None:
        """Return what the engine reads; ``None`` where it fails, as it may for a stream that goes on without."""
        heard_first = (Target(self._source),) if line.translated and self._source else ()  # by a model of its own
        targets = (*heard_first, Target(line.language))
        job = Job(span.segment, span.start, span.end, last=True, audio=sound, targets=targets, source=self._source)
        for _ in range(2):
            reply = awaitable(self._engine.submit(job))
            try:
                await asyncio.wait([reply], timeout=_PATIENCE_S)
            finally:
                reply.cancel()
            if not reply.cancelled() and reply.exception() is None:
                result = reply.result()
                return result.hypotheses[-1] if isinstance(result, Reading) else None
        return None
