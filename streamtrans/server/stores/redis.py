"""Streams in a Redis server, for any number of machines."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable
from typing import TYPE_CHECKING, TypeVar

from streamtrans.core import BadConfig, needs
from streamtrans.server.stores import MOST_BYTES, StoreFailed

if TYPE_CHECKING:
    from redis.asyncio import Redis

T = TypeVar("T")

_CLAIM = """
local size = redis.call('HSTRLEN', KEYS[1], 'data')
if size == 0 or size > tonumber(ARGV[1]) then return false end
return {redis.call('HINCRBY', KEYS[1], 'epoch', 1), redis.call('HGET', KEYS[1], 'data')}
"""

_PUT = """
local epoch = tonumber(redis.call('HGET', KEYS[1], 'epoch') or '0')
if epoch > tonumber(ARGV[1]) then return 0 end
redis.call('HSET', KEYS[1], 'epoch', ARGV[1], 'data', ARGV[2])
redis.call('PEXPIRE', KEYS[1], ARGV[3])
return 1
"""

_DROP = """
if tonumber(redis.call('HGET', KEYS[1], 'epoch') or '0') <= tonumber(ARGV[1]) then redis.call('DEL', KEYS[1]) end
return 1
"""
"""Scripts, each done as a whole before anything else."""

_TIMEOUT_S = 5.0


class RedisStore:
    """One hash per stream, under ``streamtrans:<name>``, which expires by itself.

    Args:
        place: ``redis://host:port/number``, or ``rediss://`` for TLS; user and password may be part of it.
        keep_s: streams that weren't written for longer go.

    Raises:
        BadConfig: the package isn't there, or the place is none.
    """

    def __init__(self, place: str, keep_s: float) -> None:
        try:
            from redis.asyncio import Redis
            from redis.exceptions import RedisError
        except ImportError as error:
            raise BadConfig(needs("a store in Redis", "redis", "redis")) from error
        self._place = re.sub(r"//.*@", "//", place)  # messages name it, and its password is nobody's business
        self._keep_ms = round(keep_s * 1000)
        self._errors = (RedisError, OSError, TimeoutError)
        try:
            self._redis: Redis = Redis.from_url(
                place, socket_timeout=_TIMEOUT_S, socket_connect_timeout=_TIMEOUT_S, protocol=2
            )
        except ValueError as error:
            raise BadConfig(f"the store {self._place} is no address of a Redis server: {error}") from error
        self._claim, self._put, self._drop = map(self._redis.register_script, (_CLAIM, _PUT, _DROP))

    async def claim(self, name: str) -> tuple[int, bytes] | None:
        """See :meth:`Store.claim`."""
        found = await self._ask(self._claim(keys=[_key(name)], args=[MOST_BYTES]))
        return (int(found[0]), bytes(found[1])) if found and found[1] else None

    async def put(self, name: str, epoch: int, data: bytes) -> bool:
        """See :meth:`Store.put`."""
        return bool(await self._ask(self._put(keys=[_key(name)], args=[epoch, data, self._keep_ms])))

    async def drop(self, name: str, epoch: int) -> None:
        """See :meth:`Store.drop`."""
        await self._ask(self._drop(keys=[_key(name)], args=[epoch]))

    async def owns(self, name: str, epoch: int) -> bool:
        """See :meth:`Store.owns`."""
        return int(await self._ask(self._redis.hget(_key(name), "epoch")) or 0) <= epoch

    async def close(self) -> None:
        """Close the connections."""
        await self._redis.aclose()

    async def _ask(self, asking: Awaitable[T]) -> T:
        task = asyncio.current_task()
        before = 0 if task is None else task.cancelling()
        try:
            answer = await asking
        except self._errors as error:
            raise StoreFailed(f"the store {self._place}: {error}") from error
        # The package sends by `asyncio.wait_for`, which before Python 3.12 forgets who cancels it as it ends.
        if task is not None and task.cancelling() > before:
            raise asyncio.CancelledError
        return answer


def _key(name: str) -> str:
    return f"streamtrans:{name}"
