"""What a process keeps: of freed memory by the C library, where it is glibc, and of objects by Python.

Numpy and torch take their arrays from the C library, so what it keeps is most of what a process seems to grow by.
"""

from __future__ import annotations

import ctypes
import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_TRIM_THRESHOLD, _MMAP_THRESHOLD, _MMAP_MAX, _ARENA_MAX = -1, -3, -4, -8  # mallopt's parameters, from malloc.h
_ARENAS = 2
"""Pools that threads share. By default each of eight per core keeps what its busiest moment took."""
_MEGABYTE = 2**20


def keep_freed() -> None:
    """Keep what is freed: a training step's large tensors come and go, and fresh pages cost a tenth of it."""
    _set({_MMAP_MAX: 0, _TRIM_THRESHOLD: 2**31 - 1})


def give_back() -> None:
    """Give back what is freed: a process that serves for weeks is as large as what it holds, not as it once was.

    Blocks of a megabyte and more get pages of their own, which go when they are freed. By default that size follows
    the largest block freed so far, up to 32 MB, and what is smaller than it stays in pieces between what is in use.
    """
    _set({_ARENA_MAX: _ARENAS, _MMAP_THRESHOLD: _MEGABYTE, _TRIM_THRESHOLD: 4 * _MEGABYTE})


def settle() -> None:
    """Take what was loaded for permanent: else each full collection looks through a million objects, for 0.2 s."""
    gc.collect()
    gc.freeze()


@contextmanager
def settling() -> Iterator[Callable[[], None]]:
    """Hand out :func:`settle`; at the end nothing is permanent any more, or cycles would stay for ever."""
    try:
        yield settle
    finally:
        gc.unfreeze()


def _set(options: dict[int, int]) -> None:
    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):  # another C library, whatever its name
        return
    for option, value in options.items():
        mallopt(option, value)
