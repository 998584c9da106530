"""Manifests: recordings with what is said in them, one per line of a tab-separated file.

The header names the columns ``audio`` and ``language``, and a language code for every text; what is said stands under
its own language, or in the column ``text``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from streamtrans.core import BadConfig

_NEEDED = ("audio", "language")
_TEXT = "text"


@dataclass(frozen=True, slots=True)
class Recording:
    """One line: an audio file, what it says in ``language``, and ``texts`` in every language known of it."""

    audio: Path
    language: str
    text: str
    texts: Mapping[str, str]


def read_manifest(
    path: Path | str, languages: tuple[str, ...] = ("en", "de", "es", "fr", "it", "zh")
) -> tuple[list[Recording], tuple[str, ...]]:
    """Read a manifest; return its usable recordings and one message for every line that isn't.

    Args:
        path: the manifest; audio paths in it are relative to its folder. An empty translation is left out.
        languages: the codes that a line may be in.

    Raises:
        BadConfig: the file is missing, not UTF-8, or its header lacks a column.
    """
    path = Path(path)
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except FileNotFoundError:
        raise BadConfig(f"there is no manifest at {path}") from None
    except UnicodeDecodeError as error:
        raise BadConfig(f"{path.name} is not UTF-8 (byte {error.start}): manifests are UTF-8 text") from None
    header = lines[0].removesuffix("\r").split("\t")
    missing = [column for column in _NEEDED if column not in header]
    unknown = [column for column in header if column not in (*_NEEDED, _TEXT, *languages)]
    if missing or unknown or len(set(header)) != len(header):
        raise BadConfig(
            f"{path.name}:1: the header must name {', '.join(_NEEDED)} and translations by language code "
            f"({', '.join(languages)}), each once and separated by tabs; this one is {header}"
        )
    recordings: list[Recording] = []
    problems: list[str] = []
    for number, raw in enumerate(lines[1:], start=2):
        line = raw.removesuffix("\r")
        if not line.strip():
            continue
        cells = line.split("\t")
        problem = _problem(cells, header, path.parent, languages)
        if problem is not None:
            problems.append(f"{path.name}:{number}: {problem}")
            continue
        named = dict(zip(header, (cell.strip() for cell in cells), strict=True))
        texts = {code: named[code] for code in languages if named.get(code)}
        said = named.get(_TEXT) or texts[named["language"]]
        texts[named["language"]] = said
        recordings.append(Recording(path.parent / named["audio"], named["language"], said, texts))
    return recordings, tuple(problems)


def _problem(cells: list[str], header: list[str], folder: Path, languages: tuple[str, ...]) -> str | None:
    """Say what is wrong with a line, or return None."""
    if len(cells) != len(header):
        return f"{len(cells)} columns where the header names {len(header)}"
    named = dict(zip(header, (cell.strip() for cell in cells), strict=True))
    if not named["audio"] or not (folder / named["audio"]).is_file():
        return f"there is no audio file {named['audio']!r} beside the manifest"
    if named["language"] not in languages:
        return f"language {named['language']!r} is none of {', '.join(languages)}"
    if not (named.get(_TEXT) or named.get(named["language"])):
        return "the text is empty"
    return None
