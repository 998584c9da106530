"""Recordings of a server: nobody else reads them, no disk holds up a call, and they end at their quota."""

import asyncio
import os
import stat
import threading
from pathlib import Path

import pytest

from streamtrans.cli.serve import Telling
from streamtrans.client import StreamOptions, Summary
from streamtrans.core import BadConfig
from streamtrans.server import ServerConfig
from streamtrans.server.tape import Tape
from streamtrans.stream import FileSink


@pytest.fixture(params=[0o000, 0o022, 0o777])
def umask(request):
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def mode(path):
    return oct(stat.S_IMODE(path.stat().st_mode))


@pytest.mark.skipif(os.name != "posix", reason="permissions are those of POSIX")
def test_a_recording_is_its_owners_alone_whatever_the_umask(tmp_path, umask):
    path = tmp_path / "x.stsession"
    sink = FileSink(path)
    sink.write(b"speech")
    sink.close()
    assert mode(path) == "0o600"


@pytest.mark.skipif(os.name != "posix", reason="permissions are those of POSIX")
def test_an_old_file_or_a_link_is_replaced_and_not_written_into(tmp_path):
    old, link = tmp_path / "old.stsession", tmp_path / "link.stsession"
    old.write_bytes(b"an old one")
    old.chmod(0o666)
    link.symlink_to(old)
    with old.open("rb") as reader:
        for path in (link, old):
            sink = FileSink(path)
            sink.write(b"speech")
            sink.close()
            assert (path.read_bytes(), path.is_symlink(), mode(path)) == (b"speech", False, "0o600")
        assert reader.read() == b"an old one"


@pytest.mark.skipif(os.name != "posix", reason="permissions are those of POSIX")
def test_a_folder_that_is_made_is_its_owners_alone(tmp_path, umask, capsys):
    assert mode(Telling(record=tmp_path / "tapes").folder()) == "0o700"
    assert capsys.readouterr().err == ""
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o755)
    assert mode(Telling(record=shared).folder()) == "0o755"
    assert "others may look into" in capsys.readouterr().err


async def test_files_are_written_beside_the_event_loop(house, tmp_path, monkeypatch):
    writers = set()
    put = FileSink.write

    def noted(self, data):
        writers.add(threading.get_ident())
        put(self, data)

    monkeypatch.setattr(FileSink, "write", noted)
    async with house.running(config=house.configured(record=tmp_path)) as (_, client):
        await house.collect(client, house.speech(0.5, 1.5, 0.7), StreamOptions(("de",)))
    assert writers
    assert threading.get_ident() not in writers


async def test_a_disk_that_hangs_holds_up_nobody(house, tmp_path, monkeypatch, caplog):
    go_on = threading.Event()
    put = FileSink.write

    def stuck(self, data):
        go_on.wait(30)
        put(self, data)

    monkeypatch.setattr(FileSink, "write", stuck)
    try:
        async with asyncio.timeout(20), house.running(config=house.configured(record=tmp_path)) as (_, client):
            events = await house.collect(client, house.speech(0.5, 1.5, 0.7), StreamOptions(("de",)))
            assert isinstance(events[-1], Summary)
    finally:
        go_on.set()


async def test_a_recording_ends_at_the_quota_and_its_call_does_not(house, tmp_path, caplog):
    (tmp_path / "older.stsession").write_bytes(bytes(2_000_000))
    config = house.configured(record=tmp_path, record_quota_mb=1)
    async with house.running(config=config) as (_, client):
        events = await house.collect(client, house.speech(0.5, 1.5, 0.7), StreamOptions(("de",)))
    assert isinstance(events[-1], Summary)
    assert events[-1].finals == 1
    assert "holds 2,000,000 bytes of the 1,000,000 allowed" in caplog.text
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) == 2_000_000


async def test_what_is_written_in_pieces_is_read_whole(tmp_path):
    tape = Tape(tmp_path / "x", 10_000_000)
    pieces = [bytes([n % 256]) * (n * 37 % 9_000) for n in range(700)]
    for n, piece in enumerate(pieces):
        tape.write(piece)
        if n % 50 == 0:
            tape.flush()
            await asyncio.sleep(0)
    tape.close()
    await tape.written(10)
    assert Path(tmp_path / "x").read_bytes() == b"".join(pieces)


async def test_more_than_a_disk_can_take_is_refused(tmp_path, monkeypatch):
    go_on = threading.Event()
    monkeypatch.setattr(FileSink, "write", lambda self, data: go_on.wait(30))
    tape = Tape(tmp_path / "x", 10**9)
    try:
        for _ in range(15):
            tape.write(bytes(1 << 20))
        tape.write(bytes(1 << 20))  # one of them is with the disk already
        with pytest.raises(OSError, match="wait for the disk"):
            tape.write(bytes(16 << 20))
    finally:
        go_on.set()
        tape.close()
        await tape.written(10)


def test_a_quota_of_nothing_is_refused():
    with pytest.raises(BadConfig, match="record_quota_mb is 0"):
        ServerConfig(record_quota_mb=0)
