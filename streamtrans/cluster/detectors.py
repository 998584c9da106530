"""Speech detectors on a thread of their own, for a front end whose models are elsewhere.

Law: a batch equals its rows; whoever asks with nonsense fails alone.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

from streamtrans.core import Detect, Detection, EngineClosed, Reply
from streamtrans.engine.outcomes import detection, each

if TYPE_CHECKING:
    from streamtrans.vad import Vad


class Detectors:
    """Answers :class:`Detect` in batches of all that waits; ``vads`` makes the detector of a name, once per name."""

    def __init__(self, vads: Callable[[str], Vad]) -> None:
        self._make = vads
        self._made: dict[str, Vad] = {}
        self._inbox: queue.SimpleQueue[tuple[Detect, Reply] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="streamtrans-detectors", daemon=True)
        self._thread.start()

    def submit(self, detect: Detect, reply: Reply) -> None:
        """Answer ``detect`` in ``reply``."""
        self._inbox.put((detect, reply))

    def close(self) -> None:
        """Fail what waits, and end."""
        self._inbox.put(None)
        self._thread.join()

    def _run(self) -> None:
        while (first := self._inbox.get()) is not None:
            asked = {first[0].vad: [first]}
            with suppress(queue.Empty):
                while (more := self._inbox.get_nowait()) is not None:
                    asked.setdefault(more[0].vad, []).append(more)
                self._inbox.put(None)  # the end, which is for the next turn
            for together in asked.values():
                wanted = [(detect, reply) for detect, reply in together if reply.set_running_or_notify_cancel()]
                if wanted:
                    self._answer(wanted)
        with suppress(queue.Empty):
            while (left := self._inbox.get_nowait()) is not None:
                left[1].set_exception(EngineClosed("the engine was closed while this request waited"))

    def _answer(self, asked: list[tuple[Detect, Reply]]) -> None:
        for _, reply in asked:
            reply.begun_at = time.monotonic()
        outcomes = each(self._detect, [detect for detect, _ in asked])
        for (_, reply), outcome in zip(asked, outcomes, strict=True):
            if isinstance(outcome, Exception):
                reply.set_exception(outcome)
            else:
                reply.set_result(outcome)

    def _detect(self, detects: Sequence[Detect]) -> list[Detection | Exception]:
        name = detects[0].vad
        if name not in self._made:
            self._made[name] = self._make(name)
        answers = self._made[name].detect([(detect.windows, detect.state) for detect in detects])
        return [
            detection(detect, tuple(probabilities.tolist()), state)
            for detect, (probabilities, state) in zip(detects, answers, strict=True)
        ]
