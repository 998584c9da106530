"""Memory for weights, which every pass reads from end to end: in pages of 2 MiB, where the system has such.

With pages of 4 KiB a processor waits at the beginning of each, and passes of a large model take a third longer.
"""

from __future__ import annotations

import contextlib
import mmap
import sys
import threading

import torch
from torch import Tensor

PAGE = 2 * 2**20
CHUNK = 32 * PAGE
"""What is asked of the system at once; only what is written to takes memory."""
_APART = 64


class _Pages:
    """Room that is filled from its beginning; small weights share it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._chunk, self._used = torch.empty(0, dtype=torch.uint8, device="cpu"), 0

    def room(self, size: int) -> Tensor:
        """Return ``size`` bytes; they go when nothing near them is used any more."""
        with self._lock:
            if self._used + size > len(self._chunk):
                self._chunk, self._used = _asked(max(CHUNK, -(-size // PAGE) * PAGE)), 0
            found = self._chunk[self._used : self._used + size]
            self._used += -(-size // _APART) * _APART
        return found


_PAGES = _Pages()


def settle(weights: Tensor) -> Tensor:
    """Return a copy ``(...)`` of weights on a CPU that lies there."""
    source = weights.contiguous().flatten().view(torch.uint8)
    return _PAGES.room(len(source)).copy_(source).view(weights.dtype).view(weights.shape)


def _asked(size: int) -> Tensor:
    if sys.platform != "linux":
        return torch.empty(size, dtype=torch.uint8, device="cpu")
    memory = mmap.mmap(-1, size + PAGE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    with contextlib.suppress(OSError):  # of a system without them
        memory.madvise(mmap.MADV_HUGEPAGE)
    whole = torch.frombuffer(memory, dtype=torch.uint8)
    begin = -whole.data_ptr() % PAGE
    return whole[begin : begin + size]
