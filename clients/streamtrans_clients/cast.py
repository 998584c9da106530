"""``streamtrans-cast``: what is heard becomes captions in players and broadcasts."""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace

from streamtrans.client import BadConfig, Caption, Started, StreamEvent, TranslationClient
from streamtrans_clients.boards import notice
from streamtrans_clients.follow import follow
from streamtrans_clients.options import (
    add_captions,
    add_languages,
    add_server,
    add_sound,
    client,
    done,
    program,
    ready,
    served,
    sound,
    stopper,
    tell,
    wishes,
)
from streamtrans_clients.outlets import Outlets
from streamtrans_clients.sinks import SINKS, SinkError, sinks_for
from streamtrans_clients.sources import Source, microphones

_ENDINGS = () if sys.platform == "win32" else (signal.SIGTERM,)
"""What asks the program to end, besides Ctrl-C; the loop hears it, where a server of our own has it end all at once."""

EXAMPLES = """\
examples:
  streamtrans-cast --to de --file talk.wav talk.srt
                           subtitles that can be read in the time they are shown
  streamtrans-cast --to de obs:@obs.txt    a text source in OBS; obs.txt holds
                           ws://:PASSWORD@localhost:4455/Captions
  streamtrans-cast --to de,fr 'hls:live/{language}' de=youtube:@address.txt
                           rolling WebVTT for both, and German for YouTube
  ffmpeg -i rtmp://localhost/live -f s16le -ar 16000 -ac 1 - |
    streamtrans-cast --to en --file - obs-captions:localhost:4455
                           captions inside the stream that OBS sends
"""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the program; ends the process with 0, 1 where a sink failed, or 2 and a line about what is wrong."""
    sys.exit(1 if done(parser(), arguments, _cast, SinkError) else 0)


def parser() -> argparse.ArgumentParser:
    """Return what reads the command line."""
    made = program(
        "streamtrans-cast", "Translate what is heard, live, into captions of a player or a broadcast.", EXAMPLES
    )
    made.add_argument(
        "sinks",
        nargs="*",
        metavar="[LANGUAGE=]KIND:PLACE",
        help=f"where captions are shown: a file (.srt, .vtt, .txt, .tsv), or a place of the kind {', '.join(SINKS)};"
        " several at once; @FILE reads the place from a file",
    )
    add_languages(made)
    add_server(made)
    add_sound(made)
    add_captions(made)
    return made


async def _cast(options: argparse.Namespace) -> int:
    """Listen until the sound ends; return how many sinks failed."""
    if options.list_devices:
        print("\n".join(microphones()) or "there is no microphone")
        return 0
    if not options.sinks:
        raise BadConfig(f"name where captions are to be shown: a file such as talk.srt, or {', '.join(SINKS)}")
    targets = wishes(options).targets
    sinks = [sink for asked in options.sinks for sink in sinks_for(asked, targets)]
    async with served(options) as address, client(options, address) as way:
        await ready(way)  # a server that isn't there is told before anything is opened
        async with Outlets(sinks, tell) as outlets:
            await _listen(options, way, outlets)
    return outlets.failed


async def _listen(options: argparse.Namespace, way: TranslationClient, outlets: Outlets) -> None:
    stop, loop = asyncio.Event(), asyncio.get_running_loop()
    on_ending = stopper(loop, stop)
    before = signal.signal(signal.SIGINT, on_ending)
    for number in _ENDINGS:
        loop.add_signal_handler(number, on_ending, number, None)
    try:
        source = sound(options, stop)
        asked: dict[str, str] = {}
        """As captions name languages → as they were asked for."""

        def show(event: StreamEvent) -> None:
            if isinstance(event, Started):
                asked.update(zip(event.options.targets, wishes(options).targets, strict=False))
            elif isinstance(event, Caption):
                outlets.show(replace(event, language=asked.get(event.language, event.language)))
            elif (message := notice(event)) is not None:
                tell(message)

        # subtitles are cut where words were said
        await follow(way, replace(wishes(options, source), word_times=True), _timed(source, outlets), show)
    finally:
        signal.signal(signal.SIGINT, before)


async def _timed(source: Source, outlets: Outlets) -> AsyncIterator[bytes]:
    heard = 0
    async for chunk in source.chunks:
        heard += len(chunk) // (2 * source.channels)
        outlets.heard(heard * 1000 // source.sample_rate_hertz)
        yield chunk


if __name__ == "__main__":
    main()
