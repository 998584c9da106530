"""``streamtrans align``: which attention heads tell what a model is listening to."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from streamtrans.cli.options import MODEL
from streamtrans.core import Group
from streamtrans.runtime import ModelChoice

if TYPE_CHECKING:
    from streamtrans.evaluate.alignment import AlignmentReport

_EXACT = ModelChoice(dtype="float32")


def align(
    model: Annotated[
        str | None,
        typer.Argument(help="Checkpoint folder or hub name. By default the embedded model.", show_default=False),
    ] = None,
    *,
    write: Annotated[
        bool, typer.Option("--write", help="Name the heads found in the folder's generation_config.json.")
    ] = False,
    text: Annotated[
        Path, typer.Option(help="Table of sentences (streamtrans corpus prepare), best one of those that trained.")
    ] = Path("data/text/massive_train.tsv"),
    pairs: Annotated[int, typer.Option(min=2, help="Pairs of sentences; larger is surer and slower.")] = 90,
    most: Annotated[int, typer.Option(min=1, help="Heads that are chosen at most.")] = 6,
    shown: Annotated[int, typer.Option(min=1, help="Best single heads that are shown.")] = 12,
    results: Annotated[
        Path | None, typer.Option(help="Folder that keeps the figures as alignment.json.", show_default=False)
    ] = None,
    choice: Annotated[ModelChoice, Group("device", "dtype", "threads", heading=MODEL)] = _EXACT,
) -> None:
    """Find the heads of the decoder that look at what is being said, and name them in the checkpoint.

    Sentences are spoken in pairs without a pause, and their texts read in two languages. Captions of continuous
    speech are divided at the end of a sentence only where a model knows, by such heads, when it was over.

        streamtrans align checkpoints/nano --write

    Needs the speech synthesis of the train extra.
    """
    from streamtrans.cli.report import keep, progress
    from streamtrans.corpus import read_table
    from streamtrans.evaluate.alignment import AlignmentConfig, find_heads, write_heads
    from streamtrans.evaluate.machine import Watch
    from streamtrans.model.loading import find_folder
    from streamtrans.runtime import identity, load_alone

    config = AlignmentConfig(pairs=pairs, most=most)
    rows = read_table(text, on_error="skip")
    loaded = load_alone(replace(choice, model=model))
    with Watch() as watch, progress() as bar:
        task = bar.add_task("texts", total=None)
        found = find_heads(
            loaded, loaded.tokenizer, rows, config, progress=lambda n, total: bar.update(task, completed=n, total=total)
        )
    if results is not None:
        keep("alignment", {"model": identity(model), "pairs": pairs, **found.figures()}, watch.measured, results)
    _show(found, shown)
    if write:
        folder = find_folder(model)
        write_heads(folder, found.chosen)
        typer.echo(f"alignment heads written to {folder / 'generation_config.json'}")


def _show(found: AlignmentReport, shown: int) -> None:
    from streamtrans.cli.report import show

    columns = ["right side of the joint", "in order", "off by, ms"]
    lines = [(f"layer {layer}, head {head}", score) for (layer, head), score in [*found.alone.items()][:shown]]
    show("best heads alone", ["", *columns], [[name, *score.figures().values()] for name, score in lines])
    named = [f"{'+ ' if at else ''}[{layer}, {head}]" for at, (layer, head) in enumerate(found.chosen)]
    steps = [[name, *score.figures().values()] for name, score in zip(named, found.steps, strict=True)]
    held_out = [[name, *score.values()] for name, score in found.figures()["held_out"].items()]
    show("chosen, one after the other", ["", *columns], steps)
    show("chosen, on pairs that chose nothing", ["", *columns], held_out)
