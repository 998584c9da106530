"""``streamtrans train``: run a recipe."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from streamtrans.cli.stopping import stopping_well


def train(
    recipe: Annotated[Path, typer.Argument(help="A recipe, such as recipes/nano.toml.")],
    *,
    stage: Annotated[
        str | None,
        typer.Option(help="This stage only; by default all that aren't finished, in order.", show_default=False),
    ] = None,
    workers: Annotated[int, typer.Option(min=1, help="CPU processes that share the work; one per core.")] = 1,
    runs: Annotated[Path, typer.Option(help="Folder that holds a folder per run.")] = Path("runs"),
    device: Annotated[
        str | None,
        typer.Option(
            help="cpu, cuda, cuda:1, … By default cpu for a recipe in stages, and what is there for fine-tuning.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Train a model as a recipe says, or go on where it was interrupted.

    The embedded model, on two cores:

        streamtrans train recipes/nano.toml --workers 2

    Then write a checkpoint folder of a finished stage:

        streamtrans export recipes/nano.toml polish streamtrans/models/nano

    A recipe that names directions trains a translator of texts, to stand behind a model that hears:

        streamtrans train recipes/text_translator.toml

    A recipe that names manifests of speech teaches a model as docs/compression.md says. One that names a base and
    corpora fine-tunes it, as docs/training.md says; on several GPUs:

        accelerate launch --multi_gpu --num_processes 8 -m streamtrans.cli train recipes/whisper_m2m_medium.toml
    """
    with stopping_well(f"streamtrans train {recipe}", runs):
        typer.echo(f"{recipe}: texts and speech are made ready in {runs}; the first figures may take minutes", err=True)
        _run(recipe, stage=stage, workers=workers, runs=runs, device=device)


def _run(recipe: Path, *, stage: str | None, workers: int, runs: Path, device: str | None) -> None:
    from streamtrans.compress.teaching.recipe import is_teaching
    from streamtrans.train.anchored.recipe import is_anchored
    from streamtrans.train.finetune.recipe import is_finetune
    from streamtrans.train.translator.recipe import is_translator

    if is_translator(recipe):
        _translator(recipe, stage=stage, workers=workers, runs=runs, device=device)
        return
    if is_anchored(recipe):
        _anchored(recipe, stage=stage, workers=workers, runs=runs)
        return
    if is_teaching(recipe):
        _teaching(recipe, stage=stage, workers=workers, runs=runs, device=device)
        return
    if is_finetune(recipe):
        _finetune(recipe, stage=stage, workers=workers, runs=runs, device=device)
        return
    from streamtrans.train.trainer import TrainConfig
    from streamtrans.train.trainer import train as run

    folder = run(TrainConfig(str(recipe), runs=str(runs), stage=stage, workers=workers, device=device or "cpu"))
    typer.echo(f"done: {folder}")


def _anchored(recipe: Path, *, stage: str | None, workers: int, runs: Path) -> None:
    from streamtrans.core import BadConfig, needs

    if workers > 1:
        raise BadConfig(f"{recipe} is trained by one process: leave --workers out")
    try:
        from streamtrans.train.anchored.trainer import AnchoredConfig, train_anchored

        folder = train_anchored(AnchoredConfig(str(recipe), runs=str(runs), stage=stage))
    except ModuleNotFoundError as error:
        raise BadConfig(needs("this training", str(error.name), "train")) from None
    typer.echo(f"done: {folder}")


def _translator(recipe: Path, *, stage: str | None, workers: int, runs: Path, device: str | None) -> None:
    from streamtrans.core import BadConfig, needs

    if stage is not None or workers > 1:
        raise BadConfig(f"{recipe} is one training by one process: leave --stage and --workers out")
    try:
        from streamtrans.train.translator.trainer import TranslatorConfig, train_translator

        folder = train_translator(TranslatorConfig(str(recipe), runs=str(runs), device=device or "cpu"))
    except ModuleNotFoundError as error:
        raise BadConfig(needs("training a translator", str(error.name), "train")) from None
    typer.echo(f"done: {folder}; the translator is {folder / 'model'}")


def _teaching(recipe: Path, *, stage: str | None, workers: int, runs: Path, device: str | None) -> None:
    from dataclasses import replace

    from streamtrans.cli.distill import show_taught
    from streamtrans.cli.report import telling
    from streamtrans.compress.teaching import load_teaching, teach
    from streamtrans.core import BadConfig

    if stage is not None or workers > 1:
        raise BadConfig(f"{recipe} is one training by one process: leave --stage and --workers out")
    teaching = load_teaching(recipe)
    teaching = replace(teaching, device=device or teaching.device)
    folder = runs / teaching.name
    if not (folder / "model").exists():
        with telling("training") as told:
            show_taught(teach(teaching, folder / "model", work=folder, told=told))
    typer.echo(f"done: {folder}; the model to serve is {folder / 'model'}")


def _finetune(recipe: Path, *, stage: str | None, workers: int, runs: Path, device: str | None) -> None:
    from streamtrans.core import BadConfig, needs

    if stage is not None or workers > 1:
        raise BadConfig(
            f"{recipe} fine-tunes a checkpoint: it has no stages, and several processes are started with "
            f"accelerate launch --num_processes N -m streamtrans.cli train {recipe}"
        )
    try:
        from streamtrans.train.finetune.trainer import FinetuneConfig, finetune

        folder = finetune(FinetuneConfig(str(recipe), runs=str(runs), device=device or "auto"))
    except ModuleNotFoundError as error:
        raise BadConfig(needs("fine-tuning", str(error.name), "train")) from None
    typer.echo(f"done: {folder}; the model to serve is {folder / 'model'}")
