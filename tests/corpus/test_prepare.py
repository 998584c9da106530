from __future__ import annotations

import hashlib
import io
import json
import tarfile
import zipfile
from pathlib import Path

import pytest

from streamtrans.core import BadConfig
from streamtrans.corpus import prepare, read_table
from streamtrans.corpus.prepare import LOCALES

# id, partition, and what is said in every language; "{}" is the language, so that sides differ.
SENTENCES = {
    "10": ("train", "lights on {}"),
    "2": ("train", "wake me at [time : nine {}]"),
    "3": ("train", "weather in [place_name : city {}]"),
    "4": ("train", "play [song_name : song {}]"),
    "5": ("dev", "open the door {}"),
    "6": ("dev", "lights on {}"),
    "7": ("dev", "call [person : name {}]"),
    "8": ("test", "close the door {}"),
}


def record(identity: str, language: str) -> dict[str, object]:
    partition, said = SENTENCES[identity]
    marked = said.format(language)
    if identity == "4" and language == "zh":
        marked = "play [artist_name : song zh]"
    plain = marked
    for slot in ("time", "place_name", "song_name", "artist_name", "person"):
        plain = plain.replace(f"[{slot} : ", "")
    return {
        "id": identity,
        "locale": LOCALES[language],
        "partition": partition,
        "scenario": "iot",
        "intent": "x",
        "utt": plain.replace("]", ""),
        "annot_utt": marked,
        "worker_id": "1",
    }


def massive(path: Path, languages: tuple[str, ...] = tuple(LOCALES), broken: bool = False) -> Path:
    with tarfile.open(path, "w:gz") as tar:
        for language in languages:
            lines = [json.dumps(record(identity, language), ensure_ascii=False) for identity in SENTENCES]
            if broken:
                lines[1] = '{"id": "2"}'
            data = "\n".join(lines).encode()
            member = tarfile.TarInfo(f"1.1/data/{LOCALES[language]}.jsonl")
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return path


def tatoeba(path: Path, stem: str, text: str) -> Path:
    with zipfile.ZipFile(path, "w") as packed:
        packed.writestr("_about.txt", "about")
        packed.writestr(f"{stem}.txt", text)
    return path


def test_archives_become_tables(tmp_path: Path) -> None:
    french = "Go.\tVa !\tCC-BY 2.0\nGo.\tVa !\tCC-BY 2.0\nGo.\tMarche.\tCC\nRun!\tCours !\tCC\n"
    archives = [
        tatoeba(tmp_path / "fra-eng.zip", "fra", french),
        tatoeba(tmp_path / "cmn.zip", "cmn", "Hi.\t嗨。\tCC\n"),
    ]
    said: list[str] = []
    source = massive(tmp_path / "massive.tar.gz")
    out = tmp_path / "text"
    report = prepare(source, archives, out, most_pairs={"fr": 2}, say=said.append)

    train = read_table(out / "massive_train.tsv")
    assert [(row.id, row.kind) for row in train] == [
        ("2", "none"),
        ("3", "refill"),
        ("4", "localised"),
        ("10", "none"),
    ]
    assert train[0].texts["it"] == "wake me at nine it"
    assert (out / "massive_train.tsv").read_text().splitlines()[0] == "id\tscenario\tentities\ten\tde\tes\tfr\tit\tzh"
    # Row 6 is said in train, row 7 names somebody.
    assert [row.id for row in read_table(out / "massive_dev.tsv")] == ["5"]
    templates = read_table(out / "massive_templates.tsv")
    assert [(row.id, row.texts["de"]) for row in templates] == [("3", "weather in [place_name : city de]")]
    assert [row.texts for row in read_table(out / "tatoeba_en-fr.tsv")] == [
        {"en": "Go.", "fr": "Va !"},
        {"en": "Go.", "fr": "Marche."},
    ]
    assert read_table(out / "tatoeba_en-zh.tsv")[0].texts == {"en": "Hi.", "zh": "嗨。"}

    for made in report.tables:
        assert made.sha256 == hashlib.sha256((out / made.name).read_bytes()).hexdigest()
    assert report.sources["massive.tar.gz"] == hashlib.sha256(source.read_bytes()).hexdigest()
    assert said == report.lines()
    assert any("massive_train.tsv  4 rows, localised 1, none 2, refill 1  sha256" in line for line in said)


def test_the_tables_are_the_same_every_time(tmp_path: Path) -> None:
    source = massive(tmp_path / "massive.tar.gz")
    first = prepare(source, [], tmp_path / "a", say=lambda _: None)
    again = prepare(source, [], tmp_path / "b", say=lambda _: None)
    assert first.tables == again.tables


def test_a_wrong_archive_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadConfig, match="can't read the archive"):
        prepare(tmp_path / "none.tar.gz", [], tmp_path / "out")
    text = tmp_path / "text.tar.gz"
    text.write_text("no archive")
    with pytest.raises(BadConfig, match="no readable tar archive"):
        prepare(text, [], tmp_path / "out")
    with pytest.raises(BadConfig, match="lacks it-IT, zh-CN"):
        prepare(massive(tmp_path / "few.tar.gz", ("en", "de", "es", "fr")), [], tmp_path / "out")
    with pytest.raises(BadConfig, match=r"en-US\.jsonl:2 is no MASSIVE record"):
        prepare(massive(tmp_path / "broken.tar.gz", broken=True), [], tmp_path / "out")


@pytest.mark.parametrize(
    ("stem", "text", "told"),
    [("xyz", "a\tb\n", "it should hold one of"), ("deu", "only english\n", r"deu\.txt:1 isn't English")],
)
def test_a_wrong_pair_archive_is_named(tmp_path: Path, stem: str, text: str, told: str) -> None:
    source = massive(tmp_path / "massive.tar.gz")
    with pytest.raises(BadConfig, match=told):
        prepare(source, [tatoeba(tmp_path / "x.zip", stem, text)], tmp_path / "out", say=lambda _: None)
    (tmp_path / "y.zip").write_text("no archive")
    with pytest.raises(BadConfig, match="no readable zip archive"):
        prepare(source, [tmp_path / "y.zip"], tmp_path / "out", say=lambda _: None)
