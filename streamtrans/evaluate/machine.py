"""Where and how a number was measured, and the file that keeps it.

A busy neighbour changes a timing by a factor, so what else ran is measured beside it.
"""

from __future__ import annotations

import json
import os
import platform
import shlex
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from types import TracebackType
from typing import Any, Self

_CPUINFO, _STAT = Path("/proc/cpuinfo"), Path("/proc/stat")


@dataclass(frozen=True, slots=True)
class Machine:
    """What measured. ``torch`` is the version installed, ``cores`` how many this process may use."""

    cpu: str
    cores: int
    memory_gb: float | None
    system: str
    python: str
    torch: str


@dataclass(frozen=True, slots=True)
class Measured:
    """How quiet the machine was while something was measured.

    ``other_cpu`` is the mean number of cores that other processes kept busy; ``None`` where the system
    doesn't tell. ``load_average`` is the one-minute mean at the end, ``None`` where there is none.
    """

    seconds: float
    other_cpu: float | None
    load_average: float | None


class Watch:
    """A context manager around a measurement; ``measured`` is set when it ends.

    Child processes count as our own once they have been waited for.
    """

    measured: Measured

    def __enter__(self) -> Self:
        """Begin."""
        self._began = time.perf_counter()
        self._all, self._own = _cpu_of_all_s(), _cpu_of_ours_s()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End."""
        seconds = time.perf_counter() - self._began
        own, everything = _cpu_of_ours_s() - self._own, _cpu_of_all_s()
        other = None
        if everything is not None and self._all is not None:
            other = round(max(0.0, everything - self._all - own) / max(seconds, 1e-9), 2)
        self.measured = Measured(round(seconds, 3), other, load_average())


def describe_machine() -> Machine:
    """Describe the machine that this process runs on."""
    return Machine(
        cpu=_cpu_name(),
        cores=len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1,
        memory_gb=_memory_gb(),
        system=f"{platform.system()} {platform.release()}",
        python=platform.python_version(),
        torch=metadata.version("torch"),
    )


def store(
    name: str, figures: Mapping[str, Any], measured: Measured, *, folder: Path, command: str | None = None
) -> Path:
    """Write ``folder/<name>.json``: figures, the command that made them, the machine; return the path.

    Args:
        name: of the benchmark; an earlier file of the same name is replaced.
        figures: what JSON can hold.
        measured: how quiet the machine was.
        folder: made if need be.
        command: by default the one that this process was started with.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.json"
    record = {
        "name": name,
        "command": command or invocation(),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": asdict(describe_machine()),
        "measured": asdict(measured),
        "figures": figures,
    }
    path.write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return path


def invocation() -> str:
    """Return the command line of this process, without the folder that its program is in."""
    return shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]])


def load_average() -> float | None:
    """Return how many processes wanted to run in the last minute, on average; Windows doesn't tell."""
    return None if sys.platform == "win32" else round(os.getloadavg()[0], 2)


def _memory_gb() -> float | None:
    if sys.platform == "win32":
        return None
    return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1)


def _cpu_name() -> str:
    if _CPUINFO.exists():
        for line in _CPUINFO.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _cpu_of_all_s() -> float | None:
    """Return the processor time that all processes have used, or ``None`` where it isn't told."""
    if not _STAT.exists():
        return None
    # proc(5): user, nice, system, idle, iowait, irq, softirq, then time that we didn't get at all
    ticks = [int(field) for field in _STAT.read_text().split("\n", 1)[0].split()[1:8]]
    return (sum(ticks) - ticks[3] - ticks[4]) / os.sysconf("SC_CLK_TCK")


def _cpu_of_ours_s() -> float:
    used = os.times()
    return used.user + used.system + used.children_user + used.children_system
