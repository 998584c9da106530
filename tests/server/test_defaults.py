"""Law: a server's defaults hold where a call says nothing, and no call is refused for one that it didn't choose."""

import pytest

from streamtrans.client import InvalidRequest, StreamOptions
from streamtrans.core import BadConfig, CaptionChoice
from streamtrans.server import TranslationServer
from streamtrans.stream import Setting, Settings

MEASURED = Settings(
    [
        Setting("sooner", "live", "agreement", 2, 0.0, 0, 320, 320, erasure=0.5, latency_ms=900.0, bleu_loss=0.1),
        Setting("calm", "live", "agreement", 2, 0.3, 0, 640, 640, erasure=0.1, latency_ms=1500.0, bleu_loss=0.2),
        Setting("whole", "final", "agreement", 2, 0.0, 0, 480, 480, erasure=0.0, latency_ms=5000.0, bleu_loss=0.0),
    ]
)


async def started(house, client, **wishes):
    events = await house.collect(client, house.speech(0.2, 1, 0.5), StreamOptions(("de",), vad="energy", **wishes))
    return events[0]


def serving(house, **said):
    return house.running(house.served(settings=MEASURED), config=house.configured(captions=CaptionChoice(**said)))


async def test_a_call_that_says_nothing_gets_the_defaults(house):
    async with serving(house, mode="live", erasure_budget=0.2, min_silence_ms=440, max_segment_ms=5_000) as (_, client):
        begun = await started(house, client)
        offered = (await client.capabilities()).defaults
    assert begun.setting.name == "calm"
    assert begun.options.captions == offered == CaptionChoice("live", 0.2, None, 440, 5_000)


async def test_what_a_call_says_wins(house):
    async with serving(house, mode="live", erasure_budget=0.2, min_silence_ms=440) as (_, client):
        sooner = await started(house, client, latency_budget_ms=1_000)
        silence = await started(house, client, min_silence_ms=360)
        whole = await started(house, client, mode="final")
    assert (sooner.setting.name, sooner.options.erasure_budget) == ("sooner", None)
    assert (silence.setting.name, silence.options.min_silence_ms) == ("calm", 360)
    assert (whole.setting.name, whole.options.min_silence_ms) == ("whole", 440)


@pytest.mark.parametrize("mode", ["live", "stable", "final"])
async def test_the_mode_is_the_default_one(house, mode):
    async with serving(house, mode=mode) as (_, client):
        assert (await started(house, client)).options.mode == mode
        assert (await client.capabilities()).defaults.mode == mode


async def test_without_defaults_captions_are_live(house):
    async with house.running() as (_, client):
        assert (await started(house, client)).options.mode == "live"
        assert (await client.capabilities()).defaults == CaptionChoice("live")


async def test_another_mode_is_not_held_to_the_budget_of_the_default(house):
    async with serving(house, mode="live", latency_budget_ms=1_000) as (_, client):
        assert (await started(house, client, mode="final")).setting.name == "whole"
        with pytest.raises(InvalidRequest, match="latency_budget_ms"):
            await started(house, client, mode="final", latency_budget_ms=1_000)


@pytest.mark.parametrize(
    ("said", "problem"),
    [
        ({"erasure_budget": 0.01}, "--erasure-budget: the lowest erasure of mode live is 0.10"),
        ({"mode": "stable", "latency_budget_ms": 9}, "--latency-budget: no setting of mode stable"),
        ({"max_segment_ms": 90_000}, "--max-segment: 90000 is too long"),
    ],
)
async def test_defaults_that_no_call_could_have_start_no_server(house, said, problem):
    config = house.configured(captions=CaptionChoice(**{"mode": "live", **said}))
    with pytest.raises(BadConfig, match=problem):
        async with TranslationServer(config, lambda: house.served(settings=MEASURED)) as server:
            await server.ready()
