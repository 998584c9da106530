"""Where streams are kept that another process may have to go on with.

Law: of all who have claimed a stream the last one owns it, and nobody else's writing is taken; what can't be what we
wrote is nothing.

A stream's name is a hash of its token, and what is kept of it is sealed with that (``server/sealing.py``): whoever
reads a store can't resume what is in it, nor read it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from streamtrans.core import BadConfig
from streamtrans.foreign import Table

MOST_BYTES = 1 << 20
"""Of one stream; a larger one isn't read."""


class StoreFailed(Exception):
    """The store can't be reached, or can't write."""


class Store(Protocol):
    """Keeps bytes per stream, and who owns it: a number, its epoch, that each claim raises by one.

    All methods may raise :class:`StoreFailed`.
    """

    async def claim(self, name: str) -> tuple[int, bytes] | None:
        """Take a stream from whoever has it: return the new epoch, and what was kept last; ``None`` for nothing."""
        ...

    async def put(self, name: str, epoch: int, data: bytes) -> bool:
        """Keep ``data``; return whether it was, which it isn't once somebody has claimed a higher epoch."""
        ...

    async def drop(self, name: str, epoch: int) -> None:
        """Keep it no longer, unless somebody else has claimed it."""
        ...

    async def owns(self, name: str, epoch: int) -> bool:
        """Say whether nobody has claimed a higher epoch."""
        ...

    async def close(self) -> None:
        """Let go of connections."""
        ...


StoreClass = Callable[[str, float], Store]
"""Called with where it is, and after how many seconds without a sign of life a stream is forgotten."""

STORES: Table[StoreClass] = Table(
    "store",
    {
        "file": "streamtrans.server.stores.file:FileStore",
        "redis": "streamtrans.server.stores.redis:RedisStore",
        "rediss": "streamtrans.server.stores.redis:RedisStore",
    },
)


def store_at(place: str, keep_s: float) -> Store:
    """Return the store at ``place``: a folder, or ``redis://host:port/number``.

    Raises:
        BadConfig: there is none of this kind, or the folder can't be used.
    """
    scheme, separator, rest = place.partition("://")
    if not separator:
        return STORES.load("file")(place, keep_s)
    try:
        made = STORES.load(scheme)
    except BadConfig as error:
        raise BadConfig(f"the store {place!r}: {error}; give a folder, or redis://HOST:PORT/NUMBER") from error
    return made(rest if scheme == "file" else place, keep_s)


__all__ = ["MOST_BYTES", "STORES", "Store", "StoreClass", "StoreFailed", "store_at"]
