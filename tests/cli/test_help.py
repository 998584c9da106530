import re
import subprocess
import sys

import pytest
from streamtrans_clients import mic

from streamtrans.cli.app import VERBS

CODE = "from streamtrans.cli import main; import sys; main(sys.argv[1:])"


def said(columns, *arguments):
    environment = {"COLUMNS": str(columns), "PATH": "", "PYTHONPATH": ":".join(sys.path)}
    return subprocess.run(
        [sys.executable, "-c", CODE, *arguments], capture_output=True, text=True, check=True, env=environment
    ).stdout


@pytest.mark.parametrize("columns", [80, 40])
@pytest.mark.parametrize("verb", [(), ("translate",), ("evaluate",)])
def test_help_fits_the_terminal(columns, verb):
    text = said(columns, *verb, "--help")
    prose = [line for line in text.splitlines() if " " in line.strip()]  # a word may be longer than a narrow line
    assert max(map(len, prose)) <= columns
    assert "<bool>" not in text
    assert not re.search(r"[a-z]…|[a-z] ?\.\.\.\s", text.replace("files...", ""))


def test_every_verb_is_explained_in_a_whole_sentence():
    text = said(80, "--help")
    for verb in VERBS:
        assert re.search(rf"^  {verb} +[A-Z]", text, re.M), verb


def test_the_package_and_the_microphone_say_their_version(capsys):
    version = subprocess.run(
        [sys.executable, "-m", "streamtrans", "--version"], capture_output=True, text=True, check=True
    ).stdout
    with pytest.raises(SystemExit) as end:
        mic.main(["--version"])
    assert end.value.code == 0
    assert capsys.readouterr().out.split()[1] == version.split()[1]
