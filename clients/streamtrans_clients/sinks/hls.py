"""Rolling WebVTT for HTTP Live Streaming: a playlist of short files beside those of a video (RFC 8216, section 3.5).

```
sound   |-- segment 0 --|-- segment 1 --|-- segment 2 --|
written                         0 ^             1 ^            ``delay`` later, so that captions have come
```
Law: each final caption is in a segment that players haven't fetched yet: in its place where it comes in time, at the
beginning of the next segment where it comes late. Cues that reach into the next one stand in both, with equal times.
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Self

from streamtrans.client import Caption, subtitles
from streamtrans_clients.sinks.files import write_whole
from streamtrans_clients.sinks.lines import cue
from streamtrans_clients.sinks.sink import Place, Sink, SinkError

PLAYLIST = "captions.m3u8"

_TICKS = 90
"""Of the MPEG clock, in a millisecond."""

_WRAP = 2**33
"""Ticks after which that clock begins anew."""


class Hls(Sink):
    """A folder, such as ``live/de``, whose ``captions.m3u8`` is to be named as ``EXT-X-MEDIA`` of a video's playlist.

    Options: ``seconds`` (6) of a segment, which is best what the video's have; ``delay`` (10): how much later than the
    sound a segment is written; ``keep`` (10) segments in the playlist; ``mpegts`` (0): the video's MPEG time stamp, in
    ticks of 90 kHz, at the moment at which the sound begins.
    """

    def __init__(self, place: Place, language: str) -> None:
        super().__init__(place, language)
        if not place.text:
            raise SinkError("hls needs a folder to write into, such as hls:live/captions")
        options = place.numbers(seconds=6, delay=10, keep=10, mpegts=0)
        if options["seconds"] < 1:
            raise SinkError(f"hls: seconds is {options['seconds']:g}; a segment has one at least")
        self._folder = Path(place.text)
        self._length = round(options["seconds"] * 1000)
        self._delay = round(options["delay"] * 1000)
        self._keep = max(3, round(options["keep"]))  # players want three segments to begin with
        self._mpegts = round(options["mpegts"])
        self._written = 0
        """Segments."""
        self._heard = 0
        self._waiting: list[subtitles.Cue] = []
        """Captions as they came, not laid out yet."""
        self._laid: deque[subtitles.Cue] = deque()
        """Cues whose times stand."""

    async def __aenter__(self) -> Self:
        """Make the folder, and an empty playlist in it."""
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise SinkError(f"{self._folder} can't be made: {error.strerror}") from error
        if (self._folder / PLAYLIST).exists():
            raise SinkError(f"{self._folder / PLAYLIST} is there already, of another stream; give another folder")
        self._list(0, ended=False)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Write what is left, and say in the playlist that nothing follows."""
        last = max([self._heard, *(each.end_ms for each in self._waiting)])
        seen = self._written  # what is written now comes all at once, and a player has to find all of it
        while self._written * self._length < last or self._waiting or self._laid:
            await asyncio.to_thread(self._segment)
        self._list(max(0, seen - self._keep), ended=True)

    async def show(self, caption: Caption, speaker: str) -> None:
        """Keep a final caption for its segment."""
        if caption.final and caption.text.strip():
            self._waiting.append(cue(caption, speaker))
            self._waiting.sort(key=lambda each: each.start_ms)

    async def heard(self, milliseconds: int) -> None:
        """Write the segments that are due."""
        self._heard = milliseconds
        while (self._written + 1) * self._length + self._delay <= milliseconds:
            await asyncio.to_thread(self._segment)
            self._list(max(0, self._written - self._keep), ended=False)
            # A segment that has left the playlist may still be asked for as long as the playlist lasts.
            old = self._folder / _name(self._written - 1 - 2 * self._keep)
            try:
                old.unlink(missing_ok=True)
            except OSError as error:
                raise SinkError(f"{old} can't be removed: {error.strerror}") from error

    def _segment(self) -> None:
        start = self._written * self._length
        end = start + self._length
        self._lay_out(start, end)
        ticks = (self._mpegts + start * _TICKS) % _WRAP
        head = f"WEBVTT\nX-TIMESTAMP-MAP=MPEGTS:{ticks},LOCAL:{subtitles.clock(start, '.')}\n\n"
        cues = [each for each in self._laid if each.start_ms < end]
        write_whole(self._folder / _name(self._written), head + subtitles.vtt_cues(cues))
        while self._laid and self._laid[0].end_ms <= end:
            self._laid.popleft()
        self._written += 1

    def _lay_out(self, start: int, end: int) -> None:
        """Give cues of captions that begin before ``end`` their times, none before ``start``, none over another."""
        due = [each for each in self._waiting if each.start_ms < end]
        self._waiting = self._waiting[len(due) :]
        follows = self._waiting[0].start_ms - subtitles.GAP_MS if self._waiting else None
        for each in subtitles.split(due):
            begin = max(each.start_ms, start, self._laid[-1].end_ms if self._laid else 0)
            until = begin + each.end_ms - each.start_ms
            if follows is not None and until > follows > begin:
                until = follows
            self._laid.append(replace(each, start_ms=begin, end_ms=until))

    def _list(self, first: int, *, ended: bool) -> None:
        seconds = self._length / 1000
        lines = [
            "#EXTM3U",
            "#EXT-X-VERSION:3",
            f"#EXT-X-TARGETDURATION:{math.floor(seconds + 0.5)}",
            f"#EXT-X-MEDIA-SEQUENCE:{first}",
        ]
        for number in range(first, self._written):
            lines += [f"#EXTINF:{seconds:.3f},", _name(number)]
        if ended:
            lines.append("#EXT-X-ENDLIST")
        write_whole(self._folder / PLAYLIST, "\n".join(lines) + "\n")


def _name(number: int) -> str:
    return f"captions{number}.vtt"
