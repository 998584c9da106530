"""The options that every verb with a model shares, and the engine that they describe."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from streamtrans.core import BadConfig
from streamtrans.foreign import Chosen
from streamtrans.text import canonical, region, written

if TYPE_CHECKING:
    pass

_PANEL = "Model and decoding"

Model = Annotated[
    str | None,
    typer.Option(
        help="Checkpoint folder, or hub name such as openai/whisper-small. By default the embedded model.",
        show_default=False,
        rich_help_panel=_PANEL,
    ),
]
Device = Annotated[str, typer.Option(help="auto (a GPU if there is one), cpu, cuda, cuda:1, …", rich_help_panel=_PANEL)]
Dtype = Annotated[
    str,
    typer.Option(
        help="auto (bfloat16 on GPU and for wide models on CPU, else float32), float32, bfloat16, int8 (CPU), "
        "float16 or float64.",
        rich_help_panel=_PANEL,
    ),
]
Drafter = Annotated[
    str | None,
    typer.Option(
        parser=Chosen,
        metavar="NAMES",
        help="Who drafts tokens for the model to verify: none, echo (the previous reading), ngram, kvspn "
        "(the model's speculative network), or a chain such as echo,kvspn. By default echo,kvspn where the "
        "model has a KVSPN, else echo.",
        show_default=False,
        rich_help_panel=_PANEL,
    ),
]
TopK = Annotated[
    str,
    typer.Option(
        help="Keep a KVSPN draft that is among the model's k best: 1 is exact, 2 and 3 are faster and "
        "looser, inf never checks.",
        rich_help_panel=_PANEL,
    ),
]
Beams = Annotated[
    int,
    typer.Option(
        min=1,
        help="Search with so many texts at a time instead of writing the likeliest token each time; 3 is usual. "
        "Offline only: the live server is greedy.",
        rich_help_panel=_PANEL,
    ),
]
Vad = Annotated[
    str,
    typer.Option(
        parser=Chosen,
        metavar="NAME",
        help="Speech detector: silero, webrtc, energy, or module:Class of an installed package.",
        rich_help_panel=_PANEL,
    ),
]
Threads = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="CPU threads of the model. By default one for a small model, else one per core.",
        show_default=False,
        rich_help_panel=_PANEL,
    ),
]
To = Annotated[
    list[str],
    typer.Option("--to", help="Languages to write, such as de,fr. The spoken one gives a transcript. Repeatable."),
]
From = Annotated[
    list[str] | None,
    typer.Option(
        "--from",
        help="The spoken language, for models that must be told (stock Whisper), or auto. By default any.",
        show_default=False,
    ),
]
ENGLISH = ["en"]
"""What is written where nobody says."""


def languages(given: str | Sequence[str], option: str = "--to") -> tuple[str, ...]:
    """Read lists such as ``de,fr`` of languages to write into canonical codes, and tell of regions that get lost.

    Raises:
        BadConfig: the lists are empty or name a language twice.
        UnsupportedLanguage: a tag names no language, or a script that can't be asked for.
    """
    tags = _tags(given)
    codes = tuple(written(tag) for tag in tags)
    if not codes:
        raise BadConfig(f"{option} names no language; give one or more, such as {option} de,fr")
    if len(set(codes)) < len(codes):
        raise BadConfig(f"{option} {','.join(tags)} names one language twice")
    for tag, code in zip(tags, codes, strict=True):
        if region(tag):
            typer.echo(f"note: {option} {tag} is taken as {code}: models know no regions", err=True)
    return codes


def spoken_language(given: str | Sequence[str] | None, option: str = "--from") -> str | None:
    """Read the one language that is spoken; ``None`` where nobody says, or says ``auto``.

    Raises:
        BadConfig: several are named; nothing chooses between them.
        UnsupportedLanguage: the tag names no language.
    """
    tags = _tags(given or ())
    if len(tags) > 1:
        raise BadConfig(
            f"{option} {','.join(tags)} names {len(tags)} languages, and one is what a model can be told; name one, or"
            " leave it out: models that needn't be told hear any of theirs"
        )
    return None if not tags or tags[0].lower() == "auto" else canonical(tags[0])


def _tags(given: str | Sequence[str]) -> list[str]:
    lists = [given] if isinstance(given, str) else given
    return [tag.strip() for text in lists for tag in text.split(",") if tag.strip()]
