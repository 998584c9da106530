"""A way to a server that breaks."""

import asyncio
from contextlib import asynccontextmanager, suppress

from streamtrans.client import Limits, TranslationClient
from tests.server.conftest import configured, running


class Proxy:
    """Carries bytes to a server, and cuts each connection once it has carried as many as it is told."""

    def __init__(self, port, cuts=()):
        self.port, self.cuts, self.killed = port, iter(cuts), 0
        self.refusing = self.silent = False
        self._writers, self._carrying = set(), set()

    async def __aenter__(self):
        self._server = await asyncio.start_server(self._carry, "127.0.0.1", 0)
        self.address = f"127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *_):
        self._server.close()
        self.cut()
        await asyncio.gather(*self._carrying, return_exceptions=True)

    def cut(self):
        for writer in self._writers:
            writer.transport.abort()

    async def _carry(self, reader, writer):
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

    async def _pump(self, reader, writer, left):
        while data := await reader.read(4_096):
            if left[0] is not None:
                data = data[: left[0]]
                left[0] -= len(data)
            writer.write(data)
            await writer.drain()
            if left[0] == 0:
                self.killed += 1
                return


@asynccontextmanager
async def through_proxy(cuts=(), scheme=None, **limits):
    """A client of a server behind a proxy, over gRPC or, by ``scheme``, WebSockets."""
    config = configured(Limits(max_real_time_factor=1e6, burst_ms=10**7, **limits), http_port=0 if scheme else None)
    async with (
        asyncio.timeout(25),
        running(config=config) as (server, _),
        Proxy(server.http_port if scheme else server.port, cuts) as proxy,
        TranslationClient(f"{scheme}://{proxy.address}" if scheme else proxy.address) as client,
    ):
        yield proxy, client, server
