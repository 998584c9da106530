"""Check what the readers found, line by line, and keep what is good as the run's own corpus.

A run's corpus is made once: ``<name>.jsonl`` with a row per recording, ``<name>.npy`` with where each row begins and
how long it sounds, ``<name>.problems.txt`` with every bad line. A resumed run reads the same rows.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from itertools import islice
from pathlib import Path

import numpy as np
import numpy.typing as npt

from streamtrans.audio import duration_seconds
from streamtrans.core import BadAudio, BadConfig, UnsupportedLanguage
from streamtrans.text import Tokenizer, canonical
from streamtrans.train.finetune.readers import Line, Problem, find_reader
from streamtrans.train.finetune.recipe import Source

SHOWN = 20
"""Bad lines that an error lists; the file of problems has them all."""
AHEAD = 512
"""Lines whose audio headers are read at a time."""
READERS_AT_ONCE = 8
PROMPT_AND_END = 3
"""Positions of a text beside its own: start, language, end."""
ROW = np.dtype([("offset", np.int64), ("seconds", np.float32)])

Fill = Callable[[Sequence["Example"]], Sequence["Example"]]
"""Adds translations that are missing."""


@dataclass(frozen=True, slots=True)
class Example:
    """One good recording. ``texts`` holds what is said in ``language`` and every translation there is."""

    where: str
    audio: str
    seconds: float
    language: str
    texts: Mapping[str, str]
    id: str = ""
    pseudo: tuple[str, ...] = ()

    @property
    def translated(self) -> bool:
        """Whether there is a text in another language."""
        return len(self.texts) > 1


@dataclass(frozen=True, slots=True)
class Limits:
    """What a line must keep to. ``max_tokens`` holds for a text with its prompt and its end."""

    languages: tuple[str, ...]
    max_seconds: float
    max_tokens: int


@dataclass(frozen=True, slots=True)
class Report:
    """What checking came to: recordings and hours kept, bad lines by kind."""

    kept: int
    hours: float
    problems: Mapping[str, int] = field(default_factory=dict)

    def __str__(self) -> str:
        bad = ", ".join(f"{count} × {kind}" for kind, count in sorted(self.problems.items()))
        return f"{self.kept:,} recordings, {self.hours:.1f} h; bad lines: {bad or 'none'}"


class Corpus:
    """The rows of a checked corpus, read by number; any process may open it."""

    def __init__(self, folder: Path, name: str) -> None:
        self.path = folder / f"{name}.jsonl"
        self.rows: npt.NDArray[np.void] = np.load(folder / f"{name}.npy")

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def seconds(self) -> npt.NDArray[np.float32]:
        """Length of each recording ``(n,)``."""
        return self.rows["seconds"]

    def read(self, number: int) -> Example:
        """Return one row."""
        with self.path.open("rb") as file:
            file.seek(int(self.rows["offset"][number]))
            raw = json.loads(file.readline())
        return Example(**{**raw, "pseudo": tuple(raw["pseudo"])})


def check(line: Line | Problem, limits: Limits, tokenizer: Tokenizer) -> Example | Problem:
    """Say what is wrong with a line, or return it as an example; of the audio only the header is read."""
    if isinstance(line, Problem):
        return line
    language = _known(line.language, limits.languages)
    if language is None:
        known = ", ".join(limits.languages)
        return Problem(line.where, "unknown language", f"{line.language!r} is none of the recipe's {known}")
    texts = _check_texts(line, language, limits, tokenizer)
    if isinstance(texts, Problem):
        return texts
    seconds = _check_audio(line, limits)
    if isinstance(seconds, Problem):
        return seconds
    pseudo = tuple(code for named in line.pseudo if (code := _known(named, limits.languages)) in texts and code)
    return Example(line.where, str(line.audio), seconds, language, texts, line.id, pseudo)


def _check_texts(line: Line, language: str, limits: Limits, tokenizer: Tokenizer) -> dict[str, str] | Problem:
    if not line.text.strip():
        return Problem(line.where, "empty text", "what is said in the recording must stand there")
    texts = {language: line.text.strip()}
    for code, text in line.texts.items():
        if (written := _known(code, limits.languages)) and written != language and text.strip():
            texts[written] = text.strip()
    for written, text in texts.items():
        if (length := _positions(tokenizer, text)) > limits.max_tokens:
            message = f"the text in {written} takes {length} positions; the model has {limits.max_tokens}"
            return Problem(line.where, "over-long text", message)
    return texts


def _positions(tokenizer: Tokenizer, text: str) -> int:
    """Return how many decoder positions a text takes with its prompt and its end."""
    return len(tokenizer.encode(text)) + PROMPT_AND_END


def _check_audio(line: Line, limits: Limits) -> float | Problem:
    if not line.audio.is_file():
        return Problem(line.where, "missing audio", f"there is no file {line.audio}")
    try:
        seconds = duration_seconds(line.audio)
    except BadAudio as error:
        return Problem(line.where, "unreadable audio", str(error))
    if seconds > limits.max_seconds:
        message = f"{line.audio} lasts {seconds:.1f} s; at most {limits.max_seconds:g} s are allowed"
        return Problem(line.where, "over-long audio", message)
    return seconds


def check_sources(
    sources: Iterable[Source], limits: Limits, tokenizer: Tokenizer
) -> Iterator[tuple[Source, Example | Problem]]:
    """Check all lines of all sources, in their order; headers of several files are read at once."""
    with ThreadPoolExecutor(READERS_AT_ONCE) as pool:
        for source in sources:
            lines = iter(find_reader(source.reader)(source, limits.languages))
            while chunk := list(islice(lines, AHEAD)):
                for found in pool.map(lambda line: check(line, limits, tokenizer), chunk):
                    yield source, found


def prepare(
    folder: Path,
    name: str,
    sources: Sequence[Source],
    limits: Limits,
    tokenizer: Tokenizer,
    *,
    on_bad: str,
    fill: Fill | None = None,
    say: Callable[[str], None] = print,
) -> Corpus:
    """Return the run's corpus of this name, made now unless it is there.

    Raises:
        BadConfig: no line is good; with ``on_bad="refuse"`` one is bad; or the corpus was made from other settings.
    """
    folder.mkdir(parents=True, exist_ok=True)
    settings = json.loads(json.dumps({"sources": [asdict(source) for source in sources], "limits": asdict(limits)}))
    stamp = folder / f"{name}.settings.json"
    if stamp.exists():
        if json.loads(stamp.read_text(encoding="utf-8")) != settings:
            raise BadConfig(
                f"{folder} was made from other data or limits than the recipe names now; give the recipe another "
                "name to begin a new run, or undo the change"
            )
        return Corpus(folder, name)
    good: list[Example] = []
    kinds: Counter[str] = Counter()
    shown: list[str] = []
    with (folder / f"{name}.problems.txt").open("w", encoding="utf-8") as problems:
        checked = check_sources(sources, limits, tokenizer)
        for _, found in _translated(checked, good, fill, partial(_positions, tokenizer), limits.max_tokens):
            kinds[found.kind] += 1
            problems.write(f"{found}\n")
            shown += [str(found)] if len(shown) < SHOWN else []
    report = Report(len(good), sum(example.seconds for example in good) / 3600, dict(kinds))
    say(f"{name}: {report}")
    if shown and on_bad == "refuse":
        listed = "\n  ".join(shown)
        raise BadConfig(
            f"{sum(kinds.values())} bad lines ({report}):\n  {listed}\nall of them: {problems.name}; "
            'mend them, or set on_bad = "skip" to train without them'
        )
    if not good:
        raise BadConfig(f"{name}: no line of its data is good ({report}); see {problems.name}")
    _write(folder, name, good)
    stamp.write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")
    return Corpus(folder, name)


def _translated(
    checked: Iterator[tuple[Source, Example | Problem]],
    good: list[Example],
    fill: Fill | None,
    positions: Callable[[str], int],
    most: int,
) -> Iterator[tuple[Source, Problem]]:
    """Collect the good examples with their repetitions, missing translations filled in; yield the problems."""
    sources: list[Source] = []
    examples: list[Example] = []
    for source, found in checked:
        if isinstance(found, Problem):
            yield source, found
        else:
            sources.append(source)
            examples.append(found)
    for source, example in zip(sources, fill(examples) if fill else examples, strict=True):
        # What a machine translated may be endless: a translation that the model can't hold is left out, not the row.
        endless = {code for code in example.pseudo if positions(example.texts[code]) > most}
        for code in sorted(endless):
            message = f"the machine's translation into {code} takes more than the model's {most} positions"
            yield source, Problem(example.where, "over-long pseudo-label", message)
        kept = without_texts(example, endless)
        if kept.translated:
            good.extend([kept] * source.repeat)
        else:
            message = "no translation into any of the recipe's languages; [pseudo_labels] can fill it in"
            yield source, Problem(example.where, "untranslated", message)


def _write(folder: Path, name: str, examples: Sequence[Example]) -> None:
    rows, at = np.empty(len(examples), ROW), 0
    part = folder / f"{name}.jsonl.part"
    with part.open("wb") as file:
        for number, example in enumerate(examples):
            rows[number] = (at, example.seconds)
            at += file.write(json.dumps(asdict(example), ensure_ascii=False).encode() + b"\n")
    np.save(folder / f"{name}.npy", rows)
    os.replace(part, folder / f"{name}.jsonl")


def with_texts(example: Example, added: Mapping[str, str]) -> Example:
    """Return an example with machine translations beside its own texts."""
    return replace(example, texts={**example.texts, **added}, pseudo=tuple(sorted({*example.pseudo, *added})))


def without_texts(example: Example, dropped: Set[str]) -> Example:
    """Return an example without some of its machine translations."""
    if not dropped:
        return example
    texts = {code: text for code, text in example.texts.items() if code not in dropped}
    return replace(example, texts=texts, pseudo=tuple(code for code in example.pseudo if code not in dropped))


def _known(code: str, languages: tuple[str, ...]) -> str | None:
    try:
        found = canonical(code)
    except UnsupportedLanguage:
        return None
    return found if found in languages else None
