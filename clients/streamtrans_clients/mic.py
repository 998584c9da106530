"""``streamtrans-mic``: speak, and read what you say in other languages."""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from dataclasses import asdict, replace
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

from rich.console import Console

from streamtrans.client import (
    BadConfig,
    CaptionChoice,
    ClientError,
    Denied,
    Overloaded,
    Started,
    StreamEvent,
    StreamOptions,
    Summary,
    Tls,
    TranslationClient,
    Unavailable,
    asked,
)
from streamtrans_clients.boards import Board, FinalLines, TerminalBoard
from streamtrans_clients.follow import follow
from streamtrans_clients.servers import own_server
from streamtrans_clients.sources import (
    SYSTEM,
    Device,
    Source,
    SourceError,
    loudness,
    microphone,
    microphones,
    recording,
    system_sound,
)

_LOADING_S = 300.0
"""How long a server may load its model."""

ADDRESS = "localhost:50051"
"""Where a server is looked for."""

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
    reader = parser()
    options = reader.parse_args(arguments)
    if (options.tls_cert is None) != (options.tls_key is None):
        reader.error("a client certificate needs both --tls-cert and --tls-key")
    try:
        _captions(options)
    except BadConfig as error:
        reader.error(str(error))
    try:
        if options.list_devices:
            print("\n".join(microphones()) or "there is no microphone")
            return
        summary = asyncio.run(_served_and_heard(options))
    except (KeyboardInterrupt, asyncio.CancelledError):
        sys.exit(130)
    except (ClientError, SourceError, OSError) as error:
        sys.exit(_refuse(f"error: {_explained(error, options.server or ADDRESS)}"))
    if summary is not None:
        Console(stderr=True).print(_summary_line(summary), style="dim", highlight=False)


def parser() -> argparse.ArgumentParser:
    """Return what reads the command line."""
    made = argparse.ArgumentParser(
        prog="streamtrans-mic",
        description="Translate what a microphone hears, live, with a streamtrans server. Ctrl-C ends.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument("--version", action="version", version=f"streamtrans-mic {version('streamtrans')}")
    made.add_argument("--to", action="append", metavar="LANGUAGES", help="such as de,fr (default: en); repeatable")
    made.add_argument(
        "--from", dest="source", action="append", metavar="LANGUAGES", help="what is spoken, or auto (default: any)"
    )
    made.add_argument(
        "--server", metavar="HOST:PORT", help=f"default: {ADDRESS}, and where none is there one of its own"
    )
    made.add_argument(
        "--tls", nargs="?", const="", metavar="CA.pem", help="encrypt; with a file: trust its certificate"
    )
    made.add_argument(
        "--tls-cert", type=Path, metavar="PEM", help="encrypt, and show this certificate to a server that asks for one"
    )
    made.add_argument("--tls-key", type=Path, metavar="PEM", help="its private key")
    made.add_argument("--key", type=Path, metavar="FILE", help="the key, in a file, that the server asks for")
    made.add_argument("--device", metavar="DEVICE", help="its number, a part of its name, a monitor source, or system")
    made.add_argument("--list-devices", action="store_true", help="show the input devices and end")
    made.add_argument("--file", type=Path, metavar="PATH", help="play this recording instead, in real time")
    made.add_argument("--plain", action="store_true", help="print lines, even on a terminal")
    captions = made.add_argument_group("captions", "where nothing is said, the server's settings hold")
    for each in asked(CaptionChoice):
        captions.add_argument(
            each.flag, dest=each.field, type=each.plain, metavar=each.option.metavar, help=each.option.help
        )
    captions.add_argument("--vad", metavar="NAME", help="Speech detector: silero, webrtc or energy.")
    return made


def setting_line(started: Started) -> str | None:
    """Say how captions are made, and what to expect of that; ``None`` where the server has measured nothing."""
    measured = started.setting
    if measured is None:
        return None
    return (
        f"{started.options.mode} captions of {started.model}: {measured.erasure:.2g} words taken back per word and"
        f" settled after {measured.latency_ms / 1000:.1f} s, on average"
    )


async def _served_and_heard(options: argparse.Namespace) -> Summary | None:
    """Find a server, or start one, and listen."""
    # Who shows a key or wants encryption means a server that is there.
    alone = options.server is None and options.key is None and _encrypted(options) is None
    if alone and not await _anyone(ADDRESS):
        print(f"no server is at {ADDRESS}: starting one, which loads the embedded model …", file=sys.stderr)
        async with own_server() as address:
            options.server = address
            return await _listen(options)
    options.server = options.server or ADDRESS
    return await _listen(options)


async def _anyone(address: str) -> bool:
    async with TranslationClient(address) as client:
        try:
            await client.capabilities()
        except Unavailable as error:
            return error.retry_after_s is not None
        except ClientError:
            pass
    return True


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
        return _source(options, stop) if device is None else _device(device.place, stop)

    async with TranslationClient(options.server, tls=_encrypted(options), key=_key(options.key)) as client:
        await _served(client)
        app = MicApp(client, _wishes(options), listen)
        summary = await app.run_async()
    if app.problem is not None:
        raise app.problem
    return summary


async def _printed(options: argparse.Namespace) -> Summary | None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    before = signal.signal(signal.SIGINT, _stopper(loop, stop))
    try:
        async with TranslationClient(options.server, tls=_encrypted(options), key=_key(options.key)) as client:
            await _served(client)  # a server that isn't there is told before a microphone is opened
            source = _source(options, stop)
            with _board(source) as board:

                def show(event: StreamEvent) -> None:
                    if isinstance(event, Started) and (line := setting_line(event)) is not None:
                        print(line, file=sys.stderr)
                    board.show(event)

                wishes = replace(_wishes(options), sample_rate_hertz=source.sample_rate_hertz, channels=source.channels)
                return await follow(client, wishes, _metered(source, board), show)
    finally:
        signal.signal(signal.SIGINT, before)


async def _served(client: TranslationClient) -> None:
    """Wait for a server that is there and still loads its model; one that isn't there is an error."""
    try:
        await client.capabilities()
    except Unavailable as error:
        if error.retry_after_s is None:
            raise
        print(f"{client.address} isn't ready ({error.message}); waiting …", file=sys.stderr)
        await client.wait_ready(_LOADING_S)


def _stopper(loop: asyncio.AbstractEventLoop, stop: asyncio.Event) -> Callable[[int, object], None]:
    """Return a handler of Ctrl-C: the first ends the sound and awaits the last captions, the second all."""

    def on_interrupt(_number: int, _frame: object) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        loop.call_soon_threadsafe(stop.set)

    return on_interrupt


def _source(options: argparse.Namespace, stop: asyncio.Event) -> Source:
    if options.file:
        return recording(options.file, stop, lambda text: print(f"{options.file}: {text}", file=sys.stderr))
    device = options.device
    return _device(int(device) if device is not None and device.isdigit() else device, stop)


def _device(place: int | str | None, stop: asyncio.Event) -> Source:
    if isinstance(place, str) and (place == SYSTEM or place.endswith(".monitor")):
        return system_sound(place, stop)
    return microphone(place, stop)


def _board(source: Source) -> Board:
    console = Console()
    if console.is_terminal:
        return TerminalBoard(console, footer=f"{source.name} · Ctrl-C ends")
    return FinalLines(console)


async def _metered(source: Source, board: Board) -> AsyncIterator[bytes]:
    async for chunk in source.chunks:
        board.level(loudness(chunk))
        yield chunk


def _wishes(options: argparse.Namespace) -> StreamOptions:
    return StreamOptions(
        targets=_languages(options.to or ["en"]),
        source_languages=_languages(source for source in options.source or () if source.strip().lower() != "auto"),
        vad=options.vad,
        **asdict(_captions(options)),
    )


def _captions(options: argparse.Namespace) -> CaptionChoice:
    return CaptionChoice(**{each.field: getattr(options, each.field) for each in asked(CaptionChoice)})


def _languages(lists: Iterable[str]) -> tuple[str, ...]:
    return tuple(tag.strip() for text in lists for tag in text.split(",") if tag.strip())


def _encrypted(options: argparse.Namespace) -> Tls | None:
    if options.tls is None and options.tls_cert is None:
        return None
    return Tls(
        root_certificates=Path(options.tls).read_bytes() if options.tls else None,
        private_key=options.tls_key.read_bytes() if options.tls_key else None,
        certificate_chain=options.tls_cert.read_bytes() if options.tls_cert else None,
    )


def _key(path: Path | None) -> str | None:
    if path is None:
        return None
    key = path.read_text(encoding="utf-8", errors="replace").strip()
    if not key.isascii() or not key.isprintable() or not key or " " in key:
        raise SourceError(f"{path} holds no key: it is one line, as `streamtrans key` prints it")
    return key


def _explained(error: Exception, server: str) -> str:
    if isinstance(error, Unavailable):
        return (
            f"{server} isn't serving ({error.message}). If no server runs there, start one with "
            "`streamtrans serve`, or name another with --server host:port"
        )
    if isinstance(error, Denied):
        return f"{error.message}; here it comes from a file: --key FILE"
    if isinstance(error, Overloaded) and error.retry_after_s is not None:
        return f"{error.message} (try again in {error.retry_after_s:g} s)"
    if isinstance(error, ClientError):
        wrong = "; ".join(f"{field}: {problem}" for field, problem in error.fields)
        return wrong or error.message
    return str(error)


def _refuse(message: str) -> int:
    print(message, file=sys.stderr)
    return 2


def _summary_line(summary: Summary) -> str:
    return (
        f"{summary.audio_ms / 1000:.1f} s of sound, {summary.segments} segments, "
        f"first caption after {summary.first_caption_p50_ms} ms, "
        f"lag {summary.lag_p50_ms} ms (p95 {summary.lag_p95_ms} ms), "
        f"{summary.withdrawn} characters withdrawn"
    )


if __name__ == "__main__":
    main()
