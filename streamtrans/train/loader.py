"""Make batches in a process beside the trainer, and survive that process.

eSpeak crashes now and then and takes its process along. The trainer then starts
another one, which goes on from the same step with other draws.
"""

from __future__ import annotations

import multiprocessing
import queue
import threading
from collections.abc import Iterator
from dataclasses import fields, replace
from multiprocessing.connection import Connection
from typing import Any, Protocol, TypeVar, cast

import torch

from streamtrans.core import BadConfig
from streamtrans.train.stopping import deaf

T_co = TypeVar("T_co", covariant=True)

BARREN = 3
"""Processes in a row that may end without a batch: one more would end the same way."""

AHEAD = 8
"""Batches made in advance: larger rides out longer pauses and takes more memory."""


class Endless(Protocol[T_co]):
    """What makes batches: a dataclass with fields ``first`` and ``attempt``, which can be sent to a process.

    A batch is a dataclass whose fields are tensors, or ``None``.
    """

    @property
    def first(self) -> int: ...

    @property
    def name(self) -> str: ...

    @property
    def steps(self) -> int: ...

    def __iter__(self) -> Iterator[T_co]: ...


def load_batches(batches: Endless[T_co], *, processes: int = 1) -> Iterator[T_co]:
    """Iterate over ``batches``, made in a process of their own (``processes=0``: in this one).

    Raises:
        BadConfig: no process gets as far as one batch.
    """
    if processes == 0:
        yield from batches
        return
    step, attempt, barren = batches.first, 0, 0
    while step < batches.steps:
        began = step
        going_on: Endless[T_co] = replace(cast(Any, batches), first=step, attempt=attempt)
        for batch in _beside(going_on):
            step += 1
            yield batch
        if step < batches.steps:
            attempt += 1
            barren = barren + 1 if step == began else 0
            if barren == BARREN:
                raise BadConfig(
                    f"stage {batches.name}: {BARREN} speech processes in a row ended without a single batch; "
                    "what they printed says why"
                )
            print(f"{batches.name}: the speech process ended at step {step}; starting another", flush=True)


def _beside(batches: Endless[T_co]) -> Iterator[T_co]:
    """Yield batches until they are used up or their process is gone."""
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_produce, args=(batches, sender), daemon=True)
    process.start()
    sender.close()  # ours; the pipe must end when the process does
    waiting: queue.Queue[tuple[type, dict[str, Any]] | None] = queue.Queue(AHEAD)
    stopped = threading.Event()
    thread = threading.Thread(target=_receive, args=(receiver, waiting, stopped), daemon=True)
    thread.start()
    try:
        while (sent := waiting.get()) is not None:
            kind, arrays = sent
            yield kind(**{name: None if array is None else torch.from_numpy(array) for name, array in arrays.items()})
    finally:
        stopped.set()
        process.terminate()
        process.join()


def _produce(batches: Endless[Any], sender: Connection) -> None:
    deaf()
    # Plain arrays: a tensor in shared memory dies with the process that made it.
    for batch in batches:
        values = {item.name: getattr(batch, item.name) for item in fields(batch)}
        try:
            arrays = {name: None if value is None else value.numpy() for name, value in values.items()}
            sender.send((type(batch), arrays))
        except BrokenPipeError:
            return  # the trainer has all that it wanted, or is gone


def _receive(
    receiver: Connection, waiting: queue.Queue[tuple[type, dict[str, Any]] | None], stopped: threading.Event
) -> None:
    """Move what arrives into the queue, and end it with ``None``."""
    item: tuple[type, dict[str, Any]] | None = (dict, {})
    while item is not None and not stopped.is_set():
        try:
            item = receiver.recv()
        except (EOFError, OSError):
            item = None
        while not stopped.is_set():
            try:
                waiting.put(item, timeout=0.5)
                break
            except queue.Full:
                continue
