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
from typing import Any

import torch

from streamtrans.core import BadConfig
from streamtrans.train.batches import Batch, Batches

BARREN = 3
"""Processes in a row that may end without a batch: one more would end the same way."""

AHEAD = 8
"""Batches made in advance: larger rides out longer pauses and takes more memory."""


def load_batches(batches: Batches, *, processes: int = 1) -> Iterator[Batch]:
    """Iterate over ``batches``, made in a process of their own (``processes=0``: in this one).

    Raises:
        BadConfig: no process gets as far as one batch.
    """
    if processes == 0:
        yield from batches
        return
    step, attempt, barren = batches.first, 0, 0
    while step < batches.stage.steps:
        began = step
        for batch in _beside(replace(batches, first=step, attempt=attempt)):
            step += 1
            yield batch
        if step < batches.stage.steps:
            attempt += 1
            barren = barren + 1 if step == began else 0
            if barren == BARREN:
                raise BadConfig(
                    f"stage {batches.stage.name}: {BARREN} speech processes in a row ended without a single batch; "
                    "what they printed says why"
                )
            print(f"{batches.stage.name}: the speech process ended at step {step}; starting another", flush=True)


def _beside(batches: Batches) -> Iterator[Batch]:
    """Yield batches until they are used up or their process is gone."""
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_produce, args=(batches, sender), daemon=True)
    process.start()
    sender.close()  # ours; the pipe must end when the process does
    waiting: queue.Queue[dict[str, Any] | None] = queue.Queue(AHEAD)
    stopped = threading.Event()
    thread = threading.Thread(target=_receive, args=(receiver, waiting, stopped), daemon=True)
    thread.start()
    try:
        while (arrays := waiting.get()) is not None:
            tensors: dict[str, Any] = {
                name: None if value is None else torch.from_numpy(value) for name, value in arrays.items()
            }
            yield Batch(**tensors)
    finally:
        stopped.set()
        process.terminate()
        process.join()


def _produce(batches: Batches, sender: Connection) -> None:
    # Plain arrays: a tensor in shared memory dies with the process that made it.
    for batch in batches:
        values = {item.name: getattr(batch, item.name) for item in fields(batch)}
        try:
            sender.send({name: None if value is None else value.numpy() for name, value in values.items()})
        except BrokenPipeError:
            return  # the trainer has all that it wanted, or is gone


def _receive(receiver: Connection, waiting: queue.Queue[dict[str, Any] | None], stopped: threading.Event) -> None:
    """Move what arrives into the queue, and end it with ``None``."""
    item: dict[str, Any] | None = {}
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
