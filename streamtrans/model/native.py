"""``native.c`` as a library: compiled where a compiler is, once for a machine, kept where nobody else writes.

Nothing is compiled or loaded at import. What can't be had costs speed and changes nothing: :func:`library` says
``None``, :func:`why_not` in words why. ``STREAMTRANS_FUSED=0`` says so, too.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import logging
import os
import platform
import shlex
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

import torch
from torch import Tensor

from streamtrans.model.machine import kept, processor

SOURCE = Path(__file__).with_name("native.c")
"""It includes the others, which lie beside it."""
SWITCH = "STREAMTRANS_FUSED"
LANES, PANEL = 16, 32
"""Numbers that are computed at once, at most, and outputs that a panel of weights has; panels come in pairs."""
HEADS = 64
"""Heads of a layer at most: which of them are watched is told by as many bits."""
FLOAT, HALF, WHOLE, ROUNDED = range(4)
"""Kinds of numbers: float32, bfloat16, int8, and bfloat16 that is multiplied by what is rounded to it."""

_COMMON = ("-O3", "-fno-math-errno", "-shared", "-fPIC")
_COMPILE_S = 120

_log = logging.getLogger(__name__)


class Linear(ctypes.Structure):
    """As in ``fused.c``."""

    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("weights", "bias", "step", "shift")),
        *((name, ctypes.c_int32) for name in ("kind", "inputs", "outputs")),
    )


class Norm(ctypes.Structure):
    """As in ``fused.c``."""

    _fields_ = (("weight", ctypes.c_void_p), ("bias", ctypes.c_void_p))


class Block(ctypes.Structure):
    """As in ``fused.c``."""

    _fields_ = (
        *((name, Norm) for name in ("before", "after", "cross_norm", "mlp_norm")),
        *((name, Linear) for name in ("qkv", "out", "cross_q", "cross_out", "up", "down")),
        ("watched", ctypes.c_uint64),
        *((name, ctypes.c_int32) for name in ("first_watched", "span", "reads")),
    )


class Memory(ctypes.Structure):
    """As in ``fused.c``."""

    _fields_ = tuple(
        (name, ctypes.c_void_p) for name in ("keys", "values", "cross_keys", "cross_values", "own_keys", "own_values")
    )


class Text(ctypes.Structure):
    """As in ``fused.c``."""

    _fields_ = tuple(
        (name, ctypes.c_int32) for name in ("first", "rows", "slot", "lane", "begin", "start", "frames", "chain")
    )


class Shape(ctypes.Structure):
    """As in ``fused.c``."""

    _fields_ = (
        *((name, ctypes.c_int32) for name in ("blocks", "heads", "width", "kind")),
        *((name, ctypes.c_int64) for name in ("slot", "head", "time", "frames")),
        *((name, ctypes.c_int32) for name in ("chain", "watched_frames")),
    )


class Layer(ctypes.Structure):
    """As in ``hearing.c``."""

    _fields_ = (
        *((name, Norm) for name in ("before", "mlp_norm")),
        *((name, Linear) for name in ("qkv", "out", "up", "down")),
    )


class Ear(ctypes.Structure):
    """As in ``hearing.c``."""

    _fields_ = (
        *((name, Linear) for name in ("spectrum", "filters", "first", "second")),
        ("norm", Norm),
        ("layers", ctypes.POINTER(Layer)),
        ("crossings", ctypes.POINTER(Linear)),
        *((name, ctypes.c_void_p) for name in ("cosines", "sines")),
        *((name, ctypes.c_int32) for name in ("depth", "readers", "heads", "reader_heads")),
        *((name, ctypes.c_int32) for name in ("width", "inner", "reader_width")),
        *((name, ctypes.c_int32) for name in ("hop", "bins", "mels", "block", "left")),
    )


class Run(ctypes.Structure):
    """As in ``hearing.c``."""

    _fields_ = (
        ("sound", ctypes.c_void_p),
        *((name, ctypes.c_int32) for name in ("begin", "end", "frames", "known")),
        *((name, ctypes.c_void_p) for name in ("keys", "values", "own_keys", "own_values")),
        *((name, ctypes.c_void_p) for name in ("cross_keys", "cross_values")),
    )


class Detector(ctypes.Structure):
    """As in ``detecting.c``."""

    _fields_ = (
        ("spectrum", Linear),
        ("layers", Linear * 4),
        *((name, Linear) for name in ("gates", "memory")),
        ("answer", ctypes.c_void_p),
        *((name, ctypes.c_int32) for name in ("hop", "bins", "width")),
    )


class Refused(Exception):
    """The library can't be had; says why."""


@functools.cache
def _loaded() -> ctypes.CDLL | str:
    if os.environ.get(SWITCH, "1") == "0":
        return f"switched off by {SWITCH}=0"
    try:
        return _declare(_opened(_folder()))
    except (Refused, OSError) as error:
        _log.info("passes go layer by layer: %s", error)
        return str(error)


def _opened(folder: Path) -> ctypes.CDLL:
    file = build(folder)
    try:
        return ctypes.CDLL(str(file))
    except OSError:  # cut short, or of another kind of machine
        file.unlink()
        return ctypes.CDLL(str(build(folder)))


_on = ContextVar("_on", default=True)


@contextmanager
def switched_off() -> Iterator[None]:
    """Within, there is no :func:`library`: models are loaded, and choose, as where it can't be had; to compare both."""
    token = _on.set(False)
    try:
        yield
    finally:
        _on.reset(token)


def library() -> ctypes.CDLL | None:
    """Return the compiled operator, or ``None`` where it can't be had."""
    found = _loaded()
    return found if _on.get() and not isinstance(found, str) else None


def why_not() -> str:
    """Return why there is no :func:`library`; empty where there is one."""
    found = _loaded()
    return found if isinstance(found, str) else ""


def has(kind: int) -> bool:
    """Return whether the library multiplies a kind of numbers."""
    found = library()
    return found is not None and bool(found.streamtrans_has(kind))


def shares() -> bool:
    """Return whether threads share a pass: the library is compiled with OpenMP."""
    found = library()
    return found is not None and bool(found.streamtrans_shares())


def call(function: str, *arguments: object) -> None:
    """Call a function of the library that returns whether memory was wanting.

    Raises:
        MemoryError: it was.
    """
    found = _loaded()
    assert not isinstance(found, str), "what was laid out for the operator is read by it"
    if getattr(found, function)(*arguments):
        raise MemoryError("no memory for a pass")


def read(numbers: Tensor) -> int:
    """Read a tensor once, by torch's threads, and return the sum of its bits taken eight bytes at a time.

    It is what a pass over as many weights can't take less than.
    """
    found = library()
    if found is None:
        return int(numbers.view(torch.int64).sum()) % 2**64
    return int(found.streamtrans_read(address(numbers), numbers.nbytes // 8, torch.get_num_threads()))


def empty(*sizes: int) -> Tensor:
    """Return room for numbers that ``fused.c`` writes, whatever torch makes by default."""
    return torch.empty(sizes, dtype=torch.float32, device="cpu")


def zeros(*sizes: int) -> Tensor:
    """Return zeros that ``fused.c`` reads or writes, whatever torch makes by default."""
    return torch.zeros(sizes, dtype=torch.float32, device="cpu")


def int32_arrays(count: int, length: int) -> list[ctypes.Array[ctypes.c_int32]]:
    """Return arrays that a function can fill."""
    return [(ctypes.c_int32 * length)() for _ in range(count)]


def float_arrays(count: int, length: int) -> list[ctypes.Array[ctypes.c_float]]:
    """Return arrays that a function can fill."""
    return [(ctypes.c_float * length)() for _ in range(count)]


def address(tensor: Tensor | None) -> int | None:
    """Return where a tensor's numbers begin; the caller keeps it alive."""
    return None if tensor is None else tensor.data_ptr()


def _declare(found: ctypes.CDLL) -> ctypes.CDLL:
    pointer, number = ctypes.c_void_p, ctypes.c_int
    found.streamtrans_pass.argtypes = [*(pointer,) * 4, number, pointer, number, pointer, number]
    found.streamtrans_linear.argtypes = [pointer, pointer, number, pointer, ctypes.c_long, number]
    found.streamtrans_hear.argtypes = [pointer, pointer, number, number]
    found.streamtrans_detect.argtypes = [*(pointer,) * 3, number, *(pointer,) * 3]
    found.streamtrans_choose.argtypes = [pointer, number, number, ctypes.c_long, *(pointer,) * 7]
    found.streamtrans_choose.restype = None
    found.streamtrans_read.argtypes = [pointer, ctypes.c_long, number]
    found.streamtrans_read.restype = ctypes.c_uint64
    return found


def build(folder: Path) -> Path:
    """Return the library, compiled into ``folder`` unless it is there.

    The name follows from the source, torch, the processor and the flags: another of these is another file.

    Raises:
        Refused: there is no compiler, it fails, or somebody else could have written what lies there.
    """
    check_private(folder)
    for parent in folder.resolve().parents:
        check_settled(parent)
    threads = _threads_library()
    attempts: list[tuple[str, ...]] = [(*_COMMON, "-march=native")]
    if threads:
        attempts.insert(0, (*attempts[0], "-fopenmp", "-Wl,--as-needed", threads))
    made = [folder / f"fused-{_key(flags)}.so" for flags in attempts]
    for file in made:
        if file.exists() or file.is_symlink():
            check_private(file)
            return file
    compiler = _compiler()
    said = ""
    for file, flags in zip(made, attempts, strict=True):
        said = _compile(compiler, flags, file)
        if not said:
            return file
    raise Refused(f"{compiler[0]} can't compile {SOURCE.name}: {said}")


def _compiler() -> list[str]:
    """Return the command that ``CC`` names, where it is to be had, or the first compiler that is.

    Raises:
        Refused: there is none.
    """
    try:
        named = [shlex.split(os.environ.get("CC", ""))]
    except ValueError as error:
        raise Refused(f"CC is no command: {error}") from None
    for command in (*named, ["cc"], ["gcc"], ["clang"]):
        if command and shutil.which(command[0]):
            return command
    raise Refused("there is no C compiler (cc, gcc or clang)")


def _compile(compiler: Sequence[str], flags: Sequence[str], file: Path) -> str:
    """Compile to ``file``, whole or not at all; return what the compiler complains of, or nothing."""
    options, libraries = [f for f in flags if f.startswith("-")], [f for f in flags if not f.startswith("-")]
    with tempfile.TemporaryDirectory(dir=file.parent) as place:
        made = Path(place) / file.name
        command = [*compiler, *options, str(SOURCE), *libraries, "-lm", "-o", str(made)]
        try:
            done = subprocess.run(command, capture_output=True, timeout=_COMPILE_S, check=False)
        except (OSError, subprocess.TimeoutExpired) as error:
            return str(error)
        if done.returncode:
            told = done.stderr.decode(errors="replace").strip().splitlines()
            return told[0] if told else f"status {done.returncode}"
        made.chmod(0o700)
        with made.open("rb") as written:
            os.fsync(written)
        made.replace(file)
    return ""


def check_private(path: Path) -> None:
    """Refuse what somebody else could have written: it would be run.

    Raises:
        Refused: it isn't ours, others may write to it, or it is a link to somewhere else.
    """
    found = path.lstat()
    if stat.S_ISLNK(found.st_mode):
        raise Refused(f"{path} is a link, and what is run must lie there itself")
    if found.st_uid != os.geteuid() or found.st_mode & 0o022:
        raise Refused(f"{path} could be written by others, so what lies there isn't run; remove it")


def check_settled(parent: Path) -> None:
    """Refuse a folder whose entries somebody else could replace.

    Raises:
        Refused: it is neither ours nor the system's, or all may rename what lies in it.
    """
    found = parent.stat()
    if found.st_uid not in (os.geteuid(), 0) or (found.st_mode & 0o022 and not found.st_mode & stat.S_ISVTX):
        raise Refused(f"what lies in {parent} could be replaced by others, so nothing in it is run")


def _folder() -> Path:
    """Return the folder of compiled things, made where there is none.

    Raises:
        Refused: there is no place for one.
    """
    if os.name != "posix":
        raise Refused(f"nothing is compiled on {platform.system()}")
    try:
        return kept("native", 0o700)
    except OSError as error:
        raise Refused(f"there is no folder for what is compiled: {error}") from None


def _threads_library() -> str:
    """Return the file of the OpenMP that torch has loaded: a second one beside it would fight for the cores."""
    maps = Path("/proc/self/maps")
    lines = maps.read_text(encoding="utf-8", errors="surrogateescape").splitlines() if maps.exists() else []
    found = [line.split(maxsplit=5)[5] for line in lines if "/libgomp" in line]
    own = str(Path(torch.__file__).parent)  # torch's may lie beside it, as torch.libs
    return next((file for file in found if file.startswith(own)), found[0] if found else "")


def _key(flags: Sequence[str]) -> str:
    sources = [file.read_text(encoding="utf-8") for file in sorted(SOURCE.parent.glob("*.c"))]
    parts = (*sources, torch.__version__, *processor(), *flags)
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:32]
