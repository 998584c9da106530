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
import types
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields, is_dataclass
from functools import cache
from typing import Any, BinaryIO, Literal, TypeVar, Union, get_args, get_origin, get_type_hints
from zlib import crc32

import numpy as np

from streamtrans import __version__
from streamtrans.core import StreamtransError

MAGIC = b"stsession\n"
VERSION = 1
"""Goes up when an older reader would misunderstand a file."""

_VERSION = struct.Struct("<H")
_HEAD = struct.Struct("<BI")
_CHECK = struct.Struct("<I")

Value = TypeVar("Value")


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
            body = self._file.read(length + _CHECK.size)
            if len(body) < length + _CHECK.size:
                self.ending = Ending("cut", offset)
                return
            if crc32(body[:length]) != _CHECK.unpack(body[length:])[0]:
                self.ending = Ending("damaged", offset)
                return
            yield Record(kind, body[:length], offset)
            offset += len(head) + len(body)


def to_json(value: object) -> bytes:
    """Write numbers, texts, lists and dataclasses; a float comes back as the very same one."""
    return json.dumps(value, default=_plain, separators=(",", ":")).encode()


def from_json(kind: type[Value], value: Any) -> Value:
    """Make a ``kind``, a dataclass, of what :func:`to_json` wrote of one and ``json.loads`` has read.

    A field that isn't there gets its default: it came with a newer version than the file.

    Raises:
        BadRecording: there is a field that ``kind`` doesn't have.
    """
    hints = _hints(kind)  # type: ignore[arg-type]  # mypy holds type[Value] not hashable
    if not isinstance(value, dict) or (unknown := sorted(set(value) - set(hints))):
        what = ", ".join(unknown) if isinstance(value, dict) else repr(value)
        raise BadRecording(
            f"the recording says something of a {kind.__name__} that streamtrans {__version__} doesn't know: {what}; "
            "replay it with the version that made it"
        )
    return kind(**{name: _typed(hints[name], item) for name, item in value.items()})


@cache
def _hints(kind: type) -> dict[str, Any]:
    """Return the types of the fields of a dataclass; to find them out is slow."""
    hints = get_type_hints(kind)
    return {field.name: hints[field.name] for field in fields(kind) if field.init}


def _plain(value: object) -> object:
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"a recording can't hold a {type(value).__name__}")


def _typed(hint: Any, value: Any) -> Any:
    """Give ``value`` the shape that ``hint`` names: JSON knows no tuples and no dataclasses."""
    origin, arguments = get_origin(hint), get_args(hint)
    if value is None:
        return None
    if origin in (Union, types.UnionType):
        [chosen, *_] = [argument for argument in arguments if argument is not type(None)]
        return _typed(chosen, value)
    if is_dataclass(hint) and isinstance(hint, type):
        return from_json(hint, value)
    if origin is tuple:
        kinds = arguments[:1] * len(value) if arguments[-1] is Ellipsis else arguments
        return tuple(_typed(kind, item) for kind, item in zip(kinds, value, strict=True))
    if origin is dict:
        return {key: _typed(arguments[1], item) for key, item in value.items()}
    return value
