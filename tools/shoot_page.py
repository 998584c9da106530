"""Make the screenshots of docs/page.md: the live-caption page in Chromium, with a recording as its microphone.

    python tools/shoot_page.py [--model FOLDER] [--sound FILE] [--spoken en] [--to es] [--read it] [--after SECONDS]

Without options the embedded model hears the recording of the demo. Needs Chromium (Debian's package) and playwright.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import io
import shutil
import sys
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import soundfile
from PIL import Image
from playwright.async_api import Browser, Page, async_playwright

import streamtrans

ROOT = Path(__file__).resolve().parents[1]
DEMO = Path(streamtrans.__file__).parent / "demo" / "speech.flac"
PROJECTOR, LAPTOP, PHONE = (1_920, 1_080), (1_280, 720), (390, 844)


@contextlib.asynccontextmanager
async def served(model: str | None) -> AsyncIterator[str]:
    """Start a server with the page; yield its address."""
    command = [sys.executable, "-m", "streamtrans", "serve", "--port", "0", "--page", "--http-port", "0"]
    with tempfile.NamedTemporaryFile("w", suffix=".toml") as settings:
        settings.write("[load]\nmax_lag_ms = 60000\nmost_busy = 1.0\n")  # what is shown is what is tentative, too
        settings.flush()
        process = await asyncio.create_subprocess_exec(
            *command,
            *("--config", settings.name),
            *(["--model", model] if model else []),
            stdout=asyncio.subprocess.PIPE,
        )
        async with _ended(process) as lines:
            while line := (await lines.readline()).decode():
                if line.startswith("live captions: "):
                    yield line.removeprefix("live captions: ").strip()
                    break


@contextlib.asynccontextmanager
async def _ended(process: asyncio.subprocess.Process) -> AsyncIterator[asyncio.StreamReader]:
    """Give what ``process`` says, and end it afterwards."""
    assert process.stdout is not None
    try:
        yield process.stdout
    finally:
        process.terminate()
        await process.wait()


@contextlib.asynccontextmanager
async def browser(sound: Path) -> AsyncIterator[Browser]:
    """Start Chromium, whose microphone hears ``sound``."""
    program = shutil.which("chromium")
    if program is None:
        raise SystemExit("error: no Chromium is here; Debian has it as `apt install chromium`")
    with tempfile.TemporaryDirectory() as folder:
        heard = Path(folder) / "sound.wav"
        soundfile.write(heard, *soundfile.read(sound), subtype="PCM_16")
        told = ["--no-sandbox", "--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]
        async with async_playwright() as playwright:
            yield await playwright.chromium.launch(
                executable_path=program, args=[*told, f"--use-file-for-fake-audio-capture={heard}"]
            )


async def opened(program: Browser, address: str, size: tuple[int, int], language: str) -> Page:
    """Open a page in a dark browser of somebody who reads ``language``."""
    width, height = size
    context = await program.new_context(
        viewport={"width": width, "height": height}, color_scheme="dark", locale=language, reduced_motion="reduce"
    )
    page = await context.new_page()
    await page.goto(address)
    return page


async def shoot(wishes: argparse.Namespace) -> None:
    """Speak, let somebody read along, and take pictures of both."""
    folder: Path = wishes.folder
    folder.mkdir(exist_ok=True)

    async def keep(page: Page, name: str) -> None:
        picture = Image.open(io.BytesIO(await page.screenshot()))
        picture.convert("P", palette=Image.Palette.ADAPTIVE, colors=128).save(folder / f"{name}.png", optimize=True)

    async with served(wishes.model) as address, browser(wishes.sound) as program:
        page = await opened(program, address, LAPTOP, wishes.to)
        await page.locator("#go:not(:disabled)").wait_for()
        await keep(page, "begin")
        await page.select_option("#spoken", wishes.spoken)
        await page.click("#go")
        await page.locator(f'.rows p[lang="{wishes.to}"]').first.wait_for()
        await page.click("#share")
        await page.locator("#sharing[open]").wait_for()
        link = await page.get_attribute("#link", "href")
        await page.locator("#sharing").get_by_role("button", name="Close").click()
        phone = await opened(program, str(link), PHONE, wishes.read)
        await page.wait_for_timeout(1_000 * wishes.after)
        await page.locator(".rows .tentative:not(:empty)").first.wait_for()
        await keep(page, "speaking")
        await keep(phone, "phone")
        await page.click("#theme")
        await page.set_viewport_size({"width": PROJECTOR[0], "height": PROJECTOR[1]})
        await page.wait_for_timeout(500)
        await keep(page, "projector")
        await page.click("#go")
        await page.locator("#doing", has_text="Stopped").wait_for()


def main() -> None:
    """Take the pictures."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--model", help="a folder; without, the embedded model")
    parser.add_argument("--sound", type=Path, default=DEMO, help="what is said")
    parser.add_argument("--spoken", default="en", help="its language")
    parser.add_argument("--to", default="es", help="the language of the captions")
    parser.add_argument("--read", default="it", help="that of who reads along")
    parser.add_argument("--after", type=float, default=15.0, help="seconds of speech until the pictures are taken")
    parser.add_argument("--folder", type=Path, default=ROOT / "docs" / "page", help="where they go")
    asyncio.run(shoot(parser.parse_args()))


if __name__ == "__main__":
    main()
