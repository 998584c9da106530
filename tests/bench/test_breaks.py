"""`bench breaks` and `bench viewers`: what is counted, and a short one of each against a toy server."""

import os
from contextlib import asynccontextmanager
from dataclasses import replace
from types import SimpleNamespace

import pytest

from streamtrans.bench import breaks, viewers
from streamtrans.bench.breaks import Breaks, Heard, compared
from streamtrans.bench.viewers import Viewers
from streamtrans.client import Caption, Resumed
from streamtrans.core import BadConfig
from tests.server.conftest import configured, running, served, speech


@asynccontextmanager
async def toy(_wish):
    async with running(served(vads=("silero",)), configured()) as (server, _):
        yield SimpleNamespace(pid=os.getpid()), {"port": server.port}


def talks(count, seconds):
    whole = [speech(0.2, *(0.8, 0.6) * 8, seed=number) for number in range(count)]
    return [each[: round(seconds * 16_000)] for each in whole]


def test_what_is_lost_comes_twice_or_differs_is_counted():
    heard = Heard()
    caption = Caption(0, 1, "de", "Guten", " Tag", False, 0, 160, 160, 0.5)
    for event in (
        caption,
        replace(caption, committed="Gut"),
        replace(caption, committed="Guten Tag", tentative="", final=True),
        Resumed(0.1),
        replace(caption, segment=1, committed="Ja", final=True),
    ):
        heard.told(event, 0, 0.0)
    assert (heard.twice, heard.resumed) == (1, 1)
    heard.told(caption, 0, 0.0)
    assert heard.twice == 2
    whole = {(0, "de"): "Guten Tag", (1, "de"): "Nein", (2, "de"): "Doch"}
    assert compared(heard.finals, whole) == {"lost": 1, "differing": 1}
    assert compared({**whole, (3, "de"): "Oh"}, whole) == {"lost": 0, "differing": 1}


def test_broken_at_random_bytes_speakers_lose_nothing(monkeypatch):
    monkeypatch.setattr(breaks, "served", toy)
    monkeypatch.setattr(breaks, "speeches", talks)
    figures = Breaks(kills=6, streams=3, seconds=3).measure().figures
    assert figures["kills"] >= 6
    assert figures["resumed"] >= 3
    assert figures["finals"] >= 3
    assert (figures["lost"], figures["twice"], figures["differing"]) == (0, 0, 0)


def test_viewers_stand_still_and_others_are_measured(monkeypatch):
    monkeypatch.setattr(viewers, "served", toy)
    monkeypatch.setattr(viewers, "speeches", talks)
    report = Viewers(viewers=6, others=2, pairs=1, still=2, around=1).measure()
    [pair] = report.figures["pairs"]
    for name in ("with", "without"):
        assert pair[name]["captions"] > 4
        assert 0 < pair[name]["lag_p99_ms"] < 2_000
        assert pair[name]["growth_mb"] >= 0
    assert report.figures["lag_p99_ratio_median"] > 0


def test_an_unknown_mode_is_refused():
    with pytest.raises(BadConfig, match="mode"):
        Breaks(mode="loud")
