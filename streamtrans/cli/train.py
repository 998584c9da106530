"""``streamtrans train``: run a recipe."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def train(
    recipe: Annotated[Path, typer.Argument(help="A recipe, such as recipes/nano.toml.")],
    *,
    stage: Annotated[
        str | None,
        typer.Option(help="This stage only; by default all that aren't finished, in order.", show_default=False),
    ] = None,
    workers: Annotated[int, typer.Option(min=1, help="CPU processes that share the work; one per core.")] = 1,
    runs: Annotated[Path, typer.Option(help="Folder that holds a folder per run.")] = Path("runs"),
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:1, …")] = "cpu",
) -> None:
    """Train a model as a recipe says, or go on where it was interrupted.

    The embedded model, on two cores:

        streamtrans train recipes/nano.toml --workers 2

    Then write a checkpoint folder of a finished stage:

        streamtrans export recipes/nano.toml polish streamtrans/models/nano
    """
    from streamtrans.train.trainer import TrainConfig
    from streamtrans.train.trainer import train as run

    folder = run(TrainConfig(str(recipe), runs=str(runs), stage=stage, workers=workers, device=device))
    typer.echo(f"done: {folder}")
