"""Audio files become samples: what libsndfile reads (WAV, FLAC, OGG, …), and with PyAV any other, videos too.

Law: ``read_audio`` is the concatenation of ``stream_file``'s blocks, whatever their length; a file is read to its
real end, whatever its header says.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, Protocol

import numpy as np
import numpy.typing as npt
import soundfile

from streamtrans.audio.chunk import Samples
from streamtrans.audio.headers import Header, Repaired, examine
from streamtrans.audio.level import scale
from streamtrans.audio.media import Media, installed
from streamtrans.audio.mix import Downmix
from streamtrans.core import BadAudio, samples

Frames = npt.NDArray[np.float32]
"""Shape ``(n, channels)``."""

_READ_S = 1.0
"""Larger: fewer calls; smaller: less memory while a file is read."""

_UNKNOWN_FRAMES = 2**59
"""libsndfile reports more frames than this where a header states no length."""

_SLACK_S = 0.2
"""A header may be off by this much: encoders begin and end with some silence of their own."""

_EXTRA = "pip install av"


def read_audio(path: str | os.PathLike[str]) -> Samples:
    """Read a whole file as mono float32 at 16 kHz, shape ``(n,)``.

    Raises:
        BadAudio: see :func:`stream_file`.
    """
    return np.concatenate([np.zeros(0, np.float32), *stream_file(path, block_seconds=10.0)])


def stream_file(
    path: str | os.PathLike[str], block_seconds: float, note: Callable[[str], None] = lambda _: None
) -> Iterator[Samples]:
    """Read a file in blocks of ``block_seconds`` (the last may be shorter), mono float32 at 16 kHz.

    The file is opened with the first block, and every error is raised while blocks are taken: of a file that breaks
    off, after the last block that can be had. ``note`` is told what a listener should know and no error is: that the
    header is wrong, that samples are on another scale, that the channels cancel each other.

    Raises:
        BadAudio: the file is missing, a folder, empty, no audio, of zero length, truncated, holds NaN or
            infinite samples, or has a sample rate or channel count beyond what is supported.
    """
    size = samples(block_seconds * 1000)
    if size < 1:
        raise BadAudio(f"block_seconds must be positive; got {block_seconds}")
    waiting: list[Samples] = []
    count = 0
    try:
        for piece in _pieces(Path(path), note):
            waiting.append(piece)
            count += len(piece)
            if count >= size:
                audio = np.concatenate(waiting)
                whole = count // size * size
                yield from audio[:whole].reshape(-1, size)
                waiting, count = [audio[whole:]], count - whole
    except BadAudio:
        if count:
            yield np.concatenate(waiting)
        raise
    if count:
        yield np.concatenate(waiting)


def duration_seconds(path: str | os.PathLike[str]) -> float:
    """Return the length of the file in seconds; a file is decoded only if its header states no length.

    Raises:
        BadAudio: the file is missing, a folder, empty, no audio, or of zero length.
    """
    with _opened(Path(path)) as sound:
        if sound.likely_s is not None:
            return sound.likely_s
        return sum(len(frames) for frames in sound.blocks()) / sound.sample_rate


class _Sound(Protocol):
    """An open file."""

    sample_rate: int
    channels: int
    stated_s: float | None
    """The length that the header gives."""
    torn: str
    """What is missing at the end, as far as is known before reading."""
    floating: bool
    """Whether the samples may be on any scale."""
    damaged: int
    """Pieces that couldn't be decoded so far."""

    @property
    def likely_s(self) -> float | None:
        """The length of all that is there, ``None`` where only decoding tells."""
        ...

    def blocks(self) -> Iterator[Frames]:
        """Yield all frames."""
        ...

    def close(self) -> None:
        """Close the file."""
        ...


class _Forward(soundfile.SoundFile):  # type: ignore[misc]
    """A file that is only read onwards.

    After each block of a seekable file soundfile seeks to where it already is. That resets the MP3 decoder,
    which is audible at every block, and fails for FLAC without a length.
    """

    def seekable(self) -> bool:
        return False


class _SoundFile:
    """What libsndfile reads, with the header put right."""

    damaged = 0

    def __init__(self, path: Path, file: BinaryIO, header: Header) -> None:
        file.seek(0)
        # libsndfile reads faster by itself, but takes no name that isn't text.
        alone = not header.repairs and str(path).isprintable()
        self._file = _Forward(path if alone else Repaired(file, header.repairs))
        self.sample_rate: int = self._file.samplerate
        if self._file.format == "RAW":
            raise BadAudio("not audio with a header that can be read")
        if self.sample_rate < 1:
            raise BadAudio(f"its header states a sample rate of {self.sample_rate} Hz")
        self.channels: int = self._file.channels
        frames = self._file.frames if header.frames is None else header.frames
        if frames == 0:
            raise BadAudio("the file holds no audio: its length is zero")
        self.likely_s = frames / self.sample_rate if frames < _UNKNOWN_FRAMES else None
        self.stated_s = None if self.likely_s is None else self.likely_s * header.stated
        self.torn = header.torn
        if header.beyond:
            self.torn = self.torn or f"{header.beyond}, so some of it may be missing: {_EXTRA}"
        self.floating = self._file.subtype in ("FLOAT", "DOUBLE")

    def blocks(self) -> Iterator[Frames]:
        """Yield all frames."""
        step = round(_READ_S * self.sample_rate)
        while len(frames := self._file.read(step, dtype="float32", always_2d=True)):
            yield frames

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def _pieces(path: Path, note: Callable[[str], None]) -> Iterator[Samples]:
    with _opened(path) as sound:
        factor = scale(sound.blocks(), note) if sound.floating else 1.0
    with _opened(path) as sound:
        downmix = Downmix(sound.sample_rate, sound.channels)
        taken = 0
        for frames in sound.blocks():
            taken += len(frames)
            yield downmix.feed(frames if factor == 1.0 else frames * np.float32(factor))
        yield downmix.flush()
        if downmix.cancelled:
            note("its channels cancel each other: where they do, one is heard alone")
        if sound.damaged:
            note(f"it is damaged: {sound.damaged} pieces of it can't be decoded and are left out")
        _compare(taken / sound.sample_rate, sound, note)


def _compare(taken_s: float, sound: _Sound, note: Callable[[str], None]) -> None:
    """Say where header and content differ.

    Raises:
        BadAudio: less was read than is stated.
    """
    if sound.torn:
        raise BadAudio(sound.torn)
    if sound.stated_s is None:
        return
    if taken_s + _SLACK_S < sound.stated_s:
        raise BadAudio(
            f"the file is truncated: it ends after {taken_s:.2f} s, its header states {sound.stated_s:.2f} s"
        )
    if taken_s > sound.stated_s + _SLACK_S:
        note(f"its header states {sound.stated_s:.2f} s, but it holds {taken_s:.2f} s: all of it is read")


@contextmanager
def _opened(path: Path) -> Iterator[_Sound]:
    with _named(path):
        if not path.exists():
            raise BadAudio("there is no such file")
        if path.is_dir():
            raise BadAudio("this is a folder; give an audio file")
        if not path.is_file():
            raise BadAudio("this is not a regular file; give an audio file")
        if path.suffix.lower() == ".raw":
            raise BadAudio("a headerless file doesn't say its rate and encoding; convert it to WAV")
        with path.open("rb") as file:
            sound = _reader(path, file)
            try:
                yield sound
            finally:
                sound.close()


def _reader(path: Path, file: BinaryIO) -> _Sound:
    """Open the file with whatever reads it best."""
    header = examine(file)
    if header.foreign and installed():
        with suppress(BadAudio):
            return Media(path)
    try:
        return _SoundFile(path, file, header)
    except soundfile.LibsndfileError as error:
        if installed():
            return Media(path)
        raise BadAudio(
            "not audio that can be read, or damaged or truncated; WAV, FLAC, OGG and MP3 are read, "
            f"and m4a, webm, videos and others after {_EXTRA}"
        ) from error


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """Put the file's name before what goes wrong inside."""
    try:
        yield
    except BadAudio as error:
        raise BadAudio(f"{path}: {error}") from error
    except soundfile.LibsndfileError as error:
        raise BadAudio(f"{path}: the file is damaged or truncated") from error
    except OSError as error:
        raise BadAudio(f"{path}: the file can't be read ({error.strerror})") from error
