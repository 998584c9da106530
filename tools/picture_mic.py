"""Make the picture of the microphone client in ``docs/mic.md``, while a recording is played to it.

    python tools/picture_mic.py [--file talk.wav] [--to de,fr] [--out docs/mic.svg]

What is seen is the program itself before a server of its own with the embedded model; by default it hears the recording
of the demo.
"""

from __future__ import annotations

import argparse
import asyncio
import re
from pathlib import Path

from streamtrans_clients.mic import parser
from streamtrans_clients.options import client, ready, served, sound, wishes
from streamtrans_clients.screen import MicApp

from streamtrans.client import TranslationClient

ROOT = Path(__file__).parent.parent
SIZE = 100, 14
"""Columns and lines of the terminal."""
FINALS = 2
"""Sentences that stand above the one that is being said."""
PATIENCE_S = 120.0


def main() -> None:
    """Make it."""
    made = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    made.add_argument("--file", type=Path, default=ROOT / "streamtrans" / "demo" / "speech.flac")
    made.add_argument("--to", default="de,fr")
    made.add_argument("--out", type=Path, default=ROOT / "docs" / "mic.svg")
    chosen = made.parse_args()
    options = parser().parse_args(["--file", str(chosen.file), "--to", chosen.to])
    chosen.out.write_text(asyncio.run(_served_picture(options)) + "\n", encoding="utf-8")
    print(f"{chosen.out}: {chosen.out.stat().st_size / 1000:.0f} kB")


async def _served_picture(options: argparse.Namespace) -> str:
    async with served(options), client(options, options.server) as way:
        await ready(way)
        return await picture(way, options)


async def picture(way: TranslationClient, options: argparse.Namespace) -> str:
    """Return what the program shows, as SVG, once it has final captions in every language and tentative text below.

    Raises:
        TimeoutError: it doesn't come to that.
    """
    app = MicApp(way, wishes(options), lambda _, stop: sound(options, stop))
    async with asyncio.timeout(PATIENCE_S), app.run_test(size=SIZE) as pilot:
        while not _telling(app):
            if app.return_value is not None:
                raise TimeoutError("the recording ended before there was anything to show")
            await pilot.pause(0.05)
        drawn = app.export_screenshot(title=f"streamtrans-mic --to {','.join(options.to or ())}")
        app.exit()
    # a picture in a document asks nobody for letters
    return re.sub(r"@font-face \{.*?\}\s*", "", drawn, flags=re.S)


def _telling(app: MicApp) -> bool:
    shown = [column.shown for column in app.columns.values()]
    enough = all(len(app.transcript.finals(language)) >= FINALS for language in app.columns)
    return enough and any("dim" in str(span.style) for text in shown for span in text.spans)


if __name__ == "__main__":
    main()
