"""Streams that outlive their calls, and calls that must be over."""

from __future__ import annotations

from streamtrans.conformance.kit import CHUNK_MS, CODE, Kit, NotTried, expect
from streamtrans.conformance.promises import gap_free, lines_of
from streamtrans.wire import end_message, resume_message, silence_message


def _offered(kit: Kit) -> None:
    if not kit.offers.limits.resume_ms:
        raise NotTried("the server offers no resume: `limits.resume_ms` is 0")


async def checkpoints(kit: Kit) -> str:
    """A resumable stream has a token, and checkpoints acknowledge what was sent; another stream has neither."""
    _offered(kit)
    async with kit.stream() as talk:
        expect(not talk.told[0].started.resume_token, "there is a token though none was asked for")
    async with kit.stream(resumable=True) as talk:
        expect(talk.told[0].started.resume_token, "`started.resume_token` is empty")
        speech = kit.speech()
        await talk.say(*speech, silence_message(2_000, len(speech) + 1))
        told = (await talk.until("checkpoint", 2)).checkpoint
        numbers = [each.checkpoint.acknowledged_sequence for each in talk.of("checkpoint")]
        expect(numbers == sorted(numbers), f"acknowledged were {numbers}")
        expect(0 < numbers[-1] <= len(speech) + 1, f"message {numbers[-1]} was acknowledged, and never sent")
        expect(told.acknowledged_ms > 0, "`acknowledged_ms` is 0")
        return f"message {told.acknowledged_sequence}, {told.acknowledged_ms} ms"


async def resumed(kit: Kit) -> str:
    """A broken call goes on in another: first what was missed, then `started`; nothing twice, nothing lost."""
    _offered(kit)
    speech = kit.speech()
    async with kit.stream(resumable=True) as broken:
        await broken.say(*speech[: len(speech) // 2])
        await broken.until("checkpoint")
        held = broken.told[: max(1, len(broken.told) // 2)]  # as if the rest had been on its way when the call broke
        lost = broken.told[len(held) :]
        token = broken.of("checkpoint")[-1].checkpoint.resume_token
        await broken.leave()
    async with kit.call() as talk:
        await talk.say(resume_message(token, held[-1].event_sequence))
        told = await talk.until("started")
        for before, again in zip(lost, talk.told, strict=False):
            if again.WhichOneof("event") != "started":
                expect(before == again, f"event {before.event_sequence} came again, and was another one")
        heard = told.started.acknowledged_sequence
        expect(heard <= len(speech), f"`started.acknowledged_sequence` is {heard}")
        await talk.say(*speech[heard:], end_message(len(speech)))
        await talk.ends_with(CODE.OK)
        events = [*held, *talk.told]
        gap_free(events)
        lines = lines_of(events)
        left = [key for key, line in lines.items() if not line.final]
        expect(not left, f"not final at the end: {left}")
        due_ms, told_ms = len(speech) * CHUNK_MS, talk.told[-1].summary.audio_ms
        expect(told_ms == due_ms, f"`summary.audio_ms` is {told_ms}, and {due_ms} ms were sent")
        return f"{len(lost)} events came again; {heard} messages were acknowledged"


async def superseded(kit: Kit) -> str:
    """Who resumes a stream takes it: the call that has it ends with ABORTED."""
    _offered(kit)
    async with kit.stream(resumable=True) as first, kit.call() as second:
        await second.say(resume_message(first.told[0].started.resume_token, 1))
        seen = await first.ends_with(CODE.ABORTED)
        await second.until("started")
        return seen


async def unknown_token(kit: Kit) -> str:
    """An unknown token is NOT_FOUND, and so is that of a stream that has ended."""
    _offered(kit)
    async with kit.call() as talk:
        await talk.say(resume_message("no such token", 1))
        await talk.ends_with(CODE.NOT_FOUND)
    async with kit.stream(resumable=True) as talk:
        token = talk.told[0].started.resume_token
        await talk.say(end_message(0))
        await talk.ends_with(CODE.OK)
    async with kit.call() as talk:
        await talk.say(resume_message(token, 10**6))
        return await talk.ends_with(CODE.NOT_FOUND, CODE.DATA_LOSS)


async def lost_events(kit: Kit) -> str:
    """Where what was missed can't be told, it is said aloud: DATA_LOSS."""
    _offered(kit)
    async with kit.stream(resumable=True) as broken:
        token = broken.told[0].started.resume_token
        await broken.leave()
    async with kit.call() as talk:
        await talk.say(resume_message(token, 10**6))
        return await talk.ends_with(CODE.DATA_LOSS)


async def go_away(kit: Kit) -> str:
    """Before the maximum age `go_away` says how much time is left; then come finals, `summary` and ABORTED."""
    age_s = kit.offers.limits.max_connection_ms / 1000
    if age_s + 5 > kit.patience_s:
        raise NotTried(f"a call may last {age_s:g} s, and --patience is {kit.patience_s:g} s")
    async with kit.stream() as talk:
        await talk.say(*kit.speech())
        told = (await talk.until("go_away")).go_away
        expect(told.time_left_ms > 0, "`time_left_ms` is 0")
        expect(told.reason == 1, f"the reason is {told.reason}, and not MAX_AGE")
        await talk.ends_with(CODE.ABORTED)
        last = talk.told[-1].WhichOneof("event")
        expect(last == "summary", f"`{last}` came last")
        left = [key for key, line in lines_of(talk.told).items() if not line.final]
        expect(not left, f"not final at the end: {left}")
        return f"{told.time_left_ms} ms were left"


CHECKS = (checkpoints, resumed, superseded, unknown_token, lost_events, go_away)
