"""Streams in a folder, for one machine or for several that share it.

A stream is the folder ``<name>`` with a file per epoch. Who claims it makes the file of the next epoch, which only one
can, and then reads the newest that was written; who writes looks afterwards whether there is a later one. So either the
claim has seen what was written, or the writer sees the claim and tells nobody what he wrote.
"""

from __future__ import annotations

import asyncio
import logging
import os
import re
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from streamtrans.core import BadConfig
from streamtrans.server.stores import MOST_BYTES, StoreFailed

_log = logging.getLogger(__name__)

T = TypeVar("T")

_NAME = re.compile(r"[0-9a-f]{64}")
_EPOCH = re.compile(r"[0-9]{1,9}")
_SWEEP_S = 30.0
"""Between two looks for what is too old."""

_MOST_STREAMS = 20_000
"""Of more, the oldest go."""


class FileStore:
    """Files that only their owner may read; see above.

    Args:
        place: the folder, which is made where there is none.
        keep_s: streams that weren't written for longer go.

    Raises:
        BadConfig: the folder can't be made or written.
    """

    def __init__(self, place: str, keep_s: float) -> None:
        self._folder = Path(place)
        self._keep_s = keep_s
        self._swept = 0.0
        try:
            made = not self._folder.exists()
            self._folder.mkdir(parents=True, exist_ok=True)
            if made:
                self._folder.chmod(0o700)  # whatever the umask is; a folder that was there is its owner's affair
            elif os.name == "posix" and self._folder.stat().st_mode & 0o077:
                _log.warning("others may look into %s, which holds what people say: chmod 700", self._folder)
            probe = self._folder / f".{os.getpid()}"
            probe.touch(0o600)
            probe.unlink()
        except OSError as error:
            raise BadConfig(f"the store {place} can't be used: {error.strerror}") from error

    async def claim(self, name: str) -> tuple[int, bytes] | None:
        """See :meth:`Store.claim`."""
        return await self._do(self._claim, name)

    async def put(self, name: str, epoch: int, data: bytes) -> bool:
        """See :meth:`Store.put`."""
        return await self._do(self._put, name, epoch, data)

    async def drop(self, name: str, epoch: int) -> None:
        """See :meth:`Store.drop`."""
        await self._do(self._drop, name, epoch)

    async def owns(self, name: str, epoch: int) -> bool:
        """See :meth:`Store.owns`."""
        return await self._do(self._owns, name, epoch)

    async def close(self) -> None:
        """Nothing is held open."""

    async def _do(self, what: Callable[..., T], *said: object) -> T:
        try:
            return await asyncio.to_thread(what, *said)
        except OSError as error:
            raise StoreFailed(f"the store {self._folder}: {error.strerror or error}") from error

    def _claim(self, name: str) -> tuple[int, bytes] | None:
        while epochs := self._epochs(name):
            mine = epochs[-1] + 1
            try:
                os.close(os.open(self._path(name, mine), os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
            except FileExistsError:
                continue  # somebody else was quicker; the last one has it
            except FileNotFoundError:
                break  # it was dropped in this moment
            for epoch in reversed(epochs):
                if data := self._read(self._path(name, epoch)):
                    return mine, data
            self._drop(name, mine)
        return None

    def _put(self, name: str, epoch: int, data: bytes) -> bool:
        self._sweep()
        path = self._path(name, epoch)
        path.parent.mkdir(0o700, exist_ok=True)
        draft = path.with_name(f"{epoch}.{os.getpid()}")
        draft.unlink(missing_ok=True)  # of one who died over it; never somebody else's link
        number = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o600)
        with os.fdopen(number, "wb") as file:
            file.write(data)
        draft.replace(path)
        epochs = self._epochs(name)
        if epochs[-1:] > [epoch]:
            if self._read(self._path(name, epochs[-1])):
                path.unlink(missing_ok=True)  # who has claimed it needs it no more
            return False
        for old in epochs[:-1]:
            self._path(name, old).unlink(missing_ok=True)
        return True

    def _drop(self, name: str, epoch: int) -> None:
        if self._owns(name, epoch):
            self._remove(self._folder / name)

    def _owns(self, name: str, epoch: int) -> bool:
        return self._epochs(name)[-1:] <= [epoch]

    def _read(self, path: Path) -> bytes:
        """Return what the file holds; nothing where it is no file of ours, or too old."""
        with suppress(FileNotFoundError):
            number = os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0))
            with os.fdopen(number, "rb") as file:
                status = os.fstat(number)
                if status.st_size <= MOST_BYTES and time.time() - status.st_mtime <= self._keep_s:
                    return file.read(MOST_BYTES)
        return b""

    def _epochs(self, name: str) -> list[int]:
        with suppress(FileNotFoundError):
            return sorted(int(entry) for entry in os.listdir(self._folder / name) if _EPOCH.fullmatch(entry))
        return []

    def _path(self, name: str, epoch: int) -> Path:
        return self._folder / name / str(epoch)

    def _sweep(self) -> None:
        """Let go of what nobody came back for, and of more than is kept; foreign files are left alone."""
        now = time.time()
        if now - self._swept < _SWEEP_S:
            return
        self._swept = now
        streams: list[tuple[float, Path]] = []
        for path in self._folder.iterdir():
            with suppress(FileNotFoundError):
                if _NAME.fullmatch(path.name) and not path.is_symlink():
                    streams.append((path.stat().st_mtime, path))  # its files come and go with each writing
        streams.sort()
        for at, (written, path) in enumerate(streams):
            if now - written > self._keep_s or at < len(streams) - _MOST_STREAMS:
                self._remove(path)

    @staticmethod
    def _remove(stream: Path) -> None:
        with suppress(OSError):  # a file that isn't ours, or one that was written in this moment, stays
            for path in stream.iterdir():
                if _EPOCH.fullmatch(path.name.partition(".")[0]):
                    path.unlink(missing_ok=True)
            stream.rmdir()
