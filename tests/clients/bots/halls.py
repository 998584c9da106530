"""A program that others call, without its process."""

import asyncio
from contextlib import asynccontextmanager

from streamtrans_clients.bots.hall import Hall, listening
from streamtrans_clients.options import client


@asynccontextmanager
async def opened(module, kind, address, *arguments):
    """Yield the hall of a program, and where it is called."""
    options = module.parser().parse_args(["--server", address, *map(str, arguments)])
    async with asyncio.timeout(60), client(options, address) as way:
        hall = Hall(options, way, (await way.capabilities()).languages)
        async with listening(kind(hall).routes(), "127.0.0.1", 0) as place:
            yield hall, place
        await hall.emptied()


def pieces(sound, milliseconds, bytes_per_ms=32):
    size = milliseconds * bytes_per_ms
    return [sound[at : at + size] for at in range(0, len(sound), size)]
