"""What the C library keeps of freed memory, seen from outside: resident pages, and the pools that threads share."""

import ctypes
import platform
import subprocess
import sys
from types import SimpleNamespace

import pytest

from streamtrans import allocator

_MEGABYTES = 64

glibc = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="asks glibc")

_PROGRAM = """
import ctypes, os, re, sys, tempfile, threading
from pathlib import Path
from streamtrans.allocator import {what}

{what}()
libc = ctypes.CDLL("libc.so.6")
libc.malloc.restype, libc.malloc.argtypes, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_size_t], [ctypes.c_void_p]

def held():
    return int(re.search(r"RssAnon:\\s*(\\d+)", Path("/proc/self/status").read_text())[1]) / 1024

def take(size, count):
    blocks = [libc.malloc(size) for _ in range(count)]
    for block in blocks:
        ctypes.memset(block, 1, size)
    return blocks

def use(barrier):
    barrier.wait()  # all at once, or one pool would do for all
    blocks = take(2000, 1000)
    barrier.wait()
    for block in blocks:
        libc.free(block)

# The largest block that was freed, 16 MB, must not teach the allocator to keep those of 2 MB.
for block in take(16 * 2**20, 1):
    libc.free(block)
before = held()
blocks = take(2 * 2**20, {megabytes} // 2)
last = take(1000, 1)  # lies behind them where they share a heap: it can't shrink
for block in blocks:
    libc.free(block)
kept = held() - before

barrier = threading.Barrier(8)
threads = [threading.Thread(target=use, args=(barrier,)) for _ in range(8)]
for each in threads: each.start()
for each in threads: each.join()
libc.fopen.restype, libc.malloc_info.argtypes, libc.fclose.argtypes = (
    ctypes.c_void_p, [ctypes.c_int, ctypes.c_void_p], [ctypes.c_void_p])
file = libc.fopen(sys.argv[1].encode(), b"w")
libc.malloc_info(0, file)
libc.fclose(file)
print(kept, Path(sys.argv[1]).read_text().count("<heap nr="))
"""


def _measure(what: str, file: str) -> tuple[float, int]:
    program = _PROGRAM.format(what=what, megabytes=_MEGABYTES)
    answer = subprocess.run([sys.executable, "-c", program, file], capture_output=True, text=True, check=True)
    kept, pools = answer.stdout.split()
    return float(kept), int(pools)


@glibc
def test_a_server_gives_back_what_it_freed_and_its_threads_share_two_pools(tmp_path):
    kept, pools = _measure("give_back", str(tmp_path / "info.xml"))
    assert kept < _MEGABYTES / 8
    assert pools <= 2


@glibc
def test_a_training_keeps_it(tmp_path):
    kept, _ = _measure("keep_freed", str(tmp_path / "info.xml"))
    assert kept > _MEGABYTES / 2


@pytest.mark.parametrize("what", [allocator.give_back, allocator.keep_freed])
def test_other_c_libraries_keep_what_they_keep(monkeypatch, what):
    opened = []
    monkeypatch.setattr(ctypes, "CDLL", lambda name: opened.append(name) or SimpleNamespace())
    what()
    assert opened
