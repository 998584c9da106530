"""Nothing is assumed that only Unix has: every module loads without it, and a machine is described all the same."""

import subprocess
import sys

LESS = """
import asyncio, importlib, os, pkgutil, signal, subprocess, sys, tempfile
import aiohttp, aiortc, discord, grpc.aio, livekit.agents, numpy, pipecat.services.stt_service, rich, soundfile
import huggingface_hub, textual.app, tokenizers, torch, transformers, typer
from transformers import M2M100ForConditionalGeneration  # loads what torch has for several processes
for missing in ("resource", "fcntl", "pwd", "grp", "termios", "pty", "tty", "posix_spawn"):
    sys.modules[missing] = None
for missing in ("fork", "getloadavg", "sysconf", "sched_getaffinity", "geteuid", "getuid", "uname"):
    delattr(os, missing)
for missing in ("SIGHUP", "SIGKILL", "SIGUSR1"):
    delattr(signal, missing)
sys.platform = "win32"
import streamtrans, streamtrans_clients
count = 0
for package in (streamtrans, streamtrans_clients):
    for found in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
        if not found.name.endswith("__main__"):
            importlib.import_module(found.name)
            count += 1
import streamtrans.evaluate.machine as told
from pathlib import Path
told._STAT = Path("/nowhere")
from streamtrans.evaluate.machine import Watch, describe_machine
with Watch() as watch:
    sum(range(10**6))
machine = describe_machine()
assert watch.measured.load_average is machine.memory_gb is None and machine.cores >= 1
print(count)
"""


def test_every_module_loads_without_what_only_unix_has():
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", LESS], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2_000:]
    assert int(done.stdout) > 150
