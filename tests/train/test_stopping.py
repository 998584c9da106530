"""Ctrl-C and SIGTERM: the step where it is gets saved and named, and the run goes on from it as if nothing had been."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from streamtrans.train import trainer
from streamtrans.train.batches import Batch, Batches
from streamtrans.train.stopping import SIGNALS, Stopped, stoppable
from streamtrans.train.trainer import TrainConfig, train


def settings(recipe: Path, runs: str) -> TrainConfig:
    return TrainConfig(str(recipe), str(recipe.parent / runs), "mt", save_every=99, log_every=1, loader_processes=0)


def saved(runs: Path) -> tuple[int, dict[str, torch.Tensor]]:
    folder = runs / "toy" / "mt"
    step: int = torch.load(folder / "state.pt", weights_only=True)["step"]
    return step, load_file(folder / "weights.safetensors")


@pytest.mark.parametrize("number", SIGNALS)
@pytest.mark.parametrize("last", [0, 2, 4])
def test_law_stopped_in_a_step_and_resumed_it_ends_where_the_unbroken_run_does(
    recipe: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals, last: int
) -> None:
    train(settings(recipe, "whole"))
    take = trainer._StageRun._take_step

    def signalled(run: trainer._StageRun, batch: Batch) -> dict[str, float]:
        if run.step == last:
            os.kill(os.getpid(), number)
        return take(run, batch)

    before = signal.getsignal(number)
    with monkeypatch.context() as patched:
        patched.setattr(trainer._StageRun, "_take_step", signalled)
        with pytest.raises(Stopped, match=f"stage mt, step {last + 1} of 5, is saved in .*broken/toy/mt"):
            train(settings(recipe, "broken"))
    assert signal.getsignal(number) is before
    assert saved(recipe.parent / "broken")[0] == last + 1
    train(settings(recipe, "broken"))
    one, other = (saved(recipe.parent / name)[1] for name in ("whole", "broken"))
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_who_waits_for_data_stops_at_once_with_the_step_before_saved(
    recipe: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train(settings(recipe, "whole"))
    make = Batches.__iter__

    def slow(self: Batches) -> Iterator[Batch]:
        for number, batch in enumerate(make(self)):
            if number == 3:
                os.kill(os.getpid(), signal.SIGINT)
                time.sleep(60)
            yield batch

    with monkeypatch.context() as patched:
        patched.setattr(Batches, "__iter__", slow)
        with pytest.raises(Stopped, match="stage mt, step 3 of 5"):
            train(settings(recipe, "broken"))
    train(settings(recipe, "broken"))
    one, other = (saved(recipe.parent / name)[1] for name in ("whole", "broken"))
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_the_second_signal_ends_within_the_step_and_saves_nothing() -> None:
    done: list[str] = []

    def save() -> str:
        done.append("saved")
        return ""

    def impatient() -> None:
        with stoppable(save) as stopping, stopping.step():
            os.kill(os.getpid(), signal.SIGINT)
            done.append("on")
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(60)

    with pytest.raises(KeyboardInterrupt):
        impatient()
    assert done == ["on"]


def test_who_shares_a_run_stops_where_all_do() -> None:
    """A process that was told alone goes on until the others know."""
    asked: list[bool] = []

    def agree(own: bool) -> bool:
        asked.append(own)
        return len(asked) == 3

    def work() -> None:
        with stoppable(lambda: "all saved", agree) as stopping:
            for number in range(9):
                with stopping.step():
                    if number == 1:
                        os.kill(os.getpid(), signal.SIGINT)
                        os.kill(os.getpid(), signal.SIGTERM)  # a launcher passes on what the terminal sent already

    with pytest.raises(Stopped, match="all saved"):
        work()
    assert asked == [False, True, True]


@pytest.mark.parametrize(("workers", "number"), [(1, signal.SIGINT), (2, signal.SIGTERM)])
def test_the_program_says_where_it_stopped(recipe: Path, number: signal.Signals, workers: int) -> None:
    recipe.write_text(recipe.read_text().replace("steps = 5", "steps = 5000"))
    runs = recipe.parent / "runs"
    command = [sys.executable, "-m", "streamtrans", "train", str(recipe), "--stage", "mt", "--runs", str(runs)]
    command += ["--workers", str(workers)]
    log = runs / "toy" / "mt" / "log.jsonl"
    told = recipe.parent / "told"
    with told.open("w") as file, subprocess.Popen(command, stdout=file, stderr=file, start_new_session=True) as program:
        while not log.exists():
            assert program.poll() is None, told.read_text()
            time.sleep(0.01)
        if number == signal.SIGINT:
            os.killpg(program.pid, number)  # as a terminal does: the processes that it started hear it too
        else:
            program.send_signal(number)
        assert program.wait(60) == 130, told.read_text()
    step = saved(runs)[0]
    assert 20 <= step < 5000
    said = told.read_text()
    assert f"stopped: stage mt, step {step} of 5000, is saved in {runs}/toy/mt" in said
    assert f"streamtrans train {recipe} goes on from there" in said
    assert "Traceback" not in said


def test_a_signal_before_the_first_step_is_no_traceback(recipe: Path) -> None:
    command = [sys.executable, "-m", "streamtrans", "train", str(recipe), "--runs", str(recipe.parent / "runs")]
    with subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as program:
        assert program.stderr is not None
        said = program.stderr.readline()
        program.send_signal(signal.SIGTERM)
        said += program.stderr.read()
        assert program.wait(60) == 130, said
    assert "stopped" in said
    assert "goes on from" in said
    assert "Traceback" not in said
