"""Who reads along, and who asks how his streams are getting on."""

from __future__ import annotations

from streamtrans.conformance.kit import CODE, Kit, NotTried, Talk, expect
from streamtrans.conformance.promises import gap_free, lines_of
from streamtrans.wire import ServerMessage, end_message


def _token(talk: Talk[ServerMessage]) -> str:
    token = talk.told[0].started.viewer_token
    if not token:
        raise NotTried("the server lets nobody read along: `started.viewer_token` is empty")
    return token


async def same_text(kit: Kit) -> str:
    """A viewer is told `started`, the captions of his language as the speaker has them, `ended`, and status OK."""
    async with kit.stream(mode="final") as talk, kit.viewer(_token(talk), kit.targets[0]) as viewer:
        await viewer.until("started")
        speech = kit.speech()
        await talk.say(*speech, end_message(len(speech)))
        await talk.ends_with(CODE.OK)
        await viewer.ends_with(CODE.OK)
        gap_free(viewer.told)
        last = viewer.told[-1].WhichOneof("event")
        expect(last == "ended", f"`{last}` came last")
        mine, theirs = lines_of(viewer.told), lines_of(talk.told)
        expect({language for _, language in mine} <= {kit.targets[0]}, "captions of other languages came")
        told = {key: line.committed for key, line in theirs.items() if key[1] == kit.targets[0]}
        seen = {key: line.committed for key, line in mine.items() if line.final}
        expect(seen == told, f"the viewer holds {seen}, the speaker {told}")
        expect(viewer.told[-1].ended.finals == len(seen), f"`ended.finals` is {viewer.told[-1].ended.finals}")
        return f"{len(seen)} finals"


async def late(kit: Kit) -> str:
    """Who comes late is told first, as snapshots, what the stream has said last."""
    async with kit.stream() as talk:
        token, speech = _token(talk), kit.speech()
        await talk.say(*speech)
        while not any(each.caption.committed_append for each in talk.of("caption")):
            await talk.until("caption", len(talk.of("caption")) + 1)
        language = talk.of("caption")[-1].caption.language
        async with kit.viewer(token, language) as viewer:
            told = (await viewer.until("caption")).caption
            first = viewer.of("caption")[0].caption
            expect(first.snapshot, "the first caption of a line is no snapshot")
            await talk.say(end_message(len(speech)))
            await viewer.ends_with(CODE.OK)
            lines_of(viewer.told)
            return f"segment {told.segment_id} first"


async def own_right(kit: Kit) -> str:
    """Only the viewers' token lets in: guesses, the session's name and the token to resume are UNAUTHENTICATED."""
    async with kit.stream(resumable=True) as talk:
        token, begun = _token(talk), talk.told[0]
        for guess in ("", "guess", token[:-1], begun.session_id, begun.started.resume_token):
            async with kit.viewer(guess, kit.targets[0]) as viewer:
                seen = await viewer.ends_with(CODE.UNAUTHENTICATED)
                expect(not viewer.told, "something was told before")
        return seen


async def unknown_language(kit: Kit) -> str:
    """A language that the server doesn't write is UNIMPLEMENTED to a viewer, too."""
    async with kit.stream() as talk, kit.viewer(_token(talk), "tlh") as viewer:
        return await viewer.ends_with(CODE.UNIMPLEMENTED)


async def figures(kit: Kit) -> str:
    """`GetStats` tells of the caller's own streams, with their cursors and targets."""
    async with kit.stream() as talk:
        speech = kit.speech(share=0.5)
        await talk.say(*speech)
        await talk.until("speech")
        told = await kit.carrier.stats(kit.patience_s)
        mine = [each for each in told.streams if each.session_id == talk.told[0].session_id]
        expect(len(mine) == 1, f"{len(mine)} of its {len(told.streams)} streams are this one")
        expect(mine[0].connected, "the stream isn't said to be connected")
        expect(list(mine[0].targets) == list(kit.targets), f"its targets are {list(mine[0].targets)}")
        expect(mine[0].cursors.received_ms > 0, "nothing is said to have been received")
        return f"{told.active} streams"


CHECKS = (same_text, late, own_right, unknown_language, figures)
