"""``streamtrans convert``: a stock Whisper checkpoint becomes a whisperM2M one."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer


def convert(
    source: Annotated[str, typer.Argument(help="A Whisper folder, or a hub name such as openai/whisper-medium.")],
    destination: Annotated[Path, typer.Argument(help="The folder to write; new or empty.")],
    *,
    decoder_layers: Annotated[int, typer.Option(min=1, help="Decoder layers to keep.")] = 12,
    text_encoder_layers: Annotated[int, typer.Option(min=1, help="Layers of the text encoder.")] = 6,
    speculator_blocks: Annotated[int, typer.Option(min=1, help="Blocks of the KVSPN.")] = 3,
) -> None:
    """Turn a Whisper checkpoint into a whisperM2M one, to be trained.

    With the numbers of layers of the paper:

        streamtrans convert openai/whisper-medium checkpoints/m2m-medium

    The result translates only after training: its KVSPN is random, and its decoder misses the dropped layers.
    """
    from streamtrans.compress import convert as run

    report = run(
        source,
        destination,
        decoder_layers=decoder_layers,
        text_encoder_layers=text_encoder_layers,
        speculator_blocks=speculator_blocks,
    )
    print_parameters(report, f"{source} → {destination}")


def print_parameters(report: Mapping[str, int], title: str) -> None:
    """Print the parameters of each part as a table."""
    from rich.console import Console
    from rich.table import Table

    table = Table("part", "parameters", "million", title=title, title_justify="left")
    for column in table.columns[1:]:
        column.justify = "right"
    for part, count in report.items():
        table.add_row(part.replace("_", " "), f"{count:,}", f"{count / 1e6:.2f}")
    Console().print(table)
