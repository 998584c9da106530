"""The recordings that a user names: files, standard input, pipes."""

from __future__ import annotations

import contextlib
import shutil
import stat
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from streamtrans.audio import duration_seconds
from streamtrans.core import SAMPLE_RATE, BadAudio

STANDARD_INPUT = Path("-")


@dataclass(frozen=True, slots=True)
class Recording:
    """A recording that can be read: ``path`` is what the user calls it, ``file`` where it lies."""

    path: Path
    file: Path
    samples: int = 0

    @property
    def piped(self) -> bool:
        """Whether it came through a pipe, so that it lies nowhere."""
        return self.file != self.path

    def told(self, error: BadAudio) -> str:
        """Return what is wrong, without the name."""
        return str(error).removeprefix(f"{self.file}: ")


@contextlib.contextmanager
def gathered(paths: Sequence[Path]) -> Iterator[tuple[list[Recording], dict[Path, str]]]:
    """Yield the recordings that can be read, in order, and what is wrong with each other one.

    What comes through a pipe is written to a temporary file first: its form may be known only at its end.
    """
    recordings: list[Recording] = []
    failures: dict[Path, str] = {}
    with tempfile.TemporaryDirectory(prefix="streamtrans-") as folder:
        for path in paths:
            recording = Recording(path, path)
            try:
                recording = Recording(path, _file(path, Path(folder)))
                length = round(duration_seconds(recording.file) * SAMPLE_RATE)
                recordings.append(Recording(path, recording.file, length))
            except BadAudio as error:
                failures[path] = recording.told(error)
        yield recordings, failures


def _file(path: Path, folder: Path) -> Path:
    """Return a file that holds the recording."""
    if path == STANDARD_INPUT:
        if sys.stdin is None or sys.stdin.isatty():
            raise BadAudio("standard input is no recording; give one as in: streamtrans translate - < talk.wav")
        return _kept(sys.stdin.buffer, folder)
    try:
        if not (stat.S_ISFIFO(path.stat().st_mode) or stat.S_ISSOCK(path.stat().st_mode)):
            return path
    except (OSError, ValueError):
        return path  # whoever reads it says what is wrong
    with path.open("rb") as pipe:
        return _kept(pipe, folder)


def _kept(pipe: BinaryIO, folder: Path) -> Path:
    with tempfile.NamedTemporaryFile(dir=folder, delete=False) as file:
        try:
            shutil.copyfileobj(pipe, file)
        except OSError as error:
            raise BadAudio(f"it can't be kept in {folder} while it is read ({error.strerror})") from error
        return Path(file.name)
