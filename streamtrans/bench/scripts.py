"""Does a call say the same over gRPC, a WebSocket with protobuf and one with JSON? Random valid calls over all three.

The clock of a call is its audio, not the machine's: what settles something (the end of an utterance, an update, the
end) is sent once the server has nothing more to say. The engine is one that answers at once, so that a call is a
function of what is sent: this is about carriers, not about models.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np

from streamtrans.bench.measurement import Progress, Report, Table, silent
from streamtrans.client.carrier import Call, CallOver, Carrier, carrier_to
from streamtrans.core import SAMPLE_RATE, Caption, Job, Option, StreamtransError, Target
from streamtrans.segment import EndpointRules
from streamtrans.server import Limits, Served, ServerConfig, TranslationServer
from streamtrans.stream import SessionConfig
from streamtrans.testing.engine import InstantEngine, hypothesis
from streamtrans.vad import EnergyVad
from streamtrans.wire import (
    ClientMessage,
    JsonForm,
    Reducer,
    ServerMessage,
    StreamOptions,
    audio_message,
    config_message,
    end_message,
    end_utterance_message,
    payload_of,
    ping_message,
    silence_message,
    update_message,
)

LANGUAGES = ("en", "de", "zh", "fr", "it", "es")
_MODES = ("live", "stable", "final")
_SETTLING = ("end_utterance", "update", "end")
"""What stands where all before it has been heard."""
_QUIET = 3
"""Pings that are answered by nothing else before a server counts as having nothing more to say."""
_OWN_PINGS = 10**6
_WORD = 3_840
"""Samples of a word."""
_RULES = EndpointRules(min_silence_ms=320, pre_roll_ms=64, padding_ms=64, max_segment_ms=6_000, cut_search_ms=1_000)


@dataclass(frozen=True, slots=True, kw_only=True)
class Scripts:
    """Say random valid calls over three carriers; whether texts and numbers are the same."""

    count: Annotated[int, Option("How many calls, over each carrier.", least=1)] = 1_000
    seed: Annotated[int, Option("Of the first one; each has the next.", least=0)] = 0

    def measure(self, progress: Progress = silent) -> Report:
        """Say them."""
        figures = asyncio.run(compare(range(self.seed, self.seed + self.count), progress))
        shown = [(name, value if not isinstance(value, list) else len(value)) for name, value in figures.items()]
        return Report(figures, [Table("scripts over three carriers", ("", ""), shown)])


async def compare(seeds: Sequence[int], progress: Progress = silent) -> dict[str, Any]:
    """Return what came of the calls with these seeds."""
    found: dict[str, Any] = {"scripts": 0, "calls": 0, "responses": 0, "finals": 0, "different": [], "broken": []}
    began = time.monotonic()
    async with _serving() as (engine, carriers):
        for done, seed in enumerate(seeds, 1):
            messages, readings = script(seed), []
            for carrier in carriers:
                told = await play(carrier.speak(), messages)
                found["calls"] += 1
                found["responses"] += len(told)
                try:
                    readings.append(reading(told))
                except StreamtransError as error:
                    found["broken"].append(f"{seed}: {error}")
            if any(each != readings[0] for each in readings):
                found["different"].append(seed)
            found["scripts"] += 1
            found["finals"] += len(readings[0][0]) if readings else 0
            engine.requests.clear()
            engine.jobs.clear()
            progress("scripts", done, len(seeds))
    return found | {"seconds": round(time.monotonic() - began, 1)}


def script(seed: int) -> list[ClientMessage]:
    """Return a valid call: speech in pieces of any size, with all else between them that may come."""
    choose = random.Random(seed)
    options = StreamOptions(
        tuple(choose.sample(LANGUAGES, choose.randint(1, 3))),
        mode=choose.choice(_MODES),  # type: ignore[arg-type]  # they are
    )
    messages = [config_message(options)]
    data, at, sequence = _speech(choose, seed), 0, 0
    while at < len(data):
        roll = choose.random()
        if roll < 0.08:
            sequence += 1
            messages.append(silence_message(choose.randint(1, 900), sequence))
        elif roll < 0.14:
            messages.append(end_utterance_message())
        elif roll < 0.2:
            messages.append(ping_message(seed))
        elif roll < 0.26:
            messages.append(update_message(len(messages), [choose.choice(LANGUAGES)], [choose.choice(LANGUAGES)]))
        else:
            size = 2 * choose.randint(0, 8_000)
            sequence += 1
            messages.append(audio_message(data[at : at + size], sequence))
            at += size
    return [*messages, end_message(sequence)]


async def play(call: Call[ServerMessage], messages: Sequence[ClientMessage]) -> list[ServerMessage]:
    """Return the responses to ``messages``, what settles sent once the server has nothing more to say."""
    told: list[ServerMessage] = []
    asked = 0

    async def settle() -> None:
        nonlocal asked
        quiet = 0
        while quiet < _QUIET:
            asked += 1
            await call.write(ping_message(_OWN_PINGS + asked))
            quiet += 1
            while (message := await call.read()) is not None:
                told.append(message)
                if payload_of(message) == "pong" and message.pong.client_time_ms == _OWN_PINGS + asked:
                    break
                quiet = 0

    with suppress(CallOver):  # what came before it is judged
        for message in messages:
            if payload_of(message) in _SETTLING:
                await settle()
            await call.write(message)
    while (response := await call.read()) is not None:
        told.append(response)
    await call.close()
    return told


def reading(told: Sequence[ServerMessage]) -> tuple[Any, ...]:
    """Return what a call says: the final lines, the answers to updates, and how much there was of it.

    Raises:
        StreamtransError: numbers have a gap, or the end isn't one.
    """
    if [message.event_sequence for message in told] != list(range(1, len(told) + 1)):
        raise StreamtransError("event_sequence has a gap")
    if not told or payload_of(told[-1]) != "summary":
        raise StreamtransError("no summary came last")
    reducer, finals = Reducer(), {}
    for message in told:
        event = reducer.reduce(message)
        if isinstance(event, Caption) and event.final:
            finals[event.segment, event.language] = (event.committed, event.start, event.heard)
    answers = [m.config_applied.effective_at_ms for m in told if payload_of(m) == "config_applied"]
    rejected = [m.config_rejected.update_id for m in told if payload_of(m) == "config_rejected"]
    return finals, answers, rejected, told[-1].summary.audio_ms, told[-1].summary.segments


class _Words:
    """Token ``i`` is the word ``w<i>``."""

    def decode(self, tokens: Sequence[int]) -> str:
        return " ".join(f"w{token}" for token in tokens)

    def boundary(self, tokens: Sequence[int], n: int, *, final: bool = False) -> int:
        return max(0, min(n, len(tokens) - (not final)))

    def sentence_end(self, _tokens: Sequence[int]) -> tuple[int, int] | None:
        return None


def _grow(job: Job, target: Target) -> Any:
    """Answer a word per quarter of a second, told by its loudness and the language; the newest is wrong at first."""
    whole = len(job.audio) // _WORD
    heard = np.abs(job.audio[: whole * _WORD]).reshape(whole, _WORD).mean(1)
    words = (1e6 * heard).astype(int) + sum(map(ord, target.language))
    tail = () if job.last else (99,)
    return hypothesis((*target.prefix, *words[len(target.prefix) :].tolist(), *tail), 0.5)


def _speech(choose: random.Random, seed: int) -> bytes:
    """Return up to five stretches, quiet and loud in turn, as 16-bit samples."""
    noise = np.random.default_rng(seed)
    stretches = [
        noise.normal(0, 0.1 if index % 2 else 0.0, round(choose.uniform(0.1, 1.2) * SAMPLE_RATE))
        for index in range(choose.randint(1, 5))
    ]
    return bytes((np.concatenate(stretches).clip(-1, 1) * 32_767).astype("<i2").tobytes())


@asynccontextmanager
async def _serving() -> AsyncIterator[tuple[InstantEngine, list[Carrier]]]:
    """Give an engine that answers at once, and the ways to a server of it."""
    engine = InstantEngine(_grow, EnergyVad())
    served = Served(engine, _Words(), LANGUAGES, "toy", ("energy",))
    limits = Limits(max_real_time_factor=1e6, burst_ms=10**7)
    session = SessionConfig(targets=("en",), endpoints=_RULES)
    config = ServerConfig(port=0, http_port=0, limits=limits, session=session, grace_ms=0)
    async with TranslationServer(config, lambda: served) as server:
        await server.ready()
        grpc, proto, text = carriers = [
            carrier_to(where) for where in (f"127.0.0.1:{server.port}", *[f"ws://127.0.0.1:{server.http_port}"] * 2)
        ]
        text.form = JsonForm  # type: ignore[attr-defined]  # one over WebSockets has it
        for carrier in (grpc, proto, text):
            await carrier.open()
        try:
            yield engine, carriers
        finally:
            for carrier in carriers:
                await carrier.close()
