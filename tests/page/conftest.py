"""A real browser with a recording as its microphone, and servers whose captions are known."""

import asyncio
import time
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest
import pytest_asyncio
import soundfile
from playwright.async_api import async_playwright

from streamtrans.core import Caption
from streamtrans.wire import Reducer, ServerMessage
from streamtrans.wire.frames import FORMS
from tests.debian import program
from tests.server.conftest import committed, configured, instant, running, served, speech

TALK = (0.4, 1.2, 0.6, 1.5, 0.7, 1.0, 0.8)
"""Seconds of silence and sound in turn: three segments."""

PATIENCE_MS = 20_000

_ANY_MICROPHONE = ("--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream")


def pytest_collection_modifyitems(items):
    """Run these tests on one loop, so that one browser serves most of them."""
    here = Path(__file__).parent
    for item in items:
        if item.path.parent == here and pytest_asyncio.is_async_test(item):
            item.add_marker(pytest.mark.asyncio(loop_scope="session"), append=False)


@pytest.fixture(scope="session")
def chromium():
    return program("chromium", "chromium", "fonts-dejavu-core")


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def playwright():
    async with async_playwright() as playwright:
        yield playwright


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def launch(playwright, chromium, tmp_path_factory):
    async def launched(sound, rate, *arguments):
        told = ["--no-sandbox", "--disable-dev-shm-usage", "--autoplay-policy=no-user-gesture-required", *arguments]
        if sound is not None:
            path = tmp_path_factory.mktemp("microphone") / "sound.wav"
            soundfile.write(path, sound, rate, subtype="PCM_16")
            told += [f"--use-file-for-fake-audio-capture={path}", *_ANY_MICROPHONE]
        return await playwright.chromium.launch(
            executable_path=chromium, args=told, ignore_default_args=["--mute-audio"]
        )

    return launched


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def usual(launch):
    """The browser whose microphone hears the talk."""
    program = await launch(speech(*TALK), 16_000)
    yield program
    await program.close()


@pytest.fixture
def browser(launch, usual):
    """Lend browsers; ``sound`` is (n,) float32, which the microphone hears again and again; usually the talk."""

    @asynccontextmanager
    async def lent(sound=None, *, rate=16_000, microphone=True, arguments=()):
        if sound is None and microphone and not arguments:
            try:
                yield usual
            finally:
                for context in usual.contexts:
                    await context.close()
            return
        heard = speech(*TALK) if sound is None and microphone else sound
        program = await launch(heard, rate, *arguments)
        yield program
        await program.close()

    return lent


class Ears:
    """What goes over the sockets of a page, and what its captions are by the rules of the protocol."""

    def __init__(self, page, path="/v1/stream"):
        self.audio, self.told, self.sockets = [], [], 0
        self._path = path
        page.on("websocket", self._watch)

    def _watch(self, socket):
        if socket.url.endswith(self._path):
            self.sockets += 1
            socket.on("framesent", lambda data: self.audio.append(data) if isinstance(data, bytes) else None)
            socket.on("framereceived", self._hear)

    def _hear(self, frame):
        if not frame.startswith('{"status"'):
            self.told.append(FORMS["streamtrans.v1+json"]().message(frame, ServerMessage))

    def kinds(self):
        return [message.WhichOneof("event") for message in self.told]

    def finals(self):
        """Return (segment, language) → text, of those that aren't empty, in order; raises where a rule was broken."""
        reducer, finals = Reducer(), {}
        for message in self.told:
            event = reducer.reduce(message) if message.WhichOneof("event") in ("caption", "speech") else None
            if isinstance(event, Caption) and event.final and event.committed:
                finals[event.segment, event.language] = event.committed
        return finals


async def shown(page, language):
    """Return the captions that one reads on the page, row by row."""
    return await page.locator(f'.rows p[lang="{language}"]').all_text_contents()


async def opened(program, server, path="", **context):
    """Open the page of ``server`` (or of a port) in a browser of its own, and collect what goes wrong there."""
    port = server if isinstance(server, int) else server.http_port
    page = await (await program.new_context(**{"locale": "de-DE"} | context)).new_page()
    page.set_default_timeout(PATIENCE_MS)
    page.problems = []
    page.on("pageerror", lambda error: page.problems.append(str(error)))
    page.on("console", lambda told: page.problems.append(told.text) if "Content Security Policy" in told.text else None)
    await page.goto(f"http://localhost:{port}/{path}")
    return page


async def said(page, what):
    """Wait until the page says what it is doing."""
    await page.locator("#doing", has_text=what).wait_for()


async def rows(page, count, language="de"):
    """Wait until there are so many finished captions."""
    await page.locator(f'.rows p[lang="{language}"]:not(.open)').nth(count - 1).wait_for(state="attached")


async def until(condition, within_s=20):
    end = time.monotonic() + within_s
    while not (found := condition()):
        assert time.monotonic() < end, "it doesn't come"
        await asyncio.sleep(0.02)
    return found


async def ended(page):
    """Press Stop, and wait for the last captions."""
    await page.click("#go")
    await said(page, "Stopped")


@pytest.fixture
def hall(browser):
    return SimpleNamespace(
        browser=browser, running=running, configured=configured, served=served, instant=instant, speech=speech,
        TALK=TALK, Ears=Ears, shown=shown, committed=committed, opened=opened, said=said, rows=rows, until=until,
        ended=ended,
    )  # fmt: skip
