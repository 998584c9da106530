r"""A file of records that may be cut off anywhere: what a recording is written in.

Law: everything before the place where a file was cut, or a byte of it changed, is read as it was written.

```
"stsession\n" u16       the format's version
then any number of     u8 kind | u32 length | u32 crc | length bytes of payload | u32 crc
```
Integers are little-endian; the first checksum (CRC-32) is of kind and length, so that a length can be trusted
before it is followed, the second of the payload. Nothing refers to a place behind itself.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from dataclasses import asdict, dataclass, is_dataclass
from typing import Any, BinaryIO, Literal
from zlib import crc32

import numpy as np

from streamtrans import __version__
from streamtrans.core import BadConfig, StreamtransError, UnsupportedLanguage
from streamtrans.foreign import BadValue, parse, typed

MAGIC = b"stsession\n"
VERSION = 1
"""Goes up when an older reader would misunderstand a file."""

_VERSION = struct.Struct("<H")
_HEAD = struct.Struct("<BI")
_CHECK = struct.Struct("<I")

_BLOCK = 1 << 20
"""Bytes read at a time."""

_MOST_JSON = 4 << 20
"""Bytes of JSON that a record may hold: the captions of a dozen languages are a few thousand."""


class BadRecording(StreamtransError):
    """A file is no recording, is of a newer format, or was made by another model."""


@dataclass(frozen=True, slots=True)
class Record:
    """One record, and the offset of its first byte in the file."""

    kind: int
    payload: bytes
    offset: int


@dataclass(frozen=True, slots=True)
class Ending:
    """How a file ends: after a ``whole`` record, ``cut`` inside of one, or at one that is ``damaged``.

    ``offset`` is the number of bytes that hold whole records.
    """

    kind: Literal["whole", "cut", "damaged"]
    offset: int


def preface() -> bytes:
    """Return what a file begins with."""
    return MAGIC + _VERSION.pack(VERSION)


def pack(kind: int, payload: bytes) -> bytes:
    """Return one record as it stands in the file."""
    head = _HEAD.pack(kind, len(payload))
    return b"".join((head, _CHECK.pack(crc32(head)), payload, _CHECK.pack(crc32(payload))))


class Records:
    """The records of ``file``, in order; ``ending`` says how it ends once they are all taken.

    Raises:
        BadRecording: the file doesn't begin like a recording, or is of a newer format; ``name`` is what it is called.
    """

    def __init__(self, file: BinaryIO, name: str) -> None:
        self.ending: Ending | None = None
        self._file = file
        begin = file.read(len(MAGIC) + _VERSION.size)
        if not begin.startswith(MAGIC) and not MAGIC.startswith(begin):
            raise BadRecording(f"{name} is no recording of a session; `streamtrans record` makes them")
        if len(begin) < len(MAGIC) + _VERSION.size:
            raise BadRecording(f"{name} ends after {len(begin)} bytes, before its header; there is nothing to replay")
        [version] = _VERSION.unpack(begin[len(MAGIC) :])
        if not 1 <= version <= VERSION:
            raise BadRecording(
                f"{name} is of format {version}; streamtrans {__version__} reads formats up to {VERSION}: "
                "replay it with a newer streamtrans"
            )

    def __iter__(self) -> Iterator[Record]:
        """Yield the records that are whole."""
        offset = len(MAGIC) + _VERSION.size
        while self.ending is None:
            head = self._file.read(_HEAD.size + _CHECK.size)
            if len(head) < _HEAD.size + _CHECK.size:
                self.ending = Ending("cut" if head else "whole", offset)
                return
            if crc32(head[: _HEAD.size]) != _CHECK.unpack(head[_HEAD.size :])[0]:
                self.ending = Ending("damaged", offset)
                return
            kind, length = _HEAD.unpack(head[: _HEAD.size])
            body = self._take(length + _CHECK.size)
            if len(body) < length + _CHECK.size:
                self.ending = Ending("cut", offset)
                return
            if crc32(body[:length]) != _CHECK.unpack(body[length:])[0]:
                self.ending = Ending("damaged", offset)
                return
            yield Record(kind, body[:length], offset)
            offset += len(head) + len(body)

    def _take(self, length: int) -> bytes:
        """Read ``length`` bytes, or what there is: the room that it takes is that of the file, not of the number."""
        blocks = []
        while length and (block := self._file.read(min(length, _BLOCK))):
            blocks.append(block)
            length -= len(block)
        return b"".join(blocks)


def to_json(value: object) -> bytes:
    """Write numbers, texts, lists and dataclasses; a float comes back as the very same one."""
    return json.dumps(value, default=_plain, separators=(",", ":")).encode()


def from_json(kind: Any, data: bytes) -> Any:
    """Make a ``kind`` of what :func:`to_json` wrote of one; see :func:`checked`."""
    try:
        value = parse(data, _MOST_JSON)
    except BadValue as error:
        raise BadRecording(f"the recording is damaged: of a record, {error}") from None
    return checked(kind, value)


def checked(kind: Any, value: Any, where: str = "") -> Any:
    """Make a ``kind``, a dataclass or whatever else ``typed`` knows, of what JSON holds.

    A field that isn't there gets its default: it came with a newer version than the file.

    Raises:
        BadRecording: a value is missing, unknown, out of range or of another type; ``where`` it stands is told.
    """
    try:
        return typed(kind, value, where)
    except (BadValue, BadConfig, UnsupportedLanguage) as error:
        raise BadRecording(
            f"the recording says what streamtrans {__version__} doesn't understand: {error}; replay it with the "
            "version that made it"
        ) from None


def _plain(value: object) -> object:
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"a recording can't hold a {type(value).__name__}")
