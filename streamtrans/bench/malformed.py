"""What does a server say to what it should never be sent, and what is left of it? Thousands of wrong messages.

Malformed, misordered, truncated and oversized ones, over gRPC, a WebSocket with protobuf and one with JSON in turn.
Each is a call of its own, or the end of one that began well. A right answer is a status that fits, with the fields that
are wrong where one is; a fault of the server's own (INTERNAL, UNKNOWN) never is, nor is silence. Meanwhile its memory
is looked at.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Annotated, Any

import grpc
from google.protobuf.message import Message

from streamtrans.bench.measurement import Progress, Report, Table, silent
from streamtrans.bench.soak import weigh
from streamtrans.bench.startup import free_port, started
from streamtrans.client.carrier import Call, CallOver, Carrier, Status, carrier_to
from streamtrans.client.errors import error_of
from streamtrans.core import Group, Option
from streamtrans.metrics import trend
from streamtrans.runtime import ModelChoice, identity
from streamtrans.wire import (
    BadFields,
    ClientMessage,
    Frame,
    JsonForm,
    ProtoForm,
    ServerMessage,
    StreamOptions,
    audio_message,
    config_message,
    end_message,
    ping_message,
    resume_message,
    silence_message,
    update_message,
)

CODE = grpc.StatusCode

NEVER = (CODE.INTERNAL, CODE.UNKNOWN, CODE.UNAVAILABLE, CODE.DEADLINE_EXCEEDED, CODE.CANCELLED)
"""What no message of a client may come to."""

_CARRIERS = ("gRPC", "WebSocket, protobuf", "WebSocket, JSON")
_PATIENCE_S = 20.0
_BLOCK = 500
"""Calls between two looks at the memory."""
_WARM = 0.2
"""Share of the calls after which growth says something."""

Said = Message | Frame


@dataclass(frozen=True, slots=True)
class Wrong:
    """A call that isn't right, and the statuses that fit."""

    kind: str
    says: Sequence[Said]
    fits: tuple[grpc.StatusCode, ...]
    field: bool = False
    """Whether the details must name a field."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Malformed:
    """Send wrong messages over three carriers; what comes of them, and what the server's memory does."""

    count: Annotated[int, Option("How many calls.", least=1)] = 10_000
    seed: Annotated[int, Option("Of the messages.", least=0)] = 0
    choice: Annotated[ModelChoice, Group()] = field(default_factory=ModelChoice)

    def measure(self, progress: Progress = silent) -> Report:
        """Start a server, send them, and look at it."""
        http = free_port()
        memory: list[tuple[float, float]] = []
        with started([*self.choice.arguments(), "--http-port", str(http)]) as (process, port):
            addresses = (f"127.0.0.1:{port}", *[f"ws://127.0.0.1:{http}"] * 2)

            def look(done: int) -> None:
                if done % _BLOCK == 0:
                    memory.append((done / 1_000, weigh(process).anonymous_mb))
                progress("calls", done, self.count)

            found = asyncio.run(torment(addresses, self.count, self.seed, look))
        warm = memory[round(_WARM * len(memory)) :]
        slope = trend([at for at, _ in warm], [mb for _, mb in warm], block=_BLOCK / 1_000)
        figures = {
            "model": identity(self.choice.model),
            **found,
            "anonymous_mb": memory,
            "mb_per_thousand": None if slope is None else [slope.per_minute, slope.low, slope.high],
        }
        rows = [(kind, sum(codes.values()), _line(codes)) for kind, codes in found["statuses"].items()]
        notes = [f"wrong answers: {len(found['wrong'])}", *found["wrong"][:5]]
        return Report(figures, [Table("wrong messages", ("kind", "calls", "answered by"), rows)], notes)


async def torment(
    addresses: Sequence[str], count: int, seed: int = 0, look: Callable[[int], None] = lambda _: None
) -> dict[str, Any]:
    """Send so many wrong calls to a server; return the statuses by kind, and what was answered wrongly.

    Args:
        addresses: of gRPC, and twice of WebSockets.
        count: of calls.
        seed: of what they say.
        look: told how many are done.
    """
    dice = random.Random(seed)
    carriers = [carrier_to(address) for address in addresses]
    carriers[2].form = JsonForm  # type: ignore[attr-defined]  # one over WebSockets has it
    for carrier in carriers:
        await carrier.open()
    statuses: dict[str, Counter[str]] = {}
    wrong: list[str] = []
    began = time.monotonic()
    try:
        for number in range(1, count + 1):
            over = number % len(carriers)
            call = make(dice, text=over == 2)
            status = await _answer(carriers[over], call)
            statuses.setdefault(call.kind, Counter())[status[0].name] += 1
            if (problem := judged(call, status, _CARRIERS[over])) is not None:
                wrong.append(f"{number}, {_CARRIERS[over]}, {call.kind}: {problem}")
            look(number)
    finally:
        for carrier in carriers:
            await carrier.close()
    told = {kind: dict(codes) for kind, codes in sorted(statuses.items())}
    return {"calls": count, "seconds": round(time.monotonic() - began, 1), "statuses": told, "wrong": wrong}


def judged(call: Wrong, status: Status, over: str) -> str | None:
    """Say what is wrong with a server's answer; ``None``: nothing."""
    code, message, details = status
    if code in NEVER or code not in call.fits:
        return f"{code.name}, {message}"
    if code is not CODE.OK and not message:
        return f"{code.name} without a word"
    if call.field and code is CODE.INVALID_ARGUMENT and not error_of(code, message, details).fields:
        return f"{code.name} over {over} names no field: {message}"
    return None


async def _answer(carrier: Carrier, wrong: Wrong) -> Status:
    """Return how a call ends; a server that is full for the moment is asked again when it says."""
    for _ in range(20):
        call = carrier.speak()
        try:
            async with asyncio.timeout(_PATIENCE_S):
                status = await _talk(call, wrong)
        except TimeoutError:
            status = (CODE.DEADLINE_EXCEEDED, "no status came", ())
        finally:
            await call.close()
        wait_s = error_of(*status).retry_after_s if status[0] is CODE.RESOURCE_EXHAUSTED else None
        if wait_s is None:
            break
        await asyncio.sleep(wait_s)
    return status


async def _talk(call: Call[ServerMessage], wrong: Wrong) -> Status:
    async def say() -> None:
        with suppress(CallOver):
            for message in wrong.says:
                await call.write(message)

    saying = asyncio.create_task(say())
    try:
        while await call.read() is not None:
            pass
        return await call.status()
    finally:
        saying.cancel()
        await asyncio.wait([saying])


def make(dice: random.Random, *, text: bool) -> Wrong:
    """Return a wrong call: of a carrier whose messages are ``text``, or bytes."""
    return dice.choice(_KINDS)(dice, text)


_OPENING = config_message(StreamOptions(("de",)))
_PCM = b"\x10\x00" * 1_600
_ANY = (
    CODE.INVALID_ARGUMENT, CODE.FAILED_PRECONDITION, CODE.RESOURCE_EXHAUSTED, CODE.UNIMPLEMENTED, CODE.NOT_FOUND,
    CODE.DATA_LOSS, CODE.OK,
)  # fmt: skip
"""Statuses that fit bytes of which nobody knows what they say; what they say may even be right."""


def _framed(message: ClientMessage, text: bool) -> Frame:
    return JsonForm().frame(message) if text else message.SerializeToString()


def _noise(dice: random.Random, text: bool) -> Wrong:
    size = dice.choice((1, 3, 30, 300, 3_000))
    data: Frame = dice.randbytes(size)
    if text:
        data = "".join(chr(dice.randrange(1, 0x3000)) for _ in range(size))
    return _read_or_not("noise", data, dice)


def _flipped(dice: random.Random, text: bool) -> Wrong:
    """Change a byte or a character of a right message."""
    frame = _framed(dice.choice((_OPENING, audio_message(_PCM, 1), update_message(1, ["fr"], []))), text)
    at = dice.randrange(len(frame))
    if isinstance(frame, str):
        return _read_or_not("flipped", frame[:at] + chr(dice.randrange(32, 127)) + frame[at + 1 :], dice)
    return _read_or_not("flipped", frame[:at] + bytes([dice.randrange(256)]) + frame[at + 1 :], dice)


def _truncated(dice: random.Random, text: bool) -> Wrong:
    frame = _framed(dice.choice((_OPENING, audio_message(_PCM, 1), resume_message("token", 3))), text)
    return _read_or_not("truncated", frame[: dice.randrange(len(frame))], dice)


def _read_or_not(kind: str, data: Frame, dice: random.Random) -> Wrong:
    """Say ``data`` first, or after a right beginning; what can't be read must be INVALID_ARGUMENT."""
    form = JsonForm() if isinstance(data, str) else ProtoForm()
    fits: tuple[grpc.StatusCode, ...] = _ANY
    try:
        form.message(data, ClientMessage)
    except BadFields:
        fits = (CODE.INVALID_ARGUMENT,)
    beginning = [_OPENING] if dice.random() < 0.5 else []
    return Wrong(kind, [*beginning, data, end_message(0)], fits, field=True)


def _text_that_is_none(dice: random.Random, text: bool) -> Wrong:
    """Text that is no JSON object, or JSON of the wrong shape; over the others, bytes of unknown fields alone."""
    if not text:
        return Wrong("empty", [b"\xfa\x3e\x00" * dice.randrange(1, 40)], (CODE.INVALID_ARGUMENT,), field=True)
    said = dice.choice(
        ("", "{", "[]", "3", "null", "[" * 50_000, '{"ping": {}, "ping": {}}', '{"nonsense": 1}',
         '{"ping": {"clientTimeMs": "x"}}', '{"audio": {"data": "!!!!"}}', '{"audio": {"data": 5}}',
         '{"config": {"sourceLanguages": ["\\ud800"]}}', '{"ping": {"clientTimeMs": NaN}}', '{"config": []}')
    )  # fmt: skip
    return Wrong("no object", [said], (CODE.INVALID_ARGUMENT,), field=True)


def _misordered(dice: random.Random, _text: bool) -> Wrong:
    first: Sequence[Said] = [dice.choice((audio_message(_PCM, 1), ping_message(1), end_message(0)))]
    number = dice.choice((0, 2, 7, 2**40))
    cases = (
        (first, CODE.FAILED_PRECONDITION),
        ([_OPENING, audio_message(_PCM, 1), _OPENING], CODE.FAILED_PRECONDITION),
        ([_OPENING, audio_message(_PCM, number or 2)], CODE.INVALID_ARGUMENT),
        ([_OPENING, audio_message(_PCM, 1), audio_message(_PCM, 1)], CODE.INVALID_ARGUMENT),
        ([_OPENING, audio_message(_PCM, 1), silence_message(10, 5)], CODE.INVALID_ARGUMENT),
        ([_OPENING, audio_message(_PCM, 1), end_message(9)], CODE.INVALID_ARGUMENT),
        ([resume_message(dice.randbytes(dice.randrange(40)).hex(), number)], CODE.NOT_FOUND),
    )
    says, fits = dice.choice(cases)
    return Wrong("misordered", says, (fits,), field=True)


def _out_of_range(dice: random.Random, _text: bool) -> Wrong:
    """One value of a configuration, or of a later message, that can't be."""
    least = dice.choice((-1, -(2**31)))
    config = ClientMessage()
    config.CopyFrom(_OPENING)
    asked = config.config
    case = dice.randrange(9)
    if case == 0:
        asked.audio_format.sample_rate_hertz = dice.choice((0, 1, least, 2**31 - 1))
    elif case == 1:
        asked.audio_format.channels = dice.choice((least, 10**6))
    elif case == 2:
        asked.erasure_budget = dice.choice((-0.5, float("inf"), float("nan")))
    elif case == 3:
        asked.endpointing.min_silence_ms = least
    elif case == 4:
        asked.latency_budget_ms = least
    elif case == 5:
        asked.endpointing.vad = dice.choice(("none", "x" * 5_000))
    elif case == 6:
        del asked.targets[:]
    else:
        later: Said = silence_message(dice.choice((0, least, 30_001, 2**31 - 1)), 1)
        odd = audio_message(_PCM + b"\0", 1)
        return Wrong("out of range", [_OPENING, later if case == 7 else odd], (CODE.INVALID_ARGUMENT,), field=True)
    return Wrong("out of range", [config], (CODE.INVALID_ARGUMENT,), field=True)


def _not_offered(dice: random.Random, _text: bool) -> Wrong:
    config = ClientMessage()
    config.CopyFrom(_OPENING)
    if dice.random() < 0.5:
        config.config.audio_format.encoding = dice.choice((5, 6, 7))  # type: ignore[assignment]  # containers
    else:
        config.config.targets[0].language = dice.choice(("tlh", "x" * 30, "99", "\N{SNOWMAN}"))
    return Wrong("not offered", [config], (CODE.UNIMPLEMENTED, CODE.INVALID_ARGUMENT))


def _oversized(dice: random.Random, text: bool) -> Wrong:
    """Too long for a chunk, for a message, or for any patience; or too many of something."""
    size = dice.choice((100_002, 200_000, 270_000, 400_000, 1_000_000))
    exhausted = (CODE.RESOURCE_EXHAUSTED,)
    case = dice.randrange(3)
    if case == 0:
        sound = audio_message(bytes(size), 1)
        over = len(_framed(sound, text)) > 262_144
        return Wrong("oversized", [_OPENING, sound], exhausted if over else (CODE.INVALID_ARGUMENT,))
    if case == 1:
        config = ClientMessage()
        config.CopyFrom(_OPENING)
        for _ in range(dice.choice((6, 1_000, 20_000))):
            config.config.targets.add(language="de")
        over = len(_framed(config, text)) > 262_144
        return Wrong("oversized", [config], exhausted if over else (CODE.INVALID_ARGUMENT,))
    frame = "{" + " " * 300_000 + "}" if text else dice.randbytes(16) * 20_000
    return Wrong("oversized", [frame], exhausted)


_KINDS = (
    _noise, _flipped, _truncated, _text_that_is_none, _misordered, _out_of_range, _not_offered, _oversized,
)  # fmt: skip


def _line(codes: dict[str, int]) -> str:
    return ", ".join(f"{code} {count}" for code, count in sorted(codes.items()))
