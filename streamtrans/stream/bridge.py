"""From a thread's future to one of the event loop.

Law: what was answered is let go with its last owner. ``asyncio.wrap_future`` leaves a cycle of references behind
every answer, which keeps whatever it brought, tensors too, until the garbage collector looks for cycles; in a process
with as many objects as ours that takes minutes.
"""

from __future__ import annotations

import asyncio
from concurrent.futures import Future
from functools import partial
from typing import TypeVar

T = TypeVar("T")


def awaitable(source: Future[T]) -> asyncio.Future[T]:
    """Return what brings on the running loop what ``source`` brings; cancelling it cancels ``source``."""
    loop = asyncio.get_running_loop()
    here: asyncio.Future[T] = loop.create_future()
    # A thread's future keeps its callbacks for ever, one of asyncio drops them when it is done: so the way there
    # mustn't hold the source, and the way back may.
    source.add_done_callback(partial(_tell, loop, here))
    here.add_done_callback(partial(_withdraw, source))
    return here


def _tell(loop: asyncio.AbstractEventLoop, here: asyncio.Future[T], source: Future[T]) -> None:
    if not loop.is_closed():
        loop.call_soon_threadsafe(_copy, source, here)


def _copy(source: Future[T], here: asyncio.Future[T]) -> None:
    if here.done():
        return
    if source.cancelled():
        here.cancel()
    elif (error := source.exception()) is not None:
        here.set_exception(error)
    else:
        here.set_result(source.result())


def _withdraw(source: Future[T], here: asyncio.Future[T]) -> None:
    if here.cancelled():
        source.cancel()
