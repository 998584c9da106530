"""Layers are taken from a Whisper in several orders, what is left is taught or not, and people's recordings score all.

```
WORK/STACK/scores.jsonl      what the selection is worth without layers
WORK/heard/                  what the encoder said, where it doesn't learn
WORK/models/NAME/            models, and what their training goes on from
WORK/made.jsonl              what models were made of
WORK/scores.jsonl            a line per model
WORK/layers.png              the points by removals, where matplotlib is
```

Broken off anywhere, the same command goes on. Times per token are taken anew each time that it ends.
"""

from __future__ import annotations

import importlib
import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, cast

import numpy as np

from streamtrans.bench.measurement import Progress, Report, Table, names, silent, some_of
from streamtrans.compress.ledger import begin
from streamtrans.compress.pruning import ORDERS, Pruned, Pruning
from streamtrans.compress.pruning.scores import Score, check_apart, is_transcript, score, selection_sha256
from streamtrans.compress.pruning.search import check_removal, choose
from streamtrans.compress.pruning.stacks import check, cut, find_stack
from streamtrans.compress.pruning.subjects import SpeechSubject
from streamtrans.compress.quantize import ms_per_token
from streamtrans.compress.teaching import Teaching, load_teaching, teach
from streamtrans.compress.teaching.pupils import load_ears
from streamtrans.core import SAMPLE_RATE, BadConfig, Option
from streamtrans.evaluate.dev import Text
from streamtrans.evaluate.manifest import Talk, read_talks
from streamtrans.evaluate.recordings import transcript_errors
from streamtrans.metrics import bleu
from streamtrans.model.api import SpeechModel
from streamtrans.model.loading import find_folder, load_model
from streamtrans.runtime import weights_sha256

TOGETHER = 8
STACKS = ("decoder", "encoder")
TAUGHT = ("nothing", "texts", "teacher")
"""What is done afterwards: nothing, steps on texts, or as many on texts and the whole model's tokens."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Layers:
    """Take layers from a Whisper in three orders, teach what is left in two ways, and score all on people."""

    model: Annotated[str, Option("The Whisper that loses layers: folder or hub name.")] = "openai/whisper-base"
    selection: Annotated[Path, Option("Manifest of the recordings that layers are chosen by.")]
    test: Annotated[Path, Option("Manifest of other recordings, that all models are scored on.")]
    speech: Annotated[tuple[str, ...], Option("Manifest of recordings that are learnt from. Repeatable.")] = ()
    recipe: Annotated[Path, Option("Recipe of each training; its base, speech and teacher are set here.")] = Path(
        "recipes/whisper_language.toml"
    )
    kl: Annotated[float, Option("Weight of the whole model's tokens, where it teaches; texts weigh 1.", least=0)] = 1.0
    steps: Annotated[int | None, Option("Steps of each training, in the place of the recipe's.", least=1)] = None
    stacks: Annotated[tuple[str, ...], Option("decoder and encoder, or one of them.", read=names)] = STACKS
    remove: Annotated[int, Option("Most layers to take from a stack.", least=1)] = 3
    taught: Annotated[tuple[str, ...], Option("What is done afterwards: nothing, texts, teacher.", read=names)] = TAUGHT
    work: Annotated[Path, Option("Folder of all that is made.")] = Path("runs/layers")

    def __post_init__(self) -> None:
        some_of(self.stacks, STACKS, "--stacks")
        if some_of(self.taught, TAUGHT, "--taught") != TAUGHT[:1] and not self.speech:
            raise BadConfig(
                "what is left is taught by recordings: name a manifest by --speech, or say --taught nothing"
            )

    def measure(self, progress: Progress = silent) -> Report:
        """Make what isn't made yet, and score what isn't scored."""
        return _Experiment(self, progress).report()


@dataclass(frozen=True, slots=True)
class _Cut:
    """Layers that are gone, which orders chose them, and what was done afterwards."""

    stack: str
    gone: tuple[int, ...]
    orders: tuple[str, ...]
    taught: str

    @property
    def name(self) -> str:
        """A name for folders."""
        bare = "-".join((self.stack, *map(str, self.gone)))
        return bare if self.taught == TAUGHT[0] else f"{bare}-{self.taught}"


class _Experiment:
    def __init__(self, asked: Layers, told: Progress) -> None:
        self.asked, self.told, self.work = asked, told, asked.work
        self.base = find_folder(asked.model)
        self.selection, self.test = (_talks(file) for file in (asked.selection, asked.test))
        chosen, scored = {asked.selection: self.selection}, {asked.test: self.test}
        check_apart(chosen, scored, "layers chosen by a recording suit it, so score on others")
        speech = {Path(file): read_talks(file) for file in asked.speech}
        check_apart(
            speech, chosen | scored, "who learnt a recording knows it, so choose layers by others and score on others"
        )
        teaching = load_teaching(asked.recipe)
        self.teaching = replace(
            teaching,
            base=str(self.base),
            speech=asked.speech or teaching.speech,
            to=(),
            steps=asked.steps or teaching.steps,
        )
        self.ears = load_ears(self.base, self.teaching, self.work / "heard")
        for stack in asked.stacks:
            check_removal(stack, check(self.base, find_stack(self.base, stack)), asked.remove)
        about = {
            **self.teaching.settings(),
            "base": weights_sha256(self.base),
            "selection": selection_sha256(self.selection),
            "test": selection_sha256(self.test),
            "speech": [selection_sha256(talks) for talks in speech.values()],
            "kl": asked.kl,
        }
        self.scores = begin(self.work, "models", about)

    def report(self) -> Report:
        """Score all models, then let them take turns for time."""
        lines, folders = dict[_Cut, Mapping[str, Any]](), dict[tuple[str, int], Path]()
        for each in self._cuts():
            folder = self._made(each)
            folders.setdefault((each.stack, len(each.gone)), folder)
            lines[each] = self._scored(each, folder)
        self.told("all take turns for time", 0, None)
        models = [cast("SpeechModel", load_model(folder, device="cpu")) for folder in folders.values()]
        took = dict(zip(folders, zip(ms_per_token(models), ms_to_hear(models), strict=True), strict=True))
        return self._lay_out(lines, took)

    def _cuts(self) -> Iterator[_Cut]:
        """Yield what is cut and taught, each set of layers once, the smallest cuts first; before all what lost none."""
        yield from (_Cut("decoder", (), (), taught) for taught in dict.fromkeys((TAUGHT[0], *self.asked.taught)))
        for stack in self.asked.stacks:
            chosen = {order: self._chosen(stack, order) for order in ORDERS}
            for count in range(self.asked.remove):
                sets: dict[tuple[int, ...], list[str]] = {}
                for order, pruned in chosen.items():
                    sets.setdefault(tuple(sorted(pruned.rounds[count].removed)), []).append(order)
                for gone, orders in sets.items():
                    for taught in self.asked.taught:
                        yield _Cut(stack, gone, tuple(orders), taught)

    def _chosen(self, stack: str, order: str) -> Pruned:
        pruning = Pruning(
            self.asked.remove, stack, order, together=TOGETHER, device="cpu", silence_s=self.teaching.silence_s
        )
        return choose(self.base, self.selection, pruning, self.work / stack, told=self.told)

    def _made(self, each: _Cut) -> Path:
        bare, folder = (self.work / "models" / name for name in (replace(each, taught=TAUGHT[0]).name, each.name))
        if not bare.exists():
            depth = len(getattr(self.ears.network.model, each.stack).layers)
            cut(self.base, each.stack, [layer for layer in range(depth) if layer not in each.gone], bare, {})
        if not folder.exists():
            teach(
                self._lesson(each, bare),
                folder,
                work=folder.with_name(f"{each.name}-training"),
                heard=self.work / "heard",
                told=lambda task, done, total: self.told(f"{each.name}: {task}", done, total),
            )
        return folder

    def _lesson(self, each: _Cut, bare: Path) -> Teaching:
        learns = "all" if each.stack == "encoder" else "decoder"
        plain = replace(self.teaching, base=str(bare), learns=learns, teacher="", texts="given", kl=0.0)
        return plain if each.taught == "texts" else replace(plain, teacher=str(self.base), kl=self.asked.kl)

    def _scored(self, each: _Cut, folder: Path) -> Mapping[str, Any]:
        """Return the points, errors in percent and BLEU of a model, from the notes where they are there."""
        for line in self.scores.lines:
            if line["model"] == each.name:
                return line
        self.told(f"{each.name} writes", 0, None)
        model = load_model(folder, device="cpu")
        # An encoder that lost nothing says what the whole model's says.
        hear = self.ears.hear if each.stack == "decoder" else None
        subject = SpeechSubject(
            model, each.stack, self.test, (), TOGETHER, silence_s=self.teaching.silence_s, hear=hear
        )
        written = subject.write(range(len(subject.layers)))
        line = {
            "model": each.name,
            "points": score(written).directions,
            "figures": {name: round(value, 2) for name, value in _figures(written.texts).items()},
            "bytes": sum(file.stat().st_size for file in folder.glob("*.safetensors")),
        }
        self.scores.add(line)
        return line

    def _lay_out(
        self, lines: Mapping[_Cut, Mapping[str, Any]], took: Mapping[tuple[str, int], tuple[float, float]]
    ) -> Report:
        head = ("removed", "by", "taught", "points", "errors %", "BLEU", "MB", "ms per token", "ms to hear 2 s")
        tables = []
        for stack in self.asked.stacks:
            rows = [
                (
                    ", ".join(map(str, each.gone)) or "none",
                    ", ".join(each.orders),
                    each.taught,
                    round(Score(line["points"]).mean, 1),
                    _mean(line["figures"], transcripts=True),
                    _mean(line["figures"], transcripts=False),
                    round(line["bytes"] / 1e6, 1),
                    *(round(value, 1) for value in took["decoder" if not each.gone else stack, len(each.gone)]),
                )
                for each, line in lines.items()
                if each.stack == stack or not each.gone
            ]
            tables.append(Table(f"{stack} layers, {self.teaching.steps} steps", head, rows))
        figures = {
            "scores": list(lines.values()),
            "chosen_by": {each.name: each.orders for each in lines if each.gone},
            "ms": {f"{stack}-{count}": value for (stack, count), value in took.items()},
        }
        notes = [f"{len(self.test)} recordings, none of the {len(self.selection)} that layers were chosen by"]
        if drawn := _draw(tables, self.work):
            notes.append(f"plot: {drawn}")
        return Report(figures, tables, notes, markdown=True)


def ms_to_hear(models: Sequence[SpeechModel], count: int = 5) -> list[float]:
    """Return how long each encoder takes for two seconds of noise: the median of ``count``, in turns."""
    audio = np.random.default_rng(0).normal(0, 0.1, 2 * SAMPLE_RATE).astype(np.float32)
    took: list[list[float]] = [[] for _ in models]
    for _ in range(count):
        for model, mine in zip(models, took, strict=True):
            began = time.perf_counter()
            model.encode([audio[: model.max_samples]])
            mine.append(time.perf_counter() - began)
    return [1000 * statistics.median(mine) for mine in took]


def _talks(file: Path) -> list[Talk]:
    """Return recordings with their transcripts and English."""
    return [
        replace(talk, references={c: text for c, text in talk.references.items() if c in (talk.language, "en")})
        for talk in read_talks(file)
    ]


def _figures(texts: Sequence[Text]) -> dict[str, float]:
    found = {}
    for source, target in sorted({(text.source, text.target) for text in texts}):
        mine = [text for text in texts if (text.source, text.target) == (source, target)]
        found[f"{source}-{target}"] = (
            100 * transcript_errors(mine, source)
            if source == target
            else bleu([text.hypothesis for text in mine], [text.reference for text in mine], target)
        )
    return found


def _mean(figures: Mapping[str, float], *, transcripts: bool) -> float | None:
    values = [value for name, value in figures.items() if is_transcript(name) == transcripts]
    return round(statistics.fmean(values), 1) if values else None


def _draw(tables: Sequence[Table], work: Path) -> Path | None:
    """Draw points by removals, a line per order and teaching; nothing without matplotlib, of the ``eval`` extra."""
    try:
        figure = importlib.import_module("matplotlib.figure")
    except ImportError:
        return None
    canvas = figure.Figure(figsize=(7 * len(tables), 5), layout="constrained")
    for place, table in enumerate(tables, 1):
        axes = canvas.add_subplot(1, len(tables), place)
        for taught, style in zip(TAUGHT, (":", "--", "-"), strict=True):
            for number, order in enumerate(ORDERS):
                # What lost nothing was chosen by nobody, and is where all begin.
                points = [
                    row[3] for row in table.rows if row[2] == taught and order in (str(row[1]) or order).split(", ")
                ]
                axes.plot(range(len(points)), points, style, color=f"C{number}", label=f"{order}, taught: {taught}")
        axes.set(title=table.title, xlabel="layers removed", ylabel="points")
        axes.legend(fontsize=7)
    path = work / "layers.png"
    canvas.savefig(path, dpi=120)
    return path
