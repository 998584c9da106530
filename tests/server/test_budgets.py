"""Callers say what viewers can bear; the server keeps it with a measured setting, or says what it can't keep."""

import pytest

from streamtrans.client import InvalidRequest, Started, StreamOptions
from streamtrans.stream import Setting, Settings

TIMES = {"reading_interval_ms": 640, "min_first_reading_ms": 480}
LIVE = {
    "mode": "live",
    "policy": "hold",
    "policy_n": 1,
    "masked": 0,
    "reading_interval_ms": 640,
    "min_first_reading_ms": 480,
}
TABLE = Settings(
    [
        Setting("lively", bias=0.0, erasure=0.5, latency_ms=900, bleu_loss=0.1, **LIVE),
        Setting("calm", bias=0.4, erasure=0.1, latency_ms=1_700, bleu_loss=0.6, **LIVE),
    ]
)


async def started(house, client, **wishes):
    [first, *_] = await house.collect(client, house.speech(0.2, 0.5, 0.6), StreamOptions(("de",), **wishes))
    assert isinstance(first, Started)
    return first


async def test_a_budget_chooses_the_setting(house):
    engine = house.instant()
    async with house.running(house.served(engine, settings=TABLE)) as (_, client):
        free = await started(house, client)
        assert free.setting is not None
        assert free.setting.name == "lively"
        calm = await started(house, client, erasure_budget=0.2)
        assert calm.setting is not None
        assert (calm.setting.name, calm.setting.latency_ms) == ("calm", 1_700)
        assert calm.options.erasure_budget == 0.2
        assert calm.options.min_interval_ms == 640


async def test_a_budget_that_cannot_be_kept_is_named(house):
    async with house.running(house.served(settings=TABLE)) as (_, client):
        with pytest.raises(InvalidRequest, match=r"erasure_budget.*lowest erasure of mode live is 0\.10 \(calm\)"):
            await started(house, client, erasure_budget=0.01)
        with pytest.raises(InvalidRequest, match=r"latency_budget_ms.*lowest latency of mode live is 900 ms"):
            await started(house, client, latency_budget_ms=100)


async def test_without_a_table_there_is_no_setting_to_tell_of(house):
    async with house.running() as (_, client):
        assert (await started(house, client)).setting is None
