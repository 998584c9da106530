"""Without a server the client has one of its own, for as long as it runs; where it doesn't start, it says why."""

import os
import signal
import subprocess
import sys

import pytest
from streamtrans_clients import SourceError, mic, options
from streamtrans_clients.servers import own_server

from streamtrans.client import TranslationClient, Unavailable

FAKE = "import sys; print('loading'); print('ready: 127.0.0.1:7, model toy, …', flush=True); print('x' * 10**6); "


async def test_its_own_server_serves_and_ends_with_it():
    async with own_server() as address, TranslationClient(address) as client:
        assert "de" in (await client.capabilities()).languages
    async with TranslationClient(address) as client:
        with pytest.raises(Unavailable):
            await client.capabilities(timeout_s=5)


async def test_a_server_that_says_much_or_will_not_end_holds_up_nobody(monkeypatch):
    monkeypatch.setattr("streamtrans_clients.servers._LEAVE_S", 0.2)
    deaf = FAKE + "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(60)"
    async with own_server((sys.executable, "-c", deaf)) as address:
        assert address == "127.0.0.1:7"


async def test_what_a_server_said_that_does_not_start_is_told():
    with pytest.raises(SourceError, match="a server of its own doesn't start: no weights here"):
        async with own_server((sys.executable, "-c", "print('no weights here')")):
            pass


def test_a_server_is_started_only_where_none_is_named_and_none_is_there(monkeypatch, talk, capsys):
    started = []

    def own():
        started.append(True)
        return own_server((sys.executable, "-c", "print('none today')"))

    monkeypatch.setattr(options, "ADDRESS", "127.0.0.1:1")
    monkeypatch.setattr(options, "own_server", own)
    with pytest.raises(SystemExit, match="2"):
        mic.main(["--file", str(talk)])
    told = capsys.readouterr().err
    assert "no server is at 127.0.0.1:1: starting one" in told
    assert "error: a server of its own doesn't start: none today" in told
    with pytest.raises(SystemExit, match="2"):
        mic.main(["--file", str(talk), "--server", "127.0.0.1:1"])
    assert len(started) == 1


CLIENT = """
import asyncio, sys
from streamtrans_clients.servers import own_server

async def main():
    fake = "import os, time; print('ready: ' + str(os.getpid()) + ',', flush=True); time.sleep(60)"
    async with own_server((sys.executable, "-c", fake)) as address:
        print(address, flush=True)
        await asyncio.sleep(60)

asyncio.run(main())
"""


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGTERM, signal.SIGINT])
def test_law_a_server_ends_with_who_started_it(number):
    with subprocess.Popen(
        [sys.executable, "-c", CLIENT], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as client:
        assert client.stdout is not None
        server = int(client.stdout.readline())
        os.kill(server, 0)
        client.send_signal(number)
        client.wait(20)
    with pytest.raises(ProcessLookupError):
        os.kill(server, 0)
