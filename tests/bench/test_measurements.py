"""The table of measurements: each line is a verb whose options are its fields; a new one is a file and a line."""

import json
import socket
import subprocess
import sys
import time
from dataclasses import dataclass, field, is_dataclass
from pathlib import Path
from typing import Annotated

import pytest
from typer.testing import CliRunner

from streamtrans.bench import MEASUREMENTS, Line, load_measurement
from streamtrans.bench.measurement import Report, Table, counts, silent
from streamtrans.cli.app import app
from streamtrans.core import Group, Option
from streamtrans.runtime import ModelChoice


@dataclass(frozen=True, slots=True, kw_only=True)
class Toy:
    """Count what was asked for."""

    what: Annotated[str, Option("What is counted.", argument=True)]
    sizes: Annotated[tuple[int, ...], Option("Sizes.", read=counts)] = (1, 8)
    also: Annotated[tuple[Path, ...], Option("Repeatable.", name="--also")] = ()
    share: Annotated[float, Option("A share.", least=0, most=1)] = 0.5
    loud: Annotated[bool, Option("Loudly.")] = True
    choice: Annotated[ModelChoice, Group("model", "threads")] = field(default_factory=lambda: ModelChoice(threads=1))

    def measure(self, progress=silent):
        progress("toys", 1, 1)
        said = {"what": self.what, "sizes": self.sizes, "also": [str(path) for path in self.also]}
        said |= {"share": self.share, "loud": self.loud, "threads": self.choice.threads, "dtype": self.choice.dtype}
        return Report(said, [Table("toys", ("", "n"), [(self.what, 3)])], ["a note"], markdown=True)


@pytest.fixture
def toy(monkeypatch):
    monkeypatch.setitem(MEASUREMENTS, "toy", Line(f"{__name__}:Toy"))


def run(*arguments):
    return CliRunner().invoke(app, ["bench", *map(str, arguments)])


@pytest.mark.usefixtures("toy")
def test_fields_are_options_and_figures_are_kept_with_the_command(tmp_path):
    done = run("toy", "dolls", "--sizes", "3,4", "--also", "a", "--also", "b", "--no-loud", "--results", tmp_path)
    assert done.exit_code == 0, done.output
    assert "dolls" in done.stdout
    assert "a note" in done.stdout
    kept = json.loads((tmp_path / "toy.json").read_text())
    options = {"what": "dolls", "sizes": [3, 4], "also": ["a", "b"], "share": 0.5, "loud": False}
    assert kept["figures"] == {**options, "threads": 1, "dtype": "auto"}
    assert kept["command"]
    assert (tmp_path / "toy.md").read_text().startswith("**toys**")


@pytest.mark.usefixtures("toy")
def test_defaults_are_those_of_the_fields(tmp_path):
    assert run("toy", "dolls", "--results", tmp_path).exit_code == 0
    figures = json.loads((tmp_path / "toy.json").read_text())["figures"]
    assert (figures["sizes"], figures["also"], figures["loud"]) == ([1, 8], [], True)


@pytest.mark.usefixtures("toy")
@pytest.mark.parametrize(
    ("arguments", "problem"),
    [((), "what"), (("dolls", "--share", "2"), "share"), (("dolls", "--drafter", "echo"), "drafter")],
)
def test_what_is_no_option_or_out_of_range_is_refused(arguments, problem):
    done = run("toy", *arguments)
    assert done.exit_code == 2
    assert problem in done.output.lower()


@pytest.mark.parametrize("name", MEASUREMENTS)
def test_every_line_of_the_table_is_a_verb_with_help(name):
    kind = load_measurement(name)
    assert is_dataclass(kind)
    done = run(name, "--help")
    assert done.exit_code == 0, done.output
    assert (kind.__doc__ or "").split(".")[0].split()[0] in done.stdout


def test_the_routine_runs_what_the_table_marks_for_what_is_there(monkeypatch):
    from streamtrans.cli import bench as verb

    ran = []

    class Done:
        returncode = 0

    monkeypatch.setattr(verb.subprocess, "run", lambda command, **_: ran.append(command[3:]) or Done())
    assert run("routine", "--model", "m").exit_code == 0
    assert ["bench", "startup", "--model", "m"] in ran
    assert ["bench", "parity"] in ran
    assert not [command for command in ran if command[1] in ("costs", "ablations", "soak")]
    ran.clear()
    assert run("routine", "--given", "runs").exit_code == 0
    assert {command[1] for command in ran} == {name for name, line in MEASUREMENTS.items() if line.routine}


@pytest.mark.skipif(sys.platform != "linux", reason="children are read from /proc")
def test_a_measurement_that_is_ended_ends_the_server_that_it_began(tmp_path):
    command = [sys.executable, "-m", "streamtrans.cli", "bench", "soak", "--results", str(tmp_path)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True) as measuring:
        children = Path(f"/proc/{measuring.pid}/task/{measuring.pid}/children")
        deadline = time.monotonic() + 60
        while not (begun := children.read_text().split()) or not _listens(begun[0]):
            assert time.monotonic() < deadline
            time.sleep(0.1)
        measuring.terminate()
        assert measuring.wait(timeout=30) == 130
        deadline = time.monotonic() + 60  # it goes with grace
        while any(Path(f"/proc/{child}").exists() for child in begun):
            assert time.monotonic() < deadline
            time.sleep(0.1)


def _listens(process):
    """Whether a process has begun to serve: its command line names the port."""
    said = Path(f"/proc/{process}/cmdline").read_bytes().split(b"\0")
    if b"--port" not in said:
        return False
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", int(said[said.index(b"--port") + 1]))) == 0
