import ast
import subprocess
import sys
from pathlib import Path

import pytest

import streamtrans.stream

ROOM = Path(streamtrans.stream.__file__).parent
WORLD = {"torch", "asyncio", "time", "socket", "threading", "datetime"}


def imported(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield (node.module or "").partition(".")[0]


@pytest.mark.parametrize("path", sorted(ROOM.glob("*.py")), ids=lambda path: path.stem)
def test_only_the_pump_knows_the_world(path):
    allowed = {"pump": {"asyncio", "time"}, "bridge": {"asyncio"}}
    assert set(imported(path)) & WORLD == allowed.get(path.stem, set())


def test_text_and_stream_load_without_torch():
    code = "import sys, streamtrans.stream, streamtrans.text; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
