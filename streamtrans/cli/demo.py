"""``streamtrans demo``: a server, a recording played in real time, captions that grow, and their score."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from streamtrans.cli.options import Model, languages
from streamtrans.core import BadConfig, Caption, SpeechStarted, StreamtransError, milliseconds
from streamtrans.runtime import ModelChoice
from streamtrans.text import joins_without_spaces

if TYPE_CHECKING:
    from rich.console import Console
    from streamtrans_clients import Board

    from streamtrans.client import StreamEvent, Summary

FOLDER = Path(__file__).parent.parent / "demo"
RECORDING = FOLDER / "speech.flac"

GOOD_CHRF = 40.0
"""What the embedded model should reach on sentences that it has never seen."""

_READY_S = 120.0
"""How long the server may take to load; larger forgives slower machines."""

_STOP_S = 15.0

_TO = ["fr", "it"]


@dataclass(frozen=True, slots=True)
class Sentence:
    """A sentence of the recording: when it is spoken, in which language, and what it is in all languages."""

    source: str
    start_ms: int
    end_ms: int
    texts: dict[str, str]


def demo(
    *,
    to: Annotated[list[str], typer.Option("--to", help="Languages to write at once. Repeatable.")] = _TO,
    choice: Model,
) -> None:
    """Start a server, play a bundled recording to it in real time, and show its captions as they grow.

    Eight sentences in English and Spanish, which no training has seen, in French and Italian:

        streamtrans demo

    In Chinese, German and English:

        streamtrans demo --to zh,de,en

    Plain text is promised; dimmed text (‹in quotes› where there is no terminal) may still change. It ends
    with delays, and chrF against references written by hand.
    """
    from rich.console import Console

    targets = languages(to)
    sentences = read_sentences()
    missing = [target for target in targets if target not in sentences[0].texts]
    if missing:
        known = ", ".join(sentences[0].texts)
        raise BadConfig(f"the demo has no references in {', '.join(missing)}; it has {known}")
    asyncio.run(_play(choice, targets, sentences, Console()))


def read_sentences() -> list[Sentence]:
    """Return what is spoken in the recording."""
    plan = json.loads((FOLDER / "references.json").read_text(encoding="utf-8"))
    return [Sentence(**sentence) for sentence in plan["sentences"]]


async def _play(choice: ModelChoice, targets: tuple[str, ...], sentences: Sequence[Sentence], console: Console) -> None:
    from streamtrans_clients import follow, recording

    from streamtrans.client import StreamOptions, TranslationClient

    console.print(f"starting a server with {choice.model or 'the embedded model'} …", style="dim")
    began = time.monotonic()
    async with _server(choice) as address, TranslationClient(address) as client:
        offer = await client.capabilities()
        took_s = time.monotonic() - began
        console.print(f"{offer.model} is ready at {address} after {took_s:.1f} s\n", style="dim", highlight=False)
        source = recording(RECORDING, asyncio.Event())
        options = StreamOptions(targets=targets, sample_rate_hertz=source.sample_rate_hertz, channels=source.channels)
        captions: list[Caption] = []
        with _board(console) as board:

            def show(event: StreamEvent) -> None:
                if isinstance(event, SpeechStarted):
                    _show_spoken(console, sentences, event)
                elif isinstance(event, Caption) and event.final:
                    captions.append(event)
                board.show(event)

            summary = await follow(client, options, source.chunks, show)
    if summary is not None:
        _print_summary(console, summary)
    _print_scores(console, targets, sentences, captions)


@asynccontextmanager
async def _server(choice: ModelChoice) -> AsyncIterator[str]:
    """Run ``streamtrans serve`` as a process of its own and yield its address once it is ready."""
    command = [sys.executable, "-m", "streamtrans.cli", "serve", "--port", "0", *choice.arguments()]
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE, start_new_session=True
    )
    assert process.stdout is not None
    assert process.stderr is not None
    complaints = asyncio.create_task(process.stderr.read())
    try:
        async with asyncio.timeout(_READY_S):
            line = (await process.stdout.readline()).decode()
        if not line.startswith("ready: "):
            said = (await complaints).decode().strip().splitlines()
            raise StreamtransError(f"the server didn't start: {said[-1] if said else 'it said nothing'}")
        yield line.removeprefix("ready: ").partition(",")[0]
    except TimeoutError:
        raise StreamtransError(f"the server wasn't ready within {_READY_S:.0f} s") from None
    finally:
        await _stop(process)
        complaints.cancel()


async def _stop(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        process.terminate()
        try:
            async with asyncio.timeout(_STOP_S):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()


def _board(console: Console) -> Board:
    from streamtrans_clients import GrowingLines, TerminalBoard

    return TerminalBoard(console) if console.is_terminal else GrowingLines(console)


def _show_spoken(console: Console, sentences: Sequence[Sentence], event: SpeechStarted) -> None:
    """Print what is being said, so that a viewer can judge; the model isn't told."""
    from rich.text import Text

    began_ms = milliseconds(event.start)
    spoken = min(sentences, key=lambda sentence: abs(sentence.start_ms - began_ms))
    text = Text(f"\nspoken {spoken.source}: {spoken.texts[spoken.source]}", style="bold")
    console.print(text, soft_wrap=True)


def aligned(sentences: Sequence[Sentence], captions: Iterable[Caption], language: str) -> list[str]:
    """Return for each sentence the captions that share most time with it, joined."""
    found: list[list[str]] = [[] for _ in sentences]
    for caption in captions:
        if caption.language == language:
            start_ms, end_ms = milliseconds(caption.start), milliseconds(caption.end)
            shared = [min(end_ms, sentence.end_ms) - max(start_ms, sentence.start_ms) for sentence in sentences]
            found[shared.index(max(shared))].append(caption.text.strip())
    space = "" if joins_without_spaces(language) else " "
    return [space.join(texts) for texts in found]


def _print_summary(console: Console, summary: Summary) -> None:
    from rich.table import Table

    decoding = summary.decoding
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    rows = (
        ("audio", f"{summary.audio_ms / 1000:.1f} s, played in {summary.duration_ms / 1000:.1f} s"),
        ("segments", f"{summary.segments}"),
        ("captions", f"{summary.captions}, of which {summary.finals} final"),
        (
            "first-caption delay",
            f"{summary.first_caption_p50_ms} ms (median), {max(summary.first_caption_ms, default=0)} ms (worst)",
        ),
        ("lag", f"{summary.lag_p50_ms} ms (p50), {summary.lag_p95_ms} ms (p95)"),
        ("withdrawn", f"{summary.withdrawn} characters"),
        (
            "decoding",
            f"{decoding.tokens} tokens in {decoding.passes} passes, "
            f"{decoding.accepted} of {decoding.drafted} drafted tokens accepted",
        ),
    )
    for row in rows:
        table.add_row(*row)
    console.print()
    console.print(table, highlight=False)


def _print_scores(
    console: Console, targets: Sequence[str], sentences: Sequence[Sentence], captions: Sequence[Caption]
) -> None:
    """Print chrF per language and overall."""
    from streamtrans.metrics import chrf

    try:
        scores = {
            target: chrf(aligned(sentences, captions, target), [sentence.texts[target] for sentence in sentences])
            for target in targets
        }
    except BadConfig as error:
        console.print(f"chrF was not measured: {error}", style="yellow", highlight=False, markup=False)
        return
    mean = sum(scores.values()) / len(scores)
    each = ", ".join(f"{target} {score:.1f}" for target, score in scores.items())
    verdict = f"≥ {GOOD_CHRF:.0f}, good" if mean >= GOOD_CHRF else f"< {GOOD_CHRF:.0f}, below the aim"
    style = "green" if mean >= GOOD_CHRF else "bold red"
    console.print(f"chrF                 {each}; mean {mean:.1f} ({verdict})", style=style, highlight=False)
