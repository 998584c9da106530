"""A whole run at toy size: text, sound, both; interrupted and resumed."""

import importlib.util
import json
import os
import signal
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from streamtrans.core import BadConfig
from streamtrans.decode import converse, greedy
from streamtrans.model.loading import load_model, read_tensors
from streamtrans.train import trainer
from streamtrans.train.batches import Batch, Batches, Item, choose_targets
from streamtrans.train.diverged import Diverged
from streamtrans.train.export import export, mixed
from streamtrans.train.loader import load_batches
from streamtrans.train.objective import Objective
from streamtrans.train.recipe import Stage, load_recipe
from streamtrans.train.trainer import TrainConfig, train
from streamtrans.train.vocabulary import prepare_vocabularies

SPEAKS = importlib.util.find_spec("espeakng_loader") is not None and importlib.util.find_spec("pypinyin") is not None


def settings(recipe: Path, runs: str, stage: str | None = None, processes: int = 0) -> TrainConfig:
    return TrainConfig(
        recipe=str(recipe),
        runs=str(recipe.parent / runs),
        stage=stage,
        save_every=2,
        log_every=1,
        loader_processes=processes,
    )


def test_an_interrupted_text_stage_ends_where_the_unbroken_one_does(
    recipe: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train(settings(recipe, "whole", "mt"))
    take = trainer._StageRun._take_step

    def fall_over(run: trainer._StageRun, batch: object) -> dict[str, float]:
        if run.step == 3:
            raise KeyboardInterrupt
        return take(run, batch)  # type: ignore[arg-type]

    monkeypatch.setattr(trainer._StageRun, "_take_step", fall_over)
    with pytest.raises(KeyboardInterrupt):
        train(settings(recipe, "broken", "mt"))
    assert not (recipe.parent / "broken" / "toy" / "mt" / "done").exists()
    monkeypatch.setattr(trainer._StageRun, "_take_step", take)
    train(settings(recipe, "broken", "mt"))
    logs = [
        [json.loads(line) for line in (recipe.parent / run / "toy" / "mt" / "log.jsonl").read_text().splitlines()]
        for run in ("whole", "broken")
    ]
    by_step = [{line["step"]: line["mt"] for line in log} for log in logs]
    assert by_step[0] == by_step[1]
    one, two = (load_file(recipe.parent / run / "toy" / "mt" / "weights.safetensors") for run in ("whole", "broken"))
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_two_workers_share_gradients_and_resume(recipe: Path) -> None:
    shared = replace(settings(recipe, "shared", "mt"), workers=2)
    train(shared)
    folder = recipe.parent / "shared" / "toy" / "mt"
    log = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in log] == [1, 2, 3, 4, 5]
    state = torch.load(folder / "state.pt", weights_only=True)
    momenta = [entry["momentum_buffer"] for entry in state["optimizers"][1]["state"].values()]
    moved = [float(momentum.abs().max()) > 0 for momentum in momenta]
    # Text trains the decoder and the text encoder: matrices of both workers' shares have moved.
    assert any(moved[0::2])
    assert any(moved[1::2])
    (folder / "done").unlink()
    recipe.write_text(recipe.read_text().replace("steps = 5", "steps = 6"))
    train(shared)
    assert torch.load(folder / "state.pt", weights_only=True)["step"] == 6


def test_a_stage_needs_the_stages_it_starts_from(recipe: Path) -> None:
    for workers in (1, 2):
        with pytest.raises(BadConfig, match="starts its encoder from stage ctc, which has no weights yet"):
            train(replace(settings(recipe, "early", "st"), workers=workers))


@pytest.mark.skipif(not SPEAKS, reason="needs the train extra: espeakng-loader and pypinyin")
def test_all_stages_run_and_the_export_translates(recipe: Path, tmp_path: Path) -> None:
    train(settings(recipe, "runs"))
    log = (tmp_path / "runs" / "toy" / "st" / "log.jsonl").read_text().splitlines()
    terms = set(json.loads(log[-1]))
    assert {"st", "mt", "ctc", "spec_st", "spec_mt"} <= terms
    report = export(recipe, "st", tmp_path / "out", runs=tmp_path / "runs")
    assert report["bytes"] == (tmp_path / "out" / "model.safetensors").stat().st_size
    assert not any(name.startswith(("text_encoder", "ctc")) for name in read_tensors(tmp_path / "out"))
    model = load_model(tmp_path / "out", device="cpu")
    assert model.has_speculator
    audio = np.random.default_rng(0).standard_normal(16_000).astype(np.float32) * 0.1
    cache = model.allocate(1).open(model.encode([audio])[0])
    found = converse(model, greedy(model.prompt("de", None), (), cache, eot=model.eot, limit=20))
    assert isinstance(model.tokenizer.decode(found.tokens), str)


def test_a_dead_speech_process_is_replaced(recipe: Path, capfd: pytest.CaptureFixture[str]) -> None:
    plan = load_recipe(recipe)
    folder = recipe.parent / "runs"
    folder.mkdir()
    prepare_vocabularies(plan, folder)
    batches = Mortal(plan, plan.stage("mt"), folder, 0, 0)
    found = list(load_batches(batches))
    assert len(found) == plan.stage("mt").steps
    assert "the speech process ended at step 2; starting another" in capfd.readouterr().out


class Mortal(Batches):
    """Batches whose first process dies after two of them, as eSpeak's does."""

    def __iter__(self) -> Iterator[Batch]:
        for number, batch in enumerate(super().__iter__()):
            if self.attempt == 0 and number == 2:
                time.sleep(0.5)  # let what was sent arrive
                os.kill(os.getpid(), signal.SIGKILL)
            yield batch


def test_processes_that_never_deliver_end_the_run(recipe: Path) -> None:
    plan = load_recipe(recipe)
    batches = Batches(plan, plan.stage("mt"), recipe.parent / "no-vocabulary-here", 0, 0)
    with pytest.raises(BadConfig, match="3 speech processes in a row ended without a single batch"):
        list(load_batches(batches))


def test_a_loss_that_is_no_number_ends_the_stage_and_its_batch_is_kept(
    recipe: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    judge = Objective.__call__

    def spoil(self: Objective, *given: object) -> tuple[torch.Tensor, dict[str, float]]:
        loss, values = judge(self, *given)  # type: ignore[arg-type]
        return loss * float("nan"), values

    monkeypatch.setattr(Objective, "__call__", spoil)
    with pytest.raises(Diverged, match=r"stage mt, step 0: the loss is nan; its batch is in .*nan_batch_step_0"):
        train(settings(recipe, "runs", "mt"))
    folder = recipe.parent / "runs" / "toy" / "mt"
    assert {"tokens", "labels", "source"} <= load_file(folder / "nan_batch_step_0.safetensors").keys()
    origin = json.loads((folder / "nan_batch_step_0.json").read_text())
    assert (origin["stage"], origin["step"], origin["loss"]) == ("mt", 0, "nan")


def test_kl_waits_until_text_leads() -> None:
    objective = Objective(Stage("s", {"st": 2.0, "mt": 1.0, "kl": 0.5}, steps=1))
    assert not objective._text_leads()
    objective.running |= {"st": 3.0, "mt": 3.5}
    assert not objective._text_leads()
    objective.running |= {"st": 3.0, "mt": 2.9}
    assert objective._text_leads()


def test_the_first_target_is_a_translation() -> None:
    rng = np.random.default_rng(0)
    item = Item("de", {"de": "a", "en": "b", "zh": "c"}, None)
    for count in (1, 2, 3, 5):
        chosen = choose_targets(item, count, rng)
        assert len(chosen) == count
        assert chosen[0] != "de"
        assert len(set(chosen[:3])) == min(count, 3)


def test_a_trained_text_encoder_is_scored(recipe: Path, tmp_path: Path) -> None:
    from streamtrans.bench.textual import score_text
    from streamtrans.corpus import read_table

    train(settings(recipe, "runs", "mt"))
    rows = read_table(tmp_path / "text" / "massive_train.tsv")
    found = score_text(recipe, "mt", tmp_path / "runs", rows, rows_scored=2)
    assert found["rows"] == 2
    assert {source: set(line) for source, line in found["bleu"].items()} == {
        "de": {"en", "zh"},
        "en": {"de", "zh"},
        "zh": {"de", "en"},
    }
    with pytest.raises(BadConfig, match="has no weights yet"):
        score_text(recipe, "st", tmp_path / "runs", rows)


def test_a_mixture_of_two_stages_keeps_the_later_ones_speculator() -> None:
    first = {"a": torch.tensor([1.0, 3.0]), "speculator.x": torch.tensor([1.0]), "tokens": torch.tensor([5])}
    last = {"a": torch.tensor([3.0, 5.0]), "speculator.x": torch.tensor([9.0]), "tokens": torch.tensor([7])}
    found = mixed({**first, "grown": torch.ones(3)}, {**last, "grown": torch.ones(2)}, 0.25)
    assert found["a"].tolist() == [2.5, 4.5]
    assert found["speculator.x"].tolist() == [9.0]
    assert found["tokens"].tolist() == [7]
    assert found["grown"].tolist() == [1.0, 1.0]


@pytest.mark.parametrize("stage", ["mt+st", "mt:2+st", "mt:x+st"])
def test_a_mixture_needs_a_share(recipe: Path, tmp_path: Path, stage: str) -> None:
    with pytest.raises(BadConfig, match="a share between 0 and 1"):
        export(recipe, stage, tmp_path / "out", runs=tmp_path)
