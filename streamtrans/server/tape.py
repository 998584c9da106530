"""The file of a recording, written beside the event loop and only while its folder has room.

Law: whoever writes never waits for the disk; a disk that is full, stuck or gone ends the recording, not the call.
"""

from __future__ import annotations

import asyncio
import errno
import logging
from concurrent.futures import Future
from pathlib import Path
from threading import Lock

from streamtrans.stream import FileSink

_log = logging.getLogger(__name__)

_BATCH = 64 << 10
"""Bytes that may wait before they are written even though nobody asked for it: two seconds of speech."""

_BACKLOG = 16 << 20
"""Bytes that may wait for the disk, eight minutes of speech: more, and it can't keep up."""

_LOOK_AFTER = 1 << 20
"""Bytes written before the folder is weighed again; by so much per stream the quota may be exceeded."""


def recording_of(folder: Path, session_id: str) -> Path:
    """Return where the recording of a session lies, if there is one."""
    return folder / f"{session_id}.stsession"


def erased(folder: Path, session_id: str) -> bool:
    """Delete the recording of a session; say whether there was one."""
    try:
        recording_of(folder, session_id).unlink()
    except FileNotFoundError:
        return False
    return True


class Tape:
    """A sink for one recording, made on the event loop whose executor writes it.

    Args:
        path: the file; what else is in its folder counts too.
        quota: bytes that the folder may hold.
    """

    def __init__(self, path: Path, quota: int) -> None:
        self._path = path
        self._quota = quota
        self._file = FileSink(path)
        self._loop = asyncio.get_running_loop()
        self._lock = Lock()
        self._waiting: list[bytes] = []
        self._size = 0
        self._unweighed = _LOOK_AFTER
        self._error: OSError | None = None
        self._busy = False
        self._closing = False
        self._written: Future[None] = Future()

    def write(self, data: bytes) -> None:
        """Take more bytes, to be written soon.

        Raises:
            OSError: what was taken before couldn't be written, or waits for too long.
        """
        with self._lock:
            if self._error is not None:
                raise self._error
            if self._size + len(data) > _BACKLOG:
                raise OSError(errno.EBUSY, f"{self._size:,} bytes wait for the disk")
            self._waiting.append(data)
            self._size += len(data)
        if self._size > _BATCH:
            self.flush()

    def flush(self) -> None:
        """Have what waits written now, and return at once."""
        with self._lock:
            if self._busy or self._written.done():
                return
            self._busy = True
        self._loop.run_in_executor(None, self._work)

    def close(self) -> None:
        """Take no more; the file is closed once all is written."""
        self._closing = True
        self.flush()

    async def written(self, within_s: float) -> None:
        """Wait until the file is closed, but no longer than that."""
        await asyncio.wait([asyncio.wrap_future(self._written)], timeout=within_s)

    def _work(self) -> None:
        """Write until nothing waits; runs in a thread of the executor, once at a time."""
        while True:
            with self._lock:
                batch, closing = b"".join(self._waiting), self._closing
                self._waiting.clear()
                self._size = 0
                if not batch and not closing:
                    self._busy = False
                    return
            try:
                if self._error is None and batch:
                    self._put(batch)
                if closing and not batch:
                    self._file.close()
            except OSError as error:
                self._error = error
                if closing:  # nobody writes any more who could be told
                    _log.error("a recording lacks its end: %s", error)
            if closing and not batch:
                self._written.set_result(None)
                return

    def _put(self, batch: bytes) -> None:
        self._unweighed += len(batch)
        if self._unweighed > _LOOK_AFTER:
            self._unweighed = 0
            held = sum(path.stat().st_size for path in self._path.parent.iterdir() if path.is_file())
            if held + len(batch) > self._quota:
                raise OSError(errno.EDQUOT, f"{self._path.parent} holds {held:,} bytes of the {self._quota:,} allowed")
        self._file.write(batch)
        self._file.flush()
