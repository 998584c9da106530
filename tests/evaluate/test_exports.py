import json
import random
import subprocess
import sys
from types import SimpleNamespace

import pytest

from streamtrans.cli import main
from streamtrans.core import BadConfig, Caption, SpeechEnded, SpeechStarted
from streamtrans.evaluate.exports import export_omnisteval, export_simulstream
from streamtrans.evaluate.logs import Header, Log, Logged, read_log, write_log
from streamtrans.metrics import ReferenceSegment, corpus_latency, count_erased, settled, units

LETTERS = {"de": [f"wort{number}" for number in range(30)], "zh": list("的一是不了在人有我他这")}
JOINT = {"de": " ", "zh": ""}


def a_log(seed, language="de", *, wall=True, name=None):
    """A log of a talk whose captions grow, and change, until each segment ends."""
    draw = random.Random(seed)
    events, references, at = [], [], 8_000
    for segment in range(5):
        text = [draw.choice(LETTERS[language]) for _ in range(draw.randint(2, 9))]
        start, step = at, 5_600
        events.append((at, SpeechStarted(segment, start)))
        for count in range(1, len(text) + 1):
            at += step
            said = [draw.choice(LETTERS[language]) if draw.random() < 0.2 else word for word in text[:count]]
            if count == len(text):
                said = [word for word in text if draw.random() > 0.1]
                events.append((at, SpeechEnded(segment, at)))
            shown, final = JOINT[language].join(said), count == len(text)
            texts = (shown, "") if final else ("", shown)
            events.append((at, Caption(segment, count, language, *texts, final, start, at, at)))
        references.append(ReferenceSegment(start / 16, (at - start) / 16, JOINT[language].join(text)))
        at += draw.choice([800, 16_000])
    header = Header(name or f"talk{seed}.wav", "en", (language,), at, references={language: tuple(references)})
    lag = 0.0
    logged = []
    for heard, event in events:
        lag = max(0.0, lag + draw.uniform(-60, 90))
        logged.append(Logged(heard, event, heard / 16 + lag if wall else None))
    return Log(header, tuple(logged))


def read_simulstream(path, unit):
    """Read a metrics log by the rules of simulstream's documentation: (text, delays, with computing) per name."""
    names, talks = {}, {}
    for line in map(json.loads, path.read_text(encoding="utf-8").splitlines()):
        if "metadata" in line:
            names[line["id"]] = line["metadata"]["wav_name"]
            continue
        tokens, ideal, aware = talks.setdefault(names[line["id"]], ([], [], []))
        deleted, generated = line["deleted_tokens"], line["generated_tokens"]
        assert tokens[len(tokens) - len(deleted) :] == deleted
        for kept in (tokens, ideal, aware):
            del kept[len(kept) - len(deleted) :]
        tokens += generated
        ideal += [line["total_audio_processed"]] * len(generated)
        aware += [line["total_audio_processed"] + line["computation_time"]] * len(generated)
    return {name: (unit.join(tokens), ideal, aware) for name, (tokens, ideal, aware) in talks.items()}


@pytest.mark.parametrize("language", ["de", "zh"])
def test_simulstream_reads_our_text_and_times(tmp_path, language):
    logs = [a_log(1, language), a_log(2, language)]
    path = tmp_path / "metrics.jsonl"
    export_simulstream(logs, path, language)
    talks = read_simulstream(path, JOINT[language])
    for log in logs:
        text, ideal, aware = talks[log.header.audio]
        words = settled(log.timed())
        assert units(text, language) == tuple(word.text for word in words)
        assert [1000 * seconds for seconds in ideal] == pytest.approx([word.at_ms for word in words])
        by_wall = settled(log.timed_by_wall())
        assert [1000 * seconds for seconds in aware] == pytest.approx([word.at_ms for word in by_wall], abs=0.05)


def test_simulstream_counts_our_erasure(tmp_path):
    log = a_log(3)
    export_simulstream([log], tmp_path / "metrics.jsonl", "de")
    lines = list(map(json.loads, (tmp_path / "metrics.jsonl").read_text().splitlines()))
    erased = count_erased(logged.event for logged in log.events if isinstance(logged.event, Caption))
    assert sum(len(line.get("deleted_tokens", ())) for line in lines) == erased.withdrawn
    assert lines[-1]["total_audio_processed"] == log.header.samples / 16_000


def test_the_reader_of_simulstream_agrees(tmp_path):
    readers = pytest.importorskip("simulstream.metrics.readers", reason="not a dependency: it needs librosa")
    for language, unit in (("de", "word"), ("zh", "char")):
        log = a_log(4, language)
        export_simulstream([log], tmp_path / "metrics.jsonl", language)
        config = SimpleNamespace(detokenizer_type="simuleval", latency_unit=unit)
        found = readers.LogReader(config, str(tmp_path / "metrics.jsonl"), unit)
        output = found.final_outputs_and_latencies()["talk4"]
        words = settled(log.timed())
        assert units(output.final_text, language) == tuple(word.text for word in words)
        assert [1000 * seconds for seconds in output.ideal_delays] == pytest.approx([word.at_ms for word in words])
        erased = count_erased(logged.event for logged in log.events if isinstance(logged.event, Caption))
        assert found.num_deleted_tokens() == erased.withdrawn


def test_an_older_segment_that_changes_is_written_anew(tmp_path):
    shown = [(1, "eins"), (2, "zwei"), (1, "eins neu")]
    events = [
        Logged(1600 * at, Caption(segment, at, "de", "", text, False, 0, 9, 9))
        for at, (segment, text) in enumerate(shown, 1)
    ]
    export_simulstream([Log(Header("a.wav", targets=("de",)), tuple(events))], tmp_path / "metrics.jsonl", "de")
    assert read_simulstream(tmp_path / "metrics.jsonl", " ")["a.wav"] == (
        "eins neu zwei",
        [0.1, 0.3, 0.3],
        [0.1, 0.3, 0.3],
    )


@pytest.mark.parametrize("language", ["de", "zh"])
def test_omnisteval_computes_our_numbers_from_our_files(tmp_path, language):
    pytest.importorskip("omnisteval", reason="the eval extra")
    logs = [a_log(seed, language) for seed in (5, 6)]
    files = export_omnisteval(logs, tmp_path / "hypotheses.jsonl", language)
    level = "--char_level" if language == "zh" else "--word_level"
    code = "import sys; from omnisteval.cli import main; sys.exit(main())"
    options = ["--hypothesis_file", "--speech_segmentation", "--ref_sentences_file"]
    named = [argument for pair in zip(options, map(str, files), strict=True) for argument in pair]
    subprocess.run(
        [sys.executable, "-c", code, "longform", level, "--no_quality", *named, "--output_folder", str(tmp_path)],
        check=True,
        capture_output=True,
    )
    theirs = dict(line.split("\t") for line in (tmp_path / "scores.tsv").read_text().splitlines()[1:])
    for clock, times in (("CU", Log.timed), ("CA", Log.timed_by_wall)):
        talks = [(settled(times(log)), log.header.references[language]) for log in logs]
        ours = corpus_latency(talks, language)
        for name, value in (
            ("LongYAAL", ours.long_yaal_ms),
            ("LongAL", ours.al_ms),
            ("LongLAAL", ours.laal_ms),
            ("LongDAL", ours.dal_ms),
        ):
            assert float(theirs[f"{name} ({clock})"]) == pytest.approx(value, abs=1e-3)


def test_without_wall_time_nothing_is_computation_aware(tmp_path):
    path = tmp_path / "hypotheses.jsonl"
    export_omnisteval([a_log(7), a_log(8, wall=False)], path, "de")
    lines = list(map(json.loads, path.read_text().splitlines()))
    assert not any("elapsed" in line for line in lines)
    assert all(len(line["delays"]) == len(line["prediction"].split()) for line in lines)
    assert [line["source"] for line in lines] == ["talk7.wav", "talk8.wav"]


@pytest.mark.parametrize("export", [export_simulstream, export_omnisteval])
def test_a_log_without_words_is_exported(tmp_path, export):
    for empty in (Log(Header("a.wav", targets=("de",))), Log(Header("a.wav", targets=("de",), samples=1600))):
        assert export([empty], tmp_path / "out.jsonl", "de") == (tmp_path / "out.jsonl",)
        assert (tmp_path / "out.jsonl").read_text().strip()


@pytest.mark.parametrize("export", [export_simulstream, export_omnisteval])
def test_what_cannot_be_exported_is_refused(tmp_path, export):
    with pytest.raises(BadConfig, match="two of the logs are of a talk named 'a'"):
        export([a_log(1, name="x/a.wav"), a_log(2, name="y/a.flac")], tmp_path / "out", "de")
    with pytest.raises(BadConfig, match="has no 'fr': it has de"):
        export([a_log(1)], tmp_path / "out", "fr")
    with pytest.raises(BadConfig, match="no logs"):
        export([], tmp_path / "out", "de")
    with pytest.raises(BadConfig, match="can't be written"):
        export([a_log(1)], tmp_path / "absent" / "out", "de")


def run(capsys, *arguments):
    status = 0
    try:
        main([str(argument) for argument in arguments])
    except SystemExit as end:
        status = end.code or 0
    return (status, *capsys.readouterr())


def test_the_verb_writes_what_is_left_of_a_log(tmp_path, capsys):
    log = a_log(9)
    write_log(tmp_path / "talk.log", log.header, log.events)
    whole = (tmp_path / "talk.log").read_bytes()
    for size in (0, 50, len(whole) // 2, len(whole) - 1):
        (tmp_path / "talk.log").write_bytes(whole[:size])
        header = whole[:size].count(b"\n") > 0
        for form in ("simulstream", "omnisteval"):
            status, out, err = run(
                capsys, "export-log", tmp_path / "talk.log", "--format", form, "--to", tmp_path / "out"
            )
            assert ("cut off" in err, status) == (True, 0 if header else 2)
            assert bool(out) == header
    assert read_log(tmp_path / "talk.log").events


def test_the_verb_asks_for_a_language_and_a_format(tmp_path, capsys):
    log = tmp_path / "talk.log"
    write_log(log, Header("a.wav", targets=("de", "fr")), [])
    for options, told in (
        (["--format", "omnisteval"], "de, fr: say which one with --language"),
        (["--format", "srt"], "known are simulstream, omnisteval"),
        (["--format", "omnisteval", "--language", "zh"], "no 'zh'"),
    ):
        status, _, err = run(capsys, "export-log", log, *options, "--to", tmp_path / "out")
        assert (status, told in " ".join(err.split())) == (2, True)
    assert (
        run(capsys, "export-log", log, "--format", "omnisteval", "--language", "fr", "--to", tmp_path / "out")[0] == 0
    )
