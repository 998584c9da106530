"""Manifests of talks: one recording per line, with its reference in every language that is known.

The header names ``audio`` (relative to the manifest), ``language`` (what is spoken) and a language code per reference;
``segments`` may name a file with the reference's sentences and their times. A line that can't be used is an error, for
an evaluation that leaves a talk out says something else; an empty reference is a problem of that direction alone.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from streamtrans.audio import Samples, duration_seconds, read_audio
from streamtrans.core import BadConfig, UnsupportedLanguage, milliseconds, samples
from streamtrans.corpus.talks import Sentence, whole_text
from streamtrans.metrics.latency import ReferenceSegment
from streamtrans.text import canonical

_NEEDED = ("audio", "language")
_SEGMENTS = "segments"


@dataclass(frozen=True, slots=True)
class Talk:
    """One line of a manifest.

    ``references`` holds the whole text per language, ``""`` where the cell was empty. ``sentences`` say when what is
    said; without them the talk is one sentence.
    """

    name: str
    audio: Path
    language: str
    references: Mapping[str, str]
    sentences: tuple[Sentence, ...] = ()

    def load(self) -> Samples:
        """Read the audio ``(n,)``, mono float32 at 16 kHz.

        Raises:
            BadAudio: the file can't be read.
            BadConfig: sentences reach beyond its end.
        """
        audio = read_audio(self.audio)
        # An odd sample may get lost in a conversion; half a second is another recording.
        if self.sentences and self.sentences[-1].end > len(audio) + samples(500):
            raise BadConfig(
                f"{self.name}: the last sentence ends at {milliseconds(self.sentences[-1].end)} ms and the audio at "
                f"{milliseconds(len(audio))} ms: the segments belong to another recording"
            )
        return audio

    def reference_segments(self, language: str) -> tuple[ReferenceSegment, ...]:
        """Return the reference in ``language``: its sentences, or all of it as one from 0 to the end."""
        if self.sentences and any(sentence.texts.get(language, "").strip() for sentence in self.sentences):
            return tuple(
                ReferenceSegment(
                    milliseconds(sentence.start),
                    milliseconds(sentence.end - sentence.start),
                    sentence.texts.get(language, ""),
                )
                for sentence in self.sentences
            )
        return (ReferenceSegment(0, 1000 * duration_seconds(self.audio), self.references.get(language, "")),)

    def problems(self, language: str) -> list[str]:
        """Say what keeps this talk, or a part of it, from being scored in ``language``."""
        if not self.references.get(language, "").strip():
            return [f"{self.name}: the reference in {language} is empty; the talk is left out of the score"]
        empty = sum(not sentence.texts.get(language, "").strip() for sentence in self.sentences)
        if empty == len(self.sentences) > 0:
            return [f"{self.name}: its segments hold no text in {language}; the talk is scored as one"]
        if empty:
            return [f"{self.name}: {empty} of {len(self.sentences)} sentences have an empty reference in {language}"]
        return []


def read_talks(path: Path | str, *, texts: bool = True) -> tuple[Talk, ...]:
    """Read a manifest of talks; without ``texts`` its header needs to name no language.

    Raises:
        BadConfig: the file is missing, not UTF-8, or has no line below its header; the header lacks a column or
            names something that is no language; a line has too many or too few cells, names audio or segments that
            aren't there, or a language that isn't one. The message says which line.
    """
    path = Path(path)
    lines = _read(path, "manifest").split("\n")
    header = [cell.strip() for cell in lines[0].removesuffix("\r").split("\t")]
    languages = _language_columns(path, header, texts)
    talks: list[Talk] = []
    for number, raw in enumerate(lines[1:], start=2):
        line = raw.removesuffix("\r")
        if line.strip():
            cells = [cell.strip() for cell in line.split("\t")]
            talks.append(_talk(path, number, dict(_pair(path, number, header, cells)), languages))
    if not talks:
        raise BadConfig(f"{path.name} has a header and no talk: add a line per recording")
    doubles = {talk.name for talk in talks if sum(other.name == talk.name for other in talks) > 1}
    if doubles:
        raise BadConfig(f"{path.name}: {', '.join(sorted(doubles))} is named more than once; one line is one talk")
    return tuple(talks)


def read_sentences(path: Path) -> tuple[Sentence, ...]:
    """Read sentences and their times: JSON, or a tab-separated table for any other suffix.

    JSON is a list (or an object with a list ``sentences``) of ``{"start_ms", "end_ms", "texts": {code: text}}``;
    a table has the columns ``start_ms``, ``end_ms`` and one per language code.

    Raises:
        BadConfig: it is neither, or the times are out of order.
    """
    text = _read(path, "file of segments")
    found = _json_sentences(path, text) if path.suffix.lower() == ".json" else _table_sentences(path, text)
    before = 0
    for number, sentence in enumerate(found):
        if not before <= sentence.start < sentence.end:
            raise BadConfig(
                f"{path.name}: sentence {number} takes {milliseconds(sentence.start)} to "
                f"{milliseconds(sentence.end)} ms and the one before starts at {milliseconds(before)} ms: each must "
                "end after it starts, in order"
            )
        before = sentence.start
    if not found:
        raise BadConfig(f"{path.name} holds no sentence; leave the cell empty where times aren't known")
    return tuple(found)


def _talk(path: Path, number: int, named: Mapping[str, str], languages: Mapping[str, str]) -> Talk:
    where, folder = f"{path.name}:{number}", path.parent
    audio = folder / named["audio"]
    if not named["audio"] or not audio.is_file():
        raise BadConfig(f"{where}: there is no audio file {named['audio']!r} in the manifest's folder")
    try:
        language = canonical(named["language"])
    except UnsupportedLanguage as error:
        raise BadConfig(f"{where}: column language: {error}") from None
    sentences: tuple[Sentence, ...] = ()
    if beside := named.get(_SEGMENTS):
        if not (folder / beside).is_file():
            raise BadConfig(f"{where}: there is no file of segments {beside!r} in the manifest's folder")
        sentences = read_sentences(folder / beside)
    references = {code: named[column] or whole_text(sentences, code) for column, code in languages.items()}
    return Talk(Path(named["audio"]).with_suffix("").as_posix(), audio, language, references, sentences)


def _language_columns(path: Path, header: list[str], texts: bool) -> dict[str, str]:
    """Map the header's language columns to canonical codes."""
    missing = [column for column in _NEEDED if column not in header]
    languages: dict[str, str] = {}
    problem = f"it lacks {' and '.join(missing)}" if missing else ""
    for column in header:
        if column in (*_NEEDED, _SEGMENTS):
            continue
        try:
            languages[column] = canonical(column)
        except UnsupportedLanguage:
            problem = problem or f"{column!r} is no language code"
    if len(set(header)) < len(header) or len(set(languages.values())) < len(languages):
        problem = problem or "it names something twice"
    if texts and not languages:
        problem = problem or "it names no language to compare with"
    if problem:
        raise BadConfig(
            f"{path.name}:1: the header must name audio, language, a language code per reference such as de, and may "
            f"name segments, separated by tabs; {problem}: {header}"
        )
    return languages


def _pair(path: Path, number: int, header: list[str], cells: list[str]) -> list[tuple[str, str]]:
    if len(cells) != len(header):
        raise BadConfig(f"{path.name}:{number}: {len(cells)} columns where the header names {len(header)}")
    return list(zip(header, cells, strict=True))


def _json_sentences(path: Path, text: str) -> list[Sentence]:
    try:
        raw = json.loads(text)
        return [_sentence(each) for each in (raw["sentences"] if isinstance(raw, dict) else raw)]
    except (ValueError, KeyError, TypeError, AttributeError, UnsupportedLanguage) as error:
        raise BadConfig(
            f'{path.name}: segments in JSON are a list of {{"start_ms": 0, "end_ms": 900, "texts": {{"de": "…"}}}}; '
            f"this isn't ({error})"
        ) from None


def _sentence(raw: Mapping[str, Any]) -> Sentence:
    texts = {canonical(str(code)): str(text).strip() for code, text in raw["texts"].items()}
    return Sentence(samples(float(raw["start_ms"])), samples(float(raw["end_ms"])), texts)


def _table_sentences(path: Path, text: str) -> list[Sentence]:
    lines = text.split("\n")
    header = [cell.strip() for cell in lines[0].removesuffix("\r").split("\t")]
    found: list[Sentence] = []
    for number, raw in enumerate(lines[1:], start=2):
        if not raw.strip():
            continue
        named = dict(_pair(path, number, header, [cell.strip() for cell in raw.removesuffix("\r").split("\t")]))
        try:
            start, end = samples(float(named.pop("start_ms"))), samples(float(named.pop("end_ms")))
            found.append(Sentence(start, end, {canonical(code): text for code, text in named.items()}))
        except (KeyError, ValueError, UnsupportedLanguage) as error:
            raise BadConfig(
                f"{path.name}:{number}: a table of segments has the columns start_ms, end_ms (numbers) and one per "
                f"language code ({error})"
            ) from None
    return found


def _read(path: Path, what: str) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise BadConfig(f"there is no {what} at {path}") from None
    except IsADirectoryError:
        raise BadConfig(f"{path} is a folder; name the {what} in it") from None
    except UnicodeDecodeError as error:
        raise BadConfig(f"{path.name} is not UTF-8 (byte {error.start}): a {what} is UTF-8 text") from None
