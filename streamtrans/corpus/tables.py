"""Text tables: tab-separated sentences that say the same in several languages.

A table has a header. Columns named by a language code hold texts; ``id``, ``entities`` and ``scenario`` are
known by name. A malformed row is refused with its line number, or skipped and counted.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Literal

from streamtrans.core import BadConfig
from streamtrans.corpus.han import simplify

KINDS = ("none", "refill", "localised")
"""Kinds of rows: without entities; with entities that can be refilled; with entities replaced per country."""

_PLAIN_COLUMNS = (
    "id",
    "entities",
    "scenario",
    "dialogue",
    "domain",
    "formality",
    "source",
    "seconds_es",
    "seconds_fr",
    "speaker",
    "stamp",
    "story",
    "via",
)
_LANGUAGE = re.compile(r"[a-z]{2,3}(-[A-Za-z]{2,4})?")


@dataclass(frozen=True, slots=True)
class Row:
    """One sentence: language code → text. ``kind`` is one of :data:`KINDS`."""

    id: str
    texts: Mapping[str, str]
    kind: str = "none"


@dataclass(frozen=True, slots=True)
class TableReport:
    """What reading a table came to: rows kept, rows left out by kind, and one message per malformed row."""

    path: Path
    kept: int
    left_out: int
    skipped: tuple[str, ...]


def read_table(
    path: Path | str,
    *,
    allow_kinds: Collection[str] | None = None,
    on_error: Literal["raise", "skip"] = "raise",
    least: int | None = None,
) -> list[Row]:
    """Read the rows of a table, only those of ``allow_kinds`` where given.

    A row has a text in every language of the table, or in ``least`` of them where that is given.

    Raises:
        BadConfig: the file is missing or no table; with ``on_error="raise"`` also at the first malformed row.
    """
    rows, report = scan_table(path, allow_kinds=allow_kinds, least=least)
    if report.skipped and on_error == "raise":
        more = f" (and {len(report.skipped) - 1} more)" if len(report.skipped) > 1 else ""
        raise BadConfig(report.skipped[0] + more)
    return rows


def own_sentences() -> list[Row]:
    """Read the sentences that come with the package, in six languages; written for it, so no training has them."""
    return read_table(Path(__file__).with_name("sentences.tsv"))


def scan_table(
    path: Path | str, *, allow_kinds: Collection[str] | None = None, least: int | None = None
) -> tuple[list[Row], TableReport]:
    """Read the rows of a table, skip malformed ones and report them."""
    path = Path(path)
    lines = _lines(path)
    header = lines[0].split("\t")
    languages = _language_columns(path, header)
    rows: list[Row] = []
    skipped: list[str] = []
    left_out = 0
    for number, line in enumerate(lines[1:], start=2):
        if not line.strip():
            continue
        cells = line.split("\t")
        problem = _problem(cells, header, languages, len(languages) if least is None else least)
        if problem is not None:
            skipped.append(f"{path.name}:{number}: {problem}")
            continue
        named = dict(zip(header, cells, strict=True))
        kind = named.get("entities", "none")
        if allow_kinds is not None and kind not in allow_kinds:
            left_out += 1
            continue
        texts = {code: text for column, code in languages.items() if (text := named[column].strip())}
        rows.append(Row(named.get("id", f"{path.stem}:{number}"), texts, kind))
    return rows, TableReport(path, len(rows), left_out, tuple(skipped))


def read_texts(folder: Path, leave_out: Sequence[str] = ()) -> Iterator[str]:
    """Yield every text of every table of a folder, but for those whose name fits a pattern (``gpl_*``).

    Raises:
        BadConfig: there is no table.
    """
    tables = [file for file in sorted(folder.glob("*.tsv")) if not any(fnmatch(file.stem, each) for each in leave_out)]
    if not tables:
        raise BadConfig(f"there is no table in {folder} that isn't left out")
    for table in tables:
        for row in read_table(table, on_error="skip", least=1):
            yield from row.texts.values()


def _lines(path: Path) -> list[str]:
    """Return the lines of a UTF-8 file; only line feeds end a line, for texts may hold odd separators."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise BadConfig(
            f"there is no table at {path}; streamtrans corpus prepare makes the tables of data/text"
        ) from None
    except UnicodeDecodeError as error:
        raise BadConfig(f"{path.name} is not UTF-8 (byte {error.start}): tables are UTF-8 text") from None
    lines = [line.removesuffix("\r") for line in text.split("\n")]
    if not lines[0].strip():
        raise BadConfig(f"{path.name} has no header: the first line must name the columns, e.g. id<TAB>en<TAB>de")
    return lines


def _language_columns(path: Path, header: list[str]) -> dict[str, str]:
    """Map the header's language columns to base codes (``zh-CN`` → ``zh``)."""
    languages: dict[str, str] = {}
    for column in header:
        if column in _PLAIN_COLUMNS:
            continue
        code = column.split("-")[0]
        if _LANGUAGE.fullmatch(column) is None or code in languages.values():
            raise BadConfig(
                f"{path.name}:1: column {column!r} is neither one of {', '.join(_PLAIN_COLUMNS)} "
                "nor a language code that occurs once, such as en or zh-CN"
            )
        languages[column] = code
    if not languages:
        raise BadConfig(f"{path.name}:1: no column is named by a language code such as en")
    return languages


def _problem(cells: list[str], header: list[str], languages: Mapping[str, str], least: int) -> str | None:
    """Say what is wrong with a row, or return None."""
    if len(cells) != len(header):
        return f"{len(cells)} columns where the header names {len(header)}"
    named = dict(zip(header, cells, strict=True))
    empty = [column for column in languages if not named[column].strip()]
    if len(languages) - len(empty) < least:
        return f"the text of {', '.join(empty)} is empty"
    if named.get("entities", "none") not in KINDS:
        return f"entities is {named['entities']!r}, not one of {', '.join(KINDS)}"
    if named.get("id", "-") == "":
        return "the id is empty"
    return None


# Normal form ----------------------------------------------------------------------------------------------

_HAN = "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
_APOSTROPHES = str.maketrans({"’": "'", "‘": "'", "ʼ": "'", "′": "'", "´": "'", "`": "'", "‐": "-", "‑": "-"})
_DOTTED = re.compile(r"(?<!\w)(?:[^\W\d_]\. ?){2,}")
_NOT_WORD = re.compile(r"[^\w'\-]|_")
_LOOSE_MARK = re.compile(r"(?<!\w)['\-]+|['\-]+(?!\w)|(?<=['\-])['\-]+")
_GAP_BESIDE_HAN = re.compile(f"(?<=[{_HAN}]) +(?=[{_HAN}])")
_HAN_TO_WORD = re.compile(f"(?<=[{_HAN}])(?=[a-z0-9])|(?<=[a-z0-9])(?=[{_HAN}])")
_AND = {"en": "and", "de": "und", "es": "y", "fr": "et", "it": "e", "zh": "和"}

# Elisions that the tables sometimes write with a gap ("l' ingresso", "what' s", "rappel -moi").
_ELIDED: Mapping[str, re.Pattern[str]] = {
    "fr": re.compile(r"(?<!\w)([ldjmtsnc]|qu|jusqu|lorsqu|puisqu|quelqu|presqu) ?' ?(?=\w)"),
    "it": re.compile(r"(?<!\w)(?!(?:po|mo|di|da|fa|va|sta|be|to) ?')(\w+)' (?=\w)"),
    "en": re.compile(r"(?<=\w)() ?' ?(?=(?:s|t|re|ll|ve|d|m)(?!\w))"),
}
_LOOSE_PRONOUN = re.compile(r"(?<=\w) ?- ?(?=(?:moi|toi|le|la|les|lui|leur|nous|vous|je|tu|ils?|elles?|on|ce|t)(?!\w))")
# Italian words that lost their end keep the apostrophe: "un po' di musica".
_CUT_SHORT = re.compile(r"(?<![\w'])(po|mo|be|fa|va|sta|di|da)'(?: (?=\w)|$)")
_DIGIT = re.compile(r"\d")
_CUT_MARK = "\ue000"


def normalise(text: str, language: str) -> str:
    """Write ``text`` as the spoken-request tables do: the one style that a model is trained on.

    Lower case, no punctuation except apostrophes and hyphens inside of words, single spaces; dotted letters
    closed up (``p. m.`` → ``pm``); no spaces between Han characters, one between Han and Latin. Digits stay
    (see :func:`has_digits`); traditional Chinese becomes simplified. Idempotent.
    """
    text = unicodedata.normalize("NFKC", text.translate(_APOSTROPHES)).lower().translate(_APOSTROPHES)
    text = unicodedata.normalize("NFC", text).replace("&", f" {_AND.get(language, '')} ")
    text = _DOTTED.sub(lambda found: re.sub(r"[. ]", "", found[0]) + " ", text)
    text = " ".join(_NOT_WORD.sub(" ", text).split())
    if language in _ELIDED:
        text = _ELIDED[language].sub(r"\1'", text)
    if language == "fr":
        text = _LOOSE_PRONOUN.sub("-", text)
    if language == "it":
        text = _CUT_SHORT.sub(lambda found: found[1] + _CUT_MARK + " ", text)
    text = " ".join(_LOOSE_MARK.sub(" ", text).split()).replace(_CUT_MARK, "'")
    if language == "zh":
        text = simplify(text)
        text = _HAN_TO_WORD.sub(" ", _GAP_BESIDE_HAN.sub("", text))
    return text


def has_digits(text: str) -> bool:
    """Say whether any digit occurs; such rows don't show how they are spoken."""
    return _DIGIT.search(text) is not None
