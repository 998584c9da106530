"""A server of one's own: a child process.

Law: it ends with whoever started it, be it by Ctrl-C, a terminal that is closed, or a signal to end.
"""

from __future__ import annotations

import asyncio
import signal
import sys
from collections import deque
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress

from streamtrans_clients.sources import SourceError

COMMAND = (sys.executable, "-m", "streamtrans", "serve", "--port", "0")
"""Starts a server on a free port of this machine alone, with the embedded model."""

_READY_S = 300.0
"""How long it may load its model."""

_LEAVE_S = 10.0
"""How long it may take to end."""

_ENDINGS = () if sys.platform == "win32" else (signal.SIGHUP, signal.SIGTERM)
"""What comes when a terminal is closed, or the program is asked to end; else the server would stay alone."""

_LAST = 5
"""Lines of what it said that are told where it doesn't start."""


@asynccontextmanager
async def own_server(command: Sequence[str] = COMMAND) -> AsyncIterator[str]:
    """Start a server, yield its address once it serves, and end it.

    Raises:
        SourceError: it doesn't start.
    """
    server = await asyncio.create_subprocess_exec(
        *command,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        start_new_session=True,  # Ctrl-C is for who listens: the last captions are still to come
    )
    assert server.stdout is not None
    said: deque[str] = deque(maxlen=_LAST)
    try:
        async with asyncio.timeout(_READY_S):
            address = await _address(server.stdout, said)
    except TimeoutError:
        address = None
    if address is None:
        await _end(server)
        raise SourceError("a server of its own doesn't start: " + " / ".join(said))
    reading = asyncio.create_task(_drain(server.stdout))
    task, loop = asyncio.current_task(), asyncio.get_running_loop()
    assert task is not None
    for number in _ENDINGS:
        loop.add_signal_handler(number, task.cancel)
    try:
        yield address
    finally:
        for number in _ENDINGS:
            loop.remove_signal_handler(number)
        await _end(server)
        reading.cancel()


async def _address(stream: asyncio.StreamReader, said: deque[str]) -> str | None:
    while line := (await stream.readline()).decode(errors="replace").strip():
        said.append(line)
        if line.startswith("ready: "):
            return line.removeprefix("ready: ").partition(",")[0]
    return None


async def _drain(stream: asyncio.StreamReader) -> None:
    """Read on, so that it never waits for somebody to read what it says."""
    while await stream.read(4_096):
        pass


async def _end(server: asyncio.subprocess.Process) -> None:
    if server.returncode is None:
        with suppress(ProcessLookupError):
            server.terminate()
        try:
            async with asyncio.timeout(_LEAVE_S):
                await server.wait()
        except TimeoutError:
            server.kill()
            await server.wait()
