"""Targets that come and go while the stream runs."""

from __future__ import annotations

from streamtrans.conformance.kit import CODE, Kit, Talk, expect
from streamtrans.conformance.promises import gap_free, lines_of
from streamtrans.wire import ServerMessage, end_message, end_utterance_message, update_message


def _answers(talk: Talk[ServerMessage]) -> list[int]:
    """Return the numbers of the updates that were answered."""
    return [
        each.config_applied.update_id or each.config_rejected.update_id
        for each in talk.of("config_applied", "config_rejected")
    ]


async def applied(kit: Kit) -> str:
    """An update is answered once, with all that is in effect, and from `effective_at_ms` on it is."""
    one, other = kit.targets
    async with kit.stream() as talk:
        speech = kit.speech()
        half = len(speech) // 2
        await talk.say(*speech[:half], end_utterance_message(), update_message(7, [], [other]))
        told = (await talk.until("config_applied")).config_applied
        targets = [each.language for each in told.config.targets]
        expect(targets == [one], f"`config_applied.config` has the targets {targets}, not [{one}]")
        await talk.say(*speech[half:], end_message(len(speech)))
        await talk.ends_with(CODE.OK)
        received_ms = talk.told[-1].cursors.received_ms
        expect(0 <= told.effective_at_ms <= received_ms, f"`effective_at_ms` is {told.effective_at_ms}")
        late = [each.caption for each in talk.of("caption") if each.caption.start_ms >= told.effective_at_ms]
        wrong = [each.segment_id for each in late if each.language == other]
        expect(not wrong, f"{other} was removed at {told.effective_at_ms} ms, and has captions in segment {wrong[:1]}")
        expect(_answers(talk) == [7], f"the answers are {_answers(talk)}")
        lines = lines_of(talk.told)
        left = [key for key, line in lines.items() if not line.final]
        expect(not left, f"not final at the end: {left}")
        gap_free(talk.told)
        return f"effective at {told.effective_at_ms} ms"


async def added(kit: Kit) -> str:
    """A language that is added, or comes again, has captions of all that begins from then on."""
    one, other = kit.targets
    async with kit.stream() as talk:
        speech = kit.speech()
        half = len(speech) // 2
        await talk.say(update_message(1, [], [other]), *speech[:half], end_utterance_message())
        await talk.say(update_message(2, [other], []), *speech[half:], end_message(len(speech)))
        await talk.ends_with(CODE.OK)
        expect(_answers(talk) == [1, 2], f"the answers are {_answers(talk)}")
        from_ms = talk.of("config_applied")[-1].config_applied.effective_at_ms
        lines = lines_of(talk.told)
        begun = {each.caption.segment_id for each in talk.of("caption") if each.caption.start_ms >= from_ms}
        lacking = [segment for segment in begun for language in (one, other) if (segment, language) not in lines]
        expect(not lacking, f"segments {lacking} began after {from_ms} ms and lack a language")
        return f"{len(begun)} segments in both"


async def rejected(kit: Kit) -> str:
    """An update that can't be had is rejected once, in words, and nothing has changed; the stream goes on."""
    most = kit.offers.limits.max_targets
    async with kit.stream() as talk:
        wrong = [
            update_message(1, ["tlh"], []),
            update_message(2, [], list(kit.targets)),
            update_message(3, [kit.targets[0]] * (most + 1), []),
        ]
        speech = kit.speech(share=0.6)
        await talk.say(*wrong, *speech, end_message(len(speech)))
        await talk.ends_with(CODE.OK)
        refused = [each.config_rejected for each in talk.of("config_rejected")]
        expect(_answers(talk) == [1, 2, 3], f"the answers are {_answers(talk)}")
        expect(len(refused) == 3, f"{3 - len(refused)} were applied")
        expect(all(each.message for each in refused), "`config_rejected.message` is empty")
        languages = {each.caption.language for each in talk.of("caption")}
        expect(languages <= set(kit.targets), f"there are captions in {languages}")
        return refused[0].message


CHECKS = (applied, added, rejected)
