"""An entrant in a process of its own: ``python -m streamtrans.bench.racing.runner ENTRANT``.

Its memory, its threads and its mistakes are its own. It reads a line of JSON and then samples, and answers with a line.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from typing import Any, Protocol

import numpy as np

from streamtrans.audio import Samples
from streamtrans.bench.racing import BESIDE, OURS, Entrant


class Reader(Protocol):
    """Somebody who writes down what is said."""

    def read(self, audio: Samples, language: str, most: int) -> str:
        """Write down all of ``audio`` ``(samples,)`` in ``most`` tokens at most."""
        ...


def make(entrant: Entrant) -> Reader:
    """Load an entrant.

    Raises:
        ImportError: the package of its program isn't installed.
    """
    from streamtrans.bench.racing import theirs

    if entrant.who in (OURS, BESIDE):
        from streamtrans.bench.racing.ours import Ours

        return Ours(entrant)
    kinds: dict[str, Callable[[Entrant], Reader]] = {
        "faster-whisper": theirs.FasterWhisper,
        "transformers": theirs.Transformers,
        "whisper.cpp": theirs.WhisperCpp,
        "openvino": theirs.OpenVino,
    }
    return kinds[entrant.program](entrant)


def run(entrant: Entrant) -> None:
    """Answer until standard input ends."""
    answers = sys.stdout
    sys.stdout = sys.stderr  # what a library prints is no answer

    def say(answer: dict[str, Any]) -> None:
        print(json.dumps(answer), file=answers, flush=True)

    try:
        reader = make(entrant)
    except ImportError as error:
        say({"missing": f"{error.name or entrant.who} isn't installed"})
        return
    say({"ready": True})
    while line := sys.stdin.buffer.readline():
        asked = json.loads(line)
        audio = np.frombuffer(sys.stdin.buffer.read(4 * asked["samples"]), np.float32)
        audio = np.pad(audio, (0, entrant.silence(len(audio))))
        began, cpu = time.perf_counter(), time.process_time()
        text = reader.read(audio, asked["language"], asked["most"])
        say({"text": text.strip(), "wall_s": time.perf_counter() - began, "cpu_s": time.process_time() - cpu})


def arguments(entrant: Entrant) -> list[str]:
    """Return the command that runs it."""
    return [sys.executable, "-m", "streamtrans.bench.racing.runner", json.dumps(asdict(entrant))]


if __name__ == "__main__":
    run(Entrant(**json.loads(sys.argv[1])))
