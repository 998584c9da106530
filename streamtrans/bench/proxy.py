"""A way to a server that breaks."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from contextlib import suppress
from types import TracebackType
from typing import Self


class Proxy:
    """Carries bytes to a server on this machine, and cuts each connection once it has carried as many as it is told.

    Args:
        port: of the server.
        cuts: bytes per connection, one after the other, both ways together; ``None``, and behind the last: no end.
    """

    def __init__(self, port: int, cuts: Iterable[int | None] = ()) -> None:
        self.port, self.cuts, self.killed = port, iter(cuts), 0
        self.refusing = self.silent = False
        """New connections are closed at once, or get no answer."""
        self._writers: set[asyncio.StreamWriter] = set()
        self._carrying: set[asyncio.Task[None] | None] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._carry, "127.0.0.1", 0)
        self.address = f"127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.close()
        self.cut()
        await asyncio.gather(*filter(None, self._carrying), return_exceptions=True)

    def cut(self) -> None:
        """Break all connections, now."""
        for writer in self._writers:
            writer.transport.abort()

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task, mine = asyncio.current_task(), {writer}
        self._carrying.add(task)
        self._writers.add(writer)
        try:
            if self.silent:
                await reader.read()
            elif not self.refusing:
                far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self.port)
                mine.add(far_writer)
                self._writers.add(far_writer)
                left = [next(self.cuts, None)]
                ways = self._pump(reader, far_writer, left), self._pump(far_reader, writer, left)
                tasks = [asyncio.create_task(way) for way in ways]
                await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
                for each in mine:
                    each.transport.abort()
                await asyncio.gather(*tasks, return_exceptions=True)
        finally:
            for each in mine:
                each.transport.abort()
                with suppress(OSError):
                    await each.wait_closed()
            self._writers -= mine
            self._carrying.discard(task)

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, left: list[int | None]) -> None:
        while data := await reader.read(4_096):
            if left[0] is not None:
                data = data[: left[0]]
                left[0] -= len(data)
            writer.write(data)
            await writer.drain()
            if left[0] == 0:
                self.killed += 1
                return
