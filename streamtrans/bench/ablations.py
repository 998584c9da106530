"""What each part of the system is worth: the stages of one recipe, scored and timed side by side."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import fmean
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated, Any, cast

from streamtrans.bench.drafting import Way, compare_drafters
from streamtrans.bench.measurement import TABLES, Progress, Report, Table, silent, use_threads
from streamtrans.core import BadConfig, Option
from streamtrans.corpus import Row, spoken_for_evaluation
from streamtrans.evaluate.dev import DevConfig, evaluate_dev
from streamtrans.evaluate.spoken import dev_rows, sample

if TYPE_CHECKING:
    from streamtrans.model.api import SpeechModel
    from streamtrans.model.speech import TorchSpeechModel


BASELINE = "depth-12"
"""The stage that others' speeds are relative to."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ablations:
    """Compare the finished stages of a recipe: parameters, BLEU, transcript errors, drafts kept, speed."""

    recipe: Annotated[Path, Option("Recipe whose stages are compared.", argument=True)] = Path("recipes/ablations.toml")
    runs: Annotated[Path, Option("Folder of the training runs.")] = Path("runs")
    tables: Annotated[Path | None, TABLES] = None
    rows: Annotated[int, Option("Sentences that are scored, in all languages.", least=1)] = 30
    timed: Annotated[int, Option("Sentences that are timed, one text at a time.", least=1)] = 2
    threads: Annotated[int | None, Option("CPU threads that compute.", least=1)] = 1

    def measure(self, progress: Progress = silent) -> Report:
        """Score and time every stage."""
        use_threads(self.threads)
        found = compare_stages(
            self.recipe,
            self.runs,
            dev_rows(self.tables),
            rows_scored=self.rows,
            rows_timed=self.timed,
            progress=partial(progress, "stages"),
        )
        columns = list(next(iter(found.values())))
        rows = [[stage, *(line[name] for name in columns)] for stage, line in found.items()]
        figures = {"recipe": self.recipe.name, "rows": self.rows, "timed": self.timed, "stages": found}
        return Report(figures, [Table("ablations", ["", *columns], rows)])


def compare_stages(
    recipe: str | Path,
    runs: str | Path,
    rows: Sequence[Row],
    *,
    rows_scored: int = 30,
    rows_timed: int = 2,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, dict[str, Any]]:
    """Score and time every finished stage of a recipe.

    BLEU is the mean over all directions between two languages, the error rate the mean over transcripts; drafts are
    made one token at a time and verified at k = 1, and for ``passes_4_tokens`` four at a time. ``speed`` is that of
    plain greedy decoding against :data:`BASELINE`'s (or the first stage's, where that isn't finished),
    ``drafted_speed`` that with KVSPN against the same stage without, both per token and paired.

    Args:
        recipe: the file.
        runs: folder of the training runs.
        rows: of the evaluation table.
        rows_scored: how many are spoken in all languages and scored.
        rows_timed: how many are decoded one text at a time, and timed.
        progress: told (stages done, of how many).

    Raises:
        BadConfig: no stage is finished, or a package for speaking or scoring is missing.
    """
    from streamtrans.train.recipe import load_recipe

    plan = load_recipe(recipe)
    done = [stage.name for stage in plan.stages if (Path(runs) / plan.name / stage.name / "done").exists()]
    if not done:
        raise BadConfig(f"no stage of {plan.name} is finished in {runs}; run streamtrans train {recipe} first")
    found: dict[str, dict[str, Any]] = {}
    models: dict[str, TorchSpeechModel] = {}
    for number, name in enumerate(done):
        models[name] = _load(recipe, name, runs)
        found[name] = _score(models[name], rows, rows_scored)
        if progress is not None:
            progress(number + 1, len(done) + 1)
    for name, speeds in _time(models, rows, rows_timed).items():
        found[name] |= speeds
    if progress is not None:
        progress(len(done) + 1, len(done) + 1)
    return found


def _load(recipe: str | Path, stage: str, runs: str | Path) -> TorchSpeechModel:
    from streamtrans.model.loading import load_model
    from streamtrans.train.export import export

    with TemporaryDirectory() as folder:
        export(recipe, stage, folder, runs=runs)
        return load_model(folder, device="cpu", dtype="float32")


def _score(model: TorchSpeechModel, rows: Sequence[Row], count: int) -> dict[str, Any]:
    from streamtrans.bench.parity import count_parameters

    drafter = "kvspn" if model.has_speculator else "none"
    config = DevConfig(rows=count, drafter=drafter, draft_tokens=1, recheck=0)
    result = evaluate_dev(cast("SpeechModel", model), model.tokenizer, rows, config)
    figures, parts = result.figures(), count_parameters(model.config)
    return {
        "decoder_m": round(parts["decoder"] / 1e6, 2),
        "kvspn_m": round(parts.get("speculator", 0) / 1e6, 2),
        "bleu": figures["mean_bleu"],
        "error_rate": round(fmean(result.error_rate.values()), 3),
        "drafts_kept": figures["acceptance"].get("kvspn"),
        "passes_per_token": figures["passes_per_token"],
    }


def _time(models: dict[str, TorchSpeechModel], rows: Sequence[Row], count: int) -> dict[str, dict[str, Any]]:
    first = next(iter(models.values()))
    spoken = [spoken_for_evaluation(row, code) for row in sample(rows, count) for code in first.languages]
    plain = {name: Way(model=name) for name in models}
    drafted = {name: Way("kvspn", model=name) for name, model in models.items() if model.has_speculator}
    further = {
        name: Way("kvspn", count=4, model=name)
        for name, model in models.items()
        if model.has_speculator and model.config.speculator_input == "token"
    }
    baseline = plain.pop(BASELINE, None) or plain.pop(next(iter(plain)))
    ways = [baseline, *plain.values(), *drafted.values(), *further.values()]
    plain[baseline.model] = baseline
    contenders = cast("dict[str, SpeechModel]", models)
    costs = compare_drafters(contenders, first.tokenizer, spoken, first.languages[:2], ways)
    found: dict[str, dict[str, Any]] = {}
    for name in models:
        alone = costs[plain[name].name]
        with_drafts = costs[drafted[name].name] if name in drafted else None
        found[name] = {
            "passes_4_tokens": costs[further[name].name]["passes_per_token"] if name in further else None,
            "ms_per_token": alone["ms_per_token"],
            "speed": alone["speed"],
            "drafted_speed": None if with_drafts is None else round(with_drafts["speed"] / alone["speed"], 3),
        }
    return found
