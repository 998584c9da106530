"""The program as somebody runs it: in a terminal, by what PulseAudio plays on a sink; and into a pipe."""

import asyncio
import os
import shlex
import signal
import sys
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import soundfile
from streamtrans_clients.boards import clock

import streamtrans
from streamtrans.runtime import ModelChoice, load
from streamtrans.server import ServerConfig, TranslationServer
from streamtrans.server.offer import what_is_served
from tests.debian import program
from tests.server.conftest import committed

SPEECH, SPOKEN_S = Path(streamtrans.__file__).parent / "demo" / "speech.flac", 8
MIC = (sys.executable, "-m", "streamtrans_clients.mic", "--device", "system", "--from", "en", "--to", "en,de")
WIDTH, HEIGHT = 120, 40


async def until(condition, within_s=60):
    async with asyncio.timeout(within_s):
        while not (found := await condition()):
            await asyncio.sleep(0.05)
    return found


@asynccontextmanager
async def child(*command, end=signal.SIGTERM, **how):
    """Yield a program that runs; it is gone afterwards."""
    process = await asyncio.create_subprocess_exec(*command, **how)
    try:
        yield process
    finally:
        if process.returncode is None:
            process.send_signal(end)
        await process.wait()


async def output(*command, **how):
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE, **how)
    told, _ = await process.communicate()
    assert process.returncode == 0, command
    return told.decode()


@pytest.fixture
async def machine(tmp_path):
    """The environment of a machine of our own, whose only sound is a sink that nobody hears."""
    for name in ("pulseaudio", "pactl", "tmux"):
        program(name, "pulseaudio", "pulseaudio-utils", "tmux")
    socket = tmp_path / "sound"
    told = os.environ | {
        **dict.fromkeys(("HOME", "XDG_RUNTIME_DIR", "XDG_CONFIG_HOME"), str(tmp_path)),
        "PULSE_SERVER": f"unix:{socket}",
        "LANG": "C.UTF-8",
        "TERM": "xterm-256color",
    }
    modules = "module-null-sink sink_name=room", f"module-native-protocol-unix auth-anonymous=1 socket={socket}"
    options = (
        "-n",
        "--daemonize=no",
        "--exit-idle-time=-1",
        "--log-level=error",
        *(f"--load={each}" for each in modules),
    )
    async with child("pulseaudio", *options, env=told) as pulse:

        async def answers():
            assert pulse.returncode is None
            return socket.exists()

        await until(answers)
        yield told


@pytest.fixture
async def server():
    """A server of the embedded model."""
    served = what_is_served(load(ModelChoice(threads=1), slots=4), "silero")
    async with TranslationServer(ServerConfig(port=0), lambda: served) as made:
        await made.ready()
        yield made


def cursors(server):
    [stream] = server._service.stats(()).streams
    return stream.cursors


@pytest.fixture
def talk(tmp_path):
    sound, rate = soundfile.read(SPEECH, dtype="int16")
    soundfile.write(tmp_path / "talk.wav", sound[: SPOKEN_S * rate], rate)
    return tmp_path / "talk.wav"


async def heard(server, talk, machine):
    """Play a talk to the program, once it listens; return its stream on the server once all captions are closed."""

    async def listening():
        return server._service.stats(()).streams and cursors(server).received_ms

    async def closed():
        return cursors(server).final_ms > said

    await until(listening)
    [live] = server._service._viewable.values()
    await output("paplay", str(talk), env=machine)
    said = cursors(server).received_ms + 500  # what was played has come by then
    await until(closed)
    return live


def lines(live, language):
    """Return the words of the lines that are to be read of one language: when, in which, what."""
    captions = [said.captions[language] for said in live.hub.said if language in said.captions]
    texts = [f"{clock(each.start)} {language} {each.committed}" for each in captions if each.final and each.committed]
    return " ".join(texts).split()


def columns(screen):
    """Return the words of each column, from left to right."""
    rows = [row[1:-1].split("││") for row in screen.splitlines() if "││" in row]
    return [" ".join(column).split() for column in zip(*rows, strict=True)]


async def test_the_screen_shows_the_captions_that_the_server_committed(machine, server, talk, tmp_path):
    typed = shlex.join([*MIC, "--server", f"127.0.0.1:{server.port}"]) + "; echo it ended with $?; read stay"
    terminal = "tmux", "-f", os.devnull, "-S", str(tmp_path / "tmux")

    async def screen():
        return await output(*terminal, "capture-pane", "-p")

    async def shown():
        expected = [lines(live, language) for language in ("en", "de")]
        told = await screen()
        return columns(told) == expected and "nano hears system" in told

    async def ended():
        return "it ended with 0" in await screen()

    await output(*terminal, "new-session", "-d", "-x", str(WIDTH), "-y", str(HEIGHT), typed, env=machine)
    try:
        live = await heard(server, talk, machine)
        await until(shown)
        before = committed(live)
        assert any("kitchen" in text for text in before.values())
        await output(*terminal, "send-keys", "q")
        await until(ended)
        assert committed(live) == before
        assert "s of sound" in await screen()
    finally:
        await output(*terminal, "kill-server")


async def test_into_a_pipe_go_the_same_captions_a_line_each(machine, server, talk):
    command = *MIC, "--plain", "--server", f"127.0.0.1:{server.port}"
    async with child(*command, env=machine, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE) as mic:
        live = await heard(server, talk, machine)
        mic.send_signal(signal.SIGINT)
        told = (await mic.stdout.read()).decode().splitlines()
        assert await mic.wait() == 0
    assert committed(live)
    for language in ("en", "de"):
        words = " ".join(line for line in told if line.split()[1] == language).split()
        assert words == lines(live, language)
