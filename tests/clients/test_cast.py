"""``streamtrans-cast`` with a real server, and players that keep what they are shown."""

import asyncio
import re
import shlex
import signal
import sys
from pathlib import Path

import pytest
import soundfile
from streamtrans_clients import cast

from streamtrans.client import StreamOptions
from tests.clients.conftest import finals_of, pcm, sentences
from tests.clients.web import FakeObs, FakePosts, serving


@pytest.fixture
def run(capsys):
    async def call(*arguments):
        """Run the program in a thread, as it has a loop of its own, while the fakes run here."""
        status = await asyncio.to_thread(_status, [str(each) for each in arguments])
        out, err = capsys.readouterr()
        return status, out, err

    return call


def _status(arguments):
    try:
        cast.main(arguments)
    except SystemExit as end:
        return end.code
    return 0


@pytest.fixture(autouse=True)
def no_signals(monkeypatch):
    """Only the main thread may have handlers."""
    monkeypatch.setattr(cast.signal, "signal", lambda number, handler: None)
    monkeypatch.setattr(cast, "_ENDINGS", ())


@pytest.fixture
def talks(tmp_path):
    path = tmp_path / "talks.wav"
    soundfile.write(path, sentences(3), 16_000)
    return path


def words(texts):
    return " ".join(texts).split()


async def test_every_sink_shows_what_the_server_committed_and_grpc_gives(running, run, talks, tmp_path):
    obs, posts = FakeObs(), FakePosts()
    async with running() as address, serving(obs.route(), *posts.routes()) as port:
        expected = await finals_of(address, StreamOptions(("de", "zh")), pcm(sentences(3)))
        sinks = [
            f"de=obs:localhost:{port}/Captions",
            f"de=obs-captions:localhost:{port}",
            f"zh=youtube:http://localhost:{port}/closedcaption?cid=1",
            f"hls:{tmp_path}/live/{{language}}?seconds=1&delay=1",
            f"{tmp_path}/talk.{{language}}.vtt",
        ]
        status, out, err = await run("--to", "de,zh", "--file", talks, "--server", address, *sinks)
    assert (status, out, err) == (0, "", "")
    german, chinese = ([text for language, text in expected if language == each] for each in ("de", "zh"))
    assert len(german) == 3
    assert words(obs.captions) == words(german)
    assert words(body.partition("\n")[2] for _, _, body in posts.posts) == words(chinese)
    assert obs.texts[-1].endswith(german[-1])
    assert any(text not in "\n".join(german) for text in obs.texts)  # tentative words were seen, and taken back
    for language, texts in (("de", german), ("zh", chinese)):
        file = (tmp_path / f"talk.{language}.vtt").read_text()
        assert [word for word in file.split() if word[0] == "w"] == words(texts)
        folder = tmp_path / "live" / language
        names = [line for line in (folder / "captions.m3u8").read_text().splitlines() if line[0] != "#"]
        assert {word for name in names for word in (folder / name).read_text().split() if word[0] == "w"} == set(
            words(texts)
        )


async def test_a_server_that_is_killed_and_comes_back_loses_and_doubles_no_word(restarting, run, talks, tmp_path):
    obs = FakeObs()
    async with restarting() as server, serving(obs.route()) as port:
        expected = await finals_of(server.address, StreamOptions(("de",)), pcm(sentences(3)))
        again = asyncio.get_running_loop().call_later(1.3, lambda: asyncio.ensure_future(server.restart()))
        sinks = f"obs-captions:localhost:{port}", tmp_path / "talk.txt"
        status, _, err = await run("--to", "de", "--file", talks, "--server", server.address, *sinks)
        again.cancel()
    assert (status, err.startswith("notice: the connection was away for ")) == (0, True)
    assert words(obs.captions) == words(text for _, text in expected)
    assert (tmp_path / "talk.txt").read_text().split() == words(text for _, text in expected)


async def test_a_server_that_comes_back_without_what_it_knew_ends_the_program_clearly(restarting, run, talks, tmp_path):
    obs = FakeObs()
    async with restarting(None) as server, serving(obs.route()) as port:
        expected = await finals_of(server.address, StreamOptions(("de",)), pcm(sentences(3)))
        again = asyncio.get_running_loop().call_later(2.0, lambda: asyncio.ensure_future(server.restart()))
        sinks = f"obs-captions:localhost:{port}", tmp_path / "talk.txt"
        status, _, err = await run("--to", "de", "--file", talks, "--server", server.address, *sinks)
        again.cancel()
    assert status == 2
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    told = words(obs.captions)
    assert told == words(text for _, text in expected)[: len(told)]
    assert (tmp_path / "talk.txt").read_text().split() == words(text for _, text in expected[:1])


def said(folder):
    return (folder / "talk.txt").read_text().splitlines()


@pytest.mark.parametrize("ending", ["SIGINT", "SIGTERM", "end"])
async def test_what_is_piped_in_is_shown_to_its_end_however_it_ends(running, tmp_path, ending):
    sinks = f"hls:{tmp_path}/live?seconds=1&delay=1", f"{tmp_path}/talk.txt"
    async with running() as address:
        expected = await finals_of(address, StreamOptions(("de",)), pcm(sentences(2)))
        program = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "streamtrans_clients.cast", "--to", "de-DE", "--file", "-", "--server", address),
            *sinks,
            stdin=asyncio.subprocess.PIPE,
        )
        program.stdin.write(pcm(sentences(2)))
        await program.stdin.drain()
        async with asyncio.timeout(30):
            while not (tmp_path / "talk.txt").exists() or len(said(tmp_path)) < len(expected):
                await asyncio.sleep(0.05)
        if ending == "end":
            program.stdin.close()
        else:
            program.send_signal(signal.Signals[ending])
        assert await program.wait() == 0
    assert said(tmp_path) == [text for _, text in expected]
    assert (tmp_path / "live" / "captions.m3u8").read_text().endswith("#EXT-X-ENDLIST\n")


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGTERM")
async def test_asked_to_end_with_a_server_of_its_own_the_last_captions_are_shown(running, tmp_path):
    """Another process stands for that server, and says where one is."""
    async with running() as address:
        sound = pcm(sentences(2))
        sound = sound[: (len(sound) - 6_400) // 3_200 * 3_200]  # whole pieces, and the last sentence is open
        expected = await finals_of(address, StreamOptions(("de",)), sound)
        server = f"print('ready: {address},', flush=True); import time; time.sleep(60)"
        (tmp_path / "program.py").write_text(
            "import sys\n"
            "from streamtrans_clients import cast, options, servers\n"
            "options.ADDRESS = '127.0.0.1:1'\n"
            f"options.own_server = lambda: servers.own_server([sys.executable, '-c', {server!r}])\n"
            "cast.main(sys.argv[1:])\n"
        )
        program = await asyncio.create_subprocess_exec(
            *(sys.executable, tmp_path / "program.py", "--to", "de", "--file", "-", tmp_path / "talk.txt"),
            stdin=asyncio.subprocess.PIPE,
        )
        program.stdin.write(sound)
        await program.stdin.drain()
        async with asyncio.timeout(30):
            while not (tmp_path / "talk.txt").exists() or len(said(tmp_path)) < len(expected) - 1:
                await asyncio.sleep(0.05)
        await asyncio.sleep(0.3)
        program.terminate()
        assert await program.wait() == 0
    assert said(tmp_path) == [text for _, text in expected]


async def test_a_sink_that_fails_leaves_the_others_and_is_told(running, run, talks, tmp_path, monkeypatch):
    monkeypatch.setattr("streamtrans_clients.sinks.posts.PAUSES_S", ())
    posts = FakePosts([403] * 9)
    async with running() as address, serving(*posts.routes()) as port:
        zoom = f"zoom:http://localhost:{port}/closedcaption?id=secret"
        arguments = ("--to", "de", "--file", talks, "--server", address, zoom)
        status, _, err = await run(*arguments, tmp_path / "talk.srt")
        assert status == 1
        assert err.startswith("zoom in de: localhost: Zoom refuses the address (403)")
        assert err.endswith("; nothing more is shown there\n")
        assert (tmp_path / "talk.srt").read_text().count("-->") == 3
        status, _, err = await run(*arguments)
    assert status == 2
    assert err.endswith("error: there is nowhere left to show captions\n")
    assert "secret" not in err


async def test_what_is_wrong_is_one_sentence_that_says_what_to_do(running, run, talks, tmp_path):
    there = ("--file", talks, "--server", "127.0.0.1:1")
    status, _, err = await run("--to", "de", *there, tmp_path / "a.srt")
    assert status == 2
    assert "start one with `streamtrans serve`" in err
    assert not (tmp_path / "a.srt").exists()
    async with running() as address:
        there = ("--file", talks, "--server", address)
        status, _, err = await run("--to", "xx", *there, tmp_path / "b.srt")
        assert (status, err.count("\n")) == (2, 1)
        assert "unknown language 'xx'" in err
        assert "toy knows en, de, zh" in err
        status, _, err = await run("--to", "de", *there)
        assert status == 2
        assert err.startswith("usage: streamtrans-cast")
        assert "name where captions are to be shown: a file such as talk.srt, or obs, " in err
        status, _, err = await run("--to", "de,zh", *there, tmp_path / "c.srt")
        assert status == 2
        assert "say which language it shows" in err
        status, _, err = await run("--to", "de", *there, "obs:127.0.0.1:1/Captions")
        assert status == 2
        assert err.startswith("error: no OBS answers at ws://127.0.0.1:1: is it running")


PAGE = (Path(__file__).parents[2] / "docs" / "cast.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("line", re.findall(r"^streamtrans-cast (.*)\n```$", PAGE, re.MULTILINE))
@pytest.mark.usefixtures("talk")
async def test_the_command_at_the_end_of_each_section_works(running, run, tmp_path, monkeypatch, line):
    monkeypatch.chdir(tmp_path)
    obs, posts = FakeObs(password="secret"), FakePosts()
    async with running() as address, serving(obs.route(), *posts.routes()) as port:
        Path("obs.txt").write_text(f"ws://:secret@localhost:{port}/Captions\n")
        Path("stream.txt").write_text(f"ws://:secret@localhost:{port}\n")
        Path("address.txt").write_text(f"http://localhost:{port}/closedcaption?cid=1\n")
        status, _, err = await run(*shlex.split(line.replace("fr", "zh")), "--server", address)
    assert (status, err) == (0, "")
    written = [path for path in tmp_path.rglob("*") if path.suffix in (".srt", ".m3u8")]
    assert obs.captions or posts.posts or len(written) == 2


def test_every_section_ends_in_a_command():
    sections = PAGE.split("\n## ")[1:]
    assert len(sections) == 5
    assert all(re.search(r"\nstreamtrans-cast .*\n```\s*$", section) for section in sections)


async def test_the_help_teaches_every_kind(run):
    status, out, _ = await run("--help")
    assert status == 0
    assert "streamtrans-cast --to de --file talk.wav talk.srt" in out
    assert all(kind in out for kind in cast.SINKS)
