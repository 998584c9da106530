"""Readers of speech corpora: what the files of each say, line by line, before anybody checks it.

A corpus is added by a function here (or anywhere) and a line in :data:`READERS`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from streamtrans.core import BadConfig
from streamtrans.foreign import Chosen, Table
from streamtrans.text import LANGUAGES, canonical
from streamtrans.text.languages import ALIASES
from streamtrans.train.finetune.recipe import Source

PLAIN_COLUMNS = ("audio", "text", "language", "id", "pseudo")
"""Columns of a manifest that are no translations. ``pseudo`` lists the languages that a model translated."""


@dataclass(frozen=True, slots=True)
class Line:
    """One recording as its corpus describes it; ``texts`` are translations by language, maybe empty."""

    where: str
    audio: Path
    language: str
    text: str
    texts: Mapping[str, str]
    id: str = ""
    pseudo: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Problem:
    """A bad line: where it is, of which kind, and what would be right."""

    where: str
    kind: str
    message: str

    def __str__(self) -> str:
        return f"{self.where}: {self.kind}: {self.message}"


Reader = Callable[[Source, tuple[str, ...]], Iterator[Line | Problem]]
"""Reads a source; gets the recipe's languages."""


READERS: Table[Reader] = Table(
    "corpus reader",
    {
        "manifest": "streamtrans.train.finetune.readers:read_manifest",
        "common_voice": "streamtrans.train.finetune.readers:read_common_voice",
        "covost2": "streamtrans.train.finetune.readers:read_covost2",
        "fleurs": "streamtrans.train.finetune.readers:read_fleurs",
    },
)
"""Name in a recipe → ``module:function``."""


def find_reader(name: str) -> Reader:
    """Return a reader by its name in :data:`READERS`, or by its path: a recipe is written by who trains with it.

    Raises:
        BadConfig: there is none of this name.
    """
    return READERS.load(Chosen(name))


def read_manifest(source: Source, languages: tuple[str, ...]) -> Iterator[Line | Problem]:
    """Read a table of recordings: TSV with a header, or JSON Lines with the same names as keys.

    ``audio`` (relative to the manifest, or to the source's ``audio`` folder), ``text``, ``language``, and a column
    for each language of a translation; ``id`` and ``pseudo`` may be there.
    """
    path = Path(source.path)
    folder = Path(source.audio) if source.audio else path.parent
    rows = _json_rows(path) if path.suffix == ".jsonl" else _table(path, required=PLAIN_COLUMNS[:3])
    known = {*languages, *LANGUAGES, *ALIASES}
    checked: set[str] = set()
    for where, row in rows:
        if isinstance(row, Problem):
            yield row
            continue
        columns = row.keys() - set(PLAIN_COLUMNS)
        for column in sorted(columns - checked):
            if column.partition("-")[0] not in known:
                raise BadConfig(
                    f"{where}: column {column!r} is neither a language code nor one of {', '.join(PLAIN_COLUMNS)}"
                )
            checked.add(column)
        yield Line(
            where,
            folder / row.get("audio", ""),
            row.get("language", "") or source.language,
            row.get("text", ""),
            {column: row[column] for column in columns},
            row.get("id", ""),
            tuple(row.get("pseudo", "").replace(",", " ").split()),
        )


def read_common_voice(source: Source, languages: tuple[str, ...]) -> Iterator[Line | Problem]:  # noqa: ARG001
    """Read a language folder of Common Voice: ``<split>.tsv`` beside ``clips/``. It has no translations."""
    folder = Path(source.path)
    clips = Path(source.audio) if source.audio else folder / "clips"
    for where, row in _table(folder / f"{source.split}.tsv", required=("path", "sentence")):
        if isinstance(row, Problem):
            yield row
            continue
        language = source.language or row.get("locale", "") or folder.name
        yield Line(where, _clip(clips, row["path"]), language, row["sentence"], {}, row["path"])


def read_covost2(source: Source, languages: tuple[str, ...]) -> Iterator[Line | Problem]:  # noqa: ARG001
    """Read one pair of CoVoST 2 with the clips of Common Voice 4.

    ``path`` names ``covost_v2.<from>_<to>.tsv`` as it is downloaded (columns path, translation, split; the sentences
    are taken from ``validated.tsv`` beside the clips' folder), or one ``covost_v2.<from>_<to>.<split>.tsv`` that
    the authors' script made of it (path, sentence, translation, client_id).
    """
    path = Path(source.path)
    named = re.fullmatch(r"covost_v2\.([A-Za-z-]+)_([A-Za-z-]+)(\.\w+)?\.tsv", path.name)
    if named is None:
        raise BadConfig(f"{path}: a table of CoVoST 2 is named like covost_v2.de_en.tsv; this one doesn't say its pair")
    spoken, written = named[1], named[2]
    clips = Path(source.audio) if source.audio else path.parent / "clips"
    sentences: dict[str, str] | None = None
    for where, row in _table(path, required=("path", "translation")):
        if isinstance(row, Problem):
            yield row
            continue
        # The training set is the enlarged one: rows that Common Voice itself doesn't train on are marked so. What is
        # marked so in the others belongs to no set.
        chosen = (source.split, "train_covost") if source.split == "train" else (source.split,)
        if "split" in row and row["split"] not in chosen:
            continue
        if "sentence" in row:
            sentence = _unescaped(row["sentence"])
        else:
            if sentences is None:
                sentences = _sentences(clips.parent / "validated.tsv")
            sentence = sentences.get(row["path"], "")
        # The authors marked translations that are unusable with this word.
        translation = "" if "REMOVE" in row["translation"] else _unescaped(row["translation"])
        yield Line(where, _clip(clips, row["path"]), spoken, sentence, {written: translation}, row["path"])


def read_fleurs(source: Source, languages: tuple[str, ...]) -> Iterator[Line | Problem]:
    """Read FLEURS: folders such as ``de_de`` with ``<split>.tsv`` and ``audio/<split>/``.

    Its tables have no header: id, file, text as written, text in lower case, its characters, samples, gender. A
    sentence has the same id in all languages, and usually several speakers.
    """
    root = Path(source.path)
    folders = {code: folder for folder in sorted(root.glob("*_*")) if (code := _code(folder.name)) in languages}
    if not folders:
        raise BadConfig(f"{root} holds no language folders of FLEURS (such as en_us) in {', '.join(languages)}")
    tables = {code: list(_fleurs_rows(folder / f"{source.split}.tsv")) for code, folder in folders.items()}
    by_id: dict[str, dict[str, str]] = {}
    for code, rows in tables.items():
        for _, cells in rows:
            if not isinstance(cells, Problem):
                by_id.setdefault(cells[0], {})[code] = cells[2].strip()
    audio = Path(source.audio) if source.audio else None
    for code in [canonical(source.language)] if source.language else folders:
        if code not in tables:
            raise BadConfig(f"{root} holds no folder of FLEURS in {code}; it has {', '.join(tables)}")
        clips = (audio or folders[code] / "audio") / source.split
        for where, cells in tables[code]:
            if isinstance(cells, Problem):
                yield cells
                continue
            others = {other: text for other, text in by_id[cells[0]].items() if other != code}
            yield Line(where, clips / cells[1], code, cells[2], others, f"{cells[0]}/{cells[1]}")


def _fleurs_rows(path: Path) -> Iterator[tuple[str, list[str] | Problem]]:
    for number, line in _lines(path):
        cells = line.split("\t")
        where = f"{path}:{number}"
        if len(cells) < 6:
            yield where, Problem(where, "columns", f"{len(cells)} columns where FLEURS has 7, separated by tabs")
        else:
            yield where, cells


def _code(folder: str) -> str | None:
    base = folder.partition("_")[0]
    base = ALIASES.get(base, base)
    return base if base in LANGUAGES else None


def _clip(clips: Path, name: str) -> Path:
    # The first releases of Common Voice name clips without their ending.
    return clips / (name if not name or Path(name).suffix else f"{name}.mp3")


def _unescaped(text: str) -> str:
    """Undo the backslashes that the tables of CoVoST 2 put before quotes and backslashes."""
    return re.sub(r"\\(.)", r"\1", text)


def _sentences(path: Path) -> dict[str, str]:
    rows = _table(path, required=("path", "sentence"))
    return {row["path"]: row["sentence"] for _, row in rows if not isinstance(row, Problem)}


def _table(path: Path, required: tuple[str, ...]) -> Iterator[tuple[str, dict[str, str] | Problem]]:
    """Yield the rows of a TSV file by column. Quotes are plain characters: the corpora don't use them otherwise."""
    header: list[str] = []
    for number, line in _lines(path):
        where, cells = f"{path}:{number}", line.split("\t")
        if not header:
            header = [cell.strip() for cell in cells]
            if (missing := [name for name in required if name not in header]) or len(set(header)) != len(header):
                raise BadConfig(
                    f"{where}: the header must name {', '.join(required)}, each column once and separated by tabs; "
                    f"it {'lacks ' + ', '.join(missing) if missing else 'repeats one'}"
                )
        elif len(cells) != len(header):
            message = f"{len(cells)} columns where the header names {len(header)}, separated by tabs"
            yield where, Problem(where, "columns", message)
        else:
            yield where, dict(zip(header, (cell.strip() for cell in cells), strict=True))
    if not header:
        raise BadConfig(f"{path}: the file is empty; its first line must name the columns")


def _json_rows(path: Path) -> Iterator[tuple[str, dict[str, str] | Problem]]:
    for number, line in _lines(path):
        where = f"{path}:{number}"
        try:
            row = json.loads(line)
        except ValueError as error:
            yield where, Problem(where, "columns", f"not JSON ({error}); each line is one object")
            continue
        if not isinstance(row, dict) or not all(isinstance(value, str) for value in row.values()):
            yield where, Problem(where, "columns", "each line is an object whose values are texts")
            continue
        if missing := [name for name in PLAIN_COLUMNS[:3] if name not in row]:
            yield where, Problem(where, "columns", f"the keys {', '.join(missing)} are missing")
            continue
        yield where, row


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """Yield the lines that hold anything, with their numbers."""
    try:
        with path.open(encoding="utf-8-sig", newline="\n") as file:
            for number, line in enumerate(file, start=1):
                if text := line.rstrip("\r\n"):
                    yield number, text
    except FileNotFoundError:
        raise BadConfig(f"there is no corpus table at {path}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise BadConfig(f"{path} can't be read as UTF-8 text: {error}") from None
