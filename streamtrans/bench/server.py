"""A server to be measured, in a process of its own: ``python -m streamtrans.bench.server WISH``.

It is what ``streamtrans serve`` runs, plus a counter: it prints its port when it is warm, then one line of
counters for every line that it reads; the end of its input ends it.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from streamtrans.foreign import Chosen
from streamtrans.runtime import Loaded, ModelChoice, load

if TYPE_CHECKING:
    from streamtrans.server import ServerConfig


@dataclass(frozen=True, slots=True)
class Wish:
    """What to serve, and on how many ``cores`` (0: all)."""

    choice: ModelChoice
    slots: int
    sessions: int
    cores: int

    def text(self) -> str:
        """Return the argument that says so."""
        return json.dumps(asdict(self))

    @classmethod
    def read(cls, text: str) -> Wish:
        """Read what :meth:`text` wrote."""
        raw = json.loads(text)
        said: dict[str, Any] = {
            name: Chosen(value) if isinstance(value, str) else value for name, value in raw["choice"].items()
        }
        return cls(**{**raw, "choice": ModelChoice(**said)})


async def run(wish: Wish) -> None:
    """Serve until standard input ends."""
    from streamtrans.server import Served, TranslationServer
    from streamtrans.server.offer import what_is_served

    loaded: list[Loaded] = []

    def make() -> Served:
        loaded.append(load(wish.choice, slots=wish.slots))
        return what_is_served(loaded[0], wish.choice.vad)

    async with TranslationServer(configured(wish), make) as server:
        await server.ready()
        _say({"port": server.port, **_counters(loaded[0])})
        while await asyncio.to_thread(sys.stdin.readline):
            _say(_counters(loaded[0]))


def configured(wish: Wish) -> ServerConfig:
    """Return a server that lets in all that are wished for, over one connection too."""
    from streamtrans.server import ServerConfig

    count = wish.sessions
    return ServerConfig(port=0, max_sessions=count, max_sessions_per_connection=count, grace_ms=0, load=None)


def pin(cores: int) -> None:
    """Keep this process, and the threads that it starts later, on the last ``cores`` cores; 0 is all."""
    if cores and sys.platform == "linux":
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[-cores:])


def _counters(loaded: Loaded) -> dict[str, Any]:
    stats = loaded.engine.stats
    return {
        "busy_s": stats.busy_s,
        "cpu_s": time.process_time(),
        "peak_bytes": _peak_bytes(),
        "passes": stats.passes,
        "forwards": stats.forwards,
        "encodes": stats.encodes,
        "encode_batches": stats.encode_batches,
        "encoded_samples": stats.samples,
    }


def _peak_bytes() -> int | None:
    """Return the most memory that this process has held; ``None`` on Windows, whose Python doesn't tell."""
    if sys.platform == "win32":
        return None
    import resource

    peak: int = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak * (1 if sys.platform == "darwin" else 1024)


def _say(line: dict[str, Any]) -> None:
    print(json.dumps(line), flush=True)


if __name__ == "__main__":
    wanted = Wish.read(sys.argv[1])
    pin(wanted.cores)
    asyncio.run(run(wanted))
