"""One model per language, made one by every method of merging, beside one that learnt all languages together.

```
WORK/speech/LANGUAGE/    sentences spoken by machines, to learn from
WORK/dev/                other sentences, by voices that nobody learnt from
WORK/heard/              what the frozen encoder said of all that is learnt from
WORK/SEED/NAME/          models, and what their training goes on from
WORK/made.jsonl          what models were made of
WORK/scores.jsonl        a line per model
```

Everything is made once: broken off anywhere, the same command goes on.
"""

from __future__ import annotations

import hashlib
import shutil
import statistics
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import soundfile

from streamtrans.bench.measurement import Progress, Report, Table, languages, silent
from streamtrans.compress.ledger import begin
from streamtrans.compress.merging import add_to_merged, merge
from streamtrans.compress.merging.merge import METHODS, load_method
from streamtrans.compress.pruning.scores import is_transcript, selection_sha256
from streamtrans.compress.pruning.subjects import SpeechSubject
from streamtrans.compress.teaching import Teaching, load_teaching, teach
from streamtrans.compress.teaching.pupils import load_ears
from streamtrans.core import SAMPLE_RATE, BadConfig, Option
from streamtrans.corpus import Row, Speaker, normalise, random_voice, read_manifest, spoken_for_evaluation
from streamtrans.corpus.parallel import read_parallel
from streamtrans.corpus.pico import VOICES, Pico
from streamtrans.evaluate.dev import Text
from streamtrans.evaluate.manifest import Talk, read_talks
from streamtrans.evaluate.recordings import transcript_errors
from streamtrans.evaluate.spoken import dev_rows, sample
from streamtrans.metrics import bleu
from streamtrans.model.loading import find_folder, load_model
from streamtrans.runtime import weights_sha256

PICO = 0.85
"""How often Pico speaks, where it has a voice; else eSpeak does."""
SPEEDS, PITCHES = (0.8, 1.3), (0.75, 1.35)
LONGEST_S = 15
MOST_WORDS = 20
TOGETHER = 8

_Line = tuple[str, str, Mapping[str, str]]
"""Of a manifest: the file, what is spoken, and texts by language."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Languages:
    """Fine-tune a Whisper per language, merge the models by every method, and score all beside a joint one."""

    recipe: Annotated[Path, Option("Recipe of each training.")] = Path("recipes/whisper_language.toml")
    base: Annotated[str | None, Option("Ancestor of all, in the place of the recipe's.")] = None
    text: Annotated[Path, Option("Folder of tables of sentences to learn from.")] = Path("data/text")
    table: Annotated[
        tuple[str, ...], Option("Tables to learn from; {} stands for the language. Repeatable.", name="--table")
    ] = ("tatoeba*_en-{}",)
    tables: Annotated[Path | None, Option("Folder with massive_dev.tsv, or a table of that form.")] = None
    people: Annotated[Path | None, Option("Manifest of people's recordings to score on.")] = None
    spoken: Annotated[Path | None, Option("Manifest of speech for languages that Pico has no voice of.")] = None
    work: Annotated[Path, Option("Folder of all that is made.")] = Path("runs/languages")
    learnt: Annotated[tuple[str, ...], Option("Languages to merge.", name="--languages", read=languages)] = (
        "de",
        "es",
        "fr",
        "it",
    )
    added: Annotated[tuple[str, ...], Option("Languages to add afterwards.", read=languages)] = ("zh",)
    utterances: Annotated[int, Option("Sentences spoken per language.", least=1)] = 700
    steps: Annotated[int | None, Option("Steps per language, in the place of the recipe's.", least=1)] = None
    rows: Annotated[int, Option("Rows of the table to score on.", least=1)] = 200
    seeds: Annotated[int, Option("Trainings of everything.", least=1)] = 2

    def __post_init__(self) -> None:
        if len(self.learnt) < 2 or set(self.learnt) & set(self.added):
            raise BadConfig("--languages names two or more, and --added others")

    def measure(self, progress: Progress = silent) -> Report:
        """Make what isn't made yet, and score what isn't scored."""
        return _Experiment(self, progress).report()


class _Experiment:
    def __init__(self, asked: Languages, told: Progress) -> None:
        self.asked, self.told, self.work = asked, told, asked.work
        teaching = load_teaching(asked.recipe)
        self.teaching = replace(teaching, base=asked.base or teaching.base, steps=asked.steps or teaching.steps)
        self.base = find_folder(self.teaching.base)
        self.all = (*asked.learnt, *asked.added)
        self.sets = self._sets()
        self.ears = load_ears(self.base, self.teaching, self.work / "heard")
        about = {
            **self.teaching.settings(),
            "base": weights_sha256(self.base),
            "recordings": {name: selection_sha256(talks) for name, talks in self.sets.items()},
            "languages": asked.learnt,
            "rows": asked.rows,
            "utterances": asked.utterances,
            "table": {file.name: _sha256(file) for file in self._tables()},
            "spoken": asked.spoken and _sha256(asked.spoken),
        }
        self.scores = begin(self.work, "[0-9]*", about)

    def report(self) -> Report:
        """Go through all models, in an order in which each tells something new, and lay their scores out."""
        self._score("stock", 0, self.base)
        for seed in range(1, self.asked.seeds + 1):
            for name, made in self._models(seed):
                self._score(name, seed, made)
        return lay_out(self.scores.lines, self.asked)

    def _models(self, seed: int) -> Iterator[tuple[str, Path]]:
        learnt = {code: self._taught(code, (code,), seed) for code in self.asked.learnt}
        yield from learnt.items()
        merged = {}
        for method in METHODS:
            merged[method] = self._made(seed, method, partial(merge, self.base, learnt, method=method))
            yield method, merged[method]
        yield "joint", self._taught("joint", self.asked.learnt, seed)
        if not self.asked.added:
            return
        more = {code: self._taught(code, (code,), seed) for code in self.asked.added}
        yield from more.items()
        for method in METHODS:
            added = "+".join((method, *more))
            if load_method(method).additive:
                yield added, self._made(seed, added, partial(add_to_merged, self.base, merged[method], more))

    def _taught(self, name: str, codes: Sequence[str], seed: int) -> Path:
        """Return a model that learnt ``codes``, each for as many steps as any other."""
        teaching: Teaching = replace(
            self.teaching,
            speech=tuple(str(self._speech(code)) for code in codes),
            to=(*codes, "en"),
            steps=self.teaching.steps * len(codes),
            seed=seed,
        )
        work = self.work / f"{seed}" / f"{name}-training"
        return self._made(
            seed, name, lambda to: teach(teaching, to, work=work, heard=self.work / "heard", told=self._telling(name))
        )

    def _made(self, seed: int, name: str, make: Callable[[Path], object]) -> Path:
        folder = self.work / f"{seed}" / name
        if not folder.exists():
            self.told(name, 0, None)
            make(folder)
        return folder

    def _telling(self, name: str) -> Progress:
        return lambda task, done, total: self.told(f"{name}: {task}", done, total)

    def _score(self, name: str, seed: int, folder: Path) -> None:
        """Note error rates in percent (``"people de-de"``) and BLEU (``"people de-en"``), unless they are."""
        if any((line["model"], line["seed"]) == (name, seed) for line in self.scores.lines):
            return
        found = {}
        for kind, talks in self.sets.items():
            self.told(f"{folder.name} writes ({kind})", 0, None)
            model = load_model(folder, device="cpu")
            # All models have one encoder, which hears a recording once, whoever writes it.
            subject = SpeechSubject(model, "decoder", talks, (), TOGETHER, hear=self.ears.hear)
            texts = subject.write(range(model.config.decoder_layers)).texts
            for source, target in sorted({(text.source, text.target) for text in texts}):
                mine = [text for text in texts if (text.source, text.target) == (source, target)]
                found[f"{kind} {source}-{target}"] = round(_points(mine, source, target, kind == "machines"), 2)
        self.scores.add({"model": name, "seed": seed, "scores": found})

    def _speech(self, code: str) -> Path:
        """Return the manifest of what is learnt of a language, spoken now where it isn't."""
        folder = self.work / "speech" / code
        if (folder / "manifest.tsv").exists():
            return folder / "manifest.tsv"
        folder.mkdir(parents=True, exist_ok=True)
        if code in VOICES:
            tables = {name.format(code): 1.0 for name in self.asked.table}
            rows = read_parallel(self.asked.text, tables, self.teaching.seed, most_words=MOST_WORDS)
            lines = self._speak(code, folder, rows.row)
        else:
            lines = self._spoken(code, folder)
        return _write_manifest(folder, tuple(dict.fromkeys((code, "en"))), lines)

    def _speak(self, code: str, folder: Path, row: Callable[[int], Row]) -> list[_Line]:
        pico, espeak, lines, position = Pico(), Speaker(), list[_Line](), -1
        while len(lines) < self.asked.utterances:
            position += 1
            texts = row(position).texts
            if position > 100 * self.asked.utterances:
                raise BadConfig(f"the tables of {self.asked.text} have no sentences in {code} and en")
            if code not in texts or "en" not in texts:
                continue
            self.told(f"{code} is spoken", len(lines), self.asked.utterances)
            file = folder / f"{position:06d}.flac"
            dice = np.random.default_rng([self.teaching.seed, zlib.crc32(code.encode()), position])
            if not file.exists():
                if dice.random() < PICO:
                    speed, pitch = float(dice.uniform(*SPEEDS)), float(dice.uniform(*PITCHES))
                    audio = pico.speak(texts[code], str(dice.choice(VOICES[code])), speed=speed, pitch=pitch)
                else:
                    audio = espeak.speak(texts[code], random_voice(code, dice))
                _write_audio(file, audio[: LONGEST_S * SAMPLE_RATE])
            lines.append((file.name, code, texts))
        return lines

    def _spoken(self, code: str, folder: Path) -> list[_Line]:
        if self.asked.spoken is None:
            raise BadConfig(f"Pico has no voice of {code}: name a manifest of speech by --spoken")
        lines: list[_Line] = []
        for each in read_manifest(self.asked.spoken)[0]:
            if each.language == code and len(lines) < self.asked.utterances:
                file = folder / f"{len(lines):06d}{each.audio.suffix}"
                shutil.copyfile(each.audio, file)
                lines.append((file.name, code, each.texts))
        if not lines:
            raise BadConfig(f"{self.asked.spoken} has no speech in {code}")
        return lines

    def _sets(self) -> dict[str, list[Talk]]:
        """Return what is scored on: sentences by voices that nobody learnt from, and people."""
        folder = self.work / "dev"
        if not (folder / "manifest.tsv").exists():
            folder.mkdir(parents=True, exist_ok=True)
            speaker, lines = Speaker(), list[_Line]()
            for row in sample(dev_rows(self.asked.tables), self.asked.rows):
                for code in self.all:
                    file = folder / f"{code}-{row.id}.flac"
                    _write_audio(file, spoken_for_evaluation(row, code, speaker).audio)
                    texts = {each: normalise(row.texts[each], each) for each in (code, "en")}
                    lines.append((file.name, code, texts))
            _write_manifest(folder, self._texts, lines)
        found = {"machines": list(read_talks(folder / "manifest.tsv"))}
        if self.asked.people is not None:
            talks = [talk for talk in read_talks(self.asked.people) if talk.language in self.all]
            found["people"] = [
                replace(
                    talk,
                    references={code: talk.references.get(code, "") for code in dict.fromkeys((talk.language, "en"))},
                )
                for talk in talks
            ]
        return {name: talks for name, talks in found.items() if talks}

    def _tables(self) -> list[Path]:
        """Return the files of sentences that are learnt from."""
        names = [name.format(code) for name in self.asked.table for code in self.all if code in VOICES]
        return sorted({file for name in names for file in self.asked.text.glob(f"{name}*")})

    @property
    def _texts(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys((*self.all, "en")))


def _sha256(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def _points(texts: Sequence[Text], source: str, target: str, plain: bool) -> float:
    if source == target:
        return 100 * transcript_errors(texts, source)
    written = [normalise(text.hypothesis, target) if plain else text.hypothesis for text in texts]
    return bleu(written, [text.reference for text in texts], target)


def lay_out(lines: Sequence[Mapping[str, Any]], asked: Languages) -> Report:
    """Return tables of means over seeds, and what they say."""
    columns = list(dict.fromkeys(name for line in lines for name in line["scores"]))
    models = list(dict.fromkeys(line["model"] for line in lines))
    tables = []
    for what, chosen in (
        ("errors in percent", [name for name in columns if _transcript(name)]),
        ("BLEU", [name for name in columns if not _transcript(name)]),
    ):
        rows = [(model, *(_mean(lines, model, name) for name in chosen)) for model in models]
        tables.append(Table(f"{what}, mean of {asked.seeds} seeds", ("", *chosen), rows))
    overall = [
        (model, *(round(value, 2) for value in _overall(lines, model, asked.learnt)), *_lost(lines, model, asked))
        for model in models
    ]
    head = ("", "mean", "range over seeds", "most lost by adding")
    tables.insert(0, Table("points: (100 - errors) and BLEU, mean of the merged languages", head, overall))
    return Report({"scores": list(lines)}, tables, _notes(lines, asked), markdown=True)


def _notes(lines: Sequence[Mapping[str, Any]], asked: Languages) -> list[str]:
    """Say which method wins, and by how much beyond what seeds differ by."""
    ranked = sorted(((_overall(lines, name, asked.learnt), name) for name in METHODS if _of(lines, name)), reverse=True)
    if len(ranked) < 2:
        return ["the methods aren't all scored yet"]
    (best, noise), first = ranked[0]
    (second, other), follower = ranked[1]
    lead, noise = best - second, max(noise, other)
    said = "beyond" if lead > noise else "within"
    place = 1 + [name for _, name in ranked].index("lors")
    return [
        f"{first} is first by {lead:.2f} points before {follower}, {said} the {noise:.2f} that seeds differ by;"
        f" lors is number {place} of {len(ranked)}"
    ]


def _overall(lines: Sequence[Mapping[str, Any]], model: str, codes: Sequence[str]) -> tuple[float, float]:
    """Return the mean of a model's points over directions from ``codes`` and seeds, and how far seeds are apart."""
    each = [
        statistics.fmean(
            (100 - min(100, value) if _transcript(name) else value)
            for name, value in line["scores"].items()
            if name.split()[1].split("-")[0] in codes
        )
        for line in _of(lines, model)
    ]
    return statistics.fmean(each), max(each) - min(each)


def _lost(lines: Sequence[Mapping[str, Any]], model: str, asked: Languages) -> tuple[float | None]:
    """Return the most points that a direction of the merged languages lost when others were added."""
    before = model.split("+", maxsplit=1)[0]
    if before == model:
        return (None,)
    losses = []
    for name in _of(lines, model)[0]["scores"]:
        if name.split()[1].split("-")[0] in asked.learnt:
            change = _mean(lines, model, name) - _mean(lines, before, name)
            losses.append(change if _transcript(name) else -change)
    return (round(max(losses), 2),)


def _of(lines: Sequence[Mapping[str, Any]], model: str) -> list[Mapping[str, Any]]:
    return [line for line in lines if line["model"] == model]


def _mean(lines: Sequence[Mapping[str, Any]], model: str, name: str) -> float:
    return round(statistics.fmean(line["scores"][name] for line in _of(lines, model)), 2)


def _transcript(name: str) -> bool:
    return is_transcript(name.split()[1])


def _write_manifest(folder: Path, codes: Sequence[str], lines: Sequence[_Line]) -> Path:
    """Write a manifest with the texts in ``codes``, as a whole or not at all."""
    rows = [("audio", "language", *codes), *((file, code, *map(texts.get, codes)) for file, code, texts in lines)]
    text = "".join("\t".join(" ".join((cell or "").split()) for cell in row) + "\n" for row in rows)
    part, file = folder / "manifest.part", folder / "manifest.tsv"
    part.write_text(text, encoding="utf-8")
    part.rename(file)
    return file


def _write_audio(file: Path, audio: np.ndarray[Any, Any]) -> None:
    part = file.with_suffix(".part")
    soundfile.write(part, audio, SAMPLE_RATE, format="FLAC")
    part.rename(file)
