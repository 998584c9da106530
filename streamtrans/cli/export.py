"""``streamtrans export``: a trained stage becomes a checkpoint folder."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

from streamtrans.cli.convert import print_parameters
from streamtrans.core import BadConfig


def export(
    recipe: Annotated[Path, typer.Argument(help="The recipe that was trained.")],
    stage: Annotated[
        str,
        typer.Argument(help="The stage whose weights are taken; EARLIER:SHARE+STAGE mixes some of an earlier one in."),
    ],
    destination: Annotated[Path, typer.Argument(help="The folder to write, or a file .npz.")],
    *,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Write into a folder that isn't empty.")] = False,
    runs: Annotated[Path, typer.Option(help="Folder that holds a folder per run.")] = Path("runs"),
) -> None:
    """Write a trained stage as a checkpoint folder, for --model.

    For example:

        streamtrans export recipes/nano.toml polish checkpoints/nano

        streamtrans export recipes/nano.toml stream:0.1+live checkpoints/nano

        streamtrans translate talk.wav --to de --model checkpoints/nano

    Weights are rounded to bfloat16; what only training needs stays behind. Of an anchored recipe a file .npz gets what
    the stage has learnt, small enough for a repository, to go on from elsewhere:

        streamtrans export recipes/m2m_base.toml directions recipes/m2m_base/directions.npz
    """
    if not overwrite and destination.exists() and (not destination.is_dir() or any(destination.iterdir())):
        raise BadConfig(f"{destination} exists and isn't an empty folder; --overwrite replaces what is in it")
    from streamtrans.train.anchored.recipe import is_anchored

    if is_anchored(recipe):
        from streamtrans.train.anchored.export import export_stage
        from streamtrans.train.anchored.recipe import load_anchored
        from streamtrans.train.anchored.trainer import keep_stage

        if destination.suffix == ".npz":
            size = keep_stage(load_anchored(recipe), stage, destination, runs=runs)
            typer.echo(f"{destination}: {size:,} bytes")
            return
        export_stage(recipe, stage, destination, runs=runs)
        return
    from streamtrans.train.export import export as run

    report = run(recipe, stage, destination, runs=runs)
    parameters = report["parameters"]
    if isinstance(parameters, Mapping):
        print_parameters(parameters, str(destination))
    typer.echo(f"{report['bytes']:,} bytes, sha256 {report['sha256']}")
