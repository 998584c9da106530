"""Audio files (WAV, FLAC, OGG, MP3 and what else libsndfile reads) become samples.

Law: ``read_audio`` is the concatenation of ``stream_file``'s blocks, whatever their length.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import numpy.typing as npt
import soundfile

from streamtrans.audio.chunk import Samples
from streamtrans.audio.mix import Downmix
from streamtrans.core import BadAudio, samples

_READ_S = 1.0
"""Larger: fewer calls; smaller: less memory while a file is read."""

_UNKNOWN_FRAMES = 2**62
"""libsndfile reports more frames than this where a header states no length."""

_UNKNOWN_BYTES = 0x7FFF_F000
"""A data chunk of this size or more in a WAV header means "until the end": it was written to a pipe."""

_MP3_SLACK = 2 * 1152
"""The length in an MP3 header may be off by a frame or two of encoder delay and padding."""

_OGG_LAST_PAGE = 4
"""The header flag of an OGG page that ends its stream (RFC 3533, section 6)."""

_OGG_HEADER = 27
"""Bytes of an OGG page before its table of lengths; the last of them counts that table's entries."""

_OGG_PAGE_MAX = 65_307
"""The largest possible OGG page, in bytes (RFC 3533, section 6)."""


def read_audio(path: str | os.PathLike[str]) -> Samples:
    """Read a whole file as mono float32 at 16 kHz, shape ``(n,)``.

    Raises:
        BadAudio: see :func:`stream_file`.
    """
    return np.concatenate([np.zeros(0, np.float32), *stream_file(path, block_seconds=10.0)])


def stream_file(path: str | os.PathLike[str], block_seconds: float) -> Iterator[Samples]:
    """Read a file in blocks of ``block_seconds`` (the last may be shorter), mono float32 at 16 kHz.

    The file is opened with the first block, and every error is raised while blocks are taken.

    Raises:
        BadAudio: the file is missing, a folder, empty, no audio, of zero length, truncated, holds NaN or
            infinite samples, or has a sample rate or channel count beyond what is supported.
    """
    size = samples(block_seconds * 1000)
    if size < 1:
        raise BadAudio(f"block_seconds must be positive; got {block_seconds}")
    waiting: list[Samples] = []
    count = 0
    for piece in _pieces(Path(path)):
        waiting.append(piece)
        count += len(piece)
        if count >= size:
            audio = np.concatenate(waiting)
            whole = count // size * size
            yield from audio[:whole].reshape(-1, size)
            waiting, count = [audio[whole:]], count - whole
    if count:
        yield np.concatenate(waiting)


def duration_seconds(path: str | os.PathLike[str]) -> float:
    """Return the length of the file in seconds; a file is decoded only if its header states no length.

    Raises:
        BadAudio: the file is missing, a folder, empty, no audio, of zero length, or visibly truncated.
    """
    with _opened(Path(path)) as file:
        known = file.frames < _UNKNOWN_FRAMES
        frames = file.frames if known else sum(len(block) for block in _blocks(file))
        return float(frames / file.samplerate)


class _Forward(soundfile.SoundFile):  # type: ignore[misc]
    """A file that is only read onwards.

    After each block of a seekable file soundfile seeks to where it already is. That resets the MP3 decoder,
    which is audible at every block, and fails for FLAC without a length.
    """

    def seekable(self) -> bool:
        return False


def _pieces(path: Path) -> Iterator[Samples]:
    with _opened(path) as file:
        downmix = Downmix(file.samplerate, file.channels)
        taken = 0
        for frames in _blocks(file):
            taken += len(frames)
            yield downmix.feed(frames)
        slack = _MP3_SLACK if file.format == "MP3" else 0
        if taken + slack < file.frames < _UNKNOWN_FRAMES:
            rate = file.samplerate
            raise BadAudio(
                f"the file is truncated: it ends after {taken / rate:.2f} s, "
                f"its header states {file.frames / rate:.2f} s"
            )
        yield downmix.flush()


def _blocks(file: _Forward) -> Iterator[npt.NDArray[np.float32]]:
    step = round(_READ_S * file.samplerate)
    while len(frames := file.read(step, dtype="float32", always_2d=True)):
        yield frames


@contextmanager
def _opened(path: Path) -> Iterator[_Forward]:
    if not path.exists():
        raise BadAudio(f"{path}: there is no such file")
    if path.is_dir():
        raise BadAudio(f"{path}: this is a folder; give an audio file")
    if not path.is_file():
        raise BadAudio(f"{path}: this is not a regular file; give an audio file")
    with _named(path):
        if path.suffix.lower() == ".raw":
            raise BadAudio("a headerless file doesn't say its rate and encoding; convert it to WAV")
        _refuse_torn(path)
        with _Forward(path) as file:
            if file.format == "RAW":
                raise BadAudio("not an audio file with a header; WAV, FLAC, OGG and MP3 are read")
            if file.frames == 0:
                raise BadAudio("the file holds no audio: its length is zero")
            yield file


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """Put the file's name before what goes wrong inside."""
    try:
        yield
    except BadAudio as error:
        raise BadAudio(f"{path}: {error}") from error
    except soundfile.LibsndfileError as error:
        raise BadAudio(
            f"{path}: not audio that can be read, or damaged or truncated; WAV, FLAC, OGG and MP3 are read"
        ) from error
    except UnicodeEncodeError as error:
        raise BadAudio(f"{path}: the file's name is not text in this system's encoding; rename it") from error
    except OSError as error:
        raise BadAudio(f"{path}: the file can't be read ({error.strerror})") from error


def _refuse_torn(path: Path) -> None:
    """Find the ends that libsndfile silently accepts: an empty file, a short WAV, an OGG without its end."""
    size = path.stat().st_size
    if size == 0:
        raise BadAudio("the file is empty (0 bytes)")
    with path.open("rb") as file:
        head = file.read(12)
        if head[:4] == b"RIFF" and head[8:] == b"WAVE":
            while len(header := file.read(8)) == 8:
                name, length = struct.unpack("<4sI", header)
                if name == b"data":
                    missing = file.tell() + length - size
                    if missing > 0 and length < _UNKNOWN_BYTES:
                        raise BadAudio(f"the file is truncated: {missing} of {length} bytes of audio are missing")
                    return
                file.seek(length + length % 2, os.SEEK_CUR)
        elif head[:4] == b"OggS":
            file.seek(max(0, size - _OGG_PAGE_MAX))
            if not _ends_ogg(file.read()):
                raise BadAudio("the file is truncated: its last page is incomplete or doesn't end the stream")


def _ends_ogg(tail: bytes) -> bool:
    """Say whether the last page in ``tail`` is whole and marked as the last (RFC 3533, section 6)."""
    page = tail[max(0, tail.rfind(b"OggS")) :]
    if len(page) < _OGG_HEADER or not page[5] & _OGG_LAST_PAGE:
        return False
    lengths = page[_OGG_HEADER : _OGG_HEADER + page[_OGG_HEADER - 1]]
    return len(page) >= _OGG_HEADER + page[_OGG_HEADER - 1] + sum(lengths)
