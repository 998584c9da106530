"""Two clients at once get the same captions as each alone, over the real server, engine and network.

In FINAL mode and float64: the jobs are the same whatever the load, and rounding decides nothing.
"""

import asyncio
import json
from contextlib import asynccontextmanager
from itertools import pairwise

import numpy as np
import pytest
import torch

from streamtrans.client import Caption, StreamOptions, Summary, TranslationClient, Unsupported
from streamtrans.engine import Engine, EngineConfig
from streamtrans.model.loading import load_speech
from streamtrans.segment import EndpointRules
from streamtrans.server import Limits, Served, ServerConfig, TranslationServer
from streamtrans.stream import SessionConfig
from streamtrans.vad import load_vad
from tests.audio_models import LAWFUL as AUDIO_MODELS
from tests.checkpoints import make_whisper_m2m

RULES = EndpointRules(
    min_speech_ms=60, min_silence_ms=300, pre_roll_ms=60, padding_ms=60, max_segment_ms=1_800, cut_search_ms=500
)
AT_ONCE = Limits(max_real_time_factor=1e6, burst_ms=10**7)
SILENCE, SPEECH = 0.0, 0.2


MAKERS = {"whisper_m2m": make_whisper_m2m, **AUDIO_MODELS}


@pytest.fixture(scope="module", params=MAKERS)
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory):
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp(request.param)
    MAKERS[request.param](folder)
    said = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(said | {"languages": ["en", "de", "zh"]}))
    return load_speech(folder, device="cpu", dtype="float64")


@asynccontextmanager
async def serving(model):
    def make() -> Served:
        drafter = "echo,ngram,kvspn" if model.has_speculator else "echo,ngram"
        engine = Engine(model, load_vad, EngineConfig(slots=8, drafter=drafter))
        return Served(engine, model.vocabulary, model.languages, model.name, vads=("energy",), max_segment_ms=1_800)

    session = SessionConfig(("en",), endpoints=RULES)
    config = ServerConfig(port=0, limits=AT_ONCE, load=None, session=session, grace_ms=0)
    async with TranslationServer(config, make) as server:
        await server.ready()
        yield f"127.0.0.1:{server.port}"
        assert server.active_sessions == 0


def recording(seed: int):
    """Loud and silent stretches of seeded lengths."""
    random = np.random.default_rng(seed)
    parts = [
        random.normal(0, level, round(random.uniform(0.5, 1.6) * 16_000)) for level in [SILENCE, SPEECH] * 3 + [SILENCE]
    ]
    return np.concatenate(parts).clip(-1, 1).astype(np.float32)


async def listen(address, audio, targets, *, chunk, pause_s):
    """Stream with the given pace, reading meanwhile; return the captions and the summary."""
    async with TranslationClient(address) as client, client.stream(StreamOptions(targets, mode="final")) as stream:

        async def feed():
            for start in range(0, len(audio), chunk):
                await stream.send(audio[start : start + chunk])
                await asyncio.sleep(pause_s)
            await stream.end()

        async with asyncio.TaskGroup() as group:
            group.create_task(feed())
            events = [event async for event in stream]
    captions = [event for event in events if isinstance(event, Caption)]
    [summary] = [event for event in events if isinstance(event, Summary)]
    return captions, summary


async def test_two_clients_at_once_get_the_captions_of_each_alone(model):
    first = {"audio": recording(1), "targets": ("de", "zh"), "chunk": 1_600, "pause_s": 0.002}
    second = {"audio": recording(2), "targets": ("en", "de"), "chunk": 4_000, "pause_s": 0.005}
    async with serving(model) as address:
        alone = [await listen(address, **first), await listen(address, **second)]
        together = await asyncio.gather(listen(address, **first), listen(address, **second))
    for (mine, summary), (captions, alone_summary) in zip(together, alone, strict=True):
        assert mine == captions
        assert summary.finals == len(captions) == 2 * summary.segments
        assert summary.decoding == alone_summary.decoding
        assert summary.segments >= 3
        assert all(caption.final and not caption.tentative for caption in mine)
        assert any(caption.text for caption in mine)
    assert {caption.text for caption in together[0][0]} != {caption.text for caption in together[1][0]}


async def test_live_what_is_committed_only_grows(model):
    options = StreamOptions(("de", "en"), source_languages=("en",))
    async with (
        serving(model) as address,
        TranslationClient(address) as client,
        client.stream(options) as stream,
    ):
        await stream.send(recording(1))
        await stream.end()
        captions = [event async for event in stream if isinstance(event, Caption)]
    lines = {(caption.segment, caption.language) for caption in captions}
    assert len(lines) >= 6
    for line in lines:
        mine = [caption for caption in captions if (caption.segment, caption.language) == line]
        assert [caption.final for caption in mine] == [False] * (len(mine) - 1) + [True]
        assert all(later.committed.startswith(earlier.committed) for earlier, later in pairwise(mine))


async def test_a_language_that_is_not_known_is_refused_by_name(model):
    async with serving(model) as address, TranslationClient(address) as client:
        with pytest.raises(Unsupported, match=r"doesn't know 'fr'; it knows en, de, zh"):
            async with client.stream(StreamOptions(("fr",))) as stream:
                await anext(stream)
