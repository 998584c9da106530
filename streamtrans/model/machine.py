"""The machine that computes: which processor it has, and where what was worked out for it is kept for its user."""

from __future__ import annotations

import functools
import os
import platform
from pathlib import Path


@functools.cache
def processor() -> tuple[str, ...]:
    """Return what tells this kind of processor from another."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8", errors="replace").splitlines() if info.exists() else []
    told = {line for line in lines if line.startswith(("model name", "flags", "Features", "CPU part"))}
    return platform.machine(), platform.processor(), *sorted(told)


def kept(what: str, mode: int = 0o777) -> Path:
    """Return the folder of the user's cache where ``what`` is kept, made where there is none.

    Raises:
        OSError: there is no place for one.
    """
    try:
        home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    except RuntimeError as error:
        raise OSError(str(error)) from None
    folder = home / "streamtrans" / what
    folder.parent.mkdir(parents=True, exist_ok=True)
    folder.mkdir(mode, exist_ok=True)
    return folder
