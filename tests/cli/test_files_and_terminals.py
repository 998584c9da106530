"""Files and terminals as they are: what fails stops nothing else, and what was made stays."""

import contextlib
import io
import json
import os
import resource
import signal
import sys
import threading
import time

import numpy as np
import pytest
import soundfile

from streamtrans.cli import outputs, reading, streams
from streamtrans.core import BadConfig
from tests.cli.conftest import sound

FAST = ("--vad", "energy", "--threads", "1", "--dtype", "float64")


@pytest.fixture
def translate(run, checkpoint):
    return lambda *arguments: run("translate", "--model", checkpoint, *FAST, *arguments)


def errors(err):
    return [line for line in err.splitlines() if line.startswith("error: ")]


def captions(out):
    return [json.loads(line)["captions"] for line in out.splitlines()]


@pytest.fixture
def standard(monkeypatch):
    """Put something in the place of a standard stream, and close it in the end."""
    put = []

    def replace(name, stream):
        monkeypatch.setattr(sys, name, stream)
        put.extend([stream] if stream else [])

    yield replace
    for stream in put:
        with contextlib.suppress(OSError):
            stream.close()


class Terminal(io.TextIOWrapper):
    """Standard output that says it is a terminal."""

    def __init__(self):
        super().__init__(io.BytesIO(), encoding="utf-8", write_through=True)

    def isatty(self):
        return True

    @property
    def said(self):
        return self.buffer.getvalue().decode()


# --- what is written depends on the file alone -------------------------------------------------------------------


@pytest.mark.parametrize("more", [(), ("--grow",)])
def test_law_who_watches_changes_nothing(translate, recordings, monkeypatch, more):
    assert translate("talk.wav", "--to", "de,zh", "--srt", "--output-dir", "piped", *more)[0] == 0
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", terminal := Terminal())
        assert translate("talk.wav", "--to", "de,zh", "--srt", "--output-dir", "watched", *more)[0] == 0
    for name in ("talk.de.srt", "talk.zh.srt"):
        assert (recordings / "piped" / name).read_bytes() == (recordings / "watched" / name).read_bytes() != b""
    assert "00:00 " in terminal.said


@pytest.mark.parametrize("more", [(), ("--grow",)])
def test_law_other_languages_change_nothing(translate, recordings, more):
    alone = captions(translate("talk.wav", "--to", "zh", "--json", *more)[1])[0]
    beside = captions(translate("talk.wav", "--to", "de,zh,en", "--json", *more)[1])[0]
    assert alone == [caption for caption in beside if caption["language"] == "zh"] != []


def test_captions_stand_in_the_order_of_their_time(translate, recordings):
    [found] = captions(translate("talk.wav", "--to", "de,zh", "--json", "--grow")[1])
    assert [caption["start_ms"] for caption in found] == sorted(caption["start_ms"] for caption in found)


def test_words_have_times_and_confidences(translate, recordings):
    [found] = captions(translate("talk.wav", "--to", "de", "--json")[1])
    for caption in found:
        assert "".join("".join(word["text"].split()) for word in caption["words"]) == "".join(caption["text"].split())
        times = [(word["start_ms"], word["end_ms"]) for word in caption["words"] if "start_ms" in word]
        assert all(caption["start_ms"] <= start <= end <= caption["end_ms"] for start, end in times)
        assert all(0 < word["confidence"] <= 1 for word in caption["words"])


# --- what fails stops nothing else -------------------------------------------------------------------------------


def test_every_kind_of_bad_name_is_named_and_the_others_go_on(translate, recordings):
    bad = {
        "x" * 300 + ".wav": "File name too long",
        "talk.wav/inside.wav": "no such file",
        "loop.wav": "no such file|can't be read",
    }
    os.symlink("loop.wav", "loop.wav")
    status, out, err = translate(*bad, "talk.wav", "--to", "de")
    assert status == 1
    assert "00:00 de" in out
    assert len(errors(err)) == len(bad)


def test_a_subtitle_that_cannot_be_written_stops_no_other(translate, recordings):
    (recordings / "talk.de.srt").mkdir()
    status, _, err = translate("talk.wav", "phone.wav", "--to", "de,zh", "--srt", "--vtt", "--overwrite")
    assert status == 1
    assert errors(err) == ["error: talk.wav: talk.de.srt can't be written: Is a directory"]
    made = {path.name for path in recordings.glob("*.*.*")} - {"talk.de.srt"}
    assert made == {"talk.zh.srt", "talk.de.vtt", "talk.zh.vtt"} | {
        f"phone.{language}.{kind}" for language in ("de", "zh") for kind in ("srt", "vtt")
    }


def test_files_that_exist_are_kept_unless_told(translate, recordings):
    (recordings / "talk.de.srt").write_text("mine")
    status, out, err = translate("talk.wav", "phone.wav", "--to", "de", "--srt")
    assert status == 1
    assert errors(err) == ["error: talk.wav: talk.de.srt exists; --overwrite replaces it"]
    assert (recordings / "talk.de.srt").read_text() == "mine"
    assert (recordings / "phone.de.srt").exists()
    assert "talk.wav" not in out
    assert translate("talk.wav", "--to", "de", "--srt", "--overwrite")[0] == 0
    assert (recordings / "talk.de.srt").read_text().startswith("1\n")


@pytest.mark.parametrize("there", [True, False])
def test_links_are_not_followed(translate, recordings, there):
    if there:
        (recordings / "secret").write_text("mine")
    os.symlink("secret", "talk.de.srt")
    assert translate("talk.wav", "--to", "de", "--srt")[0] == 1
    assert translate("talk.wav", "--to", "de", "--srt", "--overwrite")[0] == 0
    assert not (recordings / "talk.de.srt").is_symlink()
    assert (recordings / "secret").exists() == there
    assert not there or (recordings / "secret").read_text() == "mine"


def test_a_full_disk_leaves_what_was_there(tmp_path):
    (tmp_path / "a.srt").write_text("good")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10, hard))
    try:
        with pytest.raises(BadConfig, match=r"a\.srt can't be written: File too large"):
            outputs.write_whole(tmp_path / "a.srt", "x" * 100_000, overwrite=True)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, before)
    assert [path.name for path in tmp_path.iterdir()] == ["a.srt"]
    assert (tmp_path / "a.srt").read_text() == "good"


def test_what_is_written_has_the_rights_that_the_user_gives(tmp_path):
    before = os.umask(0o027)
    try:
        outputs.write_whole(tmp_path / "a.srt", "x", overwrite=False)
    finally:
        os.umask(before)
    assert (tmp_path / "a.srt").stat().st_mode & 0o777 == 0o640


# --- what was made stays -----------------------------------------------------------------------------------------


def test_a_file_that_breaks_off_keeps_its_captions(translate, recordings):
    data = (recordings / "talk.wav").read_bytes()
    (recordings / "torn.wav").write_bytes(data[: len(data) * 2 // 3])
    status, out, err = translate("torn.wav", "--to", "de", "--srt", "--json")
    assert status == 1
    assert "the file is truncated" in errors(err)[0]
    assert captions(out)[0]
    assert "truncated" in json.loads(out)["error"]
    assert (recordings / "torn.de.srt").read_text()


def test_a_hole_in_the_samples_keeps_the_captions_before_it(translate, recordings):
    speech = sound(0.3, 1.2, 0.8, 0.9, 0.7, 1.0, 1.0)
    speech[-4_000] = np.nan
    soundfile.write("holed.wav", speech, 16_000, subtype="FLOAT")
    status, out, err = translate("holed.wav", "--to", "de")
    assert status == 1
    assert "is NaN" in errors(err)[0]
    assert "00:00 de" in out


def interrupt_after(blocks, monkeypatch, times=1):
    real = reading.stream_file

    def interrupted(*arguments):
        for number, block in enumerate(real(*arguments)):
            yield block
            if number + 1 == blocks:
                for _ in range(times):
                    os.kill(os.getpid(), signal.SIGINT)
                    time.sleep(0.3)

    monkeypatch.setattr(reading, "stream_file", interrupted)


def test_ctrl_c_keeps_what_was_made(translate, recordings, monkeypatch):
    soundfile.write("long.wav", np.tile(sound(0.3, 1.2, 0.8), 20), 16_000)
    interrupt_after(4, monkeypatch)
    status, out, err = translate("long.wav", "talk.wav", "--to", "de", "--srt", "--together", "1")
    assert status == 130
    assert "long.wav 00:00 de" in out
    assert errors(err) == [
        "error: long.wav: stopped after 10.0 s; what was made until then is kept",
        "error: talk.wav: stopped before it was begun",
    ]
    assert "-->" in (recordings / "long.de.srt").read_text()
    assert not (recordings / "talk.de.srt").exists()


# --- standard streams as they are --------------------------------------------------------------------------------


def test_standard_input_is_a_recording(translate, recordings, monkeypatch):
    expected = captions(translate("talk.wav", "--to", "de", "--json")[1])
    with (recordings / "talk.wav").open("rb") as file:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(file))
        status, out, _ = translate("-", "--to", "de", "--json", "--txt")
    assert status == 0
    assert captions(out) == expected
    assert json.loads(out)["file"] == "-"
    assert (recordings / "stdin.de.txt").read_text().split()


def test_a_pipe_is_a_recording(translate, recordings):
    os.mkfifo("pipe.wav")
    data = (recordings / "talk.wav").read_bytes()
    threading.Thread(target=lambda: (recordings / "pipe.wav").write_bytes(data), daemon=True).start()
    status, out, _ = translate("pipe.wav", "--to", "de", "--srt")
    assert status == 0
    assert "00:00 de" in out
    assert (recordings / "pipe.de.srt").exists()


def test_nothing_on_standard_input_is_named(translate, recordings, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO()))
    status, _, err = translate("-", "--to", "de")
    assert status == 1
    assert errors(err) == ["error: -: the file is empty (0 bytes)"]


def test_a_terminal_is_no_recording(translate, recordings, monkeypatch):
    monkeypatch.setattr(sys, "stdin", Terminal())
    assert "standard input is no recording" in translate("-", "--to", "de")[2]


def test_letters_that_the_encoding_lacks_are_escaped(translate, recordings, monkeypatch):
    for name in ("你好.wav", "😀.wav"):
        (recordings / name).write_bytes((recordings / "talk.wav").read_bytes())
    arguments = ("你好.wav", "😀.wav", "--to", "de,zh")
    _, text, _ = translate(*arguments)
    _, line, _ = translate(*arguments, "--json")
    for encoding, more, expected in (("ascii", (), text), ("latin-1", (), text), ("latin-1", ("--json",), line)):
        with monkeypatch.context() as patch:
            patch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO(), encoding=encoding))
            status, _, err = translate(*arguments, *more)
            said = sys.stdout.buffer.getvalue().decode(encoding)
        assert status == 0
        if more:
            files = [[json.loads(each)["file"] for each in lines.splitlines()] for lines in (said, expected)]
            assert files == [["你好.wav", "😀.wav"]] * 2
        else:
            assert said == expected.encode(encoding, "backslashreplace").decode(encoding)
            assert f"standard output is in {encoding}, which lacks some letters" in err


def full():
    return open("/dev/full", "w")


def test_a_full_standard_output_is_named_once(translate, recordings, standard):
    standard("stdout", full())
    status, _, err = translate("talk.wav", "phone.wav", "--to", "de,zh")
    assert status == 1
    assert errors(err) == ["error: standard output can't be written: No space left on device"]
    assert "Traceback" not in err


def test_a_full_standard_output_costs_no_subtitles(translate, recordings, standard):
    standard("stdout", full())
    assert translate("talk.wav", "phone.wav", "--to", "de", "--srt")[0] == 1
    assert (recordings / "phone.de.srt").read_text()


@pytest.mark.parametrize("arguments", [("doctor", "--model", "/no/such"), ("--help",), ("translate", "--help")])
def test_every_verb_says_that_standard_output_is_full(run, standard, arguments):
    standard("stdout", full())
    status, _, err = run(*arguments)
    assert status == 1
    assert "standard output can't be written" in err


def test_a_reader_that_has_seen_enough_ends_it_quietly(translate, recordings, standard):
    read, write = os.pipe()
    os.close(read)
    standard("stdout", os.fdopen(write, "w"))
    status, _, err = translate("talk.wav", "--to", "de")
    assert status == 1
    assert errors(err) == []
    assert "Traceback" not in err


def test_a_closed_standard_output_is_refused_unless_files_are_written(translate, recordings, standard):
    standard("stdout", None)
    status, _, err = translate("talk.wav", "--to", "de")
    assert status == 2
    assert "standard output is closed" in err
    assert translate("talk.wav", "--to", "de", "--srt")[0] == 0
    assert (recordings / "talk.de.srt").read_text()


def test_a_closed_standard_error_loses_nothing(translate, recordings, standard):
    standard("stderr", None)
    status, out, _ = translate("talk.wav", "nowhere.wav", "--to", "de")
    assert status == 1
    assert "00:00 de" in out


def test_a_full_standard_error_loses_nothing(translate, recordings, standard):
    standard("stderr", full())
    status, out, _ = translate("talk.wav", "nowhere.wav", "--to", "de")
    assert status == 1
    assert "00:00 de" in out


def test_without_a_terminal_streams_take_every_letter(monkeypatch):
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO(), encoding="cp1252"))
    streams.prepare()
    print("你好 \udcff", flush=True)
    assert sys.stdout.buffer.getvalue() == b"\\u4f60\\u597d \\udcff\n"


# --- what a person sees ------------------------------------------------------------------------------------------


def test_no_speech_is_said(translate, recordings):
    soundfile.write("hiss.wav", np.random.default_rng(0).normal(0, 0.002, 32_000), 16_000)
    status, out, err = translate("still.wav", "hiss.wav", "talk.wav", "--to", "de", "--json")
    assert status == 0
    assert "note: no speech was found in still.wav: it is silent, all of its samples are zero" in err
    assert "note: no speech was found in hiss.wav\n" in err
    assert "in talk.wav" not in err
    assert [json.loads(line).get("notes") for line in out.splitlines()] == [["no speech was found"]] * 2 + [None]


def test_a_wrong_header_is_told_beside_the_captions(translate, recordings):
    data = bytearray((recordings / "talk.wav").read_bytes())
    at = data.index(b"data") + 4
    data[at : at + 4] = bytes(4)
    (recordings / "killed.wav").write_bytes(data)
    status, out, err = translate("killed.wav", "--to", "de")
    assert status == 0
    assert out == translate("talk.wav", "--to", "de")[1]
    assert "note: killed.wav: its header states 0.00 s, but it holds 3.90 s: all of it is read" in err


def test_names_steer_no_terminal(translate, recordings, monkeypatch):
    evil = "a\x1b[2J\u202eb.wav"
    (recordings / evil).write_bytes((recordings / "talk.wav").read_bytes())
    _, out, err = translate(evil, "phone.wav", f"no{evil}", "--to", "de")
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", terminal := Terminal())
        translate(evil, "phone.wav", "--to", "de", "--grow")
    for text in (out, err, terminal.said):
        assert r"a\x1b[2J\u202eb.wav" in text
        assert "\x1b[2J" not in text
        assert "\u202e" not in text
    _, line, _ = translate(evil, "--to", "de", "--json")
    assert json.loads(line)["file"] == evil
    assert "\u202e" not in line


def test_every_output_says_the_same(translate, recordings):
    status, out, _ = translate("talk.wav", "--to", "de", "--txt", "--tsv", "--json")
    assert status == 0
    [found] = captions(out)
    table = [line.split("\t") for line in (recordings / "talk.de.tsv").read_text().splitlines()]
    assert table[0] == ["start", "end", "text"]
    assert [[int(start), int(end)] for start, end, _ in table[1:]] == [[c["start_ms"], c["end_ms"]] for c in found]
    assert "".join((recordings / "talk.de.txt").read_text().split()) == "".join(
        "".join(t[2] for t in table[1:]).split()
    )


def test_one_thread_draws(translate, recordings, monkeypatch):
    monkeypatch.setattr(sys, "stdout", Terminal())
    drawn = set()
    real = Terminal.write

    def write(self, text):
        drawn.add(threading.current_thread().name)
        return real(self, text)

    monkeypatch.setattr(Terminal, "write", write)
    assert translate("talk.wav", "phone.wav", "--to", "de,zh", "--grow")[0] == 0
    assert drawn == {threading.main_thread().name}


def test_recordings_and_models_that_exist_are_kept_unless_told(run, checkpoint, recordings):
    (recordings / "a.stsession").write_bytes(b"mine")
    status, _, err = run("record", "a.stsession", "talk.wav", "--to", "de", "--model", checkpoint, *FAST)
    assert status == 2
    assert "a.stsession exists; --overwrite replaces it" in err
    assert (recordings / "a.stsession").read_bytes() == b"mine"
    (recordings / "model").mkdir()
    (recordings / "model" / "config.json").write_text("{}")
    status, _, err = run("export", "recipe.toml", "stage", "model")
    assert status == 2
    assert "model exists and isn't an empty folder" in err


def test_training_says_at_once_what_it_does_and_what_ctrl_c_leaves(run, tmp_path, monkeypatch):
    def interrupted(recipe, **how):
        raise KeyboardInterrupt

    monkeypatch.setattr("streamtrans.cli.train._run", interrupted)
    status, _, err = run("train", tmp_path / "r.toml")
    assert status == 130
    assert "the first figures may take minutes" in err.splitlines()[0]
    assert "goes on from what was saved last" in err
