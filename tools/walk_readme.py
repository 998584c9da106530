"""Walk through the README as a new user does: every command of it, in order, in one folder.

    python tools/walk_readme.py [--keep FOLDER]

Each command is run as it stands, but for the options below, which shorten it and which the README names; what can't be
had here (a hub, a microphone, archives, hours) is left out and said. The environment is the one that runs this; making
one is the business of the test of the wheel. Ends with status 1 at the first command that fails.
"""

from __future__ import annotations

import argparse
import os
import re
import shlex
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import soundfile

ROOT = Path(__file__).resolve().parents[1]
LIMIT_S = 600.0
"""How long one command may take."""

SHORTER = (
    (r"streamtrans talks ", "--minutes 0.05 --languages en"),
    (r"streamtrans evaluate .*--settings", "--to de"),
    (r"streamtrans-mic ", "--file talk.wav"),
    (r"streamtrans record ", "talk.wav"),
    (r"streamtrans serve --", "--port 0"),
)
"""Commands → options that go with them here."""

LEFT_OUT = (
    (r"python3 -m venv|pip install|\bpip\b", "the environment is there"),
    (r"openai/|my-model", "needs a model that isn't here"),
    (r"corpus prepare", "needs archives"),
    (r"streamtrans train|bench ablations", "takes hours"),
    (r"make ", "runs this"),
)
"""Commands that aren't run → why."""

SETTINGS = "benchmarks/settings.toml"
"""Compares many; a file with two of them is a first look."""

BACKGROUND = r"streamtrans serve\b"
"""Runs on beside the commands that follow; the first at the usual port, where clients look for it."""


def commands(readme: str) -> list[str]:
    """Return what the README has users type, in order, without comments."""
    blocks = re.findall(r"^```(\w*)\n(.*?)^```$", readme, re.MULTILINE | re.DOTALL)
    lines = "".join(text for language, text in blocks if not language).replace("\\\n", " ").splitlines()
    return [text for line in lines if (text := re.split(r"\s+#", line.strip())[0])]


def main() -> None:
    """Walk."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--keep", type=Path, help="work in this folder, and leave it")
    place = parser.parse_args().keep
    with tempfile.TemporaryDirectory() as passing:
        folder = place or Path(passing)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "benchmarks").mkdir(exist_ok=True)
        (folder / SETTINGS).write_text("[".join(read(SETTINGS).split("[")[:3]), encoding="utf-8")  # two of them
        samples, rate = soundfile.read(ROOT / "streamtrans" / "demo" / "speech.flac", dtype="float32")
        for name in ("talk.wav", "talk.flac"):
            soundfile.write(folder / name, samples[: 6 * rate], rate)
        walk(commands(read("README.md")), folder)


def read(name: str) -> str:
    """Return the text of a file of the project."""
    return (ROOT / name).read_text(encoding="utf-8")


def walk(lines: list[str], folder: Path) -> None:
    """Run the commands in ``folder``; servers run until the end."""
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    servers: list[subprocess.Popen[bytes]] = []
    try:
        for line in lines:
            if why := next((reason for pattern, reason in LEFT_OUT if re.search(pattern, line)), None):
                print(f"–  {line}\n   left out: {why}", flush=True)
                continue
            whole = " ".join([line, *(options for pattern, options in SHORTER if re.match(pattern, line))])
            if re.match(BACKGROUND, line):
                servers.append(started(whole, folder / f"server-{len(servers)}.log", environment))
            else:
                run(whole, folder, environment)
    finally:
        for server in servers:
            server.terminate()
        for server in servers:
            server.wait(30)


def started(line: str, log: Path, environment: dict[str, str]) -> subprocess.Popen[bytes]:
    """Start a server, and wait until it says that it is ready, as a user does."""
    with log.open("wb") as said:
        server = subprocess.Popen(shlex.split(line), cwd=log.parent, env=environment, stdout=said, stderr=said)
    ends = time.monotonic() + LIMIT_S
    while "ready: " not in log.read_text(encoding="utf-8"):
        if server.poll() is not None or time.monotonic() > ends:
            server.kill()
            sys.exit(f"✗  {line}\n   isn't ready:\n{log.read_text(encoding='utf-8')[-2_000:]}")
        time.sleep(0.2)
    print(f"&  {line}", flush=True)
    return server


def run(line: str, folder: Path, environment: dict[str, str]) -> None:
    """Run one command, and say how long it took; end the walk where it fails."""
    began = time.monotonic()
    try:
        done = subprocess.run(
            line, shell=True, cwd=folder, env=environment, timeout=LIMIT_S, capture_output=True, text=True, check=False
        )
    except subprocess.TimeoutExpired:
        sys.exit(f"✗  {line}\n   took more than {LIMIT_S:g} s")
    if done.returncode:
        sys.exit(f"✗  {line}\n   ended with status {done.returncode}:\n{done.stdout[-2_000:]}{done.stderr[-2_000:]}")
    print(f"✓  {line}  ({time.monotonic() - began:.0f} s)", flush=True)


if __name__ == "__main__":
    main()
