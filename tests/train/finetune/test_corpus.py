from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from streamtrans.core import BadConfig
from streamtrans.text import Tokenizer
from streamtrans.train.finetune.corpus import Corpus, Example, Limits, prepare, with_texts
from streamtrans.train.finetune.recipe import Source
from tests.train.finetune.conftest import write_manifest, write_tone

LIMITS = Limits(("en", "de"), max_seconds=1.0, max_tokens=24)
HEADER = ("audio", "text", "language", "de", "en")


@pytest.fixture
def tokenizer(base: Path) -> Tokenizer:
    return Tokenizer.load(base)


@pytest.fixture
def bad(tmp_path: Path) -> Path:
    """A manifest with one good line, and one bad line of every kind."""
    write_tone(tmp_path / "fine.wav", seconds=0.5, pitch=300)
    write_tone(tmp_path / "long.wav", seconds=1.5, pitch=300)
    (tmp_path / "letter.wav").write_text("Dear Sir or Madam,\n" * 20)
    rows = [
        ("fine.wav", "light", "en", "licht", ""),
        ("none.wav", "light", "en", "licht", ""),
        ("fine.wav", "  ", "en", "licht", ""),
        ("fine.wav", "light", "tlh", "licht", ""),
        ("long.wav", "light", "en", "licht", ""),
        ("letter.wav", "light", "en", "licht", ""),
        ("fine.wav", "light", "en", "licht " * 30, ""),
        ("fine.wav", "light", "en", "", "light"),
        ("fine.wav", "light", "en"),
    ]
    write_manifest(tmp_path / "bad.tsv", rows, HEADER)
    return tmp_path / "bad.tsv"


KINDS = [
    "missing audio",
    "empty text",
    "unknown language",
    "over-long audio",
    "unreadable audio",
    "over-long text",
    "untranslated",
    "columns",
]


def test_bad_lines_are_reported_counted_and_skipped(bad: Path, tokenizer: Tokenizer) -> None:
    said: list[str] = []
    sources = [Source("manifest", str(bad), repeat=2)]
    folder = bad.parent / "run"
    corpus = prepare(folder, "train", sources, LIMITS, tokenizer, on_bad="skip", say=said.append)
    assert [corpus.read(number).where for number in range(len(corpus))] == [f"{bad}:2"] * 2
    assert corpus.seconds.tolist() == pytest.approx([0.5, 0.5])
    lines = (folder / "train.problems.txt").read_text().splitlines()
    found = {int(line.split(":")[1]): line.split(": ")[1] for line in lines}
    assert found == dict(enumerate(KINDS, start=3))
    assert all(f"1 × {kind}" in said[0] for kind in KINDS)
    assert "2 recordings" in said[0]
    assert any("lasts 1.5 s; at most 1 s are allowed" in line for line in lines)
    assert any("'tlh' is none of the recipe's en, de" in line for line in lines)


def test_bad_lines_are_refused_with_a_list(bad: Path, tokenizer: Tokenizer) -> None:
    folder = bad.parent / "run"
    with pytest.raises(BadConfig, match=r"8 bad lines") as caught:
        prepare(folder, "train", [Source("manifest", str(bad))], LIMITS, tokenizer, on_bad="refuse", say=lambda _: None)
    assert all(f"{bad}:{number}: " in str(caught.value) for number in range(3, 11))
    assert 'on_bad = "skip"' in str(caught.value)
    assert not (folder / "train.jsonl").exists()


def test_endless_translations_of_a_machine_are_left_out(bad: Path, tokenizer: Tokenizer) -> None:
    def fill(examples: Sequence[Example]) -> list[Example]:
        return [with_texts(example, {"de": "licht " * 500} if "de" in example.pseudo else {}) for example in examples]

    def twice(examples: Sequence[Example]) -> list[Example]:
        return fill([replace(example, pseudo=("de",)) for example in examples])

    rows = [("fine.wav", "light", "en", "licht", "")]
    write_manifest(bad.parent / "one.tsv", rows, HEADER)
    sources = [Source("manifest", str(bad.parent / "one.tsv"))]
    with pytest.raises(BadConfig, match="no line of its data is good"):
        prepare(bad.parent / "run", "train", sources, LIMITS, tokenizer, on_bad="skip", fill=twice)
    problems = (bad.parent / "run" / "train.problems.txt").read_text()
    assert "over-long pseudo-label: the machine's translation into de takes more than the model's 24" in problems
    assert "untranslated" in problems


def test_marks_of_texts_that_are_not_there_are_ignored(bad: Path, tokenizer: Tokenizer) -> None:
    rows = [("fine.wav", "light", "en", "licht", "", "zh"), ("fine.wav", "light", "en", "licht", "", "de-DE")]
    write_manifest(bad.parent / "marked.tsv", rows, (*HEADER, "pseudo"))
    sources = [Source("manifest", str(bad.parent / "marked.tsv"))]
    corpus = prepare(bad.parent / "run", "train", sources, LIMITS, tokenizer, on_bad="refuse")
    assert [corpus.read(number).pseudo for number in range(2)] == [(), ("de",)]


def test_only_headers_are_read(bad: Path, tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*given: object) -> None:
        raise AssertionError("a corpus check must not decode audio")

    monkeypatch.setattr("soundfile.SoundFile.read", refuse)
    corpus = prepare(bad.parent / "r", "t", [Source("manifest", str(bad))], LIMITS, tokenizer, on_bad="skip", say=print)
    assert len(corpus) == 1


def test_a_corpus_without_a_good_line_is_refused(tmp_path: Path, tokenizer: Tokenizer) -> None:
    write_manifest(tmp_path / "m.tsv", [("none.wav", "a", "en", "b", "")], HEADER)
    with pytest.raises(BadConfig, match=r"no line of its data is good .*1 × missing audio"):
        prepare(tmp_path, "train", [Source("manifest", str(tmp_path / "m.tsv"))], LIMITS, tokenizer, on_bad="skip")


def test_a_prepared_corpus_is_read_again_and_never_mixed_up(bad: Path, tokenizer: Tokenizer) -> None:
    folder, source = bad.parent / "run", Source("manifest", str(bad))
    first = prepare(folder, "train", [source], LIMITS, tokenizer, on_bad="skip", say=print)
    bad.unlink()  # what was prepared doesn't need its source any more
    again = prepare(folder, "train", [source], LIMITS, tokenizer, on_bad="skip", say=print)
    assert isinstance(again, Corpus)
    assert again.read(0) == first.read(0)
    with pytest.raises(BadConfig, match="was made from other data or limits"):
        prepare(folder, "train", [source], Limits(("en", "de"), 2.0, 24), tokenizer, on_bad="skip")
