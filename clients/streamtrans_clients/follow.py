"""Send sound into one stream and show what comes back, until both are done."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

from streamtrans.client import StreamEvent, StreamOptions, Summary, TranslationClient, TranslationStream


async def follow(
    client: TranslationClient,
    options: StreamOptions,
    chunks: AsyncIterator[bytes],
    show: Callable[[StreamEvent], None],
) -> Summary | None:
    """Stream ``chunks`` and hand every event to ``show``; return the summary that ends the stream.

    When the chunks come to an end the last captions are awaited. Whatever ends one direction with an error
    ends the other too.

    Raises:
        ClientError: the server refused or ended the stream.
        Exception: whatever ``chunks`` or ``show`` raised.
    """
    async with client.stream(options) as stream:
        reading = asyncio.create_task(_read(stream, show))
        sending = asyncio.create_task(_send(stream, chunks))
        try:
            await asyncio.wait((reading, sending), return_when=asyncio.FIRST_EXCEPTION)
        finally:
            for task in (reading, sending):
                task.cancel()
            await asyncio.wait((reading, sending))
        # What the server said last is the better reason where both directions broke.
        for task in (reading, sending):
            if not task.cancelled():
                task.result()
        return stream.summary


async def _read(stream: TranslationStream, show: Callable[[StreamEvent], None]) -> None:
    async for event in stream:
        show(event)


async def _send(stream: TranslationStream, chunks: AsyncIterator[bytes]) -> None:
    async for chunk in chunks:
        await stream.send(chunk)
    await stream.end()
