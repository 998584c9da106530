import ast
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile
import streamtrans_clients

from streamtrans.stream.calls import Kind
from streamtrans.stream.records import Records, pack, preface
from tests.cli.conftest import sound

FAST = ("--vad", "energy", "--threads", "1")
TALK = "talk.stsession"


@pytest.fixture
def record(run, checkpoint, recordings):
    return lambda *arguments: run("record", *arguments, "--model", checkpoint, *FAST)


@pytest.fixture
def recorded(record):
    """A recording of two segments in two languages."""
    status, out, err = record(TALK, "talk.wav", "--to", "de,zh")
    assert status == 0
    assert f"{TALK}: 3.9 s, " in err
    return [line.split()[1] for line in out.splitlines()]


def rewritten(change):
    """Write the recording again with ``change`` made to what it told."""
    with Path(TALK).open("rb") as file:
        records = list(Records(file, TALK))
    data = [pack(r.kind, change(r.payload) if r.kind == Kind.TOLD else r.payload) for r in records]
    Path(TALK).write_bytes(preface() + b"".join(data))


def test_what_is_recorded_replays_to_the_same_captions(run, recorded):
    assert recorded == ["de", "zh"] * 2
    status, out, err = run("replay", TALK)
    assert (status, err) == (0, "")
    assert out.startswith(f"{TALK}: 3.9 s, 4 captions in ")
    assert "computed again: the same bit for bit" in out
    assert Path(TALK).stat().st_mode & 0o777 == 0o600


def test_recorded_answers_need_no_model(run, recorded, monkeypatch):
    monkeypatch.setattr("streamtrans.cli.replay.load", None)
    status, out, err = run("replay", TALK, "--answers", "--show")
    assert (status, err) == (0, "")
    *captions, last = out.splitlines()
    assert "from its own answers: the same bit for bit" in last
    assert any("‹" in line for line in captions)
    status, out, err = run("replay", TALK, "--answers", "--json", "--show")
    assert status == 0
    assert err.splitlines() == captions
    told = json.loads(out)
    assert (told["file"], told["duration_s"], told["same"], told["difference"]) == (TALK, 3.9, True, None)
    assert (told["problem"], told["stability_off"]) == (None, 0)
    assert told["revisions"] > len(told["captions"]) == 4
    assert {caption["language"] for caption in told["captions"]} == {"de", "zh"}
    assert all(0 <= caption["start_ms"] < caption["end_ms"] <= 3_900 for caption in told["captions"])


def test_the_captions_are_those_of_translate(run, recorded, checkpoint):
    told = json.loads(run("replay", TALK, "--answers", "--json")[1])
    same = ("--to", "de,zh", "--json", "--grow", "--model", checkpoint, *FAST)
    captions = json.loads(run("translate", "talk.wav", *same)[1])["captions"]
    assert told["captions"] == [
        {name: caption[name] for name in ("language", "start_ms", "end_ms", "text")} for caption in captions
    ]


def test_the_first_caption_that_differs_is_named(run, recorded):
    rewritten(lambda told: told.replace(b'"committed":"', b'"committed":"oh ', 1))
    for arguments in ((), ("--answers",)):
        status, out, _ = run("replay", TALK, *arguments)
        assert status == 1
        assert out.startswith(f"{TALK} differs at ")
        assert "s: segment 0, revision 1, de: was 'oh " in out
    status, out, _ = run("replay", TALK, "--answers", "--json")
    assert status == 1
    told = json.loads(out)
    assert told["same"] is False
    difference = told["difference"]
    assert (difference["segment"], difference["revision"], difference["language"]) == (0, 1, "de")
    assert ast.literal_eval(difference["was"]) == "oh " + ast.literal_eval(difference["now"])


def test_other_versions_are_told_where_something_differs(run, recorded):
    with Path(TALK).open("rb") as file:
        header, *rest = Records(file, TALK)
    content = json.loads(header.payload)
    content["origin"]["versions"]["torch"] = "0.4.1"
    records = [pack(header.kind, json.dumps(content).encode()), *(pack(r.kind, r.payload) for r in rest)]
    Path(TALK).write_bytes(preface() + b"".join(records))
    assert run("replay", TALK)[2] == ""
    rewritten(lambda told: told.replace(b'"committed":"', b'"committed":"oh ', 1))
    assert "notice: recorded with torch 0.4.1 (here " in run("replay", TALK)[2]


def test_a_recording_that_was_cut_off_replays_up_to_there(run, recorded):
    whole = Path(TALK).read_bytes()
    Path(TALK).write_bytes(whole[: len(whole) // 2])
    status, out, err = run("replay", TALK)
    assert status == 0
    assert "the same bit for bit" in out
    assert err.startswith(f"notice: {TALK} ends after ")
    assert "s in the middle of a record; replayed up to there" in err
    Path(TALK).write_bytes(whole[:40])
    status, out, err = run("replay", TALK)
    assert (status, out) == (2, "")
    assert "before it says what was recorded" in err


def test_another_model_is_refused_and_both_are_named(run, recorded, checkpoint):
    shutil.copytree(checkpoint, "other")
    Path("other/generation_config.json").write_text("{}")
    status, out, err = run("replay", TALK, "--model", "other")
    assert (status, out) == (2, "")
    assert "was recorded with tiny (weights " in err
    assert "other (weights " in err
    assert "--answers" in err


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["talk.wav", TALK], "talk.wav is to be written, and recordings are named NAME.stsession"),
        ([TALK, "missing.wav"], "no such file"),
        ([TALK, "letter.wav"], "not audio"),
        (["no/such/folder.stsession", "talk.wav"], "can't be written: No such file"),
        ([TALK, "--realtime"], "--realtime is for files"),
        ([TALK, "talk.wav", "--microphone", "1"], "can't both be heard"),
        ([TALK, "talk.wav", "--mode", "lively"], "'lively'; use one of live, stable, final"),
        ([TALK, "talk.wav", "--to", "fr"], "doesn't know fr"),
        ([TALK, "holed.wav", "--to", "de"], "NaN"),
    ],
)
def test_a_wrong_order_is_one_line(record, arguments, problem):
    status, _, err = record(*arguments)
    assert status == 2
    assert err.startswith("error: ")
    assert problem in err
    assert len(err.splitlines()) == 1


@pytest.mark.parametrize(
    ("name", "problem"), [("missing.stsession", "No such file"), ("talk.wav", "is no recording"), (".", "directory")]
)
def test_what_is_no_recording_is_one_line(run, recordings, name, problem):
    status, out, err = run("replay", name)
    assert (status, out) == (2, "")
    assert err.startswith("error: ")
    assert problem in err
    assert len(err.splitlines()) == 1


def test_a_full_disk_is_told(record, monkeypatch):
    def full(self, data):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("streamtrans.stream.FileSink.write", full)
    status, _, err = record(TALK, "talk.wav", "--to", "de")
    assert status == 2
    assert f"error: {TALK} can't be written: No space left on device" in err


def test_a_file_is_heard_in_its_own_time(record, run, recordings):
    soundfile.write("short.wav", sound(0.1, 0.5, 0.1), 16_000)
    assert record(TALK, "short.wav", "--to", "de", "--realtime")[0] == 0
    status, out, err = run("replay", TALK)
    assert (status, err) == (0, "")
    assert f"{TALK}: 0.7 s, 1 captions" in out


def test_a_file_that_breaks_off_in_real_time_is_one_line(record):
    status, _, err = record(TALK, "holed.wav", "--to", "de", "--realtime")
    assert status == 2
    assert [line for line in err.splitlines() if "NaN" in line] == err.splitlines()


def test_a_microphone_is_heard_until_it_ends(record, run, monkeypatch):
    async def chunks():
        for chunk in np.split((sound(0.2, 1.0, 0.4, rate=8_000) * 32_767).clip(-32_768, 32_767).astype("<i2"), 16):
            yield chunk.tobytes()

    asked = []

    def microphone(device, stop):
        asked.append(device)
        return streamtrans_clients.Source("a toy microphone", 8_000, 1, chunks())

    monkeypatch.setattr("streamtrans_clients.microphones", lambda: ["* 3 a toy microphone"])
    monkeypatch.setattr("streamtrans_clients.microphone", microphone)
    status, out, err = record(TALK, "--to", "de", "--microphone", "3")
    assert status == 0
    assert asked == [3]
    assert "listening to a toy microphone; Ctrl-C ends" in err
    assert len(out.splitlines()) == 1
    assert f"{TALK}: 1.6 s, 1 captions in " in run("replay", TALK)[1]


def test_no_microphone_is_one_line_and_overwrites_nothing(record, monkeypatch):
    Path(TALK).write_text("an older one")
    monkeypatch.setattr("streamtrans_clients.microphones", list)
    status, _, err = record(TALK, "--to", "de")
    assert status == 2
    assert err == "error: there is no microphone; connect one; or name an audio file after the recording\n"
    assert Path(TALK).read_text() == "an older one"


def test_a_microphone_that_is_not_there_is_one_line(record, monkeypatch):
    def microphone(device, stop):
        raise streamtrans_clients.SourceError(f"no input device {device!r}")

    monkeypatch.setattr("streamtrans_clients.microphones", lambda: ["* 0 another"])
    monkeypatch.setattr("streamtrans_clients.microphone", microphone)
    status, _, err = record(TALK, "--to", "de", "--microphone", "desk")
    assert (status, err) == (2, "error: no input device 'desk'\n")


def test_the_embedded_model(run, recordings):
    assert run("record", TALK, "phone.wav", "--to", "de", "--threads", "1", "--vad", "energy")[0] == 0
    status, out, err = run("replay", TALK)
    assert (status, err) == (0, "")
    assert "computed again: the same bit for bit" in out
