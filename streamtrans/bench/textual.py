"""What the decoder could write if it understood every word: translation of the text itself.

The text encoder of training takes the speech encoder's place; the decoder and its weights are the same. Where speech
scores far below, the ear is the limit; where both score low, the decoder is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Annotated, Any, cast

import torch

from streamtrans.bench.measurement import TABLES, Progress, Report, Table, silent, use_threads
from streamtrans.core import BadConfig, Option
from streamtrans.corpus import Row, normalise
from streamtrans.decode import converse, greedy
from streamtrans.evaluate.spoken import dev_rows, sample
from streamtrans.metrics import bleu
from streamtrans.model.features import FeatureConfig
from streamtrans.model.network import Network
from streamtrans.model.speech import TorchSpeechModel
from streamtrans.model.whisper_m2m import manner
from streamtrans.text import Tokenizer
from streamtrans.train.recipe import load_recipe
from streamtrans.train.trainer import stage_network, stage_weights

if TYPE_CHECKING:
    from streamtrans.model.api import SpeechModel


@dataclass(frozen=True, slots=True, kw_only=True)
class TextInPlaceOfSpeech:
    """Translate the text instead of the speech: what the decoder could write if every word were understood."""

    recipe: Annotated[Path, Option("Recipe of the run.", argument=True)] = Path("recipes/nano.toml")
    stage: Annotated[str, Option("Stage whose weights are taken.")] = "stream"
    runs: Annotated[Path, Option("Folder of the training runs.")] = Path("runs")
    tables: Annotated[Path | None, TABLES] = None
    rows: Annotated[int, Option("Sentences, spread over the table.", least=1)] = 40
    threads: Annotated[int | None, Option("CPU threads that compute.", least=1)] = 1

    def measure(self, progress: Progress = silent) -> Report:
        """Translate, and score in all directions."""
        use_threads(self.threads)
        found = score_text(
            self.recipe,
            self.stage,
            self.runs,
            dev_rows(self.tables),
            rows_scored=self.rows,
            progress=partial(progress, "rows"),
        )
        codes = list(found["bleu"])
        rows = [[source, *(found["bleu"][source].get(target) for target in codes)] for source in codes]
        table = Table(f"BLEU from text, mean {found['mean_bleu']}", ["", *codes], rows)
        return Report({"recipe": self.recipe.name, "stage": self.stage, **found}, [table])


def score_text(
    recipe: str | Path,
    stage: str,
    runs: str | Path,
    rows: Sequence[Row],
    *,
    rows_scored: int = 40,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Translate the texts of ``rows`` with a stage's text encoder and decoder; BLEU per direction and its mean.

    Args:
        recipe: the file.
        stage: whose weights are taken, as training left them.
        runs: folder of the training runs.
        rows: of the evaluation table.
        rows_scored: how many of them, evenly spread.
        progress: told (rows done, of how many).

    Raises:
        BadConfig: the stage has left no weights yet, or has no text encoder.
    """
    model = load_reader(recipe, stage, runs)
    slots, speaking = model.allocate(1), cast("SpeechModel", model)
    found: dict[tuple[str, str], tuple[list[str], list[str]]] = {}
    chosen = sample(rows, rows_scored)
    for number, row in enumerate(chosen, 1):
        texts = {code: normalise(text, code) for code, text in row.texts.items() if code in model.languages}
        for source, text in texts.items():
            memory = _read(model, text)
            for target in texts.keys() - {source}:
                cache = slots.open(memory)
                prompt = model.prompt(target, None)
                written = converse(speaking, greedy(prompt, (), cache, eot=model.eot, limit=model.max_tokens // 2))
                slots.release(cache)
                hyps, refs = found.setdefault((source, target), ([], []))
                hyps.append(model.tokenizer.decode(written.tokens).strip())
                refs.append(texts[target])
        if progress is not None:
            progress(number, len(chosen))
    scores: dict[str, dict[str, float]] = {}
    for (source, target), (hyps, refs) in sorted(found.items()):
        scores.setdefault(source, {})[target] = round(bleu(hyps, refs, target), 2)
    return {
        "rows": len(chosen),
        "bleu": scores,
        "mean_bleu": round(fmean(score for line in scores.values() for score in line.values()), 2),
    }


def load_reader(recipe: str | Path, stage: str, runs: str | Path) -> TorchSpeechModel:
    """Load a stage's network with its text encoder.

    Raises:
        BadConfig: the stage has left no weights yet, or has no text encoder.
    """
    plan = load_recipe(recipe)
    run = Path(runs) / plan.name
    if not (run / stage / "weights.safetensors").exists():
        raise BadConfig(f"stage {plan.stage(stage).name} of {run} has no weights yet; run streamtrans train first")
    tokenizer = Tokenizer.load(run)
    network = Network(stage_network(plan, plan.stage(stage), tokenizer))
    if network.text_encoder is None:
        raise BadConfig(f"stage {stage} has no text encoder; text_encoder_layers must be above 0")
    network.load_state_dict(dict(stage_weights(run, stage)))
    features = FeatureConfig(**plan.features)
    return TorchSpeechModel(stage, network, tokenizer, features, manner(tokenizer, plan.languages))


@torch.inference_mode()
def _read(model: TorchSpeechModel, text: str) -> Any:
    # A text longer than the model's own texts may be is read as far as it can.
    tokens = torch.tensor([(*model.tokenizer.encode(text)[: model.max_tokens - 1], model.eot)])
    features = model.network.read_text(tokens, torch.ones_like(tokens, dtype=torch.bool))
    return model.remember(features, [tokens.shape[1]])[0]
