"""Send sound into one stream and show what comes back, until both are done."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import aclosing

from streamtrans.client import StreamEvent, StreamOptions, Summary, TranslationClient


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
    summary = None
    async with aclosing(client.translate(options, chunks)) as events:
        async for event in events:
            show(event)
            summary = event if isinstance(event, Summary) else summary
    return summary
