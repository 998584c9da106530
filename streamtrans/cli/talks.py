"""``streamtrans talks``: long talks of a table's sentences, to evaluate streams with."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from streamtrans.cli.options import languages as read_languages
from streamtrans.core import SAMPLE_RATE, BadConfig

if TYPE_CHECKING:
    from streamtrans.corpus.talks import SpokenTalk

_SPOKEN = ["en", "de", "es", "fr", "it", "zh"]


def talks(
    out: Annotated[Path, typer.Argument(help="Folder for the audio, what is said when, and MANIFEST.tsv.")],
    *,
    text: Annotated[
        Path | None,
        typer.Option(
            help="Folder with massive_dev.tsv (streamtrans corpus prepare), or a table of that form. By default "
            "data/text, or the sentences of the package.",
            show_default=False,
        ),
    ] = None,
    languages: Annotated[list[str], typer.Option(help="Languages to speak, such as en,de. Repeatable.")] = _SPOKEN,
    minutes: Annotated[float, typer.Option(min=0.05, help="Length of a talk, in about.")] = 5.0,
    hours: Annotated[
        float | None, typer.Option(min=0.01, help="The same in hours, for long talks.", show_default=False)
    ] = None,
    count: Annotated[int, typer.Option(min=1, help="Talks per language, of different seeds and voices.")] = 1,
    seed: Annotated[int, typer.Option(min=0, help="Decides sentences, voices and pauses.")] = 1,
) -> None:
    """Build long talks with the evaluation voices: half of the time without a pause, the rest with natural ones.

    Needs the speech synthesis of the train extra. Five minutes per language, and one talk of an hour:

        streamtrans talks runs/talks

        streamtrans talks runs/hour --languages en --hours 1
    """
    from streamtrans.corpus import Speaker
    from streamtrans.corpus.talks import TalkConfig, write_talks
    from streamtrans.evaluate.spoken import dev_rows

    rows = dev_rows(text, allow_kinds=("none",))
    if not rows:
        raise BadConfig(f"{text} has no row without entities: there is nothing to say")
    config = TalkConfig(seconds=60 * minutes if hours is None else 3600 * hours, seed=seed)

    def told(talk: SpokenTalk) -> None:
        length = len(talk.audio) / SAMPLE_RATE
        typer.echo(
            f"{talk.name}: {length / 60:.1f} minutes, {len(talk.sentences)} sentences, voice {talk.voice.variant}, "
            f"{talk.flowing_share():.0%} of the time without a pause for 12 s or more"
        )

    manifest = write_talks(
        out, rows, read_languages(languages, "--languages"), config, Speaker(), count=count, done=told
    )
    typer.echo(f"{manifest}: evaluate it with streamtrans evaluate {manifest}")
