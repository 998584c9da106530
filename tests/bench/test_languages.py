"""One model per language, merged, beside a joint one: all of it on a tiny Whisper, broken off and gone on with."""

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile

from streamtrans.bench.languages import Languages, lay_out
from streamtrans.compress.merging.merge import METHODS
from streamtrans.core import BadConfig
from streamtrans.model.layers import SpeechEncoder
from tests.checkpoints import make_whisper

SHAPE = {
    "d_model": 16, "encoder_layers": 1, "encoder_attention_heads": 2, "encoder_ffn_dim": 16,
    "decoder_layers": 2, "decoder_attention_heads": 2, "decoder_ffn_dim": 16,
}  # fmt: skip


@pytest.fixture
def asked(tmp_path: Path) -> Languages:
    (tmp_path / "base").mkdir()
    make_whisper(tmp_path / "base", **SHAPE)
    (tmp_path / "recipe.toml").write_text(
        'name = "x"\nbase = "none"\nspeech = ["none"]\nsteps = 1\nbatch = 2\nsilence_s = 0.1\nsave_every = 1\n'
    )
    rows = [
        "id\ten\tde\tzh\tes",
        *(f"{n}\tGood day {w}.\tGuten Tag.\t你好。\tBuenos días." for n, w in enumerate("ab")),
    ]
    (tmp_path / "pairs_de.tsv").write_text("\n".join(rows) + "\n")
    lines = ["audio\tlanguage\ttext\ten"]
    for number in range(2):
        soundfile.write(tmp_path / f"{number}.wav", np.random.default_rng(number).normal(0, 0.1, 9_000), 16_000)
        lines.append(f"{number}.wav\tzh\t你好\t{'' if number else 'hello'}")
    (tmp_path / "spoken.tsv").write_text("\n".join(lines) + "\n")
    (tmp_path / "people.tsv").write_text("audio\tlanguage\tde\ten\n0.wav\tde\tGuten Tag.\tGood day.\n")
    return Languages(
        recipe=tmp_path / "recipe.toml", base=str(tmp_path / "base"), text=tmp_path, table=("pairs_de",),
        people=tmp_path / "people.tsv", spoken=tmp_path / "spoken.tsv", work=tmp_path / "work",
        learnt=("de", "zh"), added=("en",), utterances=2, rows=2, seeds=1,
    )  # fmt: skip


class Stopped(Exception):
    pass


def test_all_is_made_once_and_scored_in_one_table(asked: Languages, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []

    def stop(task: str, *_: object) -> None:
        told.append(task)
        if task.startswith("joint"):
            raise Stopped

    with pytest.raises(Stopped):
        asked.measure(stop)
    half = [json.loads(line) for line in (asked.work / "scores.jsonl").read_text().splitlines()][1:]
    assert [line["model"] for line in half] == ["stock", "de", "zh", *METHODS]
    told.clear()
    report = asked.measure(lambda task, *_: told.append(task))
    assert not [task for task in told if task.startswith(("stock", "de", "zh"))]  # made and scored before
    scores = {line["model"]: line["scores"] for line in report.figures["scores"]}
    additive = [f"{method}+en" for method in METHODS if method != "ties"]
    assert [*scores] == ["stock", "de", "zh", *METHODS, "joint", "en", *additive]
    columns = {"machines de-de", "machines de-en", "machines zh-zh", "machines zh-en", "machines en-en"}
    assert set(scores["lors"]) == columns | {"people de-de", "people de-en"}
    files = [asked.work / "1" / name / "model.safetensors" for name in ("de", "zh", "mean", "lors", "joint", "lors+en")]
    assert len({file.read_bytes() for file in files}) == len(files)
    first = report.tables[0]
    assert [row[0] for row in first.rows] == [*scores]
    assert "is first by" in report.notes[0]
    # Nothing is left to do: the same table again.
    assert asked.measure().tables == report.tables
    # What the encoder said is kept: scores are made anew without it.
    scored = (asked.work / "scores.jsonl").read_text()
    (asked.work / "scores.jsonl").unlink()
    with monkeypatch.context() as patched:
        patched.setattr(SpeechEncoder, "forward", None)
        asked.measure()
    assert (asked.work / "scores.jsonl").read_text() == scored


def test_the_table_says_what_wins_and_what_was_lost() -> None:
    def line(model: str, seed: int, errors: float, points: float) -> dict[str, object]:
        return {"model": model, "seed": seed, "scores": {"people de-de": errors, "people de-en": points}}

    lines = [
        line("lors", 1, 20, 10), line("lors", 2, 22, 10), line("mean", 1, 10, 12), line("mean", 2, 10, 14),
        line("lors+zh", 1, 20, 7), line("lors+zh", 2, 22, 9),
    ]  # fmt: skip
    report = lay_out(lines, Languages())
    overall = {row[0]: row[1:] for row in report.tables[0].rows}
    assert overall["lors"] == (44.5, 1.0, None)  # (80 + 10) / 2 and (78 + 10) / 2
    assert overall["mean"] == (51.5, 1.0, None)
    assert overall["lors+zh"][2] == 2.0
    assert report.notes == [
        "mean is first by 7.00 points before lors, beyond the 1.00 that seeds differ by; lors is number 2 of 2"
    ]


def test_what_makes_no_sense_is_refused() -> None:
    with pytest.raises(BadConfig, match="names two or more, and --added others"):
        Languages(learnt=("de", "fr"), added=("fr",))


def test_a_language_without_voices_is_refused_by_name(asked: Languages) -> None:
    from dataclasses import replace

    with pytest.raises(BadConfig, match="Pico has no voice of zh: name a manifest of speech by --spoken"):
        replace(asked, spoken=None).measure()
