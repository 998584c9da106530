"""What the header of an audio file says of its length, and what would be right.

Recorders that are killed leave lengths of zero, writers to pipes leave none at all, and joined or mended files state
the length of a part. libsndfile believes them; here they are compared with what is there.

Law: a header that is right is left as it is, to the last bit.
"""

from __future__ import annotations

import io
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import BinaryIO

from streamtrans.core import BadAudio

_UNKNOWN = {4: 0x7FFF_F000, 8: 2**62}
"""Bytes of a length field → the value from which it means "until the end": the file was written to a pipe."""

_TAIL = 1024
"""Bytes after the stated end that may be anything; more of what is no chunk is audio that the header doesn't know."""

_MOST_CHUNKS = 10_000
"""Larger: odder files are understood; smaller: less time is spent on a file made of empty chunks."""

_FIRST_FRAME = 4096
"""Bytes after the ID3 tag of an MP3 in which its first frame lies."""

_OGG_FIRST_PAGE, _OGG_LAST_PAGE = 2, 4
"""The header flags of OGG pages that begin and end a stream (RFC 3533, section 6)."""

_OGG_HEADER = 27
"""Bytes of an OGG page before its table of lengths; the last of them counts that table's entries."""

_OGG_PAGE_MAX = 65_307
"""The largest possible OGG page, in bytes (RFC 3533, section 6)."""


@dataclass(frozen=True, slots=True)
class Header:
    """What is wrong with a header, if anything is.

    ``repairs``: offset → bytes that would be right. ``stated``: share of the audio that the header knows of.
    ``frames``: a length that was taken out of the header because it may be wrong. ``torn``: what is missing at the end.
    ``beyond``: why libsndfile may stop before the end, whatever is repaired. ``foreign``: PyAV reads it better.
    """

    repairs: Mapping[int, bytes] = field(default_factory=dict)
    stated: float = 1.0
    frames: int | None = None
    torn: str = ""
    beyond: str = ""
    foreign: bool = False


@dataclass(frozen=True, slots=True)
class _Layout:
    """A file of chunks: an identifier, a length, a body, and padding to a multiple of ``align``."""

    magic: bytes
    first: int
    """Where the first chunk begins."""
    data: bytes
    """The identifier of the chunk that holds the audio."""
    order: str = "little"
    width: int = 4
    """Bytes of a length."""
    inclusive: bool = False
    """Whether a length counts its own chunk's header."""
    align: int = 2

    @property
    def head(self) -> int:
        """Bytes before a chunk's body."""
        return len(self.data) + self.width


_WAVE64 = bytes.fromhex("f3acd3118cd100c04f8edb8a")

_LAYOUTS = (
    _Layout(b"RIFF", 12, b"data"),
    _Layout(b"RIFX", 12, b"data", order="big"),
    _Layout(b"RF64", 12, b"data"),
    _Layout(b"BW64", 12, b"data"),
    _Layout(b"FORM", 12, b"SSND", order="big"),
    _Layout(b"caff", 8, b"data", order="big", width=8, align=1),
    _Layout(
        b"riff" + bytes.fromhex("2e91cf11a5d628db04c10000"), 40, b"data" + _WAVE64, width=8, inclusive=True, align=8
    ),
)


def examine(file: BinaryIO) -> Header:
    """Read the header of ``file``, and what else tells how long it is.

    Raises:
        BadAudio: the file is empty.
    """
    size = file.seek(0, os.SEEK_END)
    if size == 0:
        raise BadAudio("the file is empty (0 bytes)")
    file.seek(0)
    start = file.read(40)
    for layout in _LAYOUTS:
        if start.startswith(layout.magic):
            return _examine_chunks(file, size, layout)
    if start.startswith(b".snd"):
        return _examine_au(start, size)
    if start.startswith(b"fLaC") and len(start) >= 26:
        return _examine_flac(start)
    if start.startswith(b"OggS"):
        return _examine_ogg(file, size)
    if start.startswith(b"ID3") or (len(start) > 1 and start[0] == 0xFF and start[1] & 0xE0 == 0xE0):
        guessed = mpeg_length(file) is None
        beyond = "this MP3 doesn't state its length, which is then guessed" if guessed else ""
        return Header(beyond=beyond, foreign=True)
    return Header()


@dataclass(frozen=True, slots=True)
class MpegLength:
    """How many frames an MP3 has, and how many samples at both ends are the encoder's own."""

    frames: int
    trimmed: int


def mpeg_length(file: BinaryIO) -> MpegLength | None:
    """Return what LAME and others write into the first frame of an MP3, ``None`` if they didn't.

    ``Xing`` or ``Info``, four bytes of flags, then for each of its lowest bits: frames, bytes (four bytes each), a
    hundred bytes of places, quality (four). After 21 bytes of the encoder's, 12 bits of delay and 12 of padding follow.
    """
    file.seek(0)
    tag = file.read(10)
    skipped = sum((byte & 127) << 7 * (3 - at) for at, byte in enumerate(tag[6:])) + 10 if tag[:3] == b"ID3" else 0
    file.seek(skipped)
    head = file.read(_FIRST_FRAME)
    at = max(head.find(b"Xing"), head.find(b"Info"))
    flags = int.from_bytes(head[at + 4 : at + 8], "big")
    if at < 0 or not flags & 1:
        return None
    encoder = at + 8 + sum(size for bit, size in enumerate((4, 4, 100, 4)) if flags >> bit & 1)
    ends = int.from_bytes(head[encoder + 21 : encoder + 24], "big") if head[encoder : encoder + 1].isalpha() else 0
    return MpegLength(int.from_bytes(head[at + 8 : at + 12], "big"), (ends >> 12) + (ends & 0xFFF))


class Repaired(io.RawIOBase):
    """A file that reads as if its header were right."""

    def __init__(self, file: BinaryIO, repairs: Mapping[int, bytes]) -> None:
        """Read ``file`` with the bytes of ``repairs`` in the place of its own."""
        self._file = file
        self._repairs = {offset + at: byte for offset, new in repairs.items() for at, byte in enumerate(new)}

    def readable(self) -> bool:
        """Return true."""
        return True

    def seekable(self) -> bool:
        """Return true."""
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move as files do, but stay where a damaged file leads to before its start."""
        try:
            return self._file.seek(offset, whence)
        except OSError:
            return self._file.tell()

    def tell(self) -> int:
        """Return where the next byte is read."""
        return self._file.tell()

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        """Fill ``buffer`` as far as there are bytes, and return how many."""
        start = self._file.tell()
        data = self._file.read(len(buffer))
        buffer[: len(data)] = data
        for place, byte in self._repairs.items():
            if start <= place < start + len(data):
                buffer[place - start : place - start + 1] = bytes([byte])
        return len(data)


def _examine_chunks(file: BinaryIO, size: int, layout: _Layout) -> Header:
    seen: dict[bytes, int] = {}  # identifier → where its body begins
    at = layout.first
    for _ in range(_MOST_CHUNKS):
        found = _chunk(file, at, layout)
        if found is None:
            break
        name, length = found
        body = at + layout.head
        if name == layout.data:
            if layout.width == 4 and length == 0xFFFF_FFFF and b"ds64" in seen:
                file.seek(seen[b"ds64"] + 8)
                length = int.from_bytes(file.read(8), "little")
            return _judge(file, size, layout, _Found(body, length, seen))
        seen.setdefault(name, body)
        at = _aligned(body + length, layout)
    return Header()


@dataclass(frozen=True, slots=True)
class _Found:
    """Where the audio begins, how long it is said to be, and the chunks before it."""

    body: int
    length: int
    seen: Mapping[bytes, int]


def _judge(file: BinaryIO, size: int, layout: _Layout, data: _Found) -> Header:
    held = size - data.body
    if data.length >= _UNKNOWN[layout.width]:
        return Header(_repairs(layout, data, held) if layout.magic == b"caff" else {})
    if data.length > held:
        torn = f"the file is truncated: {data.length - held} of {data.length} bytes of audio are missing"
        return Header(_repairs(layout, data, held) if layout.magic == b"caff" else {}, torn=torn)
    rest = held - data.length
    if rest == 0 or (data.length and rest <= _TAIL) or _is_chunks(file, size, data.body + data.length, layout):
        return Header()
    return Header(_repairs(layout, data, held), stated=data.length / held)


def _repairs(layout: _Layout, data: _Found, held: int) -> dict[int, bytes]:
    """Return what makes libsndfile read until the end."""
    place = data.body - layout.width
    if layout.magic in (b"RF64", b"BW64"):  # as a plain WAV whose length isn't known
        return {0: b"RIFF", data.seen.get(b"ds64", 20) - 8: b"JUNK", place: b"\xff\xff\xff\xff"}
    if layout.magic == b"FORM":
        common = data.seen.get(b"COMM")
        return {place: bytes(4), **({} if common is None else {common + 2: bytes(4)})}
    length = min(held, 2 ** (8 * layout.width) - 1) + layout.inclusive * layout.head
    return {place: length.to_bytes(layout.width, "big" if layout.order == "big" else "little")}


def _is_chunks(file: BinaryIO, size: int, at: int, layout: _Layout) -> bool:
    """Say whether whole chunks, and nothing else, lie between ``at`` and the end of the file."""
    for start in {at, _aligned(at, layout)}:
        place = start
        for _ in range(_MOST_CHUNKS):
            if size - layout.head < place <= size + layout.align:
                return True
            found = _chunk(file, place, layout)
            if found is None or not found[0][:4].decode("latin-1").isprintable() or found[1] > size - place:
                break
            place = _aligned(place + layout.head + found[1], layout)
    return False


def _chunk(file: BinaryIO, at: int, layout: _Layout) -> tuple[bytes, int] | None:
    """Return the identifier of the chunk at ``at`` and the length of its body; ``None`` where there is none."""
    file.seek(at)
    head = file.read(layout.head)
    if len(head) < layout.head:
        return None
    name, digits = head[: len(layout.data)], head[len(layout.data) :]
    length = int.from_bytes(digits, "big" if layout.order == "big" else "little")
    return name, max(0, length - layout.head) if layout.inclusive else length


def _aligned(at: int, layout: _Layout) -> int:
    return -(-at // layout.align) * layout.align


def _examine_au(start: bytes, size: int) -> Header:
    body, length = int.from_bytes(start[4:8], "big"), int.from_bytes(start[8:12], "big")
    held = size - body
    if held <= 0 or length >= _UNKNOWN[4] or length == held:
        return Header()
    if length > held:
        return Header(torn=f"the file is truncated: {length - held} of {length} bytes of audio are missing")
    return Header({8: b"\xff\xff\xff\xff"}, stated=length / held)


def _examine_flac(start: bytes) -> Header:
    """Take the number of samples out: libFLAC stops there, whatever follows. (RFC 9639, section 8.2)"""
    frames = int.from_bytes(start[21:26], "big") & 2**36 - 1
    return Header({21: bytes([start[21] & 0xF0]), 22: bytes(4)} if frames else {}, frames=frames or None)


def _examine_ogg(file: BinaryIO, size: int) -> Header:
    """Look at the flags of the pages: none begins a stream after one has ended, and the last is whole and an end."""
    at, ended, joined = 0, False, False
    file.seek(0)
    while len(page := file.read(_OGG_HEADER)) == _OGG_HEADER and page.startswith(b"OggS"):
        joined |= ended and bool(page[5] & _OGG_FIRST_PAGE)
        ended |= bool(page[5] & _OGG_LAST_PAGE)
        at += _OGG_HEADER + page[-1] + sum(file.read(page[-1]))
        file.seek(at)
    file.seek(max(0, size - _OGG_PAGE_MAX))
    tail = file.read()
    beyond = "several recordings follow each other" if joined else ""
    torn = ""
    if not _ends_ogg(tail[max(0, tail.rfind(b"OggS")) :]):
        torn = "the file is truncated: its last page is incomplete or doesn't end the stream"
    return Header(torn=torn, beyond=beyond, foreign=joined)


def _ends_ogg(page: bytes) -> bool:
    """Say whether ``page`` is whole and marked as the last."""
    if len(page) < _OGG_HEADER or not page[5] & _OGG_LAST_PAGE:
        return False
    lengths = page[_OGG_HEADER : _OGG_HEADER + page[_OGG_HEADER - 1]]
    return len(page) >= _OGG_HEADER + page[_OGG_HEADER - 1] + sum(lengths)
