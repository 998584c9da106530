"""``streamtrans corpus``: the text tables that models are trained on."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

corpus = typer.Typer(
    add_completion=False,
    rich_markup_mode="rich",
    no_args_is_help=True,
    help="Make the text tables that models are trained on.",
)


@corpus.callback()
def _corpus() -> None:
    """Make the text tables that models are trained on.

    From the public archives:

        streamtrans corpus prepare --massive amazon-massive-dataset-1.1.tar.gz --tatoeba deu-eng.zip
    """


@corpus.command()
def prepare(
    *,
    massive: Annotated[Path, typer.Option(help="amazon-massive-dataset-1.1.tar.gz (CC BY 4.0).", show_default=False)],
    tatoeba: Annotated[
        list[Path] | None,
        typer.Option(
            help="A pair with English of manythings.org/anki, such as fra-eng.zip (CC BY 2.0 FR); "
            "give it once per pair.",
            show_default=False,
        ),
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder for the tables.")] = Path("data/text"),
) -> None:
    """Write the tables from the public archives, and print what was read and written with checksums.

    As the embedded model's were made:

        streamtrans corpus prepare --massive amazon-massive-dataset-1.1.tar.gz --tatoeba fra-eng.zip
        --tatoeba deu-eng.zip --tatoeba cmn-eng.zip --out data/text
    """
    from streamtrans.corpus import prepare as run

    run(massive, tatoeba or [], out, say=typer.echo)
