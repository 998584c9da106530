"""A script says the same over gRPC, a WebSocket with protobuf and one with JSON: one committed text, no gap."""

import random

import grpc
import pytest

from streamtrans.wire import (
    FORMS,
    Reducer,
    ServerMessage,
    audio_message,
    end_message,
    end_utterance_message,
    payload_of,
    ping_message,
    silence_message,
    update_message,
)
from tests.server.conftest import METHOD, configured, opening, running, speech
from tests.server.web import connected

SCRIPTS = 100
LANGUAGES = ("en", "de", "zh", "fr", "it", "es")


def script(seed):
    """Return a valid call: ``(message, whether all that came before is to be read first)``."""
    choose = random.Random(seed)
    messages = [opening(targets=tuple(choose.sample(LANGUAGES, choose.randint(1, 3))), mode=choose.choice(MODES))]
    sound = speech(*(choose.uniform(0.1, 1.2) for _ in range(choose.randint(1, 5))), seed=seed)
    data, at, sequence = (sound * 32_767).astype("<i2").tobytes(), 0, 0
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


MODES = ("live", "stable", "final")
SETTLING = ("end_utterance", "update", "end")
"""What stands where all before it has been heard: the clock of a script is its audio, not the machine's."""


class Grpc:
    def __init__(self, call):
        self.call = call

    async def send(self, message):
        await self.call.write(message.SerializeToString())

    async def read(self):
        message = await self.call.read()
        return None if message is grpc.aio.EOF else message


async def play(line, messages):
    """Return the responses to ``messages``, what settles sent once the server has nothing more to say."""
    told, asked = [], 0

    async def settle():
        nonlocal asked
        quiet = 0
        while quiet < 3:
            asked += 1
            await line.send(ping_message(10**6 + asked))
            quiet += 1
            while True:
                told.append(await line.read())
                if payload_of(told[-1]) == "pong" and told[-1].pong.client_time_ms == 10**6 + asked:
                    break
                quiet = 0

    for message in messages:
        if payload_of(message) in SETTLING:
            await settle()
        await line.send(message)
    while (message := await line.read()) is not None:
        told.append(message)
    return told


def reading(told):
    """Return the committed text per segment and language, having looked at the numbers."""
    assert [message.event_sequence for message in told] == list(range(1, len(told) + 1))
    assert payload_of(told[-1]) == "summary"
    reducer, finals = Reducer(), {}
    for message in told:
        if payload_of(message) in ("caption", "speech"):
            event = reducer.reduce(message)
            if payload_of(message) == "caption" and event.final:
                finals[event.segment, event.language] = (event.committed, event.start, event.heard)
    answers = [m.config_applied.effective_at_ms for m in told if payload_of(m) == "config_applied"]
    rejected = [m.config_rejected.update_id for m in told if payload_of(m) == "config_rejected"]
    return finals, answers, rejected, told[-1].summary.audio_ms, told[-1].summary.segments


@pytest.mark.timeout(120)
async def test_a_script_says_the_same_over_three_carriers():
    spoken = 0
    async with running(config=configured(http_port=0)) as (server, _):
        for seed in range(SCRIPTS):
            messages, readings = script(seed), []
            for form in FORMS:
                async with connected(server, form) as web:
                    readings.append(reading(await play(web, messages)))
                    assert web.status[0] == 0
            async with grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel:
                call = channel.stream_stream(METHOD, response_deserializer=ServerMessage.FromString)()
                readings.append(reading(await play(Grpc(call), messages)))
            assert readings[0] == readings[1] == readings[2], seed
            spoken += len(readings[0][0])
    assert spoken > SCRIPTS
