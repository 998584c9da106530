"""Data that names code: nothing is imported and nothing is called because a model's folder or a recording says so."""

import json
import os
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
import soundfile

import streamtrans
from streamtrans.stream.calls import Kind
from streamtrans.stream.records import pack, preface, to_json

EMBEDDED = Path(streamtrans.__file__).parent / "models" / "nano"

MODULES = ("payload", "typer", "numpy", "torch", "json", "tokenizers")
"""Lie in the working folder, and leave a mark where they are imported.

What Python itself imports for ``-m`` is its own.
"""

PAYLOAD = """
open(__file__ + ".ran", "w").close()
class Policy:
    def __init__(self, n): pass
"""

CALLS = [
    {"policy": "os:_exit", "policy_n": 43},
    {"policy": "os:system", "policy_n": "echo a shell > shell"},
    {"policy": "payload:Policy"},
    {"vad": "payload:Policy", "policy": ["hold"]},
]


@pytest.fixture
def folder(tmp_path):
    for name in MODULES:
        (tmp_path / f"{name}.py").write_text(PAYLOAD)
    soundfile.write(tmp_path / "a.wav", np.zeros(8_000), 16_000)
    return tmp_path


def program(folder, *words):
    """Run the program in ``folder``, and return its exit status and what it said."""
    source = Path(__file__).parent.parent.parent
    search = os.pathsep.join([str(source), str(source / "clients"), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, "-m", "streamtrans.cli", *map(str, words)],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": search.rstrip(os.pathsep), "PYTHONSAFEPATH": ""},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


def marks(folder):
    return sorted(path.name for path in (*folder.glob("*.ran"), *folder.glob("shell")))


def recorded(folder, session):
    """Write a recording with these settings, and nothing said in it."""
    header = {"origin": {"model": "x"}, "session": {"targets": ["de"], **session}, "window": 512}
    tokenizer = zlib.compress((EMBEDDED / "tokenizer.json").read_bytes())
    path = folder / "x.stsession"
    path.write_bytes(preface() + pack(Kind.HEADER, to_json(header)) + pack(Kind.TOKENIZER, tokenizer))
    return path


@pytest.mark.parametrize("session", CALLS, ids=str)
def test_a_recording_calls_nothing(folder, session):
    status, said = program(folder, "replay", recorded(folder, session), "--answers")
    assert (status, marks(folder)) == (2, [])
    assert said.startswith("error: ")
    assert len(said.splitlines()) == 1


@pytest.mark.parametrize("setting", CALLS[:3], ids=str)
def test_a_model_folder_calls_nothing(folder, setting):
    (folder / "model").mkdir()
    for path in EMBEDDED.iterdir():
        if path.name != "streaming.json":
            (folder / "model" / path.name).symlink_to(path)
    table = json.loads((EMBEDDED / "streaming.json").read_text())
    table["settings"][0] |= setting
    (folder / "model" / "streaming.json").write_text(json.dumps(table))
    status, said = program(folder, "translate", "a.wav", "--to", "de", "--model", "model")
    assert (status, marks(folder)) == (2, [])
    assert "streaming.json" in said
    assert "policy" in said
    assert len(said.splitlines()) == 1


def test_the_working_folder_holds_no_module_of_the_program(folder):
    status, said = program(folder, "replay", Path(__file__).parent.parent / "data/recordings/server.stsession")
    assert (status, marks(folder)) == (2, [])
    assert "doesn't say how its model was loaded" in said
    status, said = program(folder, "translate", "a.wav", "--to", "de", "--vad", "payload:Policy")
    assert (status, marks(folder)) == (2, [])
    assert "No module named 'payload'" in said
