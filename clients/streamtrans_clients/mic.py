"""``streamtrans-mic``: speak, and read what you say in other languages."""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys
from collections.abc import AsyncIterator, Sequence
from importlib.util import find_spec

from rich.console import Console

from streamtrans.client import Started, StreamEvent, Summary
from streamtrans_clients.boards import Board, FinalLines, TerminalBoard, setting_line
from streamtrans_clients.follow import follow
from streamtrans_clients.options import (
    add_captions,
    add_languages,
    add_server,
    add_sound,
    client,
    device_sound,
    done,
    program,
    ready,
    served,
    sound,
    stopper,
    wishes,
)
from streamtrans_clients.sources import Device, Source, loudness, microphones

EXAMPLES = """\
examples:
  streamtrans-mic --to de,fr               speak, read German and French; starts a server where none runs
  streamtrans-mic --to en --from es        the speaker's language, where you know it
  streamtrans-mic --to de --file talk.wav  play a recording instead, in real time
  streamtrans-mic --to de --plain          finished captions, a line each, as into a pipe
  streamtrans-mic --to de --device system
                                           what this machine plays: a call, a video
  streamtrans-mic --list-devices           what to give to --device
  streamtrans-mic --to de --server talks.example.org:50051 --tls
                                           encrypted; --tls ca.pem trusts a certificate of your own,
                                           --tls-cert and --tls-key show who you are,
                                           or --key with the file of a key that you were given
"""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the program; ends the process with 0, or with 2 and one line about what is wrong."""
    summary = done(parser(), arguments, _served_and_heard)
    if summary is not None:
        Console(stderr=True).print(_summary_line(summary), style="dim", highlight=False)


def parser() -> argparse.ArgumentParser:
    """Return what reads the command line."""
    made = program(
        "streamtrans-mic", "Translate what a microphone hears, live, with a streamtrans server. Ctrl-C ends.", EXAMPLES
    )
    add_languages(made)
    add_server(made)
    add_sound(made)
    made.add_argument("--plain", action="store_true", help="print lines, even on a terminal")
    add_captions(made)
    return made


async def _served_and_heard(options: argparse.Namespace) -> Summary | None:
    """Find a server, or start one, and listen."""
    if options.list_devices:
        print("\n".join(microphones()) or "there is no microphone")
        return None
    async with served(options):
        return await _listen(options)


async def _listen(options: argparse.Namespace) -> Summary | None:
    # The screen is drawn where errors are told.
    seen = all(stream.isatty() for stream in (sys.stdin, sys.stdout, sys.stderr))
    if seen and not options.plain and find_spec("textual") is not None:
        return await _on_screen(options)
    return await _printed(options)


async def _on_screen(options: argparse.Namespace) -> Summary | None:
    """Show the screen; what ends it is raised once the terminal is as it was."""
    from streamtrans_clients.screen import MicApp

    def listen(device: Device | None, stop: asyncio.Event) -> Source:
        return sound(options, stop) if device is None else device_sound(device.place, stop)

    async with client(options, options.server) as way:
        await ready(way)
        app = MicApp(way, wishes(options), listen)
        summary = await app.run_async()
    if app.problem is not None:
        raise app.problem
    return summary


async def _printed(options: argparse.Namespace) -> Summary | None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    before = signal.signal(signal.SIGINT, stopper(loop, stop))
    try:
        async with client(options, options.server) as way:
            await ready(way)  # a server that isn't there is told before a microphone is opened
            source = sound(options, stop)
            with _board(source) as board:

                def show(event: StreamEvent) -> None:
                    if isinstance(event, Started) and (line := setting_line(event)) is not None:
                        print(line, file=sys.stderr)
                    board.show(event)

                return await follow(way, wishes(options, source), _metered(source, board), show)
    finally:
        signal.signal(signal.SIGINT, before)


def _board(source: Source) -> Board:
    console = Console()
    if console.is_terminal:
        return TerminalBoard(console, footer=f"{source.name} · Ctrl-C ends")
    return FinalLines(console)


async def _metered(source: Source, board: Board) -> AsyncIterator[bytes]:
    async for chunk in source.chunks:
        board.level(loudness(chunk))
        yield chunk


def _summary_line(summary: Summary) -> str:
    return (
        f"{summary.audio_ms / 1000:.1f} s of sound, {summary.segments} segments, "
        f"first caption after {summary.first_caption_p50_ms} ms, "
        f"lag {summary.lag_p50_ms} ms (p95 {summary.lag_p95_ms} ms), "
        f"{summary.withdrawn} characters withdrawn"
    )


if __name__ == "__main__":
    main()
