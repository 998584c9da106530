import json

import numpy as np
import pytest
import soundfile

from streamtrans.core import BadConfig
from streamtrans.evaluate.manifest import read_sentences, read_talks

SEGMENTS = [
    {"start_ms": 100, "end_ms": 900, "texts": {"en": "one two", "de": "eins zwei"}},
    {"start_ms": 950, "end_ms": 1900, "texts": {"en": "three", "de": ""}},
]


@pytest.fixture
def folder(tmp_path):
    soundfile.write(tmp_path / "a.wav", np.zeros(32_000), 16_000)
    (tmp_path / "a.json").write_text(json.dumps({"sentences": SEGMENTS}), encoding="utf-8")
    return tmp_path


def manifest(folder, *lines):
    path = folder / "m.tsv"
    path.write_text("\n".join("\t".join(line) for line in lines) + "\n", encoding="utf-8")
    return path


def test_a_talk_with_and_one_without_times(folder):
    soundfile.write(folder / "b.flac", np.zeros(16_000), 16_000)
    path = manifest(
        folder,
        ("audio", "language", "segments", "de", "zh-CN"),
        ("a.wav", "en", "a.json", "", "一二"),
        ("b.flac", "en-US", "", "drei", ""),
    )
    known, plain = read_talks(path)
    assert (known.name, known.language, plain.language) == ("a", "en", "en")
    assert known.references == {"de": "eins zwei ", "zh": "一二"}
    assert [(each.start_ms, each.duration_ms, each.text) for each in known.reference_segments("de")] == [
        (100, 800, "eins zwei"),
        (950, 950, ""),
    ]
    assert [(each.start_ms, each.duration_ms, each.text) for each in known.reference_segments("zh")] == [
        (0, 2000, "一二")
    ]
    assert "1 of 2 sentences" in known.problems("de")[0]
    assert "scored as one" in known.problems("zh")[0]
    assert plain.problems("de") == []
    assert "reference in zh is empty" in plain.problems("zh")[0]
    assert len(known.load()) == 32_000


def test_segments_as_a_table_are_those_of_json(folder):
    table = folder / "a.tsv"
    table.write_text("start_ms\tend_ms\ten\tde\n100\t900\tone two\teins zwei\n950\t1900\tthree\t\n")
    assert read_sentences(table) == read_sentences(folder / "a.json")


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([("language", "de"), ("en", "x")], "lacks audio"),
        ([("audio", "language"), ("a.wav", "en")], "no language to compare"),
        ([("audio", "language", "klingon"), ("a.wav", "en", "x")], "'klingon' is no language code"),
        ([("audio", "language", "zh", "zh-CN"), ("a.wav", "en", "x", "y")], "names something twice"),
        ([("audio", "language", "de")], "no talk"),
        ([("audio", "language", "de"), ("b.wav", "en", "x")], r"m\.tsv:2: there is no audio file 'b\.wav'"),
        ([("audio", "language", "de"), ("", "en", "x")], "no audio file ''"),
        ([("audio", "language", "de"), ("a.wav", "xx-klingon", "x")], "m.tsv:2: column language"),
        ([("audio", "language", "de"), ("a.wav", "en")], "2 columns where the header names 3"),
        ([("audio", "language", "segments", "de"), ("a.wav", "en", "b.json", "x")], "no file of segments 'b.json'"),
        ([("audio", "language", "de"), ("a.wav", "en", "x"), ("a.wav", "en", "x")], "more than once"),
    ],
)
def test_a_bad_manifest_is_refused_by_line(folder, lines, message):
    with pytest.raises(BadConfig, match=message):
        read_talks(manifest(folder, *lines))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[]", "holds no sentence"),
        ("{", "this isn't"),
        ('[{"start_ms": 0}]', "this isn't"),
        ('[{"start_ms": 5, "end_ms": 5, "texts": {}}]', "each must end after it starts"),
        ('[{"start_ms": 0, "end_ms": 5, "texts": {"klingon": "x"}}]', "this isn't"),
    ],
)
def test_bad_segments_are_refused(tmp_path, content, message):
    (tmp_path / "s.json").write_text(content)
    with pytest.raises(BadConfig, match=message):
        read_sentences(tmp_path / "s.json")


def test_segments_of_another_recording_are_refused(folder):
    late = [{"start_ms": 0, "end_ms": 9000, "texts": {"de": "x"}}]
    (folder / "late.json").write_text(json.dumps(late))
    path = manifest(folder, ("audio", "language", "segments", "de"), ("a.wav", "en", "late.json", "x"))
    with pytest.raises(BadConfig, match="another recording"):
        read_talks(path)[0].load()


def test_missing_files_are_named(tmp_path):
    with pytest.raises(BadConfig, match="no manifest at"):
        read_talks(tmp_path / "none.tsv")
    with pytest.raises(BadConfig, match="is a folder"):
        read_talks(tmp_path)
    (tmp_path / "latin.tsv").write_bytes(b"audio\tlanguage\tde\nb\xe4r.wav\ten\tx\n")
    with pytest.raises(BadConfig, match="not UTF-8"):
        read_talks(tmp_path / "latin.tsv")
