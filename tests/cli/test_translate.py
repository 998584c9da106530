import json
import re

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from streamtrans.cli.inputs import Recording
from streamtrans.cli.options import languages
from streamtrans.cli.reading import translate_file
from streamtrans.core import BadConfig, UnsupportedLanguage
from streamtrans.runtime import ModelChoice, load
from tests.checkpoints import make_whisper

FAST = ("--vad", "energy", "--threads", "1")


@pytest.fixture
def translate(run, checkpoint):
    return lambda *arguments: run("translate", "--model", checkpoint, *FAST, *arguments)


def test_a_recording_is_translated_to_plain_lines(translate, recordings):
    status, out, err = translate("talk.wav", "--to", "de,zh")
    assert status == 0
    lines = out.strip().splitlines()
    assert [line.split()[1] for line in lines] == ["de", "zh"] * 2
    assert all(re.match(r"00:0[0-3] ", line) for line in lines)
    assert "talk.wav" in err
    assert "00:03/00:03" in err
    assert "× real time" in err


def test_json_is_one_line_per_good_file(translate, recordings):
    status, out, err = translate("talk.wav", "letter.wav", "phone.wav", "--to", "de,en", "--json")
    assert status == 1
    assert "error: letter.wav: not audio" in err
    files = [json.loads(line) for line in out.splitlines()]
    assert [file["file"] for file in files] == ["talk.wav", "phone.wav"]
    for file in files:
        assert file["duration_s"] == pytest.approx(3.9, abs=0.01)
        captions = [(caption["language"], caption["start_ms"]) for caption in file["captions"]]
        # Weights drawn at random repeat themselves, and of some repetitions no whole character is left.
        assert 2 <= len(captions) <= 4
        assert {language for language, _ in captions} <= {"de", "en"}
        for caption in file["captions"]:
            assert set(caption) == {"language", "start_ms", "end_ms", "text", "complete", "words"}
            assert 0 <= caption["start_ms"] < caption["end_ms"] <= 1000 * file["duration_s"]
        stats = file["stats"]
        assert stats["segments"] == 2
        assert stats["passes"] > 0
        assert stats["accepted"] <= stats["drafted"]
        assert stats["real_time_factor"] > 0
        assert set(stats["acceptance"]) == {"kvspn"}
        assert stats["tokens"] >= stats["passes"]


def test_subtitles_stand_beside_the_recording_or_in_a_folder(translate, recordings):
    assert translate("talk.wav", "--to", "de,zh", "--srt")[0] == 0
    assert {path.name for path in recordings.glob("*.srt")} == {"talk.de.srt", "talk.zh.srt"}
    text = (recordings / "talk.de.srt").read_text()
    assert text.startswith("1\n00:00:00,")
    assert text.count("-->") >= 2
    assert translate("talk.wav", "--to", "de", "--vtt", "--output-dir", "subs/new")[0] == 0
    assert (recordings / "subs/new/talk.de.vtt").read_text().startswith("WEBVTT\n")


def test_every_bad_file_is_named_and_the_good_one_is_done(translate, recordings):
    bad = {
        "empty.wav": "empty",
        "letter.wav": "not audio",
        "holed.wav": "sample 20000 is NaN",
        "missing.wav": "no such file",
        ".": "folder",
    }
    status, out, err = translate("talk.wav", *bad, "--to", "de")
    assert status == 1
    assert out.count("talk.wav 00:0") == 2
    errors = [line for line in err.splitlines() if line.startswith("error: ")]
    assert len(errors) == len(bad)
    for (name, problem), line in zip(bad.items(), errors, strict=True):
        assert line.startswith(f"error: {name}: ")
        assert problem in line
    assert "Traceback" not in err


def test_a_file_of_no_length_is_no_error(translate, recordings):
    soundfile.write("blink.wav", np.zeros(1), 192_000)
    status, out, _ = translate("blink.wav", "--to", "de", "--json")
    assert status == 0
    assert json.loads(out)["captions"] == []


def test_a_pair_that_the_model_does_not_translate_is_refused(run, recordings, tmp_path):
    folder = tmp_path / "stock"
    folder.mkdir()
    make_whisper(
        folder,
        d_model=16,
        encoder_layers=1,
        decoder_layers=1,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=16,
        decoder_ffn_dim=16,
    )
    for arguments, problem in (
        (["--to", "en"], "must be told the spoken language"),
        (["--to", "zh", "--from", "de"], "not de to zh"),
    ):
        status, out, err = run("translate", "talk.wav", "--model", folder, *FAST, *arguments)
        assert (status, out) == (2, "")
        assert problem in err


def test_silence_is_no_error(translate, recordings):
    status, out, _ = translate("still.wav", "--to", "de", "--srt")
    assert (status, out) == (0, "")
    assert (recordings / "still.de.srt").read_text() == ""


def test_only_bad_files_load_no_model(run, recordings):
    status, _, err = run("translate", "missing.wav", "--to", "de", "--model", "nowhere")
    assert status == 1
    assert "no such file" in err
    assert "nowhere" not in err


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["--to", "fr"], "doesn't know fr"),
        (["--to", "xx"], "unknown language 'xx'"),
        (["--to", ","], "names no language"),
        (["--to", "de,de-AT"], "twice"),
        (["--to", "de", "--from", "klingon"], "unknown language 'klingon'"),
        (["--to", "de", "--drafter", "eco"], "did you mean 'echo'"),
        (["--to", "de", "--top-k", "0"], "top-k"),
        (["--to", "de", "--vad", "silro"], "unknown VAD 'silro'"),
        (["--to", "de", "--dtype", "int3"], "int3"),
        (["--to", "de", "--model", "nowhere"], "there is no folder nowhere"),
    ],
)
def test_a_wrong_option_is_one_line(translate, recordings, arguments, problem):
    status, out, err = translate("talk.wav", *arguments)
    assert (status, out) == (2, "")
    assert err.startswith("error: ")
    assert problem in err
    assert len(err.splitlines()) == 1


def test_two_recordings_of_one_name_are_refused_before_any_work(translate, recordings):
    (recordings / "talk.flac").write_bytes((recordings / "talk.wav").read_bytes())
    status, _, err = translate("talk.wav", "talk.flac", "--to", "de", "--srt")
    assert status == 2
    assert "same files" in err


def test_growing_captions_end_in_the_same_finals(translate, recordings):
    _, finals, _ = translate("talk.wav", "--to", "de,zh", "--drafter", "none", "--json")
    _, grown, _ = translate("talk.wav", "--to", "de,zh", "--drafter", "none", "--json", "--grow")
    finals, grown = json.loads(finals), json.loads(grown)
    assert grown["stats"]["readings"] > finals["stats"]["readings"]
    assert len(grown["captions"]) == len(finals["captions"])


def test_together_equals_alone(translate, recordings):
    alone = [translate(name, "--to", "de", "--json", "--dtype", "float64")[1] for name in ("talk.wav", "phone.wav")]
    both = translate("talk.wav", "phone.wav", "--to", "de", "--json", "--dtype", "float64")[1].splitlines()
    assert [json.loads(text)["captions"] for text in alone] == [json.loads(text)["captions"] for text in both]


def test_loaded_settings_fit_the_model(checkpoint):
    loaded = load(ModelChoice(str(checkpoint), threads=1), slots=3)
    try:
        assert loaded.engine.capacity == 3
        assert loaded.endpoints.max_segment_ms == 1000 * loaded.model.max_samples // 16_000 < 12_000
        with pytest.raises(UnsupportedLanguage, match="it knows en, de, zh"):
            loaded.check_languages(("de", "fr"))
    finally:
        loaded.engine.close()


def test_options_pass_to_another_process():
    choice = ModelChoice("m", "cpu", "float32", "echo", "2", "webrtc", "off", True, 3)
    assert choice.arguments() == (
        [
            "--zero-shot",
            "--model",
            "m",
            "--device",
            "cpu",
            "--dtype",
            "float32",
            "--drafter",
            "echo",
            "--top-k",
            "2",
            "--vad",
            "webrtc",
            "--guard",
            "off",
            "--threads",
            "3",
        ]
    )
    assert "--model" not in ModelChoice().arguments()


@settings(max_examples=50, deadline=None)
@given(st.lists(st.sampled_from(["en", "de", "zh-CN", "pt_BR", " fr "]), max_size=4))
def test_law_languages_are_canonical_and_unique(tags):
    try:
        codes = languages(",".join(tags))
    except BadConfig:
        assert not tags or len(set(tags)) < len(tags)
    else:
        assert codes == tuple(tag.strip()[:2] for tag in tags)


def test_a_reader_stops_when_told(recordings, checkpoint):
    import threading

    from streamtrans.cli.reading import Watcher
    from streamtrans.stream import SessionConfig
    from streamtrans.testing.engine import InstantEngine

    stop = threading.Event()
    watcher = Watcher(lambda path, samples: stop.set(), lambda path, events: None)
    engine = InstantEngine(lambda job, target: None, Quiet())
    path = recordings / "talk.wav"
    done = translate_file(
        Recording(path, path),
        SessionConfig(("de",), vad="energy"),
        Nothing(),
        engine,
        watcher=watcher,
        stop=stop,
    )
    assert done.problem.startswith("stopped after 0.5 s")
    assert done.samples == 7_680


class Quiet:
    def detect(self, streams):
        return [(windows.mean(1) * 0, None) for windows, _ in streams]


class Nothing:
    def decode(self, tokens):
        return ""

    def boundary(self, tokens, n, *, final=False):
        return n

    def sentence_end(self, tokens):
        return None
