"""A pipeline of Pipecat's that prints what it hears, in other languages: a microphone, or a recording.

python -m streamtrans_clients.bots.pipecat_captions --from en --to de --file talk.wav
"""

from __future__ import annotations

import argparse
import asyncio
import signal
from collections.abc import Sequence

from pipecat.frames.frames import EndFrame, ErrorFrame, Frame, InputAudioRawFrame, TranscriptionFrame, TranslationFrame
from pipecat.pipeline.pipeline import Pipeline
from pipecat.pipeline.worker import PipelineParams, PipelineWorker
from pipecat.processors.frame_processor import FrameDirection, FrameProcessor
from pipecat.workers.runner import WorkerRunner

from streamtrans.client import StreamOptions, TranslationClient
from streamtrans_clients.boards import printable
from streamtrans_clients.bots.pipecat import Settings, StreamtransSTTService
from streamtrans_clients.options import (
    add_captions,
    add_languages,
    add_server,
    add_sound,
    client,
    done,
    program,
    served,
    sound,
    stopper,
    wishes,
)
from streamtrans_clients.sources import Source, SourceError

EXAMPLES = """\
examples:
  python -m streamtrans_clients.bots.pipecat_captions --from en --to de                  a microphone
  python -m streamtrans_clients.bots.pipecat_captions --from en --to de --file talk.wav  a recording, in real time
"""


class Printer(FrameProcessor):
    """Print final texts, a line each, with their language."""

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        """Print what has a text, and pass everything on."""
        await super().process_frame(frame, direction)
        if isinstance(frame, TranscriptionFrame | TranslationFrame):
            print(frame.language, printable(frame.text), flush=True)
        await self.push_frame(frame, direction)


async def captions(way: TranslationClient, wanted: StreamOptions, source: Source, stop: asyncio.Event) -> str | None:
    """Run a pipeline until the sound ends; return what went wrong, if anything did."""
    spoken = wanted.source_languages[0] if len(wanted.source_languages) == 1 else None
    service = StreamtransSTTService(way, Settings(targets=wanted.targets, language=spoken), options=wanted)
    problems: list[str] = []

    async def failed(_service: StreamtransSTTService, error: ErrorFrame) -> None:
        problems.append(error.error)
        stop.set()

    service.add_event_handler("on_error", failed)
    parameters = PipelineParams(audio_in_sample_rate=source.sample_rate_hertz)
    worker = PipelineWorker(Pipeline([service, Printer()]), params=parameters, cancel_on_idle_timeout=False)

    async def hear() -> None:
        async for chunk in source.chunks:
            await worker.queue_frame(InputAudioRawFrame(chunk, source.sample_rate_hertz, source.channels))
        await worker.queue_frame(EndFrame())

    runner = WorkerRunner(handle_sigint=False)
    await runner.add_workers(worker)
    await asyncio.gather(runner.run(), hear())
    return problems[0] if problems else None


async def _run(options: argparse.Namespace) -> None:
    stop = asyncio.Event()
    before = signal.signal(signal.SIGINT, stopper(asyncio.get_running_loop(), stop))
    try:
        async with served(options) as address:
            problem = await captions(client(options, address), wishes(options), sound(options, stop), stop)
        if problem is not None:
            raise SourceError(problem)
    finally:
        signal.signal(signal.SIGINT, before)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the program; ends the process with 0, or with 2 and one line about what is wrong."""
    reader = program(
        "pipecat_captions", "Print what is heard in other languages, by way of a Pipecat pipeline.", EXAMPLES
    )
    for add in (add_languages, add_server, add_sound, add_captions):
        add(reader)
    done(reader, arguments, _run)


if __name__ == "__main__":
    main()
