"""Ctrl-C and SIGTERM end a training between two steps, with the last of them saved.

Law: stopped by a signal and resumed, a run ends where the unbroken one does.
"""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing import parent_process
from types import FrameType

from streamtrans.core import StreamtransError

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Stopped(StreamtransError):
    """A signal ended the run; the message says at which step, which is saved."""


class _Asked(KeyboardInterrupt):
    """A signal came, and no step is half done."""


class Stopping:
    """Whether a signal has asked the run to stop; made by :func:`stoppable`."""

    def __init__(self, agree: Callable[[bool], bool] | None) -> None:
        self._agree = agree
        self._asked = False
        self._within = False

    @contextmanager
    def step(self) -> Iterator[None]:
        """Hold a step together: what a signal asks for is done at its end. All processes of a run take this alike."""
        self._within = True
        try:
            yield
        finally:
            self._within = False
        if self._asked if self._agree is None else self._agree(self._asked):
            raise _Asked

    def signalled(self, _number: int, _frame: FrameType | None) -> None:
        """Take a signal: alone, what waits for data stops at once, and so does all at the second signal."""
        if self._agree is not None:
            parent = parent_process()
            if parent is not None and not parent.is_alive():
                raise KeyboardInterrupt  # whoever would carry on with this run is gone
            self._asked = True  # the others may wait for this process within a step
            return
        if self._asked:
            raise KeyboardInterrupt
        self._asked = True
        if not self._within:
            raise _Asked
        print("stopping at the end of this step; once more stops at once, without saving it", file=sys.stderr)


@contextmanager
def stoppable(save: Callable[[], str], agree: Callable[[bool], bool] | None = None) -> Iterator[Stopping]:
    """Let signals end what is done in here, after ``save``, which says what was saved.

    Args:
        save: called between two steps, in every process of the run.
        agree: tells whether any process of the run was asked to stop, for what one of them was told;
            ``None`` where there is one process.

    Raises:
        Stopped: a signal came.
        KeyboardInterrupt: it came twice; nothing more was saved.
    """
    stopping = Stopping(agree)
    with handled(stopping.signalled):
        try:
            yield stopping
        except _Asked:
            raise Stopped(save()) from None


@contextmanager
def handled(handler: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    """Have ``handler`` take the signals that end programs, where Python lets it: in the main thread."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, handler) for number in SIGNALS}
    try:
        yield
    finally:
        for number, earlier in before.items():
            signal.signal(number, earlier)


def deaf(*_unused: object) -> None:
    """Leave Ctrl-C to the process that trains: it ends those that make its batches."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
