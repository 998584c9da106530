"""`bench soak`: what is played, what is judged, what the slopes say, and a short one of all."""

import asyncio
import itertools
import json
import mmap
import os
import sys
from contextlib import asynccontextmanager
from dataclasses import replace

import numpy as np
import pytest

from streamtrans.bench import soak
from streamtrans.bench.server import Wish, configured
from streamtrans.bench.soak import Heard, Plan, Sample, Weight, figures, pieces
from streamtrans.client import Caption, Notice
from streamtrans.core import BadConfig, BadModel
from streamtrans.runtime import ModelChoice
from streamtrans.segment import EndpointRules
from streamtrans.server import Limits, Served, ServerConfig, TranslationServer
from streamtrans.stream import SessionConfig
from streamtrans.testing.engine import InstantEngine, hypothesis
from tests.bench.test_bench import invoke
from tests.fakes import Loud, Words

SPEECH = np.arange(160_000, dtype=np.float32)
LINUX = pytest.mark.skipif(sys.platform != "linux", reason="the memory of a process is read from /proc")
RULES = EndpointRules(min_silence_ms=200, pre_roll_ms=32, padding_ms=32, max_segment_ms=6_000, cut_search_ms=1_000)


@asynccontextmanager
async def running(*, max_sessions=4, **limits):
    """Yield the address of a server that hears a word in every 160 ms."""

    def count(job, target):
        return hypothesis((*target.prefix, *range(len(target.prefix), len(job.audio) // 2_560)))

    session = SessionConfig(targets=("de",), endpoints=RULES)
    config = ServerConfig(port=0, limits=Limits(**limits), session=session, max_sessions=max_sessions, grace_ms=0)
    served = Served(InstantEngine(count, Loud()), Words(), ("en", "de"), "toy", ("energy",))
    async with TranslationServer(config, lambda: served) as server:
        await server.ready()
        yield f"127.0.0.1:{server.port}"


def test_speech_and_silence_take_turns_and_every_other_silence_is_told():
    first, again, other = (list(itertools.islice(pieces(SPEECH, seed), 400)) for seed in (1, 1, 2))
    kinds = ["told" if isinstance(piece, int) else "speech" if piece.any() else "sent" for piece in first]
    assert [kind for kind, _ in itertools.groupby(kinds)][:6] == ["speech", "sent", "speech", "told", "speech", "sent"]
    assert all(np.array_equal(one, two) for one, two in zip(first, again, strict=True))
    assert not all(np.array_equal(one, two) for one, two in zip(first, other, strict=True))
    told_ms = [piece if isinstance(piece, int) else len(piece) / 16 for piece in first]
    assert max(told_ms) <= 250
    spoken = sum(ms for ms, kind in zip(told_ms, kinds, strict=True) if kind == "speech")
    assert 0.3 < spoken / sum(told_ms) < 0.7


@pytest.mark.parametrize("streams", [1, 9, 40])
def test_over_one_connection_all_may_speak(streams):
    given = soak.arguments(ModelChoice(), streams)
    places = int(given[given.index("--max-sessions") + 1])
    assert ServerConfig(max_sessions=places).sessions_per_connection >= streams
    assert int(given[given.index("--slots") + 1]) >= 2 * streams
    wish = Wish(ModelChoice(), 16, sessions=streams, cores=0)
    assert configured(wish).sessions_per_connection == configured(wish).max_sessions == streams


def test_promises_that_are_not_kept_are_counted():
    heard, committed, closed = Heard(), {}, set()
    caption = Caption(0, 1, "de", "Guten", " Tag", False, 0, 160, 160, 0.5)
    told = [
        caption,
        replace(caption, language="fr", committed="Bon"),
        replace(caption, committed="Gut"),
        replace(caption, committed="Guten Tag", tentative="", final=True),
        caption,
        Notice("BEHIND_REALTIME", "late"),
    ]
    for event in told:
        soak._judge(event, committed, closed, heard)
    assert +heard.broken == {"committed text taken back": 1, "caption after the final one": 1}
    assert (heard.captions, heard.finals, heard.notices) == (5, 1, {"BEHIND_REALTIME": 1})


def test_growth_after_the_warm_up_is_found():
    plan = Plan(streams=1, minutes=60, warm_up=20, block=5)
    random = np.random.default_rng(0)
    samples = [
        Sample(
            minute,
            # resident memory grows in the warm-up alone
            Weight(600 + 10 * min(minute, 20) + random.normal(), 500 + 0.5 * minute + random.normal(), 400.0),
            Weight(100.0, 100.0, 100.0),
            load=1.0,
            lags_ms=(None if minute % 3 == 0 else 400 + random.normal(),),
        )
        for minute in np.arange(0, 60, 0.5).tolist()
    ]
    found = figures(plan, samples)["slopes_per_minute"]
    assert found["rss_mb"]["low"] < 0 < found["rss_mb"]["high"] < 0.2
    assert found["uss_mb"]["low"] < 0.5 < found["uss_mb"]["high"]
    assert [name for name, slope in found.items() if slope["grows"]] == ["uss_mb"]
    assert found["lag_ms_of_stream_0"]["blocks"] == 8


def test_a_soak_needs_time_for_its_blocks():
    with pytest.raises(BadConfig, match="--minutes is 20; the warm-up and four blocks take 30"):
        Plan(minutes=20)


@LINUX
def test_memory_is_that_of_the_process():
    ours = soak.weigh(os.getpid())
    assert ours.rss_mb >= ours.uss_mb >= ours.anonymous_mb > 20
    # Of the kernel, not of an allocator that may have as much lying about.
    with mmap.mmap(-1, 64 << 20, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as kept:
        kept.write(b"\1" * len(kept))
        assert soak.weigh(os.getpid()).anonymous_mb - ours.anonymous_mb == pytest.approx(64, abs=8)
    with pytest.raises(BadModel, match="the server has ended"):
        soak.weigh(2**22 + 1)


@LINUX
async def test_calls_follow_each_other_and_go_on_after_errors(monkeypatch):
    monkeypatch.setattr(soak, "_RETRY_S", 0.05)
    monkeypatch.setattr(soak, "_SPEECH_S", (0.5, 1.0))
    monkeypatch.setattr(soak, "_SILENCE_S", (0.5, 1.0))
    noise = np.random.default_rng(0).normal(0, 0.1, 48_000).astype(np.float32)
    plan = replace(Plan(streams=2, minutes=1, warm_up=0, block=0.01, every_s=0.5), minutes=0.08)
    async with running(max_connection_ms=2_000, max_sessions=1) as address:
        seen = []
        found = await soak.soak(plan, address, os.getpid(), [noise, noise], seen.append)
    one, two = found["streams_heard"]
    assert one["calls"] > 2
    assert one["finals"] + two["finals"] >= 2
    assert one["broken"] == two["broken"] == {}
    assert "all 1 sessions are taken" in " ".join(one["errors"] + two["errors"])
    assert len(seen) == len(found["samples"]) >= 8
    assert found["slopes_per_minute"]["rss_mb"]["blocks"] >= 4


@LINUX
async def test_a_server_that_ends_ends_the_soak():
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", "")
    await process.wait()
    plan = replace(Plan(minutes=30), streams=1, every_s=0.1)
    async with running() as address:
        with pytest.raises(BadModel, match="the server has ended"):
            await asyncio.wait_for(soak.soak(plan, address, process.pid, [SPEECH / 160_000], print), 5)


@LINUX
@pytest.mark.slow
def test_a_short_soak_is_kept(tiny, tmp_path):
    arguments = ("--streams", 2, "--minutes", 0.15, "--warm-up", 0.05, "--block", 0.02, "--every", 0.4)
    printed = invoke("bench", "soak", *arguments, "--model", tiny, "--vad", "energy", "--results", tmp_path)
    assert "rss_mb" in printed
    kept = json.loads((tmp_path / "soak.json").read_text(encoding="utf-8"))
    assert kept["figures"]["slopes_per_minute"]["rss_mb"]["blocks"] >= 4
    assert kept["figures"]["model"]["name"] == tiny.name
    assert kept["measured"]["load_average"] >= 0
