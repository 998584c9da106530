"""What passes cost at Whisper's sizes with random weights, and what others' loops cost on the same."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from streamtrans.cli.bench.verbs import RESULTS, Results, bench
from streamtrans.cli.options import Threads
from streamtrans.core import BadConfig

if TYPE_CHECKING:
    from streamtrans.bench.costs import Table

Shape = Annotated[str, typer.Option(help="nano, tiny, base, small or medium.")]
Frames = Annotated[int, typer.Option(min=1, help="Frames of audio, 20 ms each; nobody pads it.")]


@bench.command()
def costs(
    *,
    shape: Shape = "medium",
    layers: Annotated[int, typer.Option(min=3, help="Decoder layers, a multiple of three.")] = 12,
    frames: Frames = 250,
    rounds: Annotated[int, typer.Option(min=1, help="How often each pass is timed.")] = 20,
    tokens: Annotated[int, typer.Option(min=1, help="Tokens of the texts that are decoded whole.")] = 48,
    texts: Annotated[int, typer.Option(min=1, help="Texts that are decoded in each way.")] = 3,
    precisions: Annotated[
        str, typer.Option(help="Some of 'plain float32', float32, bfloat16 and int8, joined by commas. By default all.")
    ] = "",
    results: Results = RESULTS,
    threads: Threads = 1,
) -> None:
    """Time a step, passes that verify drafts and KVSPN's guesses; how much drafts gain by how many are right.

    Random weights, one text, audio of five seconds. At medium shape it takes 3 GB of memory and some minutes. Also
    decodes whole texts with drafts that are right at set rates, to check what the costs foretell.
    """
    from streamtrans.bench.costs import PLAIN, CostConfig, cost_tables, measure_costs
    from streamtrans.cli.bench.report import keep, progress
    from streamtrans.evaluate.machine import Watch
    from streamtrans.model.linear import PRECISIONS

    chosen = _names(precisions, (PLAIN, *PRECISIONS), "--precisions")
    config = CostConfig(
        shape=shape, layers=layers, frames=frames, rounds=rounds, tokens=tokens, texts=texts, precisions=chosen
    )
    _use_threads(threads)
    with Watch() as watch, progress() as bar:
        task = bar.add_task("passes", total=None)
        found = measure_costs(config, progress=lambda n, total: bar.update(task, completed=n, total=total))
    network = {name: value for name, value in config.network.asdict().items() if name != "encoder_layers"}
    keep("costs", {"network": network, "frames": frames, "precisions": found}, watch.measured, results)
    _show(cost_tables(found), results / "costs.md")


@bench.command()
def peers(
    *,
    shape: Shape = "tiny",
    layers: Annotated[int, typer.Option(min=0, help="Decoder layers; 0 takes those of the shape.")] = 0,
    frames: Frames = 250,
    short: Annotated[int, typer.Option(min=1, help="Tokens of the shorter text …")] = 8,
    long: Annotated[int, typer.Option(min=2, help="… and of the longer: what a token costs is the slope.")] = 40,
    rounds: Annotated[int, typer.Option(min=1, help="How often each writes both.")] = 5,
    contenders: Annotated[
        str, typer.Option(help="Some of them, such as 'ours int8,ctranslate2 int8'. By default all.")
    ] = "",
    results: Results = RESULTS,
    threads: Threads = 1,
) -> None:
    """Compare our loop with transformers' generate and with CTranslate2, on the same random weights of a Whisper.

    Greedy, the same frames and tokens for all; milliseconds per token without encoding. `pip install
    streamtrans[bench]` brings the peers. At medium shape it takes 9 GB of memory; --contenders takes less.
    """
    from streamtrans.bench.peers import CONTENDERS, PeerConfig, compare_peers, peer_table
    from streamtrans.cli.bench.report import keep, progress
    from streamtrans.evaluate.machine import Watch

    chosen = _names(contenders, CONTENDERS, "--contenders")
    config = PeerConfig(
        shape=shape, layers=layers, frames=frames, short=short, long=long, rounds=rounds, contenders=chosen
    )
    _use_threads(threads)
    with Watch() as watch, progress() as bar:
        task = bar.add_task("rounds", total=rounds)
        found = compare_peers(config, progress=lambda n, _: bar.update(task, completed=n))
    keep("peers", {"network": config.network.asdict(), "contenders": found}, watch.measured, results)
    _show([peer_table(found)], results / "peers.md")


def _use_threads(threads: int | None) -> None:
    import torch

    if threads is not None:
        torch.set_num_threads(threads)


def _show(tables: Sequence[Table], path: Path) -> None:
    """Print the tables, and keep them as Markdown beside the figures."""
    from streamtrans.cli.bench.report import show

    for table in tables:
        show(table.title, table.columns, table.rows)
    path.write_text("\n".join(table.markdown() for table in tables), encoding="utf-8")


def _names(text: str, known: Sequence[str], option: str) -> tuple[str, ...]:
    """Read names joined by commas; none takes all."""
    found = tuple(part.strip() for part in text.split(",") if part.strip()) or tuple(known)
    if unknown := [name for name in found if name not in known]:
        raise BadConfig(f"{option} names {', '.join(unknown)}; use {', '.join(known)}")
    return found
