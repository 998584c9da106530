"""Standard output and error as they are: closed, full, a pipe that nobody reads, or in an encoding that lacks letters.

Law: what can't be written ends in one line and a status, never in a traceback, and never in silence.
"""

from __future__ import annotations

import contextlib
import errno
import io
import os
import sys
from collections.abc import Iterator

BROKEN = frozenset({errno.EPIPE, errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EBADF})
"""Errors of a stream that takes no more."""


class Closed(io.StringIO):
    """What stands for a stream that was closed before the program began: it forgets what it takes."""

    encoding = "utf-8"

    def write(self, text: str) -> int:
        """Take a text."""
        return len(text)


def prepare() -> None:
    """Let every character be written, escaped where the encoding lacks it; give closed streams a place to go."""
    sys.stdout, sys.stderr = (Closed() if stream is None else stream for stream in (sys.stdout, sys.stderr))
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def complain(message: str) -> None:
    """Write one line to standard error, if that can be."""
    from streamtrans_clients import escaped

    with contextlib.suppress(OSError):
        print(escaped(message), file=sys.stderr, flush=True)


@contextlib.contextmanager
def guarded() -> Iterator[None]:
    """End the program with status 1 and one line where standard output can't be written any more."""
    try:
        try:
            yield
        finally:
            sys.stdout.flush()
    except OSError as error:
        if error.filename is not None or error.errno not in BROKEN:
            raise
        give_up(error)
        sys.exit(1)


def give_up(error: OSError) -> None:
    """Say why standard output takes no more, unless its reader has simply seen enough, and write nothing else to it."""
    if error.errno != errno.EPIPE:
        complain(f"error: standard output can't be written: {error.strerror}")
    with contextlib.suppress(OSError, ValueError):  # what is still buffered would fail again when the program ends
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def lacks(text: str) -> bool:
    """Say whether the encoding of standard output lacks a character of ``text``."""
    try:
        text.encode(sys.stdout.encoding or "utf-8", "surrogatepass")
    except UnicodeEncodeError:
        return True
    return False
