"""What every kind of engine is to those who ask it: the one in this process, one elsewhere, or a test's."""

from __future__ import annotations

from concurrent.futures import Future
from enum import Enum
from typing import Protocol

from streamtrans.core.jobs import Detection, Reading, Request, StateHandle


class Health(Enum):
    """Whether an engine answers. ``STALLED`` may pass; ``CLOSED`` is for ever."""

    SERVING = "serving"
    STALLED = "stalled"
    CLOSED = "closed"


class Reply(Future[Detection | Reading]):
    """What comes of a request; cancelling it gives back what the request holds.

    ``begun_at``, a time of ``time.monotonic``, says when the engine took it up, ``None`` while it waits its turn.
    """

    def __init__(self) -> None:
        super().__init__()
        self.begun_at: float | None = None


class EngineLike(Protocol):
    """Whatever answers requests, from any thread."""

    @property
    def capacity(self) -> int:
        """Texts decoded at once: a job in more languages can't be read."""
        ...

    @property
    def health(self) -> Health:
        """Whether it answers; asking costs nothing."""
        ...

    def submit(self, request: Request) -> Reply:
        """Return at once; the reply brings the result, or the error that ``request`` met.

        That is :class:`~streamtrans.core.EngineClosed` where the engine closes first, and
        :class:`~streamtrans.core.Lost` where it hasn't what a job's handle names, as it has been started anew, or never
        had: ask again with all of the audio.
        """
        ...

    def release(self, state: StateHandle) -> None:
        """Forget what is kept under a handle that nobody will come back with."""
        ...

    def close(self, timeout_s: float = 10.0) -> None:
        """Fail everything that waits, and end; a device that hangs longer than ``timeout_s`` is left behind."""
        ...
