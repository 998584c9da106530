"""What a user types, and a model that hears: from the command to captions on the screen."""

import asyncio
import os
import signal
import sys
from pathlib import Path

import pytest
import soundfile

import streamtrans
from streamtrans.runtime import ModelChoice, load
from streamtrans.server import ServerConfig, TranslationServer
from streamtrans.server.offer import what_is_served
from tests.conftest import SHARED

SPEECH = Path(streamtrans.__file__).parent / "demo" / "speech.flac"


async def test_one_command_opens_the_page_and_what_is_said_is_read(hall, tmp_path):
    seen, opener = tmp_path / "seen", tmp_path / "browser"
    opener.write_text(f'#!/bin/sh\necho "$1" > {seen}\n')
    opener.chmod(0o755)
    command = [
        sys.executable,
        "-m",
        "streamtrans",
        "serve",
        "--port",
        "0",
        "--page",
        "--http-port",
        "0",
        "--threads",
        "1",
    ]
    environment = os.environ | {"BROWSER": f"{opener} %s", "DISPLAY": ":99"}
    server = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE, env=environment)
    try:
        async with asyncio.timeout(60):
            while not (line := (await server.stdout.readline()).decode()).startswith("live captions: "):
                assert line, "it has ended"
        address = line.removeprefix("live captions: ").strip()
        await hall.until(seen.exists)
        assert seen.read_text().strip() == address
        sound, rate = soundfile.read(SPEECH, dtype="float32")
        async with hall.browser(sound, rate=rate) as program:
            page = await hall.opened(program, int(address.rstrip("/").rpartition(":")[2]), locale="de-DE")
            ears = hall.Ears(page)
            await page.select_option("#spoken", "en")
            await page.click("#go")
            await hall.rows(page, 1, "en")
            await hall.rows(page, 1)
            [said, *_] = await hall.shown(page, "en")  # a microphone is never heard twice the same
            assert "lights" in said
            assert "kitchen" in said
            assert "licht" in (await hall.shown(page, "de"))[0]
            await hall.ended(page)
            for language in ("en", "de"):
                said = [text for (_, code), text in ears.finals().items() if code == language]
                assert await hall.shown(page, language) == said
            assert not page.problems
    finally:
        server.send_signal(signal.SIGINT)
        assert await server.wait() == 0


@pytest.mark.shared
async def test_a_recording_of_somebody_is_read_as_it_was_committed(hall):
    sound, rate = soundfile.read(SHARED / "data" / "speech" / "cheetah_en.wav", dtype="float32")
    served = what_is_served(load(ModelChoice(threads=1), slots=4), "silero")
    async with (
        TranslationServer(ServerConfig(port=0, http_port=0), lambda: served) as server,
        hall.browser(sound, rate=rate) as program,
    ):
        await server.ready()
        page = await hall.opened(program, server)
        await page.select_option("#spoken", "en")
        await page.click("#go")
        await hall.rows(page, 1)
        [live] = server._service._viewable.values()
        await hall.ended(page)
        committed = hall.committed(live)
        for language in ("en", "de"):
            assert await hall.shown(page, language) == [
                text for (_, code), text in committed.items() if code == language
            ]
        assert committed
        assert not page.problems
