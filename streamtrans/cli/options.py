"""The options that several verbs share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import typer

from streamtrans.core import BadConfig, CaptionChoice, Group, Option
from streamtrans.runtime import ModelChoice
from streamtrans.text import canonical, region, written

Captions = Annotated[CaptionChoice, Group(heading="Captions")]
MODEL = "Model and decoding"
Model = Annotated[ModelChoice, Group(heading=MODEL)]


def _targets(option: str, text: str) -> tuple[str, ...]:
    return languages(text, option)


def _source(option: str, text: str) -> str | None:
    return spoken_language(text, option)


TO = Option(
    "Languages to write, such as de,fr. The spoken one gives a transcript. Repeatable.",
    name="--to",
    metavar="LANGUAGES",
    repeats=True,
    read=_targets,
)
FROM = Option(
    "The spoken language, for models that must be told (stock Whisper), or auto. By default any.",
    name="--from",
    metavar="LANGUAGES",
    repeats=True,
    read=_source,
)


@dataclass(frozen=True, slots=True)
class Languages:
    """What is spoken, and what is written."""

    targets: Annotated[tuple[str, ...], TO] = ("en",)
    source: Annotated[str | None, FROM] = None


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
