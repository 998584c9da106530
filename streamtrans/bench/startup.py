"""How long ``streamtrans serve`` takes until it serves, and the memory that it then holds."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

from streamtrans.bench.measurement import Progress, Report, Table, silent
from streamtrans.client import TranslationClient, Unavailable
from streamtrans.core import BadModel, Group, Option
from streamtrans.runtime import ModelChoice, identity

_PATIENCE_S = 300.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Startup:
    """Start streamtrans serve; seconds until it serves, and its memory."""

    runs: Annotated[int, Option("How often the server is started.", least=1)] = 3
    choice: Annotated[ModelChoice, Group()] = field(default_factory=ModelChoice)

    def measure(self, progress: Progress = silent) -> Report:
        """Start it, again and again."""
        who = identity(self.choice.model)
        found = []
        for number in range(1, self.runs + 1):
            found.append(start_once(self.choice.arguments()))
            progress("starts", number, self.runs)
        figures = {"model": who, "runs": found, "slowest_s": max(run["ready_s"] for run in found)}
        return Report(figures, [Table("startup", list(found[0]), [list(run.values()) for run in found])])


def start_once(arguments: Sequence[str]) -> dict[str, Any]:
    """Start a server with these options of ``serve``, wait for SERVING, look at its memory, and stop it.

    Raises:
        BadModel: it ended, or didn't serve in time.
    """
    began = time.perf_counter()
    with started(arguments) as (process, _):
        return {"ready_s": round(time.perf_counter() - began, 2), **memory_mb(process)}


@contextmanager
def started(arguments: Sequence[str]) -> Iterator[tuple[int, int]]:
    """Run ``streamtrans serve`` with these options; yield its process number and its port once it serves.

    Raises:
        BadModel: it ended, or didn't serve in time.
    """
    port = free_port()
    command = [sys.executable, "-m", "streamtrans.cli", "serve", "--port", str(port), *arguments]
    began = time.perf_counter()
    with subprocess.Popen(
        command, stdout=subprocess.DEVNULL, env={**os.environ, "OMP_WAIT_POLICY": "passive"}
    ) as process:
        try:
            asyncio.run(_serving(process, port, began))
            yield process.pid, port
        finally:
            process.terminate()


async def _serving(process: subprocess.Popen[bytes], port: int, began: float) -> None:
    """Return when the health service says SERVING."""
    # A connection that is refused once is retried only after a second: wait until somebody listens.
    while not _listens(port):
        _check(process, began)
        await asyncio.sleep(0.02)
    async with TranslationClient(f"127.0.0.1:{port}") as client:
        while True:
            _check(process, began)
            try:
                return await client.wait_ready(timeout_s=0.1)
            except Unavailable:
                continue


def _check(process: subprocess.Popen[bytes], began: float) -> None:
    if process.poll() is not None:
        raise BadModel(f"the server ended with status {process.returncode}; what it said is above")
    if time.perf_counter() - began > _PATIENCE_S:
        raise BadModel(f"the server wasn't ready within {_PATIENCE_S:g} s")


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def memory_mb(process: int) -> dict[str, int | None]:
    """Return resident memory now and at its peak; ``None`` where the system doesn't tell (proc(5) does)."""
    status = Path(f"/proc/{process}/status")
    if not status.exists():
        return {"rss_mb": None, "peak_rss_mb": None}
    fields = dict(line.split(":", 1) for line in status.read_text().splitlines())
    resident, peak = (int(fields[name].split()[0]) // 1024 for name in ("VmRSS", "VmHWM"))
    return {"rss_mb": resident, "peak_rss_mb": peak}
