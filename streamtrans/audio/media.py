"""Media that libsndfile doesn't read, through FFmpeg's libraries: videos, m4a, webm, and MP3 to its real end.

PyAV is an extra (``av``): its wheels hold GPL libraries. A file is read as a stream of bytes in one of
:data:`_FORMATS`, so that no playlist in disguise makes it open anything else.
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, cast

import numpy as np
import numpy.typing as npt

from streamtrans.audio.headers import Repaired, mpeg_length
from streamtrans.core import BadAudio

if TYPE_CHECKING:
    from av import AudioFrame
    from av.audio.stream import AudioStream

_FORMATS = (
    "aac", "ac3", "aiff", "amr", "ape", "asf", "au", "avi", "caf", "dts", "eac3", "flac", "flv", "matroska", "mov",
    "mp3", "mpeg", "mpegts", "ogg", "tta", "w64", "wav", "webm", "wv",
)  # fmt: skip

_GUESSED = ("mp3", "aac", "ac3", "eac3", "dts")
"""Formats without a length of their own: FFmpeg estimates it from the first frames."""

_GAP_S = 0.1
"""A jump of the timestamps from which silence is put in: captions shall stay where they are in a video."""

_MOST_GAPS_S = 3600.0
"""Silence put in altogether; beyond it the timestamps are more likely wrong than right."""


def installed() -> bool:
    """Say whether PyAV is there."""
    return find_spec("av") is not None


class Media:
    """The sound of a media file, until it is closed.

    ``stated_s`` is the length that the file gives for its sound, ``None`` where it gives none; ``damaged`` counts
    the pieces that couldn't be decoded.

    Raises:
        BadAudio: nothing that FFmpeg knows, or without sound.
    """

    def __init__(self, path: Path) -> None:
        """Open ``path``."""
        import av

        self._file: BinaryIO = path.open("rb")
        try:
            # The file goes without its name: its extension says nothing of its content.
            self._container = av.open(Repaired(self._file, {}), "r", options={"format_whitelist": ",".join(_FORMATS)})
        except (av.error.FFmpegError, ValueError) as error:
            self._file.close()
            raise BadAudio("not audio that can be read, or damaged or truncated") from error
        if not self._container.streams.audio:
            self.close()
            raise BadAudio("the file holds no sound")
        best = self._container.streams.best("audio")
        self._stream: AudioStream = self._container.streams.audio[0] if best is None else cast("AudioStream", best)
        context = self._stream.codec_context
        if context is None or not context.sample_rate or not context.channels:
            self.close()
            raise BadAudio("its sound can't be decoded: the codec is unknown, or the file damaged")
        self.sample_rate = context.sample_rate
        self.channels = context.channels
        self.damaged = 0
        self.torn = ""
        self.floating = False
        place = self._file.tell()
        self.stated_s = self._stated()
        self._file.seek(place)

    def close(self) -> None:
        """Close the file."""
        self._container.close()
        self._file.close()

    @property
    def likely_s(self) -> float | None:
        """The length of all that is in the file, ``None`` where it is only guessed."""
        if self.stated_s is not None:
            return self.stated_s
        guessed = self._container.format.name in _GUESSED or not self._container.duration
        return None if guessed else (self._container.duration or 0) / 1_000_000

    def blocks(self) -> Iterator[npt.NDArray[np.float32]]:
        """Yield frames of shape ``(n, channels)``; where timestamps jump, silence fills the gap."""
        import av

        start = (self._container.start_time or 0) / 1_000_000
        taken, filled = 0, 0.0
        resampler, form = None, None
        for frame in self._frames():
            if (frame.format.name, frame.rate, frame.layout.name) != form:  # joined files change in the middle
                form = (frame.format.name, frame.rate, frame.layout.name)
                resampler = av.AudioResampler("flt", self._stream.layout, self.sample_rate)
            assert resampler is not None
            gap = 0.0 if frame.time is None else frame.time - start - taken / self.sample_rate
            if gap > _GAP_S:
                filled += gap
                if filled > _MOST_GAPS_S:
                    raise BadAudio(f"its timestamps jump by {gap:.0f} s after {taken / self.sample_rate:.2f} s")
                missing = round(gap * self.sample_rate)
                for size in (self.sample_rate,) * (missing // self.sample_rate) + (missing % self.sample_rate,):
                    yield np.zeros((size, self.channels), np.float32)
                taken += missing
            for each in resampler.resample(frame):
                values = each.to_ndarray().astype(np.float32, copy=False).reshape(-1, self.channels)
                taken += len(values)
                yield values

    def _frames(self) -> Iterator[AudioFrame]:
        """Decode packet by packet, so that a damaged one costs only itself."""
        from av.error import FFmpegError

        packets = self._container.demux(self._stream)
        while True:
            try:
                packet = next(packets)
            except StopIteration:
                return
            except FFmpegError:
                self.damaged += 1
                return
            try:
                yield from packet.decode()
            except FFmpegError:
                self.damaged += 1

    def _stated(self) -> float | None:
        """Return what the file says of the length of its sound."""
        name = self._container.format.name
        if name == "mp3":
            found = mpeg_length(self._file)
            if found is None:
                return None
            return (found.frames * self._stream.codec_context.frame_size - found.trimmed) / self.sample_rate
        if "DURATION" in self._stream.metadata:  # Matroska
            hours, minutes, seconds = self._stream.metadata["DURATION"].split(":")
            return 3600 * int(hours) + 60 * int(minutes) + float(seconds)
        if name.startswith("mov") and self._stream.duration and self._stream.time_base:
            return float(self._stream.duration * self._stream.time_base)
        return None
