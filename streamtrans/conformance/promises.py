"""What holds of every stream: numbers without a gap, text that is never taken back, an end that is one."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from streamtrans.conformance.kit import CHUNK_MS, CODE, Broken, Kit, NotTried, Talk, expect
from streamtrans.wire import (
    SPEECH_STARTED,
    ClientMessage,
    ServerMessage,
    WatchResponse,
    end_message,
    end_utterance_message,
    leave_message,
    ping_message,
    silence_message,
)

_SILENCE_MS = 3_000
"""Ends any segment, whatever silence a server waits for."""


@dataclass(slots=True)
class Line:
    """What a client holds of one segment in one language."""

    committed: str = ""
    tentative: str = ""
    revision: int = 0
    final: bool = False


def lines_of(told: Iterable[ServerMessage | WatchResponse]) -> dict[tuple[int, str], Line]:
    """Return what a client holds after these messages.

    Raises:
        Broken: one of them breaks a promise.
    """
    lines: dict[tuple[int, str], Line] = {}
    for message in told:
        if message.WhichOneof("event") != "caption":
            continue
        caption = message.caption
        where = f"segment {caption.segment_id}, {caption.language}"
        line = lines.setdefault((caption.segment_id, caption.language), Line())
        expect(not line.final, f"{where}: a caption came after the final one")
        expect(
            caption.snapshot or caption.revision == line.revision + 1,
            f"{where}: revision {caption.revision} came after {line.revision}",
        )
        expect(
            caption.withdrawn <= len(line.tentative) or caption.snapshot,
            f"{where}: {caption.withdrawn} code points were withdrawn of a tail of {len(line.tentative)}",
        )
        text = ("" if caption.snapshot else line.committed) + caption.committed_append
        expect(text.startswith(line.committed), f"{where}: a snapshot took committed text back")
        expect(not (caption.final and caption.tentative), f"{where}: the final caption has a tail")
        line.committed, line.tentative = text, caption.tentative
        line.revision, line.final = caption.revision, caption.final
    return lines


def gap_free(told: Sequence[ServerMessage | WatchResponse]) -> str:
    """Say how many messages came; raises :class:`Broken` where their numbers have a gap."""
    for due, message in enumerate(told, 1):
        expect(message.event_sequence == due, f"event {message.event_sequence} came where {due} was due")
    return f"1 to {len(told)}"


async def whole(kit: Kit, mode: str = "live", between: Sequence[ClientMessage] = ()) -> Talk[ServerMessage]:
    """Return a call that came to its end, in whose middle some messages were said."""
    async with kit.stream(mode=mode) as talk:
        speech = kit.speech()
        half = len(speech) // 2
        await talk.say(*speech[:half], *between, *speech[half:], end_message(len(speech)))
        await talk.ends_with(CODE.OK)
        return talk


async def sequence(kit: Kit) -> str:
    """`event_sequence` starts at 1 and rises by exactly one with every response, whatever they answer."""
    talk = await whole(kit, between=[ping_message(1), end_utterance_message(), ping_message(2)])
    return gap_free(talk.told)


async def session(kit: Kit) -> str:
    """Every response carries the session, the server's time and cursors that never go back."""
    talk = await whole(kit)
    first = talk.told[0]
    for before, message in zip(talk.told, talk.told[1:], strict=False):
        where = f"event {message.event_sequence}"
        expect(message.session_id == first.session_id, f"{where} is of session {message.session_id!r}")
        expect(message.server_time_ms > 0, f"{where} has no `server_time_ms`")
        for name in ("received_ms", "decoded_ms", "committed_ms", "final_ms"):
            one, other = getattr(before.cursors, name), getattr(message.cursors, name)
            expect(one <= other, f"{where}: `cursors.{name}` went back from {one} to {other}")
        most = message.cursors.received_ms
        expect(message.cursors.decoded_ms <= most, f"{where}: more was decoded than was received")
        expect(message.cursors.final_ms <= most, f"{where}: more is final than was received")
    return f"received {talk.told[-1].cursors.received_ms} ms, final {talk.told[-1].cursors.final_ms} ms"


async def committed(kit: Kit) -> str:
    """Committed text only grows; revisions count 1, 2, 3; after `final` nothing comes, and a final has no tail."""
    lines = lines_of((await whole(kit)).told)
    expect(lines, "no caption came; is there speech in the recording, in a language of this server?")
    return f"{len(lines)} lines, {sum(line.revision for line in lines.values())} captions"


async def finals(kit: Kit) -> str:
    """After `end` every segment is final in every target; then comes `summary`, then status OK."""
    talk = await whole(kit)
    lines = lines_of(talk.told)
    segments = {message.speech.segment_id for message in talk.of("speech")} | {segment for segment, _ in lines}
    opened = [(segment, language) for segment in segments for language in kit.targets]
    left = [f"{segment} {language}" for segment, language in opened if (segment, language) not in lines]
    left += [f"{segment} {language}" for (segment, language), line in lines.items() if not line.final]
    expect(not left, f"not final at the end: {', '.join(left)}")
    last = talk.told[-1].WhichOneof("event")
    expect(last == "summary", f"`{last}` came last")
    return f"{len(lines)} finals of {len(segments)} segments"


async def summary(kit: Kit) -> str:
    """`summary` counts what was: audio, segments, captions, finals and withdrawn code points."""
    talk = await whole(kit)
    told, captions = talk.told[-1].summary, [message.caption for message in talk.of("caption")]
    sent_ms = len(kit.speech()) * CHUNK_MS
    started = sum(message.speech.type == SPEECH_STARTED for message in talk.of("speech"))
    for name, counted, said in (
        ("audio_ms", sent_ms, told.audio_ms),
        ("segments", started, told.segments),
        ("captions", len(captions), told.captions),
        ("finals", sum(caption.final for caption in captions), told.finals),
        ("withdrawn", sum(caption.withdrawn for caption in captions), told.withdrawn),
    ):
        expect(counted == said, f"`summary.{name}` is {said}, and {counted} came")
    return f"{told.captions} captions, {told.finals} finals, {told.withdrawn} code points withdrawn"


async def speech(kit: Kit) -> str:
    """A segment is told when it begins and when it ends, in order, before its captions and within the audio."""
    talk = await whole(kit)
    opened: dict[int, int] = {}
    closed: set[int] = set()
    for message in talk.of("speech", "caption"):
        if message.WhichOneof("event") == "caption":
            expect(message.caption.segment_id in opened, f"segment {message.caption.segment_id} has text unannounced")
            continue
        segment, at = message.speech.segment_id, message.speech.offset_ms
        if message.speech.type == SPEECH_STARTED:
            expect(segment not in opened, f"segment {segment} began twice")
            expect(at >= max(opened.values(), default=0), f"segment {segment} begins before an earlier one")
            opened[segment] = at
        else:
            expect(segment in opened and segment not in closed, f"segment {segment} ended without having begun")
            expect(at >= opened[segment], f"segment {segment} ends before it begins")
            closed.add(segment)
    expect(opened, "nobody was heard to speak")
    expect(closed == set(opened), f"not told to have ended: {sorted(set(opened) - closed)}")
    return f"{len(opened)} segments"


async def stable(kit: Kit) -> str:
    """In mode STABLE no caption has a tail."""
    talk = await whole(kit, mode="stable")
    expect(not any(each.caption.tentative for each in talk.of("caption")), "a caption has tentative text")
    lines_of(talk.told)
    return f"{len(talk.of('caption'))} captions"


async def final_only(kit: Kit) -> str:
    """In mode FINAL all captions are final."""
    talk = await whole(kit, mode="final")
    expect(all(each.caption.final for each in talk.of("caption")), "a caption isn't final")
    return f"{len(talk.of('caption'))} captions"


async def pong(kit: Kit) -> str:
    """`ping` is answered by `pong` with the client's time."""
    async with kit.stream() as talk:
        await talk.say(ping_message(123_456_789))
        told = await talk.until("pong")
        expect(told.pong.client_time_ms == 123_456_789, f"`pong.client_time_ms` is {told.pong.client_time_ms}")
        return "answered"


async def utterance(kit: Kit) -> str:
    """`end_utterance` closes the segment at once: it becomes final in every target without silence."""
    async with kit.stream() as talk:
        await talk.say(*kit.speech(share=0.5))
        await talk.until("speech")
        await talk.say(end_utterance_message())
        while sum(each.caption.final for each in talk.of("caption")) < len(kit.targets):
            await talk.until("caption", len(talk.of("caption")) + 1)
        return f"final at {talk.told[-1].cursors.received_ms} ms"


async def silence(kit: Kit) -> str:
    """`silence` is audio that needn't be sent: it is received, it counts, and it ends a segment."""
    async with kit.stream() as talk:
        spoken = kit.speech(share=0.5)
        most_ms = min(_SILENCE_MS, kit.offers.limits.max_silence_ms)
        await talk.say(*spoken, silence_message(most_ms, len(spoken) + 1))
        while sum(each.caption.final for each in talk.of("caption")) < len(kit.targets):
            await talk.until("caption", len(talk.of("caption")) + 1)
        await talk.say(end_message(len(spoken) + 1))
        await talk.ends_with(CODE.OK)
        due_ms, told_ms = len(spoken) * CHUNK_MS + most_ms, talk.told[-1].summary.audio_ms
        expect(told_ms == due_ms, f"`summary.audio_ms` is {told_ms}, and {due_ms} ms were sent")
        return f"{most_ms} ms of silence"


async def half_close(kit: Kit) -> str:
    """Over gRPC, half-close is the same as `end`."""
    if kit.over != "gRPC":
        raise NotTried("a WebSocket has no half-close")
    async with kit.stream() as talk:
        await talk.say(*kit.speech(share=0.5))
        await talk.say(silence_message(100, len(kit.speech(share=0.5)) + 1), last=True)
        await talk.ends_with(CODE.OK)
        expect(talk.told[-1].WhichOneof("event") == "summary", "no `summary` came")
        return gap_free(talk.told)


async def leaving(kit: Kit) -> str:
    """`end` with `leave` ends the call; no last captions come."""
    async with kit.stream() as talk:
        await talk.say(*kit.speech(share=0.5), leave_message())
        await talk.rest()
        if talk.of("summary"):
            raise Broken("a `summary` came")
        return talk.ending


CHECKS = (
    sequence, session, committed, finals, summary, speech, stable, final_only, pong, utterance, silence, half_close,
    leaving,
)  # fmt: skip
