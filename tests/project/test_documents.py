"""What the documents name exists, and the example of the README runs against the real client."""

import inspect
import re
import shlex
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import numpy as np
import pytest
import soundfile
from streamtrans_clients import cast, mic

import streamtrans
from streamtrans.cli.app import VERBS, load_verb
from streamtrans.model.loading import EMBEDDED
from streamtrans.server import Served, ServerConfig, TranslationServer
from streamtrans.stream import Settings
from streamtrans.testing.engine import InstantEngine, hypothesis
from streamtrans.vad import EnergyVad
from tests.fakes import Words

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
DECISIONS = sorted((ROOT / "docs" / "decisions").glob("*.md"))
DOCUMENTS = [
    ROOT / "README.md",
    ROOT / "docs" / "architecture.md",
    ROOT / "docs" / "bots.md",
    ROOT / "docs" / "cast.md",
    ROOT / "docs" / "meetings.md",
    ROOT / "docs" / "dropin.md",
    ROOT / "docs" / "extending.md",
    ROOT / "docs" / "operations.md",
    ROOT / "docs" / "python.md",
    ROOT / "docs" / "training.md",
    *DECISIONS,
]
CLIENTS = {"streamtrans-mic": mic, "streamtrans-cast": cast}
ROOMS = {path.name for path in (ROOT / "streamtrans").iterdir() if path.is_dir()}


def named_paths(document):
    """Yield what looks like a path of ours and is written as code; a room's name stands for its folder."""
    prose = re.sub(r"^```.*?^```", "", document.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    for code in re.findall(r"`([^`\s<]+)`", prose):
        first, slash, _ = code.partition("/")
        if slash and first in ROOMS:
            yield ROOT / "streamtrans" / code
        elif first and slash and (ROOT / first).is_dir():
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
    numbers = [path.name[:4] for path in DECISIONS]
    assert numbers == [f"{number:04}" for number in range(1, len(numbers) + 1)]
    for path in DECISIONS:
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


def typed_commands():
    """Return what users are told to type: the lines of README, docs and helps that begin with a program of ours."""
    blocks = []
    for document in [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]:
        blocks += re.findall(r"^```\w*\n(.*?)^```", document.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    helps = [load_verb(name) for name in VERBS]
    while helps:
        command = helps.pop()
        helps += [command.get_command(None, name) for name in getattr(command, "list_commands", lambda _: ())(None)]
        paragraphs = inspect.cleandoc(command.help or "").split("\n\n")
        blocks += [
            " ".join(text.split()) for text in paragraphs if text.lstrip().startswith("streamtrans") and text[-1] != "."
        ]
    blocks.append(re.sub(r"\n {20,}.*", "", mic.EXAMPLES).replace("  play a recording", "   play a recording"))
    blocks.append(re.sub(r"\n {20,}.*", "", cast.EXAMPLES))
    lines = "\n".join(blocks).replace("\\\n", " ").splitlines()
    commands = (re.split(r"  +#|\s{3,}", line.strip().removeprefix("PYTHONIOENCODING=latin-1 "))[0] for line in lines)
    return sorted({command for command in commands if re.match(r"streamtrans(-\w+)? +[a-z-]", command)})


@pytest.mark.parametrize("line", typed_commands())
def test_what_users_are_told_to_type_is_understood(line):
    program, *words = shlex.split(line.partition(" && ")[0])
    if program in CLIENTS:
        CLIENTS[program].parser().parse_args(words)
        return
    command, context = load_verb(words[0]), None
    for name in words[1:]:
        if not hasattr(command, "get_command"):
            break
        command, words = command.get_command(context, name), words[1:]
    command.make_context(words[0], words[1:])


def test_the_budgets_of_the_readme_can_be_kept():
    settings = Settings.load(EMBEDDED)
    erasures = [float(value) for value in re.findall(r"--erasure-budget ([\d.]+)", README)]
    latencies = [int(value) for value in re.findall(r"--latency-budget (\d+)", README)]
    assert erasures
    assert latencies
    for erasure in erasures:
        assert settings.choose("live", erasure_budget=erasure)
    for latency in latencies:
        assert settings.choose("live", latency_budget_ms=latency)


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


def test_the_architecture_is_one_page():
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    assert len(page.splitlines()) <= 150
    table = page.partition("## To change")[2].partition("\n## ")[0]
    assert sum(line.startswith("| ") for line in table.splitlines()) <= 30


def section(title):
    """Return the part of the README under a heading."""
    return re.search(rf"^## {title}\n(.*?)(?=^## |\Z)", README, re.M | re.S).group(1)


def test_what_torch_brings_is_told_before_it_comes():
    install = section("Install")
    assert install.index("pip install torch --index-url https://download.pytorch.org/whl/cpu") < install.index(
        "pip install ."
    )
    for told in ("NVIDIA", "3 GB", "6 GB", "190 MB", "750 MB", "https://pytorch.org/get-started/locally/"):
        assert told in install


def test_nothing_is_needed_that_comes_later():
    """Talks are made of what the package says, before there are tables; nobody needs archives for them."""
    lines = README.splitlines()
    talks = next(at for at, line in enumerate(lines) if line.startswith("streamtrans talks "))
    archives = next(at for at, line in enumerate(lines) if line.startswith("streamtrans corpus prepare"))
    assert talks < archives
    assert "--text" not in lines[talks]
    for name in ("github.com/alexa/massive", "www.manythings.org/anki"):
        assert name in section("Train your own")


def test_where_somebody_is_to_speak_it_is_said_what_the_model_hears():
    first = " ".join(section("First captions, in two minutes").split())
    assert "hears people badly" in first
    assert "streamtrans serve --model openai/whisper-base" in first
    mic_page = " ".join((ROOT / "docs" / "mic.md").read_text(encoding="utf-8").split())
    assert "For captions of people load a Whisper" in mic_page


def test_nobody_is_told_to_install_a_package_that_is_not_published():
    """Ours is in no registry: from a clone it is `.`, and what it needs has names of its own."""
    sources = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "streamtrans").rglob("*.py")]
    sources += (ROOT / "clients").rglob("*.py")
    wrong = re.compile(r"pip install +[\"'`]?streamtrans\b")
    assert [str(path) for path in sources if wrong.search(path.read_text(encoding="utf-8"))] == []
