"""Layers are taken in several orders, taught or not, and scored on others; broken off and gone on with."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from safetensors.torch import load_file
from typer.testing import CliRunner

from streamtrans.bench.layers import Layers
from streamtrans.bench.reuse import Reuse
from streamtrans.cli.app import app
from streamtrans.compress.pruning import Pruning
from streamtrans.compress.pruning.scores import is_transcript
from streamtrans.compress.pruning.subjects import SpeechSubject
from streamtrans.compress.teaching import load_teaching
from streamtrans.core import BadConfig, BadModel
from streamtrans.evaluate.manifest import read_talks
from streamtrans.model.loading import load_model
from tests.audio_models import make_qwen
from tests.checkpoints import make_whisper

SHAPE = {
    "d_model": 16, "encoder_layers": 3, "encoder_attention_heads": 2, "encoder_ffn_dim": 16,
    "decoder_layers": 5, "decoder_attention_heads": 2, "decoder_ffn_dim": 16,
}  # fmt: skip


def people(folder: Path, name: str, seeds: range) -> Path:
    lines = ["audio\tlanguage\tde\ten\tfr"]
    for seed in seeds:
        audio = np.random.default_rng(seed).normal(0, 0.1, 9_000 + 500 * seed)
        soundfile.write(folder / f"{seed}.wav", audio, 16_000)
        lines.append(f"{seed}.wav\tde\tGuten Tag.\tGood day.\tBonjour.")
    (folder / f"{name}.tsv").write_text("\n".join(lines) + "\n")
    return folder / f"{name}.tsv"


@pytest.fixture
def asked(tmp_path: Path) -> Layers:
    (tmp_path / "base").mkdir()
    make_whisper(tmp_path / "base", **SHAPE)
    (tmp_path / "recipe.toml").write_text(
        'name = "x"\nbase = "none"\nspeech = ["none"]\nsteps = 2\nbatch = 2\npeak_lr = 1e-2\nwarmup = 1\n'
        'silence_s = 0.1\nsave_every = 1\nsaved_as = "float32"\n'
    )
    return Layers(
        model=str(tmp_path / "base"), selection=people(tmp_path, "selection", range(2)),
        test=people(tmp_path, "test", range(2, 4)), speech=(str(people(tmp_path, "speech", range(4, 6))),),
        recipe=tmp_path / "recipe.toml", remove=2, stacks=("decoder",), work=tmp_path / "work",
    )  # fmt: skip


class Stopped(Exception):
    pass


def weights(work: Path) -> dict[str, dict[str, torch.Tensor]]:
    return {file.parent.name: load_file(file) for file in sorted(work.glob("models/*/model.safetensors"))}


def test_broken_off_anywhere_it_ends_with_the_same_models_and_scores(asked: Layers, tmp_path: Path) -> None:
    whole = replace(asked, work=tmp_path / "whole").measure()
    calls, after, runs = 0, 3, 0

    def stop(*_: object) -> None:
        nonlocal calls
        calls += 1
        if calls == after:
            raise Stopped

    while True:
        runs, calls = runs + 1, 0
        try:
            report = asked.measure(stop)
            break
        except Stopped:
            after += 7  # each time a little farther: also in the middle of a training
    assert runs > 3
    assert report.figures["scores"] == whole.figures["scores"]
    assert (asked.work / "scores.jsonl").read_bytes() == (tmp_path / "whole" / "scores.jsonl").read_bytes()
    one, other = weights(asked.work), weights(tmp_path / "whole")
    assert one.keys() == other.keys()
    for name, tensors in one.items():
        assert all(torch.equal(tensor, other[name][key]) for key, tensor in tensors.items()), name


def test_each_set_of_layers_is_cut_once_and_taught_in_two_ways(asked: Layers) -> None:
    report = asked.measure()
    (table,) = report.tables
    rows = [dict(zip(table.columns, row, strict=True)) for row in table.rows]
    assert [row["taught"] for row in rows if row["removed"] == "none"] == ["nothing", "texts", "teacher"]
    for count in (1, 2):
        mine = [row for row in rows if row["removed"] != "none" and len(row["removed"].split(", ")) == count]
        assert sorted(order for row in mine for order in row["by"].split(", ")) == sorted(
            3 * ["importance", "even", "middle"]  # each order once per way of teaching
        )
        sets = {row["removed"] for row in mine}
        assert [row["taught"] for row in mine] == len(sets) * ["nothing", "texts", "teacher"]
        assert len({row["MB"] for row in mine if row["taught"] == "nothing"}) == 1
    sizes = [row["MB"] for row in rows if row["taught"] == "nothing"]
    assert sizes == sorted(sizes, reverse=True)
    made = weights(asked.work)
    first = next(name for name in made if name.count("-") == 1)
    name = "model.decoder.layers.0.fc1.weight"
    taught = [made[each][name] for each in (first, f"{first}-texts", f"{first}-teacher")]
    assert not any(torch.equal(taught[one], taught[two]) for one, two in ((0, 1), (0, 2), (1, 2)))
    kept = "model.encoder.layers.0.fc1.weight"
    assert torch.equal(made[first][kept], made[f"{first}-teacher"][kept])  # whose encoder lost nothing
    # It hears each recording once for all models: of the test and of the speech; the selection's layers remember.
    assert len([*asked.work.glob("heard/*/*.npy")]) == 2 + 2
    assert (asked.work / "layers.png").stat().st_size > 0
    assert report.figures["scores"][0]["points"].keys() == {"de-de", "de-en"}


def test_it_is_a_command_whose_table_is_kept(asked: Layers, tmp_path: Path) -> None:
    said = ["--model", asked.model, "--selection", asked.selection, "--test", asked.test, "--recipe", asked.recipe]
    options = ["--stacks", "encoder", "--remove", 1, "--taught", "nothing", "--work", asked.work]
    result = CliRunner().invoke(app, ["bench", "layers", *map(str, (*said, *options, "--results", tmp_path / "out"))])
    assert result.exit_code == 0, result.output
    lines = (tmp_path / "out" / "layers.md").read_text().splitlines()
    assert lines[0] == "**encoder layers, 2 steps**"
    assert lines[5].startswith("| 1 | importance, even, middle | nothing |")


def test_an_encoder_that_lost_layers_hears_with_what_is_left(asked: Layers) -> None:
    report = replace(asked, stacks=("encoder",), remove=1, taught=("nothing", "texts")).measure()
    assert [row[:3] for row in report.tables[0].rows] == [
        ("none", "", "nothing"),
        ("none", "", "texts"),
        ("1", "importance, even, middle", "nothing"),
        ("1", "importance, even, middle", "texts"),
    ]
    made = weights(asked.work)
    assert "model.encoder.layers.2.fc1.weight" not in made["encoder-1"]
    name = "model.encoder.layers.0.fc1.weight"
    assert not torch.equal(made["encoder-1"][name], made["encoder-1-texts"][name])
    assert json.loads((asked.work / "models" / "encoder-1" / "config.json").read_text())["encoder_layers"] == 2


def test_what_makes_no_sense_is_refused_by_name(asked: Layers, tmp_path: Path) -> None:
    with pytest.raises(BadConfig, match=r"--stacks names head; use decoder, encoder"):
        replace(asked, stacks=("head",))
    with pytest.raises(BadConfig, match=r"--taught names prayer; use nothing, texts, teacher"):
        replace(asked, taught=("prayer",))
    with pytest.raises(BadConfig, match="taught by recordings: name a manifest by --speech, or say --taught nothing"):
        replace(asked, speech=())
    lines = asked.test.read_text().splitlines()
    asked.test.write_text("\n".join([*lines, "1.wav\tde\tGuten Abend.\tGood evening.\t"]) + "\n")
    with pytest.raises(BadConfig, match=r"1\.wav is in .*selection\.tsv and in .*test\.tsv: layers chosen by a record"):
        asked.measure()
    asked.test.write_text("\n".join(lines) + "\n")
    with pytest.raises(BadConfig, match="the decoder has 5 layers, of which the first and the last stay"):
        replace(asked, remove=4).measure()
    make_qwen(tmp_path / "qwen")
    with pytest.raises((BadConfig, BadModel), match="is no Whisper"):
        replace(asked, model=str(tmp_path / "qwen")).measure()
    replace(asked, taught=("nothing",), remove=1).measure()
    with pytest.raises(BadConfig, match=r"made\.jsonl was begun with another kl; name another --work folder"):
        replace(asked, kl=2.0).measure()


def test_what_is_kept_saves_hearing_and_keys_and_changes_no_score(asked: Layers) -> None:
    report = Reuse(selection=asked.selection, model=asked.model, remove=2, silence_s=0.1).measure()
    figures = report.figures
    assert figures["readings"] == figures["alike"] == 1 + 3 + 2
    assert figures["recordings heard"] == {"kept": 2, "anew": 2 * 6}
    assert figures["recordings whose keys were made"] == {"kept": 2, "anew": 2 * 6}
    assert figures["passes of the decoder"]["kept"] == figures["passes of the decoder"]["anew"] > 0
    assert report.notes[0].startswith("scores are equal in 6 of 6 readings; ")
    with pytest.raises(BadConfig, match="--remove is 4: of 5 decoder layers the first and the last stay"):
        Reuse(selection=asked.selection, model=asked.model, remove=4).measure()


@pytest.mark.parametrize("other", ["test", "selection"])
def test_what_is_learnt_from_is_neither_scored_nor_chosen_by(asked: Layers, tmp_path: Path, other: str) -> None:
    (tmp_path / "again.wav").write_bytes((tmp_path / ("2.wav" if other == "test" else "1.wav")).read_bytes())
    with Path(asked.speech[0]).open("a") as file:
        file.write("again.wav\ten\t\tAnother text.\t\n")  # of another name, language and text
    with pytest.raises(BadConfig, match=rf"\d\.wav is in .*speech\.tsv and in .*{other}\.tsv: who learnt a recording"):
        asked.measure()


def test_models_that_were_made_of_something_else_are_not_reused(asked: Layers, tmp_path: Path) -> None:
    small = replace(asked, remove=1, taught=("nothing", "texts"))
    small.measure()
    recipe = asked.recipe.read_text()
    for name, said in (
        ("warmup", "warmup = 2"),
        ("precision", 'precision = "bfloat16"'),
        ("silence_s", "silence_s = 0.2"),
    ):
        lines = [line for line in recipe.splitlines() if not line.startswith(name)]
        asked.recipe.write_text("\n".join([*lines, said]) + "\n")
        with pytest.raises(BadConfig, match=rf"made\.jsonl was begun with another {name}; name another --work"):
            small.measure()
    asked.recipe.write_text(recipe)
    for name, seeds in (("selection", range(6, 8)), ("speech", range(8, 10))):
        file = people(tmp_path, f"other-{name}", seeds)
        with pytest.raises(BadConfig, match=f"was begun with another {name}; name"):
            replace(small, **{name: (str(file),) if name == "speech" else file}).measure()
    (asked.work / "scores.jsonl").unlink()
    with pytest.raises(BadConfig, match=r"made\.jsonl was begun with another kl; name another --work"):
        replace(small, kl=2.0).measure()
    small.measure()  # scores are made anew of the same models
    (asked.work / "made.jsonl").unlink()
    with pytest.raises(BadConfig, match=r"work holds models, and no made\.jsonl says what of; name another --work"):
        small.measure()


def test_whatever_training_computes_in_all_models_are_scored_alike(asked: Layers) -> None:
    """What the kept encoder says is float32, as what an encoder without layers says anew."""
    asked.recipe.write_text(asked.recipe.read_text() + 'precision = "bfloat16"\n')
    replace(asked, remove=1, taught=("nothing", "texts")).measure()
    kept = {file: np.load(file).dtype for file in asked.work.glob("heard/*/*.npy")}
    exact = [dtype for file, dtype in kept.items() if file.parent.name.endswith("-exact")]
    assert exact == 2 * [np.float32]
    assert len(kept) == 2 + 2


def test_layers_that_cant_go_are_told_before_anything_is_made(asked: Layers) -> None:
    with pytest.raises(BadConfig, match="the encoder has 3 layers, of which the first and the last stay: 1 to 1 can"):
        replace(asked, stacks=("decoder", "encoder")).measure()
    assert not (asked.work / "models").exists()


def test_a_transcript_of_a_region_is_one() -> None:
    assert [name for name in ("de-de", "de-en", "pt-br-pt-br", "pt-br-en") if is_transcript(name)] == [
        "de-de",
        "pt-br-pt-br",
    ]


@pytest.mark.parametrize("seconds", [-1.0, float("nan"), float("inf")])
def test_silence_is_a_number_of_seconds(asked: Layers, seconds: float) -> None:
    with pytest.raises(BadConfig, match=r"silence is .* s; give 0 or more seconds"):
        Reuse(selection=asked.selection, model=asked.model, silence_s=seconds)
    with pytest.raises(BadConfig, match=r"silence is .* s; give 0 or more seconds"):
        Pruning(1, silence_s=seconds)
    asked.recipe.write_text(asked.recipe.read_text().replace("silence_s = 0.1", f"silence_s = {seconds}"))
    with pytest.raises(BadConfig, match="silence_s"):
        load_teaching(asked.recipe)


def test_silence_goes_as_far_as_what_is_heard_at_once(asked: Layers) -> None:
    model = load_model(Path(asked.model), device="cpu")
    subject = SpeechSubject(model, "decoder", read_talks(asked.test), (), 2, silence_s=1e9)
    assert {len(audio) for audio in subject._silent([np.zeros(9_000, np.float32)])} == {model.max_samples}
