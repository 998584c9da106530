"""A client program knows the server through ``streamtrans.client`` alone."""

import ast
import sys
from pathlib import Path

import pytest
import streamtrans_clients

FILES = sorted(Path(streamtrans_clients.__file__).parent.rglob("*.py"))
ALLOWED = {"aiohttp", "numpy", "rich", "sounddevice", "textual", "streamtrans_clients", *sys.stdlib_module_names}
BOTS = {
    "discord": {"av", "davey", "discord"},
    "jitsi": {"jwt"},
    "livekit": {"livekit"},
    "livekit_agent": {"livekit"},
    "pipecat": {"pipecat"},
    "pipecat_captions": {"pipecat"},
    "webrtc": {"aiohttp", "aiortc", "av"},
    "webrtc_peer": {"aiohttp", "aiortc"},
}
"""What one bot needs, the others don't: each has an extra of its own."""


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_imports(path):
    allowed = ALLOWED | (BOTS.get(path.stem, set()) if path.parent.name == "bots" else set())
    for node in ast.walk(ast.parse(path.read_text())):
        modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        modules += [node.module] if isinstance(node, ast.ImportFrom) else []
        for module in modules:
            assert module == "streamtrans.client" or module.split(".")[0] in allowed, f"{path.name}: {module}"


def test_torch_is_not_needed():
    import subprocess

    code = "import sys, streamtrans_clients.mic; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
