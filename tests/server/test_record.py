"""A server keeps sessions only where it was told to, and never at the cost of a call."""

import asyncio
from dataclasses import replace

import pytest

from streamtrans.client import Caption, SpeechEnded, SpeechStarted, Started, StreamOptions, Summary
from streamtrans.stream import Origin, Recording, Session, rerun


def replayed(path, engine, words):
    with path.open("rb") as file:
        recording = Recording(file, path.name)
        session = Session(recording.config, words, window=recording.window)
        return [event for _, events in rerun(recording, session, engine) for event in events], recording


def lasting(events):
    """Return what no slow reader misses: boundaries and finals, whose revisions count what was sent."""
    finals = [replace(event, revision=0) for event in events if isinstance(event, Caption) and event.final]
    return [event for event in events if isinstance(event, SpeechStarted | SpeechEnded)], finals


@pytest.mark.parametrize("origin", [None, Origin("toy", "abc", {"dtype": "float32"})])
async def test_a_session_is_kept_and_replays_to_what_its_client_got(house, tmp_path, origin):
    audio = house.speech(0.5, 1.5, 0.7, 1.2, 0.6)
    async with house.running(house.served(origin=origin), house.configured(record=tmp_path)) as (_, client):
        events = await house.collect(client, audio, StreamOptions(("de", "zh")))
    assert isinstance(events[0], Started)
    path = tmp_path / f"{events[0].session_id}.stsession"
    assert list(tmp_path.iterdir()) == [path]
    for engine in (None, house.instant()):
        again, recording = replayed(path, engine, house.Words())
        assert recording.problem is None
        assert lasting(again) == lasting(events)
    assert recording.origin == (origin or Origin("toy"))
    assert recording.config.targets == ("de", "zh")
    assert recording.received == len(audio)


async def test_nothing_is_kept_by_default(house, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    async with house.running() as (_, client):
        await house.collect(client, house.speech(0.2, 0.5))
    assert list(tmp_path.iterdir()) == []


async def test_a_folder_that_is_gone_hurts_no_call(house, tmp_path, caplog):
    async with house.running(config=house.configured(record=tmp_path / "gone")) as (_, client):
        events = await house.collect(client, house.speech(0.5, 1.5, 0.7))
    assert isinstance(events[-1], Summary)
    assert events[-1].finals == 1
    assert caplog.text.count("goes on without it") == 1


async def test_a_client_that_leaves_leaves_a_recording(house, tmp_path):
    async with house.running(config=house.configured(record=tmp_path)) as (server, client):
        async with client.stream(StreamOptions(("de",))) as stream:
            await stream.send(house.speech(0.2, 1.0))
            async for event in stream:
                if isinstance(event, Caption):
                    break
        while server.active_sessions:
            await asyncio.sleep(0.01)
        [path] = tmp_path.iterdir()
        again, recording = replayed(path, None, house.Words())
        assert any(isinstance(event, Caption) for event in again)
        assert "as its session was left before its end" in recording.problem
