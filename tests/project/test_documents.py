"""What the documents name exists, and the example of the README runs against the real client."""

import re
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import numpy as np
import pytest
import soundfile

import streamtrans
from streamtrans.cli.app import load_verb
from streamtrans.server import Served, ServerConfig, TranslationServer
from streamtrans.testing.engine import InstantEngine, hypothesis
from streamtrans.vad import EnergyVad
from tests.fakes import Words

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
DOCUMENTS = [
    ROOT / "README.md",
    ROOT / "docs" / "architecture.md",
    ROOT / "docs" / "training.md",
    *sorted((ROOT / "docs" / "decisions").glob("*.md")),
]
ROOMS = {path.name for path in (ROOT / "streamtrans").iterdir() if path.is_dir()}


def named_paths(document):
    """Yield what looks like a path of ours and is written as code; a room's name stands for its folder."""
    prose = re.sub(r"^```.*?^```", "", document.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    for code in re.findall(r"`([^`\s<]+)`", prose):
        first, slash, _ = code.partition("/")
        if slash and first in ROOMS:
            yield ROOT / "streamtrans" / code
        elif slash and (ROOT / first).is_dir():
            yield ROOT / code
    for link in re.findall(r"\]\((?!https?://|#)([^)#]+)", prose):
        yield document.parent / link


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_path_that_is_named_exists(document):
    missing = [str(path.relative_to(ROOT)) for path in named_paths(document) if not path.exists()]
    assert not missing


def test_the_architecture_names_every_room():
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    packages = {path.parent.name for path in (ROOT / "streamtrans").glob("*/__init__.py")} - {"v1"}
    assert {room for room in packages if f"`{room}`" not in text} == set()


def test_decisions_are_numbered_without_a_gap():
    numbers = [path.name[:4] for path in DOCUMENTS[3:]]
    assert numbers == [f"{number:04}" for number in range(1, len(numbers) + 1)]
    for path in DOCUMENTS[3:]:
        assert path.read_text(encoding="utf-8").startswith(f"# {path.name[:4]}: ")


def test_the_changelog_knows_this_version():
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert re.search(rf"^## \[{re.escape(streamtrans.__version__)}\] - \d{{4}}-\d\d-\d\d$", text, re.MULTILINE)


def test_readme_tells_the_test_command_that_ci_runs():
    command = "make test"
    assert f"`{command}`" in README
    assert command in (ROOT / ".ci" / "run").read_text(encoding="utf-8")


def test_readme_and_project_agree_on_extras():
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    named = re.findall(r"\.\[([a-z,]+)\]", README)
    assert {extra for names in named for extra in names.split(",")} <= set(extras)


def readme_commands():
    """Return what the README has users type that begins with ``streamtrans``, a command per entry."""
    blocks = re.findall(r"^```\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
    lines = "".join(blocks).replace("\\\n", " ").splitlines()
    return [line.partition("#")[0].strip() for line in lines if line.startswith("streamtrans ")]


@pytest.mark.parametrize("line", readme_commands())
def test_commands_of_the_readme_exist_with_their_options(line):
    words = line.split()
    command = load_verb(words[1])
    while hasattr(command, "commands"):
        command = command.commands[words[words.index(command.name) + 1]]
    known = {option for parameter in command.params for option in parameter.opts}
    assert {word for word in words if word.startswith("--")} <= known


def example_of_the_readme():
    [block] = re.findall(r"^```python\n(.*?)^```", README, re.M | re.S)
    return block


async def test_the_example_of_the_readme_prints_captions(tmp_path, capsys):
    example = {"__name__": "readme"}
    exec(compile(example_of_the_readme(), "README.md", "exec"), example)
    recording = tmp_path / "talk.wav"
    loud = np.random.default_rng(1).normal(0, 0.1, 16_000)
    soundfile.write(recording, np.concatenate([np.zeros(8_000), loud, np.zeros(16_000)]), 16_000)
    engine = InstantEngine(lambda job, target: hypothesis((*range(len(job.audio) // 4_000),), 0.5), EnergyVad())
    served = Served(engine, Words(), ("de", "fr"), "toy", vads=("energy",))

    def load():
        time.sleep(0.3)  # the example waits for it
        return served

    async with TranslationServer(ServerConfig(port=0, grace_ms=0), load) as server:
        await example["captions"](str(recording), f"127.0.0.1:{server.port}")
    lines = capsys.readouterr().out.splitlines()
    finals = [line for line in lines if line.endswith("[]")]
    assert {line.split()[1] for line in finals} == {"de", "fr"}
    assert all("w0 w1 w2" in line for line in finals)


def test_the_example_ends_in_one_line_where_it_is_refused(tmp_path):
    loud = np.random.default_rng(1).normal(0, 0.1, 16_000)
    soundfile.write(tmp_path / "talk.wav", loud, 16_000)
    block = example_of_the_readme().replace("wait_ready()", "wait_ready(0.1)").replace(":50051", ":1")
    done = subprocess.run([sys.executable, "-c", block], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("error: UNAVAILABLE: localhost:1 was not ready within 0.1 s")
    assert "Traceback" not in done.stderr
