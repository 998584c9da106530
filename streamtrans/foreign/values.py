"""Texts and bytes that others wrote become values of the types that we expect, or an error that says where.

Law: what is returned has the type that was asked for; what is read needs memory in proportion to ``most``.
"""

from __future__ import annotations

import json
import reprlib
import types
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, fields, is_dataclass
from functools import cache
from typing import Any, Literal, NoReturn, Union, get_args, get_origin, get_type_hints

from streamtrans.core import StreamtransError

_BLOCK = 1 << 20


class BadValue(StreamtransError):
    """A value isn't what it should be; the message begins with where it stands."""


def parse(data: bytes | str, most: int) -> Any:
    """Read JSON of at most ``most`` bytes or characters.

    Raises:
        BadValue: it is longer, or no JSON.
    """
    if len(data) > most:
        raise BadValue(f"it is {len(data):,} long, and at most {most:,} are read")
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as error:  # UnicodeDecodeError is the former too
        raise BadValue(f"it is no JSON: {error}") from None


def inflate(data: bytes, most: int) -> bytes:
    """Undo ``zlib.compress`` of at most ``most`` bytes. What comes to more costs the memory of a block.

    Raises:
        BadValue: it comes to more, or is no such thing.
    """
    length = 0
    for block in _inflated(data):  # looked at before any of it is kept
        length += len(block)
        if length > most:
            raise BadValue(f"it inflates to more than the {most:,} bytes that are read")
    return b"".join(_inflated(data))


def _inflated(data: bytes) -> Iterator[bytes]:
    inflater = zlib.decompressobj()
    try:
        while not inflater.eof:
            block = inflater.decompress(data, _BLOCK)
            data = inflater.unconsumed_tail
            if not block and not inflater.eof:
                raise BadValue("what was deflated is cut off")
            yield block
    except zlib.error as error:
        raise BadValue(f"it can't be inflated: {error}") from None


def typed(hint: Any, value: Any, where: str = "") -> Any:
    """Return ``value``, as ``json.loads`` gave it, in the type that ``hint`` names.

    Known are None, bool, int, float, str, ``Literal``, ``Any``, unions of None and one of these, tuples, mappings of
    names, and dataclasses of all of them. A field that isn't there gets its default. A whole float is an int too.

    Args:
        hint: a type, with its arguments.
        value: what JSON holds: no tuples, and no dataclasses.
        where: what messages begin with, such as ``"session"``.

    Raises:
        BadValue: it is of another type, or a dataclass gets a field that it doesn't have, or lacks one.
    """
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        [chosen] = [argument for argument in arguments if argument is not types.NoneType]
        return None if value is None else typed(chosen, value, where)
    if origin is Literal:
        if not any(type(value) is type(one) and value == one for one in arguments):
            _refuse(where, value, f"one of {', '.join(map(str, arguments))}")
        return value
    if origin is tuple:
        return _tuple(arguments, value, where)
    if origin in (dict, Mapping):
        return {name: typed(arguments[1], item, f"{where}.{name}") for name, item in _object(value, where).items()}
    if is_dataclass(hint) and isinstance(hint, type):
        return _dataclass(hint, value, where)
    return value if hint is Any else _plain(hint, value, where)


def _tuple(hints: tuple[Any, ...], value: Any, where: str) -> tuple[Any, ...]:
    if not isinstance(value, list):
        _refuse(where, value, "a list")
    if hints[-1] is Ellipsis:
        hints = hints[:1] * len(value)
    elif len(value) != len(hints):
        _refuse(where, value, f"a list of {len(hints)}")
    return tuple(typed(hint, item, f"{where}[{at}]") for at, (hint, item) in enumerate(zip(hints, value, strict=True)))


def _object(value: Any, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        _refuse(where, value, "an object")
    return value


def _dataclass(kind: type, value: Any, where: str) -> Any:
    hints, needed = _fields(kind)
    given = _object(value, where)
    if unknown := given.keys() - hints.keys():
        raise BadValue(f"{_of(where, kind.__name__)} has no {', '.join(sorted(unknown))}")
    if missing := needed - given.keys():
        raise BadValue(f"{_of(where, kind.__name__)} lacks {', '.join(sorted(missing))}")
    return kind(
        **{name: typed(hints[name], item, f"{where}.{name}" if where else name) for name, item in given.items()}
    )


@cache
def _fields(kind: type) -> tuple[dict[str, Any], set[str]]:
    """Return the types of the fields of a dataclass, which are slow to find out, and the names of those it needs."""
    hints = get_type_hints(kind)
    given = [field for field in fields(kind) if field.init]  # type: ignore[arg-type]  # a dataclass, as was asked
    needed = {field.name for field in given if field.default is MISSING and field.default_factory is MISSING}
    return {field.name: hints[field.name] for field in given}, needed


def _plain(hint: Any, value: Any, where: str) -> Any:
    if hint is float and type(value) in (int, float):
        return value if type(value) is float else _float(value, where)
    if hint is int and type(value) is float and value.is_integer():
        return int(value)
    if type(value) is not hint and not (hint is str and isinstance(value, str)):  # true is an int to Python alone
        _refuse(where, value, {int: "a whole number", float: "a number", str: "a text", bool: "true or false"}[hint])
    return value


def _float(value: int, where: str) -> float:
    try:
        return float(value)
    except OverflowError:
        _refuse(where, value, "a number that a float can hold")


def _refuse(where: str, value: object, right: str) -> NoReturn:
    raise BadValue(f"{where or 'it'} is {reprlib.repr(value)}, and should be {right}")


def _of(where: str, kind: str) -> str:
    return f"{where} ({kind})" if where else f"a {kind}"
