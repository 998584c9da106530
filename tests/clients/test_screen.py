"""The microphone's screen with a real server behind it: what it shows, adds, removes and saves, and what ends it."""

import asyncio
from dataclasses import replace

import numpy as np
import pytest
import soundfile
from streamtrans_clients import SourceError, screen
from streamtrans_clients.screen import MicApp
from streamtrans_clients.sources import Device, recording
from textual.widgets import Input, Static

from streamtrans.client import StreamOptions, TranslationClient
from streamtrans.stream import Setting, Settings
from tests.clients import conftest
from tests.clients.conftest import tone

PATIENCE_S = 20.0


@pytest.fixture
def speech(tmp_path):
    """Return a function that writes a recording of some stretches of speech."""

    def write(stretches, name="talk.wav"):
        path = tmp_path / name
        soundfile.write(path, np.concatenate([tone(0.7), np.zeros(6_400)] * stretches), 16_000)
        return path

    return write


def app_for(client, path, *targets, **options):
    return MicApp(client, StreamOptions(targets, **options), lambda _, stop: recording(path, stop))


async def until(pilot, true):
    async with asyncio.timeout(PATIENCE_S):
        while not true():
            await pilot.pause(0.02)


def texts(app):
    return {language: column.shown.plain for language, column in app.columns.items()}


def bar(app):
    return str(app.query_one("#bar", Static).render())


async def test_columns_hold_what_the_server_committed_and_the_bar_how(running, speech):
    async with running() as address, TranslationClient(address) as client:
        app = app_for(client, speech(2), "de", "zh")
        dimmed, lights = [], set()
        async with app.run_test(size=(100, 24)) as pilot:
            while app.transcript.finals("de")[1:] == []:
                await pilot.pause(0.02)
                shown = app.columns["de"].shown
                dimmed += [str(shown)[span.start : span.end] for span in shown.spans if "dim" in str(span.style)]
                lights |= {word for word in ("speech", "silence") if word in bar(app)}
            assert list(app.columns) == ["de", "zh"]
            assert "w0 w1" in texts(app)["de"]
            assert "w0 w1" in texts(app)["zh"]
            assert lights == {"speech", "silence"}
            assert "dB" in bar(app)
            assert "lag" in bar(app)
            assert "erasure" in bar(app)
            await until(pilot, lambda: not app.is_running or app.return_value is not None)
    assert app.problem is None
    assert app.return_value.segments == 2
    assert any("w99" in text for text in dimmed), "what may still change is dimmed"
    assert not any("w99" in each.committed for each in app.transcript.finals("de"))


async def test_which_setting_makes_the_captions_is_told(running, speech, monkeypatch):
    row = Setting("calm", "live", "agreement", 2, 0.2, 0, 160, 160, erasure=0.12, latency_ms=1_450, bleu_loss=0.3)
    measured = replace(conftest.served(), settings=Settings([row]))
    monkeypatch.setattr(conftest, "served", lambda: measured)
    async with running() as address, TranslationClient(address) as client:
        app = app_for(client, speech(2), "de")
        async with app.run_test(size=(100, 24)) as pilot:
            await until(pilot, lambda: any("0.12 words taken back" in note.message for note in app._notifications))


async def test_languages_come_and_go_while_it_runs_and_what_stays_keeps_its_text(running, speech):
    async with running() as address, TranslationClient(address) as client:
        app = app_for(client, speech(40), "de")
        async with app.run_test(size=(100, 24)) as pilot:
            await until(pilot, lambda: app.transcript.finals("de"))
            first = app.transcript.finals("de")[0].committed
            await pilot.press("a")
            await until(pilot, lambda: isinstance(app.focused, Input))
            await pilot.press(*"zh", "enter")
            await until(pilot, lambda: list(app.columns) == ["de", "zh"])
            assert first in texts(app)["de"]
            await until(pilot, lambda: app.transcript.finals("zh"))
            await pilot.press("a")
            await until(pilot, lambda: isinstance(app.focused, Input))
            await pilot.press(*"xx", "enter")  # no such language: told, and nothing changes
            await until(pilot, lambda: any("xx" in note.message for note in app._notifications))
            assert list(app.columns) == ["de", "zh"]
            await pilot.press("r")
            await until(pilot, lambda: app.screen is not app.screen_stack[0])
            await pilot.press("enter")  # the first of them
            await until(pilot, lambda: list(app.columns) == ["zh"])
            await pilot.press("q")
            await until(pilot, lambda: app.return_value is not None)


async def test_pausing_closes_what_was_said_and_hears_nothing(running, speech):
    async with running() as address, TranslationClient(address) as client:
        app = app_for(client, speech(40), "de")
        async with app.run_test() as pilot:
            await until(pilot, lambda: "w0" in texts(app)["de"])
            await pilot.press("space")
            assert "paused" in bar(app)
            await until(pilot, lambda: app.transcript.finals("de"))
            heard = app._stream.cursors.received_ms
            await pilot.pause(0.5)
            assert app._stream.cursors.received_ms <= heard + 200  # what was on its way
            count = len(app.transcript.finals("de"))
            await pilot.press("space")
            await until(pilot, lambda: len(app.transcript.finals("de")) > count)
            await pilot.press("q")
            await until(pilot, lambda: app.return_value is not None)


async def test_another_input_goes_on_below_what_was_said(running, speech, monkeypatch):
    other = speech(2, "other.wav")
    monkeypatch.setattr(screen, "inputs", lambda: [Device("a door", 7), Device("all.monitor", "all.monitor")])
    asked = []

    def listen(device, stop):
        asked.append(device)
        return recording(speech(40) if device is None else other, stop)

    async with running() as address, TranslationClient(address) as client:
        app = MicApp(client, StreamOptions(("de",)), listen)
        async with app.run_test() as pilot:
            await until(pilot, lambda: app.transcript.finals("de"))
            await pilot.press("d")
            await until(pilot, lambda: app.screen is not app.screen_stack[0])
            await pilot.press("down", "enter")
            await until(pilot, lambda: len(asked) == 2 and app.transcript.finals("de")[-1].text in texts(app)["de"])
            assert texts(app)["de"].startswith("00:00")
            await until(pilot, lambda: app.return_value is not None)
        assert asked == [None, Device("all.monitor", "all.monitor")]
        said = app.transcript.finals("de")
        assert len(said) >= 3
        assert [each.start for each in said] == sorted(each.start for each in said)


async def test_captions_are_saved_while_it_runs(running, speech, tmp_path):
    async with running() as address, TranslationClient(address) as client:
        app = app_for(client, speech(40), "de")
        async with app.run_test() as pilot:
            await until(pilot, lambda: app.transcript.finals("de"))
            await pilot.press("s")
            await until(pilot, lambda: isinstance(app.focused, Input))
            app.focused.value = str(tmp_path / "said.vtt")
            await pilot.press("enter")
            await until(pilot, (tmp_path / "said.vtt").exists)
            await pilot.press("q")
            await until(pilot, lambda: app.return_value is not None)
    assert "w0 w1" in (tmp_path / "said.vtt").read_text()


async def test_what_ends_it_is_kept_for_who_called(running, speech):
    def broken(device, stop):
        raise SourceError("there is no microphone")

    async with running() as address, TranslationClient(address) as client:
        app = MicApp(client, StreamOptions(("de",)), broken)
        async with app.run_test() as pilot:
            await until(pilot, lambda: app.problem is not None)
        assert str(app.problem) == "there is no microphone"
        app = app_for(client, speech(1), "xx")
        async with app.run_test() as pilot:
            await until(pilot, lambda: app.problem is not None)
        assert "xx" in str(app.problem)
