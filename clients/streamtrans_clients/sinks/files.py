"""Captions in a file that players open, laid out so that they can be read in the time they are shown.

Law: whenever somebody looks, the file is whole, and holds each final caption that was shown so far.
"""

from __future__ import annotations

import os
from pathlib import Path
from types import TracebackType
from typing import Self

from streamtrans.client import Caption, subtitles
from streamtrans_clients.sinks.lines import cue
from streamtrans_clients.sinks.sink import Sink, SinkError


class SubtitleFile(Sink):
    """``talk.srt``, or another ending of :data:`subtitles.FORMATS`; never over a file that is there."""

    async def __aenter__(self) -> Self:
        """Take the name."""
        self._path = Path(self.place.written)
        self._write = subtitles.FORMATS.get(self._path.suffix.lower().removeprefix("."))
        if self._write is None:
            endings = ", ".join(f".{each}" for each in subtitles.FORMATS)
            raise SinkError(f"{self._path}: give a name that ends in {endings}")
        self._cues: list[subtitles.Cue] = []
        try:
            with self._path.open("x", encoding="utf-8") as file:
                file.write(self._write(()))
        except FileExistsError:
            raise SinkError(f"{self._path} is there already; give another name") from None
        except OSError as error:
            raise SinkError(f"{self._path} can't be written: {error.strerror}") from error
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Leave the file as it is."""

    async def show(self, caption: Caption, speaker: str) -> None:
        """Write a final caption."""
        if not caption.final or not caption.text.strip():
            return
        self._cues.append(cue(caption, speaker))
        self._cues.sort(key=lambda each: each.start_ms)
        assert self._write is not None
        write_whole(self._path, self._write(self._cues))


def write_whole(path: Path, text: str) -> None:
    """Put ``text`` in the place of what stands in a file, at once.

    Raises:
        SinkError: it can't be written.
    """
    beside = path.with_name(f".{path.name}.new")
    try:
        beside.write_text(text, encoding="utf-8", newline="\n")
        os.replace(beside, path)
    except OSError as error:
        raise SinkError(f"{path} can't be written: {error.strerror}") from error
