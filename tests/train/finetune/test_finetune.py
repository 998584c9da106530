"""Whole runs at toy size: interrupted and resumed, through the program, with a loss that is no number."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate.state import AcceleratorState, GradientState
from safetensors.torch import load_file

from streamtrans.core import BadConfig
from streamtrans.decode import converse, greedy
from streamtrans.model.loading import load_model
from streamtrans.train.batches import Batch
from streamtrans.train.diverged import Diverged
from streamtrans.train.finetune import trainer
from streamtrans.train.finetune.trainer import FinetuneConfig, finetune
from streamtrans.train.objective import Objective, Student
from streamtrans.train.stopping import Stopped
from tests.train.finetune.conftest import SENTENCES, Setup


@pytest.fixture(autouse=True)
def _fresh_accelerator():
    """Each run of a test is a process of its own, as far as accelerate knows."""
    yield
    AcceleratorState._reset_state(reset_partial_state=True)
    GradientState._reset_state()


def run(setup: Setup, runs: str = "runs") -> Path:
    return finetune(FinetuneConfig(str(setup.recipe), runs=str(setup.runs / runs), device="cpu"))


def losses(folder: Path) -> dict[int, dict[str, float]]:
    """Return what a run logged for each step, without how fast it was."""
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    assert len({(line["step"], line["kind"]) for line in lines}) == len(lines), "no step is logged twice"
    return {
        line["step"]: {name: value for name, value in line.items() if not name.endswith("_per_s")}
        for line in lines
        if line["kind"] == "train"
    }


WITHOUT_EVALUATION = ("every = 3", "every = 0")


def test_interrupted_at_any_step_and_resumed_it_gives_the_same_losses(
    setup: Setup, monkeypatch: pytest.MonkeyPatch
) -> None:
    setup.change(*WITHOUT_EVALUATION)
    setup.change("save_every = 1", "save_every = 2\naccumulate = 2")
    setup.change("rank = 4", "rank = 4\ndropout = 0.3")  # draws from the global dice, which a checkpoint must hold
    whole = run(setup, "whole")
    assert sorted(losses(whole)) == [1, 2, 3, 4, 5, 6]
    assert any("kl" in values for values in losses(whole).values()), "the run must pass through the start of KL"
    take = trainer._Run._take_step
    for fatal in range(6):

        def fall_over(self, works, fatal=fatal):
            values = take(self, works)  # what it did to weights and dice is lost
            if self.step == fatal:
                raise KeyboardInterrupt
            return values

        monkeypatch.setattr(trainer._Run, "_take_step", fall_over)
        with pytest.raises(KeyboardInterrupt):
            run(setup, f"broken{fatal}")
        half = setup.runs / f"broken{fatal}" / "tiny" / "checkpoint-99.part"  # killed while saving
        half.mkdir()
        monkeypatch.setattr(trainer._Run, "_take_step", take)
        resumed = run(setup, f"broken{fatal}")
        assert losses(resumed) == losses(whole)
        one, other = (load_file(folder / "model" / "model.safetensors") for folder in (whole, resumed))
        assert all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_law_stopped_by_a_signal_at_any_step_and_resumed_it_gives_the_same_losses(
    setup: Setup, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    setup.change(*WITHOUT_EVALUATION)
    setup.change("save_every = 1", "save_every = 99")
    setup.change("rank = 4", "rank = 4\ndropout = 0.3")
    whole = run(setup, "whole")
    take = trainer._Run._take_step
    for last in (0, 3, 5):

        def signalled(self, works, last=last):
            if self.step == last:
                os.kill(os.getpid(), number)
            return take(self, works)

        with monkeypatch.context() as patched:
            patched.setattr(trainer._Run, "_take_step", signalled)
            with pytest.raises(Stopped, match=f"tiny, step {last + 1} of 6, is saved in"):
                run(setup, f"stopped{last}")
        resumed = run(setup, f"stopped{last}")
        assert losses(resumed) == losses(whole)
        one, other = (load_file(folder / "model" / "model.safetensors") for folder in (whole, resumed))
        assert all(torch.equal(one[name], other[name]) for name in one)


def test_a_finished_run_is_left_alone_and_a_changed_one_refused(setup: Setup) -> None:
    setup.change(*WITHOUT_EVALUATION)
    folder = run(setup)
    before = (folder / "log.jsonl").read_text()
    assert run(setup) == folder
    assert (folder / "log.jsonl").read_text() == before
    assert sorted(path.name for path in folder.glob("checkpoint-*")) == ["checkpoint-5", "checkpoint-6"]
    assert list((folder / "tensorboard").iterdir())
    (folder / "done").unlink()
    setup.change("rank = 4", "rank = 5")
    with pytest.raises(BadConfig, match="was written with another lora than the recipe has now"):
        run(setup)


def test_evaluation_leaves_no_trace_in_training(setup: Setup) -> None:
    measured = run(setup, "measured")
    lines = [json.loads(line) for line in (measured / "log.jsonl").read_text().splitlines()]
    held = [line for line in lines if line["kind"] == "held_out"]
    assert [line["step"] for line in held] == [3, 6]
    assert {"st", "mt", "spec_st", "spec_mt", "bleu_mean"} <= held[0].keys()
    setup.change(*WITHOUT_EVALUATION)
    assert losses(run(setup, "plain")) == losses(measured)


def test_a_loss_that_is_no_number_ends_the_run_and_its_batch_is_kept(
    setup: Setup, monkeypatch: pytest.MonkeyPatch
) -> None:
    setup.change(*WITHOUT_EVALUATION)
    judge = Objective.__call__

    def spoil(self: Objective, student: Student, batch: Batch, progress: float, seed: int = 0):
        loss, values = judge(self, student, batch, progress, seed)
        return (loss * float("nan"), values) if progress > 0.3 else (loss, values)

    monkeypatch.setattr(Objective, "__call__", spoil)
    with pytest.raises(Diverged, match=r"tiny, step 2: the loss is nan; the batch is in .*nan_batch_step_2") as caught:
        run(setup)
    folder = setup.runs / "runs" / "tiny"
    assert str(folder / "nan_batch_step_2.safetensors") in str(caught.value)
    kept = load_file(folder / "nan_batch_step_2.safetensors")
    assert {"mel", "frames", "tokens", "labels", "source"} <= kept.keys()
    origin = json.loads((folder / "nan_batch_step_2.json").read_text(encoding="utf-8"))
    assert origin["step"] == 2
    assert len(origin["rows"]) == len(kept["mel"]) == 4
    assert all(Path(row["audio"]).exists() and "train.tsv:" in row["where"] for row in origin["rows"])


def test_a_gradient_that_is_no_number_does_too(setup: Setup, monkeypatch: pytest.MonkeyPatch) -> None:
    setup.change(*WITHOUT_EVALUATION)
    monkeypatch.setattr("accelerate.Accelerator.clip_grad_norm_", lambda *given: torch.tensor(float("inf")))
    with pytest.raises(Diverged, match="step 0: the gradient's norm is inf"):
        run(setup)
    assert (setup.runs / "runs" / "tiny" / "nan_batch_step_0.safetensors").exists()


def test_what_does_not_fit_the_devices_is_named(setup: Setup) -> None:
    setup.change("batch = 4", "batch = 5\naccumulate = 2")
    with pytest.raises(BadConfig, match=r"batch is 5, which 1 devices with 2 passes .* multiple of 2"):
        run(setup)
    setup.change('precision = "no"', 'precision = "fp16"')
    with pytest.raises(BadConfig, match='"fp16" needs a GPU; on CPU use "bf16" or "no"'):
        run(setup)


def test_mixed_precision_trains_and_missing_translations_are_filled_in(setup: Setup, nllb: str, tmp_path: Path) -> None:
    corpus = tmp_path / "bare.tsv"
    source = next(line.split('"')[1] for line in setup.recipe.read_text().splitlines() if "train.tsv" in line)
    rows = [line.split("\t")[:3] for line in Path(source).read_text(encoding="utf-8").splitlines()]
    clips = Path(source).parent
    lines = ["\t".join(rows[0]), *("\t".join((str(clips / row[0]), *row[1:])) for row in rows[1:])]
    corpus.write_text("\n".join(lines) + "\n", encoding="utf-8")
    setup.change(source, str(corpus))
    setup.change(*WITHOUT_EVALUATION)
    setup.change('precision = "no"', 'precision = "bf16"')
    setup.change("steps = 6", "steps = 2")
    setup.change("[[data]]", f'[pseudo_labels]\nmodel = "{nllb}"\nmax_tokens = 8\n[[data]]')
    folder = run(setup)
    examples = [json.loads(line) for line in (folder / "corpus" / "train.jsonl").read_text().splitlines()]
    assert len(examples) == 3 * (len(SENTENCES) - 1)
    assert all(set(example["pseudo"]) == set(example["texts"]) - {example["language"]} for example in examples)
    assert sorted(losses(folder)) == [1, 2]


def test_the_program_is_killed_goes_on_and_its_model_translates(setup: Setup) -> None:
    setup.change("steps = 6", "steps = 5000")
    setup.change("every = 3", "every = 5000")
    command = [sys.executable, "-m", "streamtrans.cli", "train", str(setup.recipe), "--runs", str(setup.runs)]
    told = setup.runs.parent / "told.txt"
    with told.open("w") as file, subprocess.Popen([*command, "--device", "cpu"], stdout=file, stderr=file) as first:
        while not list(setup.folder.glob("checkpoint-*[0-9]")):
            assert first.poll() is None, told.read_text()
            time.sleep(0.01)
        os.kill(first.pid, signal.SIGKILL)
    reached = max(int(path.name.split("-")[1]) for path in setup.folder.glob("checkpoint-*[0-9]"))
    setup.change("steps = 5000", f"steps = {reached + 3}")  # enough to see that it goes on
    done = subprocess.run([*command, "--device", "cpu"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert f"the model to serve is {setup.folder / 'model'}" in done.stdout
    assert sorted(losses(setup.folder)) == list(range(1, reached + 4))
    model = load_model(setup.folder / "model", device="cpu")
    assert model.has_speculator
    audio = np.random.default_rng(0).standard_normal(16_000).astype(np.float32) * 0.1
    cache = model.allocate(1).open(model.encode([audio])[0])
    found = converse(model, greedy(model.prompt("de", None), (), cache, eot=model.eot, limit=20))
    assert isinstance(model.tokenizer.decode(found.tokens), str)
