"""``streamtrans compress``: smaller models from larger ones, and one from many."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from streamtrans.core import BadConfig
from streamtrans.foreign import Chosen

compress = typer.Typer(
    name="compress",
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Make one model of several, and smaller ones of larger ones.",
)


@compress.callback()
def _compress() -> None:
    """Make one model of several, and smaller ones of larger ones."""


@compress.command()
def merge(
    base: Annotated[str, typer.Argument(help="The checkpoint that all were fine-tuned from: folder or hub name.")],
    destination: Annotated[Path, typer.Argument(help="The folder to write; new or empty.")],
    *,
    models: Annotated[
        list[str],
        typer.Option("--model", help="NAME=FOLDER of a fine-tuned model, such as de=runs/de. Repeatable."),
    ],
    method: Annotated[
        str | None,
        typer.Option(help="lors, task, mean, ties or dare. By default lors.", show_default=False),
    ] = None,
    values: Annotated[
        list[str] | None,
        typer.Option("--set", help="An option of the method, such as entries=0.3. Repeatable.", show_default=False),
    ] = None,
    scale: Annotated[
        float | None,
        typer.Option(
            min=0, help="λ. By default the method's, for lors one part in so many models.", show_default=False
        ),
    ] = None,
    add_to: Annotated[
        Path | None,
        typer.Option(
            help="A merged folder that the models are added to, with its method; its own models aren't needed.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Merge fine-tuned models of one ancestor into one: per-language models become one for all of them.

    As LoRS-Merging does it, then with one language more:

        streamtrans compress merge openai/whisper-small merged --model de=runs/de --model fr=runs/fr

        streamtrans compress merge openai/whisper-small more --add-to merged --model it=runs/it

    A merged model is as large and as fast as its ancestor.
    """
    from streamtrans.cli.report import show
    from streamtrans.compress.merging import add_to_merged
    from streamtrans.compress.merging import merge as run

    named = _named(models)
    if add_to is not None:
        given = {"--method": method, "--set": values or None, "--scale": scale}
        if said := [name for name, value in given.items() if value is not None]:
            raise BadConfig(f"--add-to goes on with the method of {add_to}; leave out {', '.join(said)}")
        found = add_to_merged(base, add_to, named, destination)
    else:
        found = run(
            base, named, destination, method=Chosen(method or "lors"), options=_options(values or []), scale=scale
        )
    rows = [(name, f"{share:.1%}") for name, share in found.energy.items()]
    show(f"{' + '.join(found.models)} by {found.method}, λ {found.scale:.3g}", ("of what it learnt", "kept"), rows)
    if found.likeness:
        pairs = [(f"{one}, {other}", f"{cosine:.3f}") for (one, other), cosine in found.likeness.items()]
        show("cosine of what two have learnt", ("", ""), pairs)
    typer.echo(f"written to {destination}", err=True)


def _named(models: list[str]) -> dict[str, str]:
    """Read ``NAME=FOLDER`` options."""
    found = dict[str, str]()
    for text in models:
        name, equals, folder = text.partition("=")
        if not (name and equals and folder) or name in found:
            raise BadConfig(f"--model is {text!r}; give NAME=FOLDER, each name once, such as de=runs/de")
        found[name] = folder
    return found


def _options(values: list[str]) -> dict[str, Any]:
    """Read ``NAME=NUMBER`` options."""
    found = dict[str, Any]()
    for text in values:
        name, _, value = text.partition("=")
        try:
            number = json.loads(value)
        except ValueError:
            number = None
        if not name or isinstance(number, bool) or not isinstance(number, int | float):
            raise BadConfig(f"--set is {text!r}; give NAME=NUMBER, such as entries=0.3")
        found[name] = number
    return found
