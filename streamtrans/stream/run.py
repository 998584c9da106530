"""A run of speech as an engine knows it: how much of its audio was sent, and under which handle it is kept.

Law: audio is sent once, unless what was kept of it is lost.
"""

from __future__ import annotations

from streamtrans.core import Job, Reading, StateHandle, samples
from streamtrans.stream.config import SessionConfig
from streamtrans.stream.listener import Listener
from streamtrans.stream.segments import Segment

PAUSE = samples(250)
"""Silence from which speech has paused, and a reading may think again; stops and breaths are shorter."""


class Run:
    """Makes the jobs of one stream, one after the other."""

    def __init__(self) -> None:
        self._sent = 0
        """The engine has the samples before, where it keeps any."""
        self._state: StateHandle | None = None
        """What the encoder remembers."""

    def job(self, segment: Segment, end: int, listener: Listener, config: SessionConfig) -> Job:
        """Return a reading of ``segment`` up to sample ``end``, with the audio that is new."""
        forgotten = None
        if segment.fresh:
            self._state, forgotten, segment.fresh = None, self._state, False
        if self._state is None:
            self._sent = segment.start
        last = segment.end is not None
        free = last or listener.pause >= PAUSE
        return Job(
            segment=segment.number,
            start=segment.start,
            end=end,
            last=last,
            audio=listener.audio(min(end, max(segment.start, self._sent)), end, segment.gain),
            targets=tuple(line.target(free=free) for line in segment.read_lines),
            source=config.source,
            state=self._state,
            keep=not last or (config.carry_state and not listener.ended),
            forget=forgotten,
        )

    def settle(self, job: Job, reading: Reading | None) -> None:
        """Take what came of the newest job; ``None``: nothing did."""
        self._state = None if reading is None else reading.state
        self._sent = max(self._sent, job.end)
