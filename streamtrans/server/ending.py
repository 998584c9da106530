"""How a call ends: whatever was raised, the client gets a status, and nothing of the call stays behind."""

from __future__ import annotations

import asyncio
import logging
import traceback
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from streamtrans.core import loggable
from streamtrans.server.link import Closing, Left, LinkLost
from streamtrans.server.refusal import internal, refusal_in

_log = logging.getLogger(__name__)


@asynccontextmanager
async def ending(name: str, link: Closing) -> AsyncIterator[None]:
    """End a call well, or as what the block raises says, or, for a fault of ours, without a word of what happened.

    Args:
        name: what the log calls the call, such as ``session 7``.
        link: the call; its method returns after the block.

    Raises:
        CancelledError: the client is gone, so there is nobody to tell.
    """
    refusal, gone = None, False
    try:
        yield
    except asyncio.CancelledError as error:  # by gRPC, when the client goes away or the server stops
        _let_go(error)
        raise
    except Exception as error:  # noqa: BLE001 (the RPC boundary)
        refusal = refusal_in(error)
        if refusal is not None:
            _log.info("%s: %s, %s", name, refusal.code.name, refusal.message)
        elif _holds(error, LinkLost):
            _log.info("%s: the client went away", name)
            gone = not _holds(error, Left)
        else:
            _log.error("%s failed: %s", name, loggable(error))
            refusal = internal(name)
        _let_go(error)
    if gone:
        raise asyncio.CancelledError
    await link.close(refusal)


def _holds(error: BaseException, kind: type[BaseException]) -> bool:
    """Say whether ``error`` is of a kind, or its group holds one."""
    if isinstance(error, BaseExceptionGroup):
        return error.subgroup(kind) is not None
    return isinstance(error, kind)


def _let_go(error: BaseException) -> None:
    """Empty and forget the frames that ``error`` and its causes came through; some of them hold it in turn."""
    seen: set[int] = set()
    left: list[BaseException | None] = [error]
    while left:
        each = left.pop()
        if each is None or id(each) in seen:
            continue
        seen.add(id(each))
        traceback.clear_frames(each.__traceback__)  # those of a task group hold what it raised
        each.__traceback__ = None
        left += [each.__cause__, each.__context__]
        if isinstance(each, BaseExceptionGroup):
            left += each.exceptions
