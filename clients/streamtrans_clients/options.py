"""What client programs are told in the same words: which server, what is spoken, what is wanted, what is heard.

Law: what is wrong is said in one line that says what would be right, and before anything is listened to.
"""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable
from contextlib import asynccontextmanager
from dataclasses import asdict, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeVar

from streamtrans.client import (
    BadConfig,
    CaptionChoice,
    ClientError,
    Denied,
    Overloaded,
    StreamOptions,
    Tls,
    TranslationClient,
    Unavailable,
    asked,
)
from streamtrans_clients.boards import printable
from streamtrans_clients.servers import own_server
from streamtrans_clients.sources import SYSTEM, Source, SourceError, microphone, piped, recording, system_sound

ADDRESS = "localhost:50051"
"""Where a server is looked for."""

Result = TypeVar("Result")

STANDARD_INPUT = Path("-")

_LOADING_S = 300.0
"""How long a server may load its model."""


def program(name: str, description: str, examples: str) -> argparse.ArgumentParser:
    """Return a reader of a command line that knows nothing yet but how to explain itself."""
    made = argparse.ArgumentParser(
        prog=name,
        description=description,
        epilog=examples,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument("--version", action="version", version=f"{name} {version('streamtrans')}")
    return made


def add_languages(made: argparse.ArgumentParser) -> None:
    """Ask for what is spoken, and what is to be written."""
    made.add_argument("--to", action="append", metavar="LANGUAGES", help="such as de,fr (default: en); repeatable")
    made.add_argument(
        "--from", dest="source", action="append", metavar="LANGUAGES", help="what is spoken, or auto (default: any)"
    )


def add_server(made: argparse.ArgumentParser) -> None:
    """Ask for the server, and how to be let in."""
    made.add_argument(
        "--server",
        metavar="HOST:PORT",
        help=f"or ws://HOST:PORT, wss://HOST:PORT; default: {ADDRESS}, and where none is there one of its own",
    )
    made.add_argument(
        "--tls", nargs="?", const="", metavar="CA.pem", help="encrypt; with a file: trust its certificate"
    )
    made.add_argument(
        "--tls-cert", type=Path, metavar="PEM", help="encrypt, and show this certificate to a server that asks for one"
    )
    made.add_argument("--tls-key", type=Path, metavar="PEM", help="its private key")
    made.add_argument("--key", type=Path, metavar="FILE", help="the key, in a file, that the server asks for")


def add_sound(made: argparse.ArgumentParser) -> None:
    """Ask for where sound comes from."""
    made.add_argument("--device", metavar="DEVICE", help="its number, a part of its name, a monitor source, or system")
    made.add_argument("--list-devices", action="store_true", help="show the input devices and end")
    made.add_argument(
        "--file",
        type=Path,
        metavar="PATH",
        help="play this recording instead, in real time; - takes 16-bit samples at 16 kHz from standard input",
    )


def add_captions(made: argparse.ArgumentParser) -> None:
    """Ask for how captions are made."""
    captions = made.add_argument_group("captions", "where nothing is said, the server's settings hold")
    for each in asked(CaptionChoice):
        captions.add_argument(
            each.flag, dest=each.field, type=each.plain, metavar=each.option.metavar, help=each.option.help
        )
    captions.add_argument("--vad", metavar="NAME", help="Speech detector: silero, webrtc or energy.")


def read(reader: argparse.ArgumentParser, arguments: Iterable[str] | None) -> argparse.Namespace:
    """Read a command line of these groups; what contradicts itself or is out of range ends the process with 2."""
    options = reader.parse_args(None if arguments is None else list(arguments))
    if (options.tls_cert is None) != (options.tls_key is None):
        reader.error("a client certificate needs both --tls-cert and --tls-key")
    try:
        _captions(options)
    except BadConfig as error:
        reader.error(str(error))
    return options


def done(
    reader: argparse.ArgumentParser,
    arguments: Iterable[str] | None,
    work: Callable[[argparse.Namespace], Coroutine[Any, Any, Result]],
    wrong: type[Exception] = SourceError,
) -> Result:
    """Read a command line, and do what it asks for.

    What is wrong ends the process with 2 and one line about it, before which stands how the program is used where the
    command line is what is wrong (:class:`BadConfig`); Ctrl-C with 130. ``wrong`` is another error whose message says
    what to do.
    """
    options = read(reader, arguments)
    try:
        return asyncio.run(work(options))
    except BadConfig as error:
        reader.error(str(error))
    except (KeyboardInterrupt, asyncio.CancelledError):
        sys.exit(130)
    except (ClientError, SourceError, OSError, wrong) as error:
        print(f"error: {explained(error, options.server or ADDRESS)}", file=sys.stderr)
        sys.exit(2)


def on_ending(act: Callable[[], object]) -> None:
    """Call ``act`` where the program is asked to end: by Ctrl-C, or by SIGTERM.

    Where the running loop hears no signals, Ctrl-C ends the program at once.
    """
    if sys.platform != "win32":
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, act)


def wishes(options: argparse.Namespace, source: Source | None = None) -> StreamOptions:
    """Return what is asked of a stream, with the form of what is heard."""
    made = StreamOptions(
        targets=languages(options.to or ["en"]),
        source_languages=languages(source for source in options.source or () if source.strip().lower() != "auto"),
        vad=options.vad,
        **asdict(_captions(options)),
    )
    if source is None:
        return made
    return replace(made, sample_rate_hertz=source.sample_rate_hertz, channels=source.channels)


def languages(lists: Iterable[str]) -> tuple[str, ...]:
    """Return the languages that are named, in order: ``["de,fr", "it"]`` names three."""
    return tuple(tag.strip() for text in lists for tag in text.split(",") if tag.strip())


def client(options: argparse.Namespace, address: str) -> TranslationClient:
    """Return the way to the server that is meant."""
    return TranslationClient(address, tls=_encrypted(options), key=_key(options.key))


@asynccontextmanager
async def served(options: argparse.Namespace) -> AsyncIterator[str]:
    """Yield the address of the server that is meant, or, where nobody said which and none is there, of one of our own.

    Raises:
        SourceError: one of our own doesn't start.
    """
    # Who shows a key or wants encryption means a server that is there.
    alone = options.server is None and options.key is None and _encrypted(options) is None
    if alone and not await _anyone(ADDRESS):
        print(f"no server is at {ADDRESS}: starting one, which loads the embedded model …", file=sys.stderr)
        async with own_server() as address:
            options.server = address
            yield address
        return
    options.server = options.server or ADDRESS
    yield options.server


async def ready(way: TranslationClient) -> None:
    """Wait for a server that is there and still loads its model.

    Raises:
        ClientError: it isn't there, or refuses.
    """
    try:
        await way.capabilities()
    except Unavailable as error:
        if error.retry_after_s is None:
            raise
        print(f"{way.address} isn't ready ({error.message}); waiting …", file=sys.stderr)
        await way.wait_ready(_LOADING_S)


def stopper(loop: asyncio.AbstractEventLoop, stop: asyncio.Event) -> Callable[[int, object], None]:
    """Return a handler of Ctrl-C: the first ends the sound and awaits the last captions, the second all."""

    def on_interrupt(_number: int, _frame: object) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        loop.call_soon_threadsafe(stop.set)

    return on_interrupt


def sound(options: argparse.Namespace, stop: asyncio.Event) -> Source:
    """Open what is to be listened to.

    Raises:
        SourceError: there is nothing to be heard.
    """
    if options.file == STANDARD_INPUT:
        return piped(stop)
    if options.file:
        return recording(options.file, stop, lambda text: print(f"{options.file}: {text}", file=sys.stderr))
    device = options.device
    return device_sound(int(device) if device is not None and device.isdigit() else device, stop)


def device_sound(place: int | str | None, stop: asyncio.Event) -> Source:
    """Open an input device, or what the machine plays.

    Raises:
        SourceError: there is no such thing.
    """
    if isinstance(place, str) and (place == SYSTEM or place.endswith(".monitor")):
        return system_sound(place, stop)
    return microphone(place, stop)


def tell(message: str) -> None:
    """Say something to whoever runs the program."""
    print(printable(message), file=sys.stderr, flush=True)


def explained(error: Exception, server: str) -> str:
    """Say what is wrong, and what to do."""
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


async def _anyone(address: str) -> bool:
    async with TranslationClient(address) as way:
        try:
            await way.capabilities()
        except Unavailable as error:
            return error.retry_after_s is not None
        except ClientError:
            pass
    return True


def _captions(options: argparse.Namespace) -> CaptionChoice:
    return CaptionChoice(**{each.field: getattr(options, each.field) for each in asked(CaptionChoice)})


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
