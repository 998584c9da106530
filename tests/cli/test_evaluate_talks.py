import json

import numpy as np
import pytest
import soundfile
from rich.progress import Progress

from streamtrans.cli.streaming import stream_options, targets_of_stream
from streamtrans.core import BadConfig, Caption
from streamtrans.evaluate.logs import read_log
from streamtrans.evaluate.manifest import Talk
from streamtrans.evaluate.settings import Setting


@pytest.fixture
def manifest(tmp_path):
    random = np.random.default_rng(0)
    pieces = [
        random.normal(0, 0.2 if index % 2 else 0, round(s * 16_000)) for index, s in enumerate((0.3, 1.2, 0.8, 0.9))
    ]
    soundfile.write(tmp_path / "a.wav", np.concatenate(pieces), 16_000)
    segments = [{"start_ms": 300, "end_ms": 1500, "texts": {"de": "eins zwei", "en": "one two"}}]
    (tmp_path / "a.json").write_text(json.dumps(segments))
    path = tmp_path / "MANIFEST.tsv"
    path.write_text("audio\tlanguage\tsegments\ten\tde\na.wav\ten\ta.json\tone two\teins zwei\n")
    return path


def test_one_direction_prints_one_object(run, checkpoint, manifest):
    status, out, _ = run(
        *("evaluate", manifest, "--to", "de", "--mode", "live", "--json", "--vad", "energy", "--model", checkpoint),
        *("--set", "policy=hold", "--set", "policy_n=2", "--log", manifest.parent / "log"),
    )
    assert status == 0
    figures = json.loads(out)
    assert (figures["source"], figures["target"]) == ("en", "de")
    assert figures["values"] == {"mode": "live", "vad": "energy", "policy": "hold", "policy_n": 2}
    wanted = "bleu chrf normalized_erasure stream_laal_ms first_caption_ms commit_lag_ms passes_per_partial acceptance"
    assert set(wanted.split()) <= set(figures)
    assert figures["segments"] > 0
    assert len([*(manifest.parent / "log").glob("*/a.jsonl")]) == 1


def test_settings_are_compared_and_kept(run, checkpoint, manifest):
    pytest.importorskip("matplotlib")
    settings, kept = manifest.parent / "settings.toml", manifest.parent / "kept"
    settings.write_text('[calm]\nvad = "energy"\n[final]\nvad = "energy"\nmode = "final"\n')
    status, out, _ = run(
        "evaluate", manifest, "--settings", settings, "--results", kept, "--no-offline", "--model", checkpoint
    )
    assert status == 0
    assert "calm" in out
    record = json.loads((kept / "streaming.json").read_text())
    assert [each["setting"] for each in record["figures"]["settings"]] == ["calm", "final"]
    assert record["figures"]["model"]["name"] == "tiny"
    assert "## calm" in (kept / "streaming.md").read_text()


@pytest.mark.slow
def test_two_streams_in_real_time_are_timed_by_the_wall(run, checkpoint, manifest, monkeypatch):
    shown = []

    class Watched(Progress):
        def advance(self, task_id, advance=1):
            super().advance(task_id, advance)
            shown.append((self.tasks[task_id].description, self.tasks[task_id].completed, self.tasks[task_id].total))

    monkeypatch.setattr("streamtrans.cli.report.Progress", Watched)
    log = manifest.parent / "log"
    status, out, err = run(
        *("evaluate", manifest, "--to", "de,en", "--streams", "2", "--json", "--vad", "energy"),
        *("--model", checkpoint, "--log", log, "--no-offline"),
    )
    assert status == 0, err
    names, seconds, totals = zip(*shown, strict=True)
    assert set(names) == {"vad=energy, 2 at a time, seconds of talks"}
    assert len(seconds) > 10
    assert list(seconds) == sorted(seconds)
    assert seconds[-1] == pytest.approx(totals[0], abs=0.5)
    translation, transcript = map(json.loads, out.splitlines())
    assert (translation["target"], transcript["target"]) == ("de", "en")
    assert translation["clock"].startswith("wall")
    assert translation["talks"] == 2
    assert translation["realtime_factor"] > 0
    logs = [read_log(log / "vad=energy" / name) for name in ("a.jsonl", "a.2.jsonl")]
    assert all(each.timed_by_wall() and not each.problems for each in logs)
    finals = [each for each in logs[0].events if isinstance(each.event, Caption) and each.event.final]
    assert all(each.wall_ms >= each.event.end / 16 for each in finals)
    assert finals


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--to", "de"), "without a manifest of talks there is no --to"),
        (("--streams", "2"), "no --streams"),
        (("none.tsv",), "no manifest at"),
        (("none.tsv", "--rows", "3"), "doesn't go with --rows"),
        (("none.tsv", "--beams", "3"), "doesn't go with --beams"),
        (("none.tsv", "--set", "polici=hold"), "did you mean 'policy'"),
        (("none.tsv", "--settings", "none.toml"), "can't be read"),
        (("none.tsv", "--settings", "none.toml", "--mode", "live"), "leave out --mode"),
    ],
)
def test_what_does_not_go_together_is_refused(run, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    status, _, err = run("evaluate", *arguments)
    assert status == 2
    assert message in err


def test_cuts_are_counted(run, manifest):
    status, out, _ = run("bench", "cuts", manifest, "--set", "vad=energy", "--results", manifest.parent)
    assert status == 0
    assert "lost at cuts" in out
    kept = json.loads((manifest.parent / "cuts.json").read_text())
    assert kept["figures"]["talks"][0]["words"] == 2


def test_cuts_need_times(run, manifest):
    bare = manifest.parent / "bare.tsv"
    bare.write_text("audio\tlanguage\tde\na.wav\ten\teins\n")
    status, _, err = run("bench", "cuts", bare, "--results", manifest.parent)
    assert status == 2
    assert "names no segments" in err


def test_a_server_is_asked_for_what_can_travel(tmp_path):
    setting = Setting(
        "s", {"mode": "stable", "reading_interval_ms": 320, "vad": "webrtc", "endpoints": {"min_silence_ms": 300}}
    )
    options = stream_options(setting, ("de",), "en")
    assert (options.mode, options.min_interval_ms, options.vad, options.min_silence_ms) == (
        "stable",
        320,
        "webrtc",
        300,
    )
    with pytest.raises(BadConfig, match="max_behind_ms can't be asked of a server"):
        stream_options(Setting("s", {"max_behind_ms": 90_000}), ("de",), "en")
    six = Talk("a", tmp_path, "en", dict.fromkeys(("en", "de", "es", "fr", "it", "zh"), "x"))
    assert targets_of_stream(six, (), None) == ("de", "es", "fr", "it", "zh")
    assert targets_of_stream(six, ("en", "de"), None) == ("en", "de")
