"""Captions in a file that players open, laid out so that they can be read in the time they are shown.

```
captions   … 41 42 | 43 44 45 46     the newest are laid out anew with each that comes: it may join one before, or
           settled | open            come from somebody who spoke earlier; what is settled is text for good
```
Law: whenever somebody looks, the file is whole, and holds each final caption that was shown so far; to lay out a
caption costs the same however long the file.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Self

from streamtrans.client import Caption, subtitles
from streamtrans_clients.sinks.lines import cue
from streamtrans_clients.sinks.sink import Place, Sink, SinkError

_OPEN_MS = 30_000
"""How long before the newest caption one must have ended to be settled: longer than anybody speaks without a cut."""

_Body = Callable[[Sequence[subtitles.Cue], int], tuple[str, int]]
"""Captions and the number of the first cue → what a file says of them, and how many cues that are."""


def _srt(captions: Sequence[subtitles.Cue], first: int) -> tuple[str, int]:
    cues = subtitles.split(captions)
    return subtitles.srt_cues(cues, first), len(cues)


def _vtt(captions: Sequence[subtitles.Cue], _first: int) -> tuple[str, int]:
    return subtitles.vtt_cues(subtitles.split(captions)), 0


def _tsv(captions: Sequence[subtitles.Cue], _first: int) -> tuple[str, int]:
    return subtitles.tsv(captions).removeprefix(subtitles.tsv(())), 0


def _txt(captions: Sequence[subtitles.Cue], _first: int) -> tuple[str, int]:
    return subtitles.txt(captions), 0


_BODIES: MappingProxyType[str, _Body] = MappingProxyType({"srt": _srt, "vtt": _vtt, "tsv": _tsv, "txt": _txt})


class SubtitleFile(Sink):
    """``talk.srt``, or another ending of :data:`subtitles.FORMATS`; never over a file that is there."""

    def __init__(self, place: Place, language: str) -> None:
        super().__init__(place, language)
        self._path = Path(place.written)
        ending = self._path.suffix.lower().removeprefix(".")
        if ending not in _BODIES:
            raise SinkError(f"{self._path}: give a name that ends in {', '.join(f'.{each}' for each in _BODIES)}")
        self._body = _BODIES[ending]
        self._settled = subtitles.FORMATS[ending](())
        self._number = 1
        """Of the next cue that settles."""
        self._open: list[subtitles.Cue] = []

    async def __aenter__(self) -> Self:
        """Take the name."""
        try:
            with self._path.open("x", encoding="utf-8") as file:
                file.write(self._settled)
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
        if caption.final and caption.text.strip():
            self._open.append(cue(caption, speaker))
            self._open.sort(key=lambda each: each.start_ms)
            await asyncio.to_thread(self._rewrite)

    def _rewrite(self) -> None:
        until = self._open[-1].start_ms - _OPEN_MS
        count = next((at for at, each in enumerate(self._open) if each.end_ms > until), 0)
        if count:
            text, cues = self._body(self._open[:count], self._number)
            self._settled, self._number, self._open = self._settled + text, self._number + cues, self._open[count:]
        write_whole(self._path, self._settled + self._body(self._open, self._number)[0])


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
