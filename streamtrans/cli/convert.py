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
    text_encoder_layers: Annotated[
        int, typer.Option(min=0, help="Layers of the text encoder; 0 for a model that learns from speech alone.")
    ] = 6,
    speculator_blocks: Annotated[int, typer.Option(min=0, help="Blocks of the KVSPN; 0 leaves it for later.")] = 3,
    vocabulary: Annotated[
        int | None,
        typer.Option(help="Tokens to keep, the most used ones of --texts. By default all.", show_default=False),
    ] = None,
    texts: Annotated[
        Path | None, typer.Option(help="Folder of text tables that the vocabulary is cut for.", show_default=False)
    ] = None,
    leave_out: Annotated[
        str, typer.Option(help="Tables of the folder that don't count, such as gpl_*,massive_dev.")
    ] = "",
    prompt: Annotated[
        str, typer.Option(help="How the model is asked: 'short' as in the paper, 'whisper' with Whisper's orders.")
    ] = "short",
) -> None:
    """Turn a Whisper checkpoint into a whisperM2M one, to be trained.

    With the numbers of layers of the paper:

        streamtrans convert openai/whisper-medium checkpoints/m2m-medium

    A small model for six languages, which keeps Whisper's way of being asked:

        streamtrans convert openai/whisper-base checkpoints/m2m-base-0 --decoder-layers 6 --text-encoder-layers 0
        --speculator-blocks 0 --vocabulary 18000 --texts data/text --leave-out gpl_* --prompt whisper

    The result translates only after training: its KVSPN is random, and its decoder misses the dropped layers.
    """
    from streamtrans.compress import convert as run
    from streamtrans.core import BadConfig
    from streamtrans.corpus.tables import read_texts

    if (vocabulary is None) != (texts is None):
        raise BadConfig("--vocabulary and --texts belong together: the tokens are kept that the texts use most")
    report = run(
        source,
        destination,
        decoder_layers=decoder_layers,
        text_encoder_layers=text_encoder_layers,
        speculator_blocks=speculator_blocks,
        vocabulary=vocabulary,
        texts=() if texts is None else read_texts(texts, leave_out.split(",")),
        prompt=prompt,
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
