"""Files and lines that a verb writes.

Law: a file is whole or not there: it is written beside its place, and then takes it; what was there before goes only
where the user said so.
"""

from __future__ import annotations

import json
import os
import re
import secrets
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from streamtrans.cli.inputs import STANDARD_INPUT, Recording
from streamtrans.core import BadConfig, Option
from streamtrans.text.subtitles import FORMATS, cue

if TYPE_CHECKING:
    from streamtrans.cli.reading import Translated


def refuse_existing(path: Path, *, overwrite: bool) -> None:
    """Refuse to write where something is.

    Raises:
        BadConfig: there is something, be it a link that leads nowhere, and ``overwrite`` isn't set.
    """
    if not overwrite and os.path.lexists(path):
        raise BadConfig(f"{path} exists; --overwrite replaces it")


def write_whole(path: Path, text: str, *, overwrite: bool) -> None:
    """Write ``text`` to ``path`` as UTF-8, or leave everything as it was.

    A link is replaced, and not what it leads to.

    Raises:
        BadConfig: there is something, and ``overwrite`` isn't set; or it can't be written.
    """
    refuse_existing(path, overwrite=overwrite)
    beside = path.with_name(f".{secrets.token_hex(8)}.tmp")
    try:
        try:
            with beside.open("x", encoding="utf-8", newline="\n") as file:
                file.write(text)
            beside.replace(path)
        finally:
            beside.unlink(missing_ok=True)
    except OSError as error:
        raise BadConfig(f"{path} can't be written: {error.strerror}") from error


@dataclass(slots=True)
class Outcome:
    """What a user is told in the end: ``failures`` by recording, and ``notes`` that are no failures."""

    failures: dict[Path, list[str]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    interrupted: bool = False
    lost: bool = False
    """Whether standard output took no more."""

    def fail(self, path: Path, problem: str) -> None:
        """Note that something is wrong with ``path``."""
        self.failures.setdefault(path, []).append(problem)


@dataclass(frozen=True, slots=True)
class Output:
    """What to write of each recording."""

    srt: Annotated[bool, Option("Write FILE.LANGUAGE.srt for each language.")] = False
    vtt: Annotated[bool, Option("Write FILE.LANGUAGE.vtt for each language.")] = False
    tsv: Annotated[bool, Option("Write FILE.LANGUAGE.tsv: start, end (in ms) and text.")] = False
    txt: Annotated[bool, Option("Write FILE.LANGUAGE.txt: the text alone.")] = False
    output_dir: Annotated[Path | None, Option("Where these files go; by default beside each recording.")] = None
    overwrite: Annotated[bool, Option("Replace files that exist.")] = False
    json: Annotated[bool, Option("Print one line of JSON per file.")] = False
    targets: tuple[str, ...] = ()

    @property
    def formats(self) -> tuple[str, ...]:
        """The endings of the files that are wanted."""
        return tuple(name for name in FORMATS if getattr(self, name))

    def place(self, recording: Recording, language: str, extension: str) -> Path:
        """Return where a file goes: beside the recording unless a folder was named; of a pipe, where the user is."""
        path = recording.path
        stem = "stdin" if path == STANDARD_INPUT else path.stem
        return (self.output_dir or (Path() if recording.piped else path.parent)) / f"{stem}.{language}.{extension}"

    def check(self, recording: Recording) -> str:
        """Return what is in the way of the files of a recording, nothing if they can be written."""
        try:
            for language in self.targets:
                for extension in self.formats:
                    refuse_existing(self.place(recording, language, extension), overwrite=self.overwrite)
        except BadConfig as error:
            return str(error)
        return ""

    def write(self, recording: Recording, done: Translated) -> Iterator[str]:
        """Write the files of a recording; yield what goes wrong."""
        for language in self.targets:
            cues = [cue(caption, done.samples) for caption in done.captions if caption.language == language]
            for extension in self.formats:
                try:
                    path = self.place(recording, language, extension)
                    write_whole(path, FORMATS[extension](cues), overwrite=self.overwrite)
                except BadConfig as error:
                    yield str(error)


def json_line(values: Mapping[str, Any], encoding: str) -> str:
    """Return one line of JSON, in which what can't be seen, or be written in ``encoding``, is escaped."""
    text = json.dumps(values, ensure_ascii=not encoding.lower().startswith("utf"))
    return re.sub(r"[^ -~]", lambda found: _escaped(found.group()), text)


def _escaped(character: str) -> str:
    if character.isprintable():
        return character
    units = character.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[at : at + 2].hex()}" for at in range(0, len(units), 2))
