"""What goes beyond a limit, or comes in the wrong order, ends the call with a status that says so."""

from __future__ import annotations

import asyncio

from streamtrans.conformance.kit import CODE, Kit, NotTried, expect
from streamtrans.wire import audio_message, end_message, ping_message, silence_message

_CHUNK = b"\0" * 3_200


async def half_sample(kit: Kit) -> str:
    """Audio that ends within a sample is INVALID_ARGUMENT and names `audio.data`."""
    async with kit.stream() as talk:
        await talk.say(audio_message(b"\0" * 3_201, 1))
        return await talk.ends_with(CODE.INVALID_ARGUMENT, field="audio.data")


async def chunk_duration(kit: Kit) -> str:
    """A chunk longer than `max_chunk_ms` or `max_chunk_bytes` is INVALID_ARGUMENT and names `audio.data`."""
    most = kit.offers.limits
    size = min(most.max_chunk_ms * 32, most.max_chunk_bytes) // 2 * 2
    async with kit.stream() as talk:
        await talk.say(audio_message(bytes(size), 1), ping_message(1))
        await talk.until("pong")
        await talk.say(audio_message(bytes(size + 64), 2))
        return await talk.ends_with(CODE.INVALID_ARGUMENT, field="audio.data")


async def message_size(kit: Kit) -> str:
    """A message of more than `max_message_bytes` is RESOURCE_EXHAUSTED."""
    async with kit.stream() as talk:
        await talk.say(audio_message(bytes(kit.offers.limits.max_message_bytes + 1_000), 1))
        return await talk.ends_with(CODE.RESOURCE_EXHAUSTED)


async def silence_duration(kit: Kit) -> str:
    """Silence of no time, or of more than `max_silence_ms`, is INVALID_ARGUMENT and names `silence.duration_ms`."""
    for duration_ms in (0, -1, kit.offers.limits.max_silence_ms + 1):
        async with kit.stream() as talk:
            await talk.say(silence_message(duration_ms, 1))
            seen = await talk.ends_with(CODE.INVALID_ARGUMENT, field="silence.duration_ms")
    return seen


async def message_numbers(kit: Kit) -> str:
    """Audio and silence are counted together from 1, by ones; another number is INVALID_ARGUMENT and named."""
    for messages, field in (
        ([audio_message(_CHUNK, 2)], "audio.sequence"),
        ([audio_message(_CHUNK, 1), audio_message(_CHUNK, 1)], "audio.sequence"),
        ([audio_message(_CHUNK, 1), silence_message(100, 3)], "silence.sequence"),
        ([audio_message(_CHUNK, 1), end_message(2)], "end.last_sequence"),
    ):
        async with kit.stream() as talk:
            await talk.say(*messages)
            seen = await talk.ends_with(CODE.INVALID_ARGUMENT, field=field)
    return seen


async def idle(kit: Kit) -> str:
    """A call that sends no audio for longer than `idle_ms` ends with OUT_OF_RANGE; pings don't count."""
    idle_s = kit.offers.limits.idle_ms / 1000
    if idle_s + 5 > kit.patience_s:
        raise NotTried(f"it takes {idle_s:g} s, and --patience is {kit.patience_s:g} s")
    async with kit.stream() as talk:
        clock = asyncio.get_running_loop().time
        began = clock()
        await talk.say(ping_message(1))
        seen = await talk.ends_with(CODE.OUT_OF_RANGE)
        expect(clock() - began > idle_s / 2, f"the call ended after {clock() - began:.1f} s of {idle_s:g}")
        return seen


CHECKS = (half_sample, chunk_duration, message_size, silence_duration, message_numbers, idle)
