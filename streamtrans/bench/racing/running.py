"""Entrants that run: the processes that read, asked one after the other."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from streamtrans.audio import Samples
from streamtrans.bench.racing import Entrant
from streamtrans.bench.racing.runner import arguments
from streamtrans.bench.startup import memory_mb
from streamtrans.core import BadModel


@dataclass(frozen=True, slots=True)
class Read:
    """What was written, and what it took: seconds on the clock, and of processors.

    ``looped``: it went on with a loop, which was left out of the text.
    """

    text: str
    wall_s: float
    cpu_s: float
    looped: bool = False


class Running:
    """A process of an entrant."""

    def __init__(self, name: str, process: subprocess.Popen[bytes]) -> None:
        self.name = name
        self._process = process

    def read(self, audio: Samples, language: str, most: int) -> Read:
        """Have ``audio`` ``(samples,)`` read, in ``most`` tokens at most.

        Raises:
            BadModel: the process ended.
        """
        stdin = self._process.stdin
        assert stdin is not None
        try:
            stdin.write(json.dumps({"samples": len(audio), "language": language, "most": most}).encode() + b"\n")
            stdin.write(audio.astype("<f4").tobytes())
            stdin.flush()
        except BrokenPipeError:
            pass  # its answer, which doesn't come, tells
        return Read(**self.answer())

    def answer(self) -> dict[str, Any]:
        """Return the next line that it says.

        Raises:
            BadModel: the process ended.
        """
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            status = self._process.wait()
            raise BadModel(f"{self.name} ended with status {status} while it was asked; what it said is above")
        answer: dict[str, Any] = json.loads(line)
        return answer

    @property
    def memory_mb(self) -> Mapping[str, int | None]:
        """Resident memory now and at its peak."""
        return memory_mb(self._process.pid)


@contextmanager
def started(name: str, entrant: Entrant) -> Iterator[Running | str]:
    """Start an entrant; yield it once it can read, or why it can't.

    Raises:
        BadModel: it ended instead.
    """
    threads = str(entrant.threads)
    environment = {**os.environ, "OMP_WAIT_POLICY": "passive", "OMP_NUM_THREADS": threads}
    with subprocess.Popen(
        arguments(entrant), stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment
    ) as process:
        running = Running(name, process)
        answer = running.answer()
        try:
            yield str(answer["missing"]) if "missing" in answer else running
        finally:
            process.terminate()
