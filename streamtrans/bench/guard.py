"""How many final captions are in a wrong language, with the guard and without it, and what it costs who is right:
those whose captions come from a model, and those whose texts somebody wrote.

Who judges is another identifier than the guard's own: langid.py's model (Lui & Baldwin 2012), through ``py3langid``,
choosing among the languages of the recordings and those asked for. Texts of fewer than three words count as right:
names, numbers and short answers belong to many languages.
"""

from __future__ import annotations

import csv
import re
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any

from streamtrans.audio import Samples, read_audio
from streamtrans.bench.delays import Delays
from streamtrans.bench.measurement import MODE, TO, Progress, Report, Table, names, silent
from streamtrans.core import SAMPLE_RATE, BadConfig, Caption, CaptionChoice, Group, Mode, Option, needs
from streamtrans.corpus.manifest import Recording, read_manifest
from streamtrans.engine.guard import Asked, foreign, strayed
from streamtrans.evaluate.replay import replay
from streamtrans.metrics import percentile
from streamtrans.runtime import Loaded, ModelChoice, identity, load
from streamtrans.text import LANGUAGES, Source, remark, words_in

LEAST_WORDS = 3
"""Below so many nobody can tell."""
GUARDS = ("off", "on")

_COLON, _UNHEARD = re.compile(r"\s*[:：]\s*"), re.compile('["“”„«»「」『』]')

Tell = Callable[[str], str]
"""Text → the language that it is in."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OffTarget:
    """Ask for people's recordings in other languages, and count the final captions that come in a wrong one.

    With --zero-shot stock Whisper is asked for what it was never taught; without it for what it can, transcripts too.
    """

    recordings: Annotated[Path, Option("Manifest: audio, language, and a text per language code.", argument=True)]
    to: Annotated[tuple[str, ...], TO] = ("de", "fr", "es", "it")
    source: Annotated[
        tuple[str, ...], Option("Only recordings in these languages, joined by commas.", name="--from", read=names)
    ] = ()
    rows: Annotated[int | None, Option("Only so many recordings of each language.", least=1)] = None
    mode: Annotated[Mode, MODE] = "final"
    texts: Annotated[
        tuple[Path, ...],
        Option("A table of texts that are right, a language a column; how many would be doubted. Repeatable."),
    ] = ()
    choice: Annotated[ModelChoice, Group("model", "device", "dtype", "threads", "zero_shot")] = field(
        default_factory=lambda: ModelChoice(threads=1)
    )

    def measure(self, progress: Progress = silent) -> Report:
        """Read every recording with the guard off, then on."""
        recordings = _some(read_manifest(self.recordings)[0], self.source, self.rows)
        tell = _identifier({*self.to, *(each.language for each in recordings)})
        found = {guard: self._read(guard, recordings, progress) for guard in GUARDS}
        rows = [_row(guard, pair, found[guard], tell) for pair in _pairs(found["off"]) for guard in GUARDS]
        rows += [_row(guard, None, found[guard], tell) for guard in GUARDS]
        same = _unchanged(found["off"], found["on"], tell)
        later = _later(found["off"], found["on"], tell)
        texts = [line for path in self.texts for line in _written(path)]
        figures = {
            "model": identity(self.choice.model),
            "zero_shot": self.choice.zero_shot,
            "mode": self.mode,
            "recordings": len(recordings),
            "directions": rows,
            "right_and_changed": same,
            "right_promised_later": later,
            "texts": texts,
            "examples": _examples(found, tell),
        }
        columns = list(rows[0])
        tables = [
            Table("final captions", columns, [[row[name] for name in columns] for row in rows]),
            Table("right captions, promised by the clock of the audio", list(later), [[*later.values()]]),
        ]
        if texts:
            tables.append(Table("texts that are right", list(texts[0]), [[*line.values()] for line in texts]))
        return Report(figures, tables)

    def _read(self, guard: str, recordings: Sequence[Recording], progress: Progress) -> list[_Read]:
        loaded = load(replace(self.choice, guard=guard))
        try:
            read = list[_Read]()
            for done, recording in enumerate(recordings):
                progress(guard, done, len(recordings))
                read += self._captions(loaded, recording)
            return read
        finally:
            loaded.engine.close()

    def _captions(self, loaded: Loaded, recording: Recording) -> list[_Read]:
        spoken = recording.language
        targets = tuple(code for code in self.to if _askable(loaded, code, spoken))
        if not targets:
            return []
        config = loaded.session_config(targets, spoken, self.choice.vad, CaptionChoice(self.mode))
        audio: Samples = read_audio(recording.audio)
        began = time.perf_counter()
        played = replay(config, loaded.spellers, loaded.engine, audio)
        took = (time.perf_counter() - began) / len(targets)
        delays: dict[tuple[int, str], Delays] = defaultdict(Delays)
        for at, event in played.timed:
            if isinstance(event, Caption):
                delays[event.segment, event.language].told(event, at, at / SAMPLE_RATE)
        commits = {place: tuple(each.seconds["commit"]) for place, each in delays.items()}
        return [_Read(recording, each, took, commits[each.segment, each.language]) for each in played.finals]


@dataclass(frozen=True, slots=True)
class _Read:
    recording: Recording
    caption: Caption
    seconds: float
    commits: tuple[float, ...]
    """How many seconds after a word was first heard it was promised, by the clock of the audio."""

    @property
    def pair(self) -> tuple[str, str]:
        return self.recording.language, self.caption.language

    @property
    def place(self) -> tuple[Path, int, str]:
        return self.recording.audio, self.caption.segment, self.caption.language


def _written(path: Path) -> list[dict[str, Any]]:
    """Return how many texts of a table the guard would doubt, and hold back, of who was taught their languages.

    Besides, how many of them would be doubted as translations of each other, or lose their end.
    """
    rows, columns = parallel(path)
    found = []
    for language in columns:
        texts = [text for row in rows if (text := row[language] or "").strip()]
        asked = Asked(language, tuple(columns), taught=True)
        doubts = [said for text in texts if (said := foreign(text, asked)) is not None]
        line = {"table": path.stem, "language": language, "texts": len(texts), "doubted": len(doubts)}
        found.append(line | {"held_back": sum(said.certain for said in doubts)} | translated(rows, language, columns))
    return found


def parallel(path: Path) -> tuple[list[dict[str, str]], list[str]]:
    """Read a table of texts, a language a column: its rows, and the languages."""
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    columns = [name for name in rows[0] if name in LANGUAGES and name != "id"] if rows else []  # a row's number
    return rows, columns


def translated(rows: Sequence[dict[str, str]], language: str, columns: Sequence[str]) -> dict[str, int]:
    """Count texts as translations of each of the others of their row, by a model that is asked in words."""
    counts = dict.fromkeys(("translations", "strayed", "strayed_and_held", "cut_short"), 0)
    for row in rows:
        text = row[language] or ""
        for code in columns:
            said = _heard(row[code] or "")
            if code == language or not (text.strip() and said.strip()):
                continue
            asked = Asked(language, (code,), taught=True, source=Source(said, code), in_words=True)
            found = strayed(text, asked)
            counts["translations"] += 1
            counts["strayed"] += found is not None
            counts["strayed_and_held"] += found is not None and found.certain
            counts["cut_short"] += remark(text, language, asked.source) < len(text)
    return counts


def _heard(text: str) -> str:
    """Return a text as ears write it: without colons, quotes and lines."""
    return " ".join(_UNHEARD.sub("", _COLON.sub(", ", text)).split())


def _askable(loaded: Loaded, target: str, spoken: str) -> bool:
    known = dict(loaded.translations)
    return not known or target in known.get(spoken, ())


def _some(recordings: Iterable[Recording], languages: tuple[str, ...], rows: int | None) -> list[Recording]:
    counted: Counter[str] = Counter()
    some = []
    for each in recordings:
        counted[each.language] += 1
        if (not languages or each.language in languages) and counted[each.language] <= (rows or counted.total()):
            some.append(each)
    return some


def _identifier(languages: Iterable[str]) -> Tell:
    try:
        import py3langid
    except ImportError:
        raise BadConfig(needs("bench guard", "py3langid", "bench")) from None
    py3langid.set_languages(sorted(languages))

    def tell(text: str) -> str:
        language: str = py3langid.classify(text)[0]
        return language

    return tell


def _wrong(caption: Caption, tell: Tell) -> bool:
    return words_in(caption.text) >= LEAST_WORDS and tell(caption.text.strip()) != caption.language


def _pairs(read: Iterable[_Read]) -> list[tuple[str, str]]:
    return sorted({each.pair for each in read})


def _row(guard: str, pair: tuple[str, str] | None, read: Sequence[_Read], tell: Tell) -> dict[str, Any]:
    of_pair = [each for each in read if pair is None or each.pair == pair]
    captions = [each.caption for each in of_pair]
    wrong = sum(_wrong(caption, tell) for caption in captions)
    doubts = [caption.doubt for caption in captions if caption.doubt is not None]
    return {
        "direction": "all" if pair is None else "-".join(pair),
        "guard": guard,
        "captions": len(captions),
        "wrong": wrong,
        "wrong_percent": round(100 * wrong / max(1, len(captions)), 2),
        "empty": sum(not caption.text.strip() for caption in captions),
        "held_back": sum(doubt.certain for doubt in doubts),
        "shown_in_doubt": sum(not doubt.certain for doubt in doubts),
        "seconds": round(sum(each.seconds for each in of_pair), 1),
    }


def _unchanged(off: Sequence[_Read], on: Sequence[_Read], tell: Tell) -> dict[str, int]:
    """Count the captions that were right without the guard, and of them those that it changed or took away."""
    guarded = {each.place: each.caption for each in on}
    right = [each for each in off if not _wrong(each.caption, tell)]
    pairs = [(each.caption, guarded[each.place]) for each in right if each.place in guarded]
    return {
        "right": len(right),
        "changed": sum(before.text != after.text for before, after in pairs),
        "taken_away": sum(bool(before.text.strip()) and not after.text.strip() for before, after in pairs),
    }


def _later(off: Sequence[_Read], on: Sequence[_Read], tell: Tell) -> dict[str, int | None]:
    """Return how much later the guard promises the words of captions that are right without it.

    ``words`` are compared with themselves, of captions that have as many in both ways; the clock is that of the audio:
    what is held back shows, and how long the computing takes doesn't.
    """
    guarded = {each.place: each for each in on}
    pairs = [
        (each.commits, guarded[each.place].commits)
        for each in off
        if each.place in guarded and not _wrong(each.caption, tell)
    ]
    before, after = ([seconds for pair in pairs for seconds in pair[side]] for side in (0, 1))
    later = [b - a for one, other in pairs if len(one) == len(other) for a, b in zip(one, other, strict=True)]
    return {
        "commit_p50_off_ms": _p50_ms(before),
        "commit_p50_on_ms": _p50_ms(after),
        "words": len(later),
        "later_p50_ms": _p50_ms(later),
        "later_words": sum(seconds > 0 for seconds in later),
    }


def _p50_ms(seconds: Sequence[float]) -> int | None:
    return round(1000 * percentile(seconds, 50)) if seconds else None


def _examples(found: dict[str, list[_Read]], tell: Tell, most: int = 12) -> list[dict[str, str]]:
    """Return some texts that were wrong, with what the guard made of them."""
    guarded = {each.place: each.caption for each in found["on"]}
    wrong = [each for each in found["off"] if _wrong(each.caption, tell) and each.place in guarded]
    return [
        {
            "said": each.recording.text,
            "language": each.caption.language,
            "off": each.caption.text.strip(),
            "on": guarded[each.place].text.strip(),
        }
        for each in wrong[:: max(1, len(wrong) // most)]
    ]
