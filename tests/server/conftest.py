import asyncio
from contextlib import asynccontextmanager
from types import SimpleNamespace

import grpc
import numpy as np
import pytest

from streamtrans.client import TranslationClient
from streamtrans.core import Detect, Reply
from streamtrans.segment import EndpointRules
from streamtrans.server import Limits, Served, ServerConfig, TranslationServer
from streamtrans.stream import SessionConfig
from streamtrans.testing.engine import InstantEngine, Relay, hypothesis
from streamtrans.wire import ServerMessage, StreamOptions, config_message
from tests.fakes import Loud, Words

EAGER = Limits(max_real_time_factor=1e6, burst_ms=10**7)
"""Recordings may come as fast as they can."""

METHOD = "/streamtrans.v1.TranslationService/StreamTranslate"

RULES = EndpointRules(min_silence_ms=320, pre_roll_ms=64, padding_ms=64, max_segment_ms=6_000, cut_search_ms=1_000)


def grow(job, target):
    """One word per 240 ms, told by its loudness and the language; the newest is wrong at first."""
    whole = len(job.audio) // 3_840
    heard = np.abs(job.audio[: whole * 3_840]).reshape(whole, 3_840).mean(1)
    words = (1e6 * heard).astype(int) + sum(map(ord, target.language))
    return hypothesis((*target.prefix, *words[len(target.prefix) :].tolist(), *([] if job.last else [99])), 0.5)


class Held(Relay):
    """Detects at once, and answers readings of more than ``free`` samples only when told."""

    def __init__(self, inner, free=0):
        super().__init__(inner)
        self.free = free
        self.waiting = []

    def submit(self, request):
        if isinstance(request, Detect) or len(request.audio) == self.free:
            return super().submit(request)
        future = Reply()
        self.waiting.append((request, future))
        return future

    def let_go(self):
        for request, future in self.waiting:
            if future.set_running_or_notify_cancel():
                future.set_result(self.engine.submit(request).result())
        self.waiting.clear()


def instant(model=grow):
    return InstantEngine(model, Loud())


def served(engine=None, **changes):
    known = {
        "languages": ("en", "de", "zh", "fr", "it", "es"),
        "model_name": "toy",
        "vads": ("energy", "silero"),
    }
    return Served(engine or instant(), changes.pop("tokenizer", Words()), **(known | changes))


def configured(limits=EAGER, **changes):
    session = SessionConfig(targets=("en",), endpoints=RULES)
    return ServerConfig(**({"port": 0, "limits": limits, "session": session, "grace_ms": 0} | changes))


@asynccontextmanager
async def running(what=None, config=None):
    """A warm server and a client of it."""
    async with (
        TranslationServer(config or configured(), lambda: what or served()) as server,
        TranslationClient(f"127.0.0.1:{server.port}") as client,
    ):
        await server.ready()
        yield server, client


def speech(*pieces, rate=16_000, seed=0):
    """Alternate loud and silent pieces of the given seconds, beginning with silence: ``(n,)`` float32."""
    random = np.random.default_rng(seed)
    return (
        np.concatenate(
            [random.normal(0, 0.1 if index % 2 else 0.0, round(seconds * rate)) for index, seconds in enumerate(pieces)]
        )
        .clip(-1, 1)
        .astype(np.float32)
    )


async def talk(server, *messages):
    """Send raw messages (or bytes), then half-close; return the responses, or raise the status."""

    def run():
        with grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel:
            call = channel.stream_stream(METHOD, response_deserializer=ServerMessage.FromString)
            return list(call(iter([m if isinstance(m, bytes) else m.SerializeToString() for m in messages])))

    return await asyncio.to_thread(run)


async def collect(client, audio, options=None, *, before_end=None):
    """Stream ``audio`` and return all events."""
    async with client.stream(options or StreamOptions(("de",))) as stream:
        await stream.send(audio)
        if before_end is not None:
            await before_end(stream)
        await stream.end()
        return [event async for event in stream]


def opening(**changes):
    return config_message(StreamOptions(**({"targets": ("de",)} | changes)))


async def drain(client, options=None, *, audio=b"", each=None):
    """Open a stream that doesn't end by itself, and read until the server ends it."""
    async with client.stream(options or StreamOptions(("de",))) as stream:
        await stream.send(audio)
        async for _ in stream:
            if each is not None:
                await each(stream)


def committed(live):
    """Return (segment, language) → text of what the server holds of a stream, of what isn't empty."""
    return {
        (said.started.segment, language): caption.committed
        for said in live.hub.said
        for language, caption in said.captions.items()
        if caption.final and caption.committed
    }


@pytest.fixture
def house():
    return SimpleNamespace(
        running=running, served=served, configured=configured, instant=instant, Held=Held, grow=grow,
        speech=speech, talk=talk, collect=collect, drain=drain, opening=opening, Words=Words, Loud=Loud,
        EAGER=EAGER, METHOD=METHOD,
    )  # fmt: skip
