"""Both directions of a stream at once: whatever ends one ends the other."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass

from streamtrans.client.errors import ClientError
from streamtrans.client.stream import Sound, StreamEvent, TranslationStream


@dataclass(frozen=True, slots=True)
class UtteranceEnd:
    """Among pieces of sound: what was said ends here; its segment is closed without waiting for silence."""


async def both_ways(
    stream: TranslationStream, sound: Sound | AsyncIterator[Sound | UtteranceEnd]
) -> AsyncGenerator[StreamEvent, None]:
    """Send ``sound`` into an open stream and yield what comes back, to the summary.

    Raises:
        ClientError: the server ended the stream.
        Exception: whatever ``sound`` raised, at once.
    """
    sending = asyncio.create_task(_send(stream, sound))
    reading: asyncio.Task[StreamEvent] | None = None
    try:
        while True:
            reading = asyncio.ensure_future(anext(stream))
            if not sending.done():
                await asyncio.wait((reading, sending), return_when=asyncio.FIRST_COMPLETED)
            if sending.done() and not reading.done():
                error = sending.exception()
                # Where the server has ended the call, reading is about to learn why, which is the better reason.
                if error is not None and not isinstance(error, ClientError):
                    raise error
            try:
                event = await reading
            except StopAsyncIteration:
                return
            yield event
    finally:
        tasks = [task for task in (reading, sending) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _send(stream: TranslationStream, sound: Sound | AsyncIterator[Sound | UtteranceEnd]) -> None:
    if isinstance(sound, AsyncIterator):
        async for piece in sound:
            if isinstance(piece, UtteranceEnd):
                await stream.end_utterance()
            else:
                await stream.send(piece)
    else:
        await stream.send(sound)
    await stream.end()
