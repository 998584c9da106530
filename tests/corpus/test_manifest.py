from __future__ import annotations

from pathlib import Path

import pytest

from streamtrans.core import BadConfig
from streamtrans.corpus import Recording, read_manifest


def test_good_lines_are_read_and_bad_ones_named(tmp_path: Path) -> None:
    for name in ("a.wav", "b.wav"):
        (tmp_path / name).write_bytes(b"")
    manifest = tmp_path / "list.tsv"
    manifest.write_text(
        "audio\tlanguage\ttext\tde\tfr\n"
        "a.wav\ten\thello\thallo\t\n"
        "gone.wav\ten\thello\thallo\tsalut\n"
        "b.wav\ten\t \thallo\tsalut\n"
        "b.wav\ttlh\tnuqneH\thallo\tsalut\n"
        "b.wav\ten\thello\n"
        "\n"
        "b.wav\tde\thallo\t\tsalut\n",
        encoding="utf-8",
    )
    recordings, problems = read_manifest(manifest)
    assert recordings == [
        Recording(tmp_path / "a.wav", "en", "hello", {"en": "hello", "de": "hallo"}),
        Recording(tmp_path / "b.wav", "de", "hallo", {"de": "hallo", "fr": "salut"}),
    ]
    assert problems == (
        "list.tsv:3: there is no audio file 'gone.wav' beside the manifest",
        "list.tsv:4: the text is empty",
        "list.tsv:5: language 'tlh' is none of en, de, es, fr, it, zh",
        "list.tsv:6: 3 columns where the header names 5",
    )


@pytest.mark.parametrize("header", ["audio\ttext", "audio\tlanguage\ttext\tklingon", "audio\tlanguage\ttext\ttext"])
def test_the_header_must_name_the_columns(tmp_path: Path, header: str) -> None:
    manifest = tmp_path / "list.tsv"
    manifest.write_text(header + "\n")
    with pytest.raises(BadConfig, match=r"list\.tsv:1: the header must name audio, language and translations"):
        read_manifest(manifest)


def test_a_missing_or_undecodable_manifest_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadConfig, match="there is no manifest"):
        read_manifest(tmp_path / "none.tsv")
    (tmp_path / "bad.tsv").write_bytes(b"audio\tlanguage\ttext\n\xff\n")
    with pytest.raises(BadConfig, match="is not UTF-8"):
        read_manifest(tmp_path / "bad.tsv")


def test_what_is_said_may_stand_under_its_own_language(tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_bytes(b"")
    manifest = tmp_path / "list.tsv"
    manifest.write_text("audio\tlanguage\ten\tde\na.wav\tde\thello\thallo\na.wav\tde\thello\t\n", encoding="utf-8")
    recordings, problems = read_manifest(manifest)
    assert recordings == [Recording(tmp_path / "a.wav", "de", "hallo", {"en": "hello", "de": "hallo"})]
    assert problems == ("list.tsv:3: the text is empty",)
