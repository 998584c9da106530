"""How a call begins: with what is in effect, or with a status that says what is wrong."""

from __future__ import annotations

from streamtrans.conformance.kit import CODE, Kit, expect
from streamtrans.wire import ENCODINGS, MODES, ClientMessage, audio_message, config_message


async def started(kit: Kit) -> str:
    """`config` is answered by `started`, event 1, which names the session, the model and its languages."""
    async with kit.stream() as talk:
        first = talk.told[0]
        expect(first.WhichOneof("event") == "started", f"`{first.WhichOneof('event')}` came first")
        expect(first.event_sequence == 1, f"`started` is event {first.event_sequence}")
        expect(first.session_id, "`session_id` is empty")
        expect(first.started.model, "`started.model` is empty")
        missing = [each for each in kit.targets if each not in first.started.languages]
        expect(not missing, f"`started.languages` lacks {', '.join(missing)}")
        return f"{first.started.model}, {len(first.started.languages)} languages"


async def effective(kit: Kit) -> str:
    """`started.config` is what is in effect, with all defaults filled in."""
    async with kit.stream() as talk:
        config = talk.told[0].started.config
        expect(config.audio_format.sample_rate_hertz == 16_000, f"the rate is {config.audio_format.sample_rate_hertz}")
        expect(config.audio_format.channels >= 1, "`audio_format.channels` isn't filled in")
        told = tuple(target.language for target in config.targets)
        expect(told == kit.targets, f"the targets are {told}, and {kit.targets} were asked for")
        expect(config.mode == MODES["live"], f"mode {config.mode} is in effect, and LIVE was asked for")
        expect(config.endpointing.vad, "`endpointing.vad` isn't filled in")
        expect(config.endpointing.min_silence_ms > 0, "`endpointing.min_silence_ms` isn't filled in")
        return f"detector {config.endpointing.vad}, silence of {config.endpointing.min_silence_ms} ms ends a segment"


async def limits(kit: Kit) -> str:
    """All limits are published in `started` and by `ListCapabilities`, and are the same."""
    async with kit.stream() as talk:
        told, offered = talk.told[0].started.limits, kit.offers.limits
        expect(told == offered, f"`started` has {_line(told)}, ListCapabilities has {_line(offered)}")
        unset = [field.name for field in told.DESCRIPTOR.fields if not getattr(told, field.name)]
        expect(not set(unset) - {"resume_ms"}, f"not set: {', '.join(unset)}")
        return _line(told)


async def encodings(kit: Kit) -> str:
    """An encoding that is offered opens a stream; any other is UNIMPLEMENTED."""
    seen = []
    for name, number in ENCODINGS.items():
        async with kit.call() as talk:
            config = config_message(kit.options())
            config.config.audio_format.encoding = number
            if name in ("mulaw", "alaw"):
                config.config.audio_format.sample_rate_hertz = 8_000
            await talk.say(config)
            if number in kit.offers.encodings:
                await talk.until("started")
                seen.append(name)
            else:
                await talk.ends_with(CODE.UNIMPLEMENTED)
    return ", ".join(seen)


async def modes(kit: Kit) -> str:
    """Every mode that is offered is in effect where it is asked for."""
    seen = []
    for name, number in MODES.items():
        if number in kit.offers.modes:
            async with kit.stream(mode=name) as talk:
                told = talk.told[0].started.config.mode
                expect(told == number, f"mode {told} is in effect where {name} was asked for")
                seen.append(name)
    return ", ".join(seen)


WRONG = {
    "audio_format.encoding": ClientMessage(config={"audio_format": {"encoding": 0}}),
    "audio_format.sample_rate_hertz": ClientMessage(config={"audio_format": {"sample_rate_hertz": -1}}),
    "audio_format.channels": ClientMessage(config={"audio_format": {"channels": -1}}),
    "targets[0].language": ClientMessage(config={"targets": [{"language": " "}]}),
    "mode": ClientMessage(config={"mode": 99}),
    "endpointing.vad": ClientMessage(config={"endpointing": {"vad": "no such detector"}}),
    "endpointing.min_silence_ms": ClientMessage(config={"endpointing": {"min_silence_ms": -1}}),
    "partials.min_interval_ms": ClientMessage(config={"partials": {"min_interval_ms": -1}}),
    "erasure_budget": ClientMessage(config={"erasure_budget": -1.0}),
    "latency_budget_ms": ClientMessage(config={"latency_budget_ms": -1}),
}
"""Field → what is wrong with it, in a configuration that is right otherwise."""


async def wrong_fields(kit: Kit) -> str:
    """A wrong configuration is INVALID_ARGUMENT, and `BadRequest` in the details names the field."""
    for field, wrong in WRONG.items():
        message = config_message(kit.options())
        if wrong.config.targets:
            del message.config.targets[:]
        message.MergeFrom(wrong)
        if field == "audio_format.encoding":
            message.config.audio_format.ClearField("encoding")
        async with kit.call() as talk:
            await talk.say(message)
            await talk.ends_with(CODE.INVALID_ARGUMENT, field=field)
    return f"{len(WRONG)} fields"


async def no_target(kit: Kit) -> str:
    """A call without a target is INVALID_ARGUMENT and names `targets`, as does one with too many."""
    most = kit.offers.limits.max_targets
    for languages in ((), (kit.targets[0],) * (most + 1)):
        message = config_message(kit.options())
        del message.config.targets[:]
        for each in languages:
            message.config.targets.add(language=each)
        async with kit.call() as talk:
            await talk.say(message)
            seen = await talk.ends_with(CODE.INVALID_ARGUMENT, field="targets")
    return seen


async def unknown_language(kit: Kit) -> str:
    """A language that isn't offered is UNIMPLEMENTED."""
    async with kit.call() as talk:
        await talk.say(config_message(kit.options(targets=("tlh",))))
        return await talk.ends_with(CODE.UNIMPLEMENTED)


async def config_first(kit: Kit) -> str:
    """Whatever comes before `config` is FAILED_PRECONDITION."""
    async with kit.call() as talk:
        await talk.say(audio_message(b"\0" * 3_200, 1))
        return await talk.ends_with(CODE.FAILED_PRECONDITION)


async def config_once(kit: Kit) -> str:
    """A second `config` is FAILED_PRECONDITION."""
    async with kit.stream() as talk:
        await talk.say(config_message(kit.options()))
        return await talk.ends_with(CODE.FAILED_PRECONDITION)


async def empty_message(kit: Kit) -> str:
    """A message without a payload is INVALID_ARGUMENT."""
    async with kit.call() as talk:
        await talk.say(ClientMessage())
        return await talk.ends_with(CODE.INVALID_ARGUMENT)


async def no_message(kit: Kit) -> str:
    """What can't be read as a message is INVALID_ARGUMENT, first or later."""
    nonsense = '{"nonsense": 1}' if kit.over == "WebSocket, JSON" else b"\xff\xff\xff"
    async with kit.call() as talk:
        await talk.say(nonsense)
        await talk.ends_with(CODE.INVALID_ARGUMENT)
    async with kit.stream() as talk:
        await talk.say(nonsense)
        return await talk.ends_with(CODE.INVALID_ARGUMENT)


def _line(limits: object) -> str:
    return " ".join(str(limits).split())


CHECKS = (
    started, effective, limits, encodings, modes, wrong_fields, no_target, unknown_language, config_first, config_once,
    empty_message, no_message,
)  # fmt: skip
