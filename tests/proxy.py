"""A way to a server that breaks."""

import asyncio
from contextlib import asynccontextmanager

from streamtrans.bench.proxy import Proxy
from streamtrans.client import Limits, TranslationClient
from tests.server.conftest import configured, running


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
