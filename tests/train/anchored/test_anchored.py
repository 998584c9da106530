"""A whole anchored run at toy size: heard, taught, interrupted, resumed, exported."""

import importlib.util
import json
import os
import shutil
import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from streamtrans.core import BadConfig, BadModel
from streamtrans.model.config import read_features
from streamtrans.model.features import LogMel
from streamtrans.model.loading import load_model
from streamtrans.text import Tokenizer
from streamtrans.train.anchored import asked, trainer
from streamtrans.train.anchored.batches import POOL, HeardBatches, Prompting, make_batch
from streamtrans.train.anchored.export import export_stage
from streamtrans.train.anchored.kept import read_kept
from streamtrans.train.anchored.lessons import Hearing, read_texts
from streamtrans.train.anchored.recipe import AnchoredStage, is_anchored, load_anchored
from streamtrans.train.anchored.sounds import Sound, Sounds
from streamtrans.train.anchored.trainer import AnchoredConfig, train_anchored
from streamtrans.train.anchored.weights import load_base, stage_tensors
from streamtrans.train.stopping import Stopped
from tests.train.anchored.conftest import hear

SPEAKS = all(
    importlib.util.find_spec(name) is not None for name in ("espeakng_loader", "py_nanotts", "pypinyin", "peft")
)
pytestmark = pytest.mark.skipif(not SPEAKS, reason="needs streamtrans[train]")

TEXTS = {"en": "Turn on the light.", "de": "Mach das Licht an."}


def noise(seconds: float) -> np.ndarray:
    return np.random.default_rng(1).normal(0, 0.1, int(16_000 * seconds)).astype(np.float32)


def run(recipe: Path, runs: Path, stage: str, *, until: int | None = None, monkeypatch=None) -> None:
    config = AnchoredConfig(str(recipe), runs=str(runs), stage=stage, save_every=5, log_every=4, loader_processes=0)
    if until is None:
        train_anchored(config)
        return
    take = trainer._StageRun._take_step

    def broken(self, *given):
        if self.step == until:
            raise KeyboardInterrupt
        return take(self, *given)

    with monkeypatch.context() as patched:
        patched.setattr(trainer._StageRun, "_take_step", broken)
        with pytest.raises(KeyboardInterrupt):
            train_anchored(config)


@pytest.fixture(scope="module")
def trained(toy: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    runs = tmp_path_factory.mktemp("runs")
    run(toy, runs, "ears")
    hear(toy, runs)
    run(toy, runs, "words")
    return runs


@pytest.mark.parametrize("end", [("ears", 7), ("ears", 17), ("words", 11), ("words", 38)])
def test_interrupted_and_resumed_a_stage_ends_where_the_unbroken_one_does(
    toy: Path, trained: Path, tmp_path: Path, monkeypatch, end: tuple[str, int]
) -> None:
    stage, until = end
    if stage == "words":
        run(toy, tmp_path, "ears")
        hear(toy, tmp_path)
    run(toy, tmp_path, stage, until=until, monkeypatch=monkeypatch)
    run(toy, tmp_path, stage)
    one, other = (load_file(folder / "toy" / stage / "weights.safetensors") for folder in (trained, tmp_path))
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("end", [("ears", 7), ("words", 10)])
def test_law_stopped_by_a_signal_and_resumed_a_stage_ends_where_the_unbroken_one_does(
    toy: Path, trained: Path, tmp_path: Path, monkeypatch, end: tuple[str, int]
) -> None:
    stage, until = end
    if stage == "words":
        run(toy, tmp_path, "ears")
        hear(toy, tmp_path)
    take = trainer._StageRun._take_step

    def signalled(self, *given):
        if self.step == until:
            os.kill(os.getpid(), signal.SIGTERM)
        return take(self, *given)

    with monkeypatch.context() as patched:
        patched.setattr(trainer._StageRun, "_take_step", signalled)
        with pytest.raises(Stopped, match=rf"stage {stage}, step {until + 1} of \d+, is saved in"):
            run(toy, tmp_path, stage)
    assert torch.load(tmp_path / "toy" / stage / "state.pt", weights_only=True)["step"] == until + 1
    run(toy, tmp_path, stage)
    one, other = (load_file(folder / "toy" / stage / "weights.safetensors") for folder in (trained, tmp_path))
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_only_what_a_lesson_teaches_has_changed(toy: Path, trained: Path) -> None:
    base = {name: tensor.half() for name, tensor in load_base(toy.parent / "base").state_dict().items()}
    ears, words = (load_file(trained / "toy" / stage / "weights.safetensors") for stage in ("ears", "words"))
    assert base.keys() == ears.keys() == words.keys()
    changed = {name for name in base if not torch.equal(base[name], ears[name])}
    assert changed
    assert all((".encoder.layers." in name and name.endswith("proj.weight")) or ".fc" in name for name in changed)
    best = stage_tensors(trained / "toy", "ears")
    changed = {name for name in base if not torch.equal(best[name], words[name])}
    assert changed
    assert all(name.startswith("model.decoder.") and "embed_tokens" not in name for name in changed)


def test_people_are_looked_at_and_the_best_weights_are_exported(toy: Path, trained: Path, tmp_path: Path) -> None:
    folder = trained / "toy" / "words"
    peeks = [json.loads(line) for line in (folder / "peeks.jsonl").read_text().splitlines()]
    assert [peek["step"] for peek in peeks] == [0, 9, 18, 27, 36, 40]
    assert set(peeks[0]["errors"]) == {"en", "de"}
    assert set(peeks[0]["bleu"]) == {"en-de", "de-en"}
    assert len((folder / "peeks" / "9.tsv").read_text().splitlines()) == 1 + 4 * 2
    heard = json.loads((trained / "toy" / "ears" / "peeks.jsonl").read_text().splitlines()[0])
    assert set(heard["bleu"]) == {"de-en"}  # stock Whisper can't be asked for German
    export_stage(toy, "words", tmp_path / "model", runs=trained)
    model = load_model(tmp_path / "model", device="cpu", dtype="float32")
    best = load_file(folder / "best.safetensors")
    assert torch.equal(
        model.network.state_dict()["model.decoder.layer_norm.weight"].half(), best["model.decoder.layer_norm.weight"]
    )
    assert len(model.prompt("zh", "en")) == 4
    with pytest.raises(BadConfig, match="exists already"):
        export_stage(toy, "words", tmp_path / "model", runs=trained)


def test_batches_are_the_same_wherever_one_begins(toy: Path) -> None:
    recipe = load_anchored(toy)
    stage = recipe.stage("ears")
    whole = list(HeardBatches(recipe, stage, 2, 2, 0, 2 * POOL))
    late = list(HeardBatches(recipe, stage, 2, 2, POOL, 2 * POOL))
    assert (len(whole), len(late)) == (2 * POOL, POOL)
    for one, other in zip(whole[POOL:], late, strict=True):
        assert torch.equal(one.texts, other.texts)
        assert torch.equal(one.frames, other.frames)
        assert torch.equal(one.padded_frames, one.frames + 50)


def test_speech_spoken_later_changes_no_chapter_that_has_begun(toy: Path, tmp_path: Path, monkeypatch) -> None:
    stage = load_anchored(toy).stage("ears")
    config = AnchoredConfig(str(toy), loader_processes=0)
    first = trainer._StageRun(load_anchored(toy), stage, config, tmp_path)
    assert first.batches._ahead(0) == 2
    monkeypatch.setattr(asked, "read_ahead", lambda recipe: [None] * 5)
    again = trainer._StageRun(load_anchored(toy), stage, config, tmp_path)
    assert (again.batches._ahead(0), again.batches._ahead(1)) == (2, 5)


def test_the_anchor_is_asked_for_what_it_knows_and_every_text_is_kept(toy: Path) -> None:
    base = toy.parent / "base"
    asking = Prompting(Tokenizer.load(base))
    tokenizer = asking.tokenizer
    sounds = [Sound(noise(1.0), "de", TEXTS), Sound(noise(0.5), "en", TEXTS), Sound(noise(0.7), "")]
    sounds.append(Sound(noise(0.6), "en", {"en": "", "de": "", "zh": ""}))
    batch = make_batch(sounds, asking, LogMel(read_features(base)), ("en", "de", "zh"), pad_s=0.0)
    assert batch.frames.tolist() == [100, 50, 70, 60]
    assert torch.equal(batch.mel, batch.padded)
    english, german = (tokenizer.encode(TEXTS[code]) for code in ("en", "de"))
    orders = tuple(tokenizer.special(name) for name in ("<|translate|>", "<|notimestamps|>"))
    prompt = (tokenizer.sot, tokenizer.language_token("de"), *orders)
    assert tuple(batch.anchor[1].tolist()[: 4 + len(english)]) == (*prompt, *english)
    assert tuple(batch.labels[1].tolist()[3 : 4 + len(english)]) == (*english, tokenizer.eot)
    assert batch.anchor[0, 1:3].tolist() == [tokenizer.language_token("de"), tokenizer.special("<|transcribe|>")]
    # Of German the transcript and the English are known, of English the transcript, of a noise and silence nothing.
    assert (batch.labels >= 0).any(1).tolist() == [True, True, True, False, False, False, False, False]
    assert batch.spoken.tolist() == [1, 0, -1, 0]
    assert [token for token in batch.texts[0, 1].tolist() if token >= 0] == [*german, tokenizer.eot]
    assert (batch.texts[0, 2] < 0).all()
    assert (batch.texts[2] < 0).all()
    assert (batch.texts[3, :, 0] == tokenizer.eot).all()


def test_sounds_are_spoken_ahead_on_the_fly_recorded_and_empty(toy: Path) -> None:
    recipe = load_anchored(toy)
    recipe = replace(recipe, voices=replace(recipe.voices, pico=1.0, espeak=0.3))
    stage = AnchoredStage("s", "hearing", 1, sounds=0.25, empty=0.25, joined=0.5, clean=1.0)
    sounds = Sounds(recipe, stage, 2)
    rng = np.random.default_rng(3)
    drawn = [sounds.draw(at, rng) for at in range(60)]
    assert any(not sound.texts for sound in drawn)
    assert any(sound.texts and not any(sound.texts.values()) for sound in drawn)
    assert {sound.language for sound in drawn if any(sound.texts.values())} >= {"en", "de", "zh"}
    assert any(sound.texts.get("en", "").count(".") + sound.texts.get("en", "").count("?") == 2 for sound in drawn)
    assert all(len(sound.audio) > 1000 for sound in drawn)


def test_untrained_ears_are_as_near_to_their_anchor_as_rounding_allows(toy: Path) -> None:
    base = toy.parent / "base"
    asking = Prompting(Tokenizer.load(base))
    batch = make_batch(
        [Sound(noise(1.0), "de", TEXTS), Sound(noise(0.6), "de", TEXTS)],
        asking,
        LogMel(read_features(base)),
        ("en", "de", "zh"),
        pad_s=0.0,
    )
    torch.manual_seed(0)
    hearing = Hearing(load_base(base), AnchoredStage("h", "hearing", 1, rank=2), asking)
    with torch.autocast("cpu", torch.bfloat16):
        _, terms = hearing.loss(hearing.ask(batch))
    assert all(abs(float(term.detach())) < 1e-3 for term in terms.values())  # without silence they hear the same


def test_prompts_are_read_and_not_asked_and_texts_without_a_question_are_not_read() -> None:
    tokens = torch.tensor([[1, 5, 6, 7, 30, 31, 0, 0], [1, 4, 6, 7, 0, 0, 0, 0], [1, 8, 6, 7, 0, 0, 0, 0]])
    labels = torch.full_like(tokens, -1)
    labels[0, 3:6] = torch.tensor([30, 31, 0])
    labels[2, 3] = 0
    texts, rows = read_texts(tokens, labels, 4)
    assert texts.rows.tolist() == [[1, 5, 6, 7, 30, 31, 1, 8, 6, 7]]
    assert rows.tolist() == [[-1, -1, -1, 30, 31, 0, -1, -1, -1, 0]]


def test_what_is_wrong_with_a_recipe_or_a_base_is_named(toy: Path, tmp_path: Path) -> None:
    assert is_anchored(toy)
    assert [stage.name for stage in load_anchored("recipes/m2m_base.toml").stages] == ["hearing", "directions"]
    assert not is_anchored("recipes/nano.toml")
    text = toy.read_text()
    wrong = {
        "stages must be": ('name = "words"', 'name = "ears"', "stages with different names"),
        "lesson": ('"directions"', '"singing"', "lesson is 'singing'; use hearing or directions"),
        "start": ('start_from = "ears"', 'start_from = "nose"', "starts from 'nose', which is no earlier stage"),
        "share": ("joined = 0.5", "joined = 5", "joined is a share, 0 to 1"),
        "key": ("joined = 0.5", "join = 0.5", "unknown key 'join'; did you mean 'joined'"),
        "with": ('start_from = "ears"', 'start_with = "first"', "start_with is 'first'; use best or last"),
        "file": (
            "per_file = 16",
            "per_file = 12",
            "per_file is a multiple of 8, and four files make whole batches of 2",
        ),
        "steps": ("steps = 18", "steps = 0", "steps must be at least 1"),
    }
    for name, (old, new, told) in wrong.items():
        file = tmp_path / f"{name}.toml"
        file.write_text(text.replace(old, new))
        with pytest.raises(BadConfig, match=told):
            load_anchored(file)
    with pytest.raises(BadConfig, match="no stage 'nose'; it has ears, words"):
        load_anchored(toy).stage("nose")
    with pytest.raises(BadConfig, match=r"stage ears of .* has left no weights yet"):
        stage_tensors(tmp_path, "ears")
    with pytest.raises(BadModel, match="no folder"):
        load_base(tmp_path / "gone")
    (tmp_path / "other").mkdir()
    settings = json.loads((toy.parent / "base" / "config.json").read_text())
    del settings["prompt"]
    (tmp_path / "other" / "config.json").write_text(json.dumps(settings))
    with pytest.raises(BadModel, match="streamtrans convert --prompt whisper"):
        load_base(tmp_path / "other")


def test_what_was_kept_is_gone_on_from_without_the_run(toy: Path, trained: Path, tmp_path: Path) -> None:
    recipe = load_anchored(toy)
    for stage in ("ears", "words"):
        size = trainer.keep_stage(recipe, stage, tmp_path / "kept" / f"{stage}.npz", runs=trained)
        assert size == (tmp_path / "kept" / f"{stage}.npz").stat().st_size
    other = tmp_path / "other.toml"
    other.write_text(f'kept = "{tmp_path / "kept"}"\n' + toy.read_text())
    before = load_base(toy.parent / "base").state_dict()
    for stage, near in (("ears", 0.05), ("words", 0.17)):
        if stage == "words":
            hear(other, tmp_path / "runs")
        run(other, tmp_path / "runs", stage)
        one, kept = (load_file(root / "toy" / stage / "weights.safetensors") for root in (trained, tmp_path / "runs"))
        for name, tensor in one.items():
            learnt, again = tensor.float() - before[name].float(), kept[name].float() - before[name].float()
            assert (learnt - again).norm() <= near * learnt.norm() + 1e-2
        before = one
    with pytest.raises(BadConfig, match="was kept of another base or another stage"):
        read_kept(tmp_path / "kept" / "ears.npz", {"x": torch.zeros(2)})
    (trained / "toy" / "words" / "done").unlink()  # as if it were to go on
    trainer.keep_stage(recipe, "words", tmp_path / "kept" / "words.npz", runs=trained)
    (trained / "toy" / "words" / "done").touch()
    longer = tmp_path / "longer.toml"
    longer.write_text(other.read_text().replace("steps = 40", "steps = 42"))
    shutil.copytree(tmp_path / "runs" / "toy" / "ears", tmp_path / "on" / "toy" / "ears")
    shutil.copytree(tmp_path / "runs" / "toy" / "words" / "heard", tmp_path / "on" / "toy" / "words" / "heard")
    run(longer, tmp_path / "on", "words")
    assert torch.load(tmp_path / "on" / "toy" / "words" / "state.pt", weights_only=True)["step"] == 42
    with pytest.raises(BadConfig, match=r"stage words of .* has saved nothing yet"):
        trainer.keep_stage(recipe, "words", tmp_path / "w.npz", runs=tmp_path / "none")
