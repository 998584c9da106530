"""Make the text tables from the public archives, so that anybody can train on the same sentences.

- MASSIVE 1.1 (``amazon-massive-dataset-1.1.tar.gz``, CC BY 4.0): one JSON line per sentence and locale.
- Tatoeba pairs (``fra-eng.zip``, ``deu-eng.zip``, ``cmn-eng.zip`` of manythings.org/anki, CC BY 2.0 FR):
  English, the other language and the attribution, separated by tabs, the shortest first.
"""

from __future__ import annotations

import hashlib
import json
import tarfile
import zipfile
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO

from streamtrans.core import BadConfig
from streamtrans.corpus.agreement import SLOT

LOCALES: Mapping[str, str] = {
    "en": "en-US",
    "de": "de-DE",
    "es": "es-ES",
    "fr": "fr-FR",
    "it": "it-IT",
    "zh": "zh-CN",
}
"""Language → the locale of MASSIVE that is taken for it, in the order of the columns."""

NAMED_SLOTS = frozenset(
    [
        "app_name",
        "artist_name",
        "audiobook_author",
        "audiobook_name",
        "business_name",
        "currency_name",
        "email_address",
        "game_name",
        "movie_name",
        "music_album",
        "person",
        "place_name",
        "playlist_name",
        "podcast_name",
        "radio_name",
        "song_name",
        "transport_agency",
        "transport_name",
    ]
)
"""Slots whose values the translators could replace by something of their own country."""

MOST_PAIRS: Mapping[str, int] = {"fr": 76_032, "de": 50_001}
"""Language → so many Tatoeba pairs are taken from the start of its archive; of others all."""

_TATOEBA_FILES: Mapping[str, str] = {"deu": "de", "fra": "fr", "cmn": "zh", "spa": "es", "ita": "it"}


@dataclass(frozen=True, slots=True)
class Made:
    """A table that was written: its file name, how many rows of which kind, and its SHA-256."""

    name: str
    rows: int
    kinds: Mapping[str, int]
    sha256: str


@dataclass(frozen=True, slots=True)
class PrepareReport:
    """What was read and written. ``sources`` maps an archive's file name to its SHA-256."""

    sources: Mapping[str, str]
    tables: tuple[Made, ...]

    def lines(self) -> list[str]:
        """Return the report as text, one line per file."""
        read = [f"read   {name}  sha256 {digest}" for name, digest in self.sources.items()]
        wrote = []
        for made in self.tables:
            kinds = "".join(f", {kind} {count:,}" for kind, count in made.kinds.items())
            wrote.append(f"wrote  {made.name}  {made.rows:,} rows{kinds}  sha256 {made.sha256}")
        return read + wrote


@dataclass(frozen=True, slots=True)
class _Sentence:
    """One sentence of MASSIVE in all languages, plain and with its slots marked."""

    id: str
    partition: str
    scenario: str
    texts: Mapping[str, str]
    marked: Mapping[str, str]

    @property
    def kind(self) -> str:
        """``none`` without named entities; ``refill`` where all languages have the same slots."""
        slots = {language: sorted(match[1] for match in SLOT.finditer(text)) for language, text in self.marked.items()}
        if not any(NAMED_SLOTS.intersection(names) for names in slots.values()):
            return "none"
        first, *others = slots.values()
        return "refill" if all(names == first for names in others) else "localised"


def prepare(
    massive_archive: Path | str,
    tatoeba_archives: Sequence[Path | str],
    out: Path | str,
    *,
    most_pairs: Mapping[str, int] = MOST_PAIRS,
    say: Callable[[str], None] = print,
) -> PrepareReport:
    """Write the text tables into ``out`` and report what was read and written, with checksums.

    ``massive_train.tsv`` holds the whole train partition; ``massive_templates.tsv`` its ``refill`` rows with
    their slots; ``massive_dev.tsv`` the ``none`` rows of the dev partition of which no side occurs in train.

    Raises:
        BadConfig: an archive is missing, damaged or not what its place in the arguments says.
    """
    sources = [Path(massive_archive), *(Path(archive) for archive in tatoeba_archives)]
    digests = {source.name: _sha256(source) for source in sources}
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    tables = _massive_tables(_read_massive(sources[0]), folder)
    tables += [_tatoeba_table(source, folder, most_pairs) for source in sources[1:]]
    report = PrepareReport(digests, tuple(tables))
    for line in report.lines():
        say(line)
    return report


def _read_massive(archive: Path) -> list[_Sentence]:
    """Read the sentences that every locale has, in the order of their ids."""
    records: dict[str, dict[str, dict[str, str]]] = {}
    wanted = {f"{locale}.jsonl": language for language, locale in LOCALES.items()}
    try:
        with tarfile.open(archive) as tar:
            for member in tar:
                language = wanted.get(PurePosixPath(member.name).name)
                lines = tar.extractfile(member) if language is not None and member.isfile() else None
                if language is not None and lines is not None:
                    records[language] = _read_records(lines, archive.name, member.name)
    except tarfile.TarError as error:
        raise BadConfig(f"{archive.name} is no readable tar archive ({error}); it should be MASSIVE 1.1") from None
    missing = [LOCALES[language] for language in LOCALES if language not in records]
    if missing:
        raise BadConfig(f"{archive.name} lacks {', '.join(missing)}: it should be MASSIVE 1.1 with all locales")
    shared = set.intersection(*(set(of_language) for of_language in records.values()))
    sentences = []
    for identity in sorted(shared, key=lambda text: (len(text), text)):  # numbers, in numeric order
        rows = {language: records[language][identity] for language in LOCALES}
        sentences.append(
            _Sentence(
                id=identity,
                partition=rows["en"]["partition"],
                scenario=rows["en"]["scenario"],
                texts={language: _cell(row["utt"]) for language, row in rows.items()},
                marked={language: _cell(row["annot_utt"]) for language, row in rows.items()},
            )
        )
    return sentences


def _read_records(lines: IO[bytes], archive: str, member: str) -> dict[str, dict[str, str]]:
    """Read one locale: id → record."""
    records: dict[str, dict[str, str]] = {}
    for number, line in enumerate(lines, start=1):
        try:
            record = json.loads(line)
            kept = {key: str(record[key]) for key in ("partition", "scenario", "utt", "annot_utt")}
            records[str(record["id"])] = kept
        except (ValueError, KeyError, TypeError) as error:
            raise BadConfig(
                f"{archive}: {member}:{number} is no MASSIVE record ({type(error).__name__}: {error}); "
                "it needs id, partition, scenario, utt and annot_utt"
            ) from None
    return records


def _massive_tables(sentences: Sequence[_Sentence], folder: Path) -> list[Made]:
    """Write the three tables of MASSIVE."""
    train = [(sentence, sentence.kind) for sentence in sentences if sentence.partition == "train"]
    heard = {language: {sentence.texts[language] for sentence, _ in train} for language in LOCALES}
    unheard = [
        (sentence, kind)
        for sentence in sentences
        if sentence.partition == "dev"
        and (kind := sentence.kind) == "none"
        and not any(sentence.texts[language] in heard[language] for language in LOCALES)
    ]
    header = ("id", "scenario", "entities", *LOCALES)
    made = []
    for name, rows in (("massive_train.tsv", train), ("massive_dev.tsv", unheard)):
        cells = [(row.id, row.scenario, kind, *(row.texts[code] for code in LOCALES)) for row, kind in rows]
        made.append(_write(folder / name, header, cells, Counter(kind for _, kind in rows)))
    templates = [(row.id, *(row.marked[code] for code in LOCALES)) for row, kind in train if kind == "refill"]
    made.append(_write(folder / "massive_templates.tsv", ("id", *LOCALES), templates, {}))
    return made


def _tatoeba_table(archive: Path, folder: Path, most_pairs: Mapping[str, int]) -> Made:
    """Write the pairs of one archive, each pair once and without the attribution."""
    try:
        with zipfile.ZipFile(archive) as packed:
            files = {PurePosixPath(name).stem: name for name in packed.namelist() if name.endswith(".txt")}
            found = [(code, files[stem]) for stem, code in _TATOEBA_FILES.items() if stem in files]
            if len(found) != 1:
                raise BadConfig(
                    f"{archive.name} holds {', '.join(packed.namelist()) or 'nothing'}: it should hold one "
                    f"of {', '.join(f'{stem}.txt' for stem in _TATOEBA_FILES)}"
                )
            language, name = found[0]
            text = packed.read(name).decode("utf-8-sig")
    except zipfile.BadZipFile:
        raise BadConfig(f"{archive.name} is no readable zip archive; it should be one of manythings.org/anki") from None
    pairs: dict[tuple[str, str], None] = {}
    limit = most_pairs.get(language)
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip() or (limit is not None and len(pairs) >= limit):
            continue
        cells = line.split("\t")
        if len(cells) < 2 or not cells[0].strip() or not cells[1].strip():
            raise BadConfig(f"{archive.name}: {name}:{number} isn't English, a tab and the other language")
        pairs[_cell(cells[0]), _cell(cells[1])] = None
    return _write(folder / f"tatoeba_en-{language}.tsv", ("en", language), pairs, {})


def _cell(text: str) -> str:
    """Make ``text`` fit into one cell: no tabs, no line ends."""
    return text.replace("\t", " ").replace("\r", " ").replace("\n", " ").strip()


def _write(path: Path, header: Sequence[str], rows: Iterable[Sequence[str]], kinds: Mapping[str, int]) -> Made:
    """Write a table and say what it holds."""
    lines = ["\t".join(row) for row in rows]
    content = "\n".join(["\t".join(header), *lines, ""]).encode()
    path.write_bytes(content)
    return Made(path.name, len(lines), dict(sorted(kinds.items())), hashlib.sha256(content).hexdigest())


def _sha256(path: Path) -> str:
    """Return the checksum of a file."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise BadConfig(f"can't read the archive {path}: {error.strerror}") from None
