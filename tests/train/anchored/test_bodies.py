"""Two bodies for one ear at toy size: what they read in training is what they are served with; their KVSPNs."""

import importlib.util
import json
import shutil
from pathlib import Path
from typing import cast

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from streamtrans.core import BadConfig, BadModel
from streamtrans.decode import DraftContext, converse, decode, greedy, parse_drafters
from streamtrans.model.api import Forward, Propose
from streamtrans.model.audio_lm.model import AudioLanguageModel
from streamtrans.model.config import read_features
from streamtrans.model.features import LogMel
from streamtrans.model.loading import load_speech
from streamtrans.model.speech import TorchSpeechModel
from streamtrans.text import Tokenizer
from streamtrans.train.anchored import trainer
from streamtrans.train.anchored.batches import UNASKED, Prompting
from streamtrans.train.anchored.bodies import make_body
from streamtrans.train.anchored.export import export_stage
from streamtrans.train.anchored.guessing import Guessing
from streamtrans.train.anchored.lessons import read_texts
from streamtrans.train.anchored.listening import open_shelf
from streamtrans.train.anchored.recipe import load_anchored
from streamtrans.train.anchored.taught import TaughtBatches
from streamtrans.train.anchored.trainer import AnchoredConfig, keep_stage, train_anchored
from streamtrans.train.anchored.weights import load_base
from tests.train.anchored.conftest import hear

SPEAKS = all(importlib.util.find_spec(name) is not None for name in ("espeakng_loader", "py_nanotts", "pypinyin"))
pytestmark = pytest.mark.skipif(not SPEAKS, reason="needs streamtrans[train]")

SIZES = "width = 16, layers = 4, heads = 2, inner = 24"
STAGES = """
[[stages]]
name = "attending"
lesson = "body"
body = {{ kind = "encoder-decoder", {sizes} }}
written = ["en", "de"]
steps = 10
batch = 4
per_file = 16
warmup = 2
peak_lr = 1e-2
average = 0.9
[[stages]]
name = "reading"
lesson = "body"
body = {{ kind = "decoder-only", stacked = 4, {sizes} }}
written = ["en", "de"]
heard = "{heard}"
steps = 10
batch = 4
per_file = 16
warmup = 2
peak_lr = 1e-2
average = 0.9
[[stages]]
name = "attending_kvspn"
lesson = "guessing"
beside = "attending"
blocks = 2
written = ["en", "de"]
heard = "{heard}"
steps = 6
batch = 4
per_file = 16
average = 0.9
[[stages]]
name = "reading_kvspn"
lesson = "guessing"
beside = "reading"
blocks = 2
written = ["en", "de"]
heard = "{heard}"
steps = 6
batch = 4
per_file = 16
average = 0.9
"""
BODIES = ("attending", "reading")
AUDIOS = [np.random.default_rng(seed).normal(0, 0.1, 16_000 + 3_000 * seed).astype(np.float32) for seed in range(3)]


@pytest.fixture(scope="module")
def recipe(toy: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a recipe of both bodies, for what was heard once; the runs stand beside it."""
    folder = tmp_path_factory.mktemp("bodies")
    file, heard = folder / "bodies.toml", folder / "runs" / "toy" / "attending" / "heard"
    file.write_text(toy.read_text().split("[[stages]]")[0] + STAGES.format(sizes=SIZES, heard=heard))
    hear(file, folder / "runs", "attending")
    return file


@pytest.fixture(scope="module")
def trained(recipe: Path) -> Path:
    """Return the folder of an unbroken run."""
    run(recipe, recipe.parent / "runs")
    return recipe.parent / "runs"


@pytest.fixture(scope="module", params=BODIES)
def served(request, recipe: Path, trained: Path, tmp_path_factory: pytest.TempPathFactory):
    """Return the name of a body, and the folder that its trained KVSPN was exported to."""
    folder = tmp_path_factory.mktemp("served") / "model"
    export_stage(recipe, f"{request.param}_kvspn", folder, runs=trained)
    return request.param, folder


def run(recipe: Path, runs: Path, stage: str | None = None) -> None:
    train_anchored(AnchoredConfig(str(recipe), str(runs), stage=stage, save_every=3, log_every=2))


def taught(recipe: Path, stage: str, notes: Path):
    plan = load_anchored(recipe)
    start = load_base(Path(plan.base))
    asking = Prompting(Tokenizer.load(Path(plan.base)))
    shelf = open_shelf(plan, stage, recipe.parent / "runs", start)
    batch = next(iter(TaughtBatches(plan, plan.stage(stage), shelf, asking, notes).after(0)))
    return plan, start, asking, batch


@pytest.mark.parametrize("name", BODIES)
def test_law_what_is_read_in_training_is_what_is_served(recipe: Path, tmp_path: Path, name: str) -> None:
    plan, start, asking, batch = taught(recipe, "reading_kvspn", tmp_path / "notes.json")
    torch.manual_seed(3)
    body = make_body(plan, plan.stage(f"{name}_kvspn"), start)
    with torch.no_grad():
        for parameter in body.network.parameters():
            if parameter.ndim > 1:
                parameter.mul_(2.0)
    features = batch.features.float()
    cut, prompt = body.before, asking.length - body.before
    texts, labels = read_texts(batch.tokens[:, cut:], batch.labels[:, cut:], prompt)
    with torch.no_grad():
        hidden, guessed = body.read(texts, features, batch.visible, guess=True)
        wanted, guesses = (states[0] @ body.embedding.T for states in (hidden, guessed))
    model, each = body.model(), len(batch.tokens) // len(features)
    memories = body.remember([one[real] for one, real in zip(features, batch.visible, strict=True)])
    slots, checked = model.allocate(1), 0
    for text in range(texts.count):
        rows = (texts.texts == text).nonzero()[:, 0]
        if not len(rows):
            continue
        line = tuple(texts.rows[0, rows].tolist())
        cache = slots.open(memories[text // each])
        answer = model.step([Forward(line[:-1], cache, rows=len(line) - 1, draft=line[1:-1])])[0]
        scores = (wanted[rows[:-1]] + model.suppression).log_softmax(-1)
        assert answer.tokens == tuple(scores.argmax(-1).tolist())
        torch.testing.assert_close(torch.tensor(answer.logprobs), scores.amax(-1), atol=1e-4, rtol=0)
        [guess] = model.propose([Propose(line[-1:], cache, 1)])
        best = (guesses[rows[-1]] + model.suppression).log_softmax(-1)
        assert guess.tokens[0] == int(best.argmax())
        assert guess.logprobs[0] == pytest.approx(float(best.max()), abs=1e-4)
        slots.release(cache)
        checked += 1
    assert checked > 3
    assert int((labels >= 0).sum()) > 20


@pytest.mark.parametrize("name", BODIES)
def test_law_what_is_heard_live_is_what_was_heard_ahead(recipe: Path, name: str) -> None:
    plan = load_anchored(recipe)
    base = Path(plan.base)
    body = make_body(plan, plan.stage(name), load_base(base))
    mels = [LogMel(read_features(base))(torch.from_numpy(audio)[None]) for audio in AUDIOS]
    with torch.no_grad():
        features = [load_base(base).model.encoder(mel)[0][0] for mel in mels]
    ahead = body.remember(features)
    for at, live in enumerate(body.model().encode(AUDIOS)):
        [alone] = body.model().encode([AUDIOS[at]])
        assert live.frames == alone.frames == ahead[at].frames
        for other in (alone, ahead[at]):
            for mine, theirs in zip((*live.decoder, *live.prefix), (*other.decoder, *other.prefix), strict=True):
                torch.testing.assert_close(mine.keys, theirs.keys, atol=1e-5, rtol=1e-4)
                torch.testing.assert_close(mine.values, theirs.values, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("end", [("attending", 4), ("reading", 7), ("attending_kvspn", 4), ("reading_kvspn", 5)])
def test_interrupted_and_resumed_it_ends_where_the_unbroken_run_does(
    recipe: Path, trained: Path, tmp_path: Path, monkeypatch, end: tuple[str, int]
) -> None:
    stage, until = end
    take = trainer._StageRun._take_step

    def broken(self, *given):
        if self.step == until:
            raise KeyboardInterrupt
        return take(self, *given)

    runs = tmp_path / "toy"
    runs.mkdir()
    for name in {"attending", "reading"} - {stage}:
        (runs / name).symlink_to(trained / "toy" / name)
    if stage == "attending":
        (runs / stage).mkdir()
        (runs / stage / "heard").symlink_to(trained / "toy" / stage / "heard")
    with monkeypatch.context() as patched:
        patched.setattr(trainer._StageRun, "_take_step", broken)
        with pytest.raises(KeyboardInterrupt):
            run(recipe, tmp_path, stage)
    assert torch.load(runs / stage / "state.pt", weights_only=True)["step"] == until // 3 * 3
    run(recipe, tmp_path, stage)
    one, other = (load_file(folder / "toy" / stage / "weights.safetensors") for folder in (trained, tmp_path))
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_bodies_learn_of_the_same_batches_and_leave_ear_and_tokens_as_they_are(recipe: Path, trained: Path) -> None:
    chapters = [(trained / "toy" / name / "chapters.json").read_text() for name in BODIES]
    assert chapters[0] == chapters[1]
    base = load_base(recipe.parent.parent / load_anchored(recipe).base)
    ear = {name: value.half() for name, value in base.model.encoder.state_dict().items()}
    for name, place in (("attending", "model.encoder."), ("reading", "audio_tower.")):
        log = [json.loads(line) for line in (trained / "toy" / name / "log.jsonl").read_text().splitlines()]
        assert log[-1]["texts"] < log[0]["texts"]
        weights = load_file(trained / "toy" / name / "weights.safetensors")
        assert all(torch.equal(weights[place + key], value) for key, value in ear.items())
        drafting = load_file(trained / "toy" / f"{name}_kvspn" / "weights.safetensors")
        same = {key for key, value in weights.items() if torch.equal(value, drafting[key])}
        assert same == set(weights)
        assert all(key.startswith("speculator.") for key in drafting.keys() - weights.keys())


@pytest.mark.parametrize("name", BODIES)
def test_what_kvspn_learns_from_is_what_the_base_writes(recipe: Path, trained: Path, tmp_path: Path, name: str) -> None:
    plan, start, asking, batch = taught(recipe, "reading_kvspn", tmp_path / "notes.json")
    stage = plan.stage(f"{name}_kvspn")
    body = make_body(plan, stage, start)
    body.network.load_state_dict(load_file(trained / "toy" / f"{name}_kvspn" / "weights.safetensors"))
    lesson = Guessing(body, stage, asking)
    tokens, labels = lesson.written(batch)
    texts, asked = read_texts(tokens[:, body.before :], labels[:, body.before :], asking.length - body.before)
    with torch.no_grad():
        hidden, _ = body.read(texts, batch.features.float(), batch.visible)
        scores = hidden[0] @ body.embedding.T + lesson.model.suppression
    real = asked[0] >= 0
    assert int(real.sum()) > 20
    assert scores[real].argmax(-1).tolist() == asked[0, real].tolist()
    given = (batch.labels != UNASKED).any(1)
    assert given.tolist() == (labels != UNASKED).any(1).tolist()


def test_the_exported_folder_is_loaded_as_any_other_and_drafts_change_no_text(served) -> None:
    name, folder = served
    model = load_speech(folder, device="cpu", dtype="float64")
    kinds: dict[str, type] = {"attending": TorchSpeechModel, "reading": AudioLanguageModel}
    assert type(cast("object", model)) is kinds[name]
    assert (model.languages, model.has_speculator) == (("en", "de"), True)
    assert json.loads((folder / "generation_config.json").read_text()) == {
        "eos_token_id": 0
    }  # the base's heads aren't its
    weights = load_file(folder / "model.safetensors")
    inner = weights[
        "speculator.blocks.0.fc1.weight" if name == "attending" else "speculator.blocks.0.mlp.up_proj.weight"
    ]
    assert inner.shape == (24, 16)  # a layer's, whatever the base's KVSPN had
    slots = model.allocate(1)
    for audio, memory in zip(AUDIOS, model.encode(AUDIOS), strict=True):
        for target in ("en", "de"):
            prompt = model.prompt(target, None)
            texts = []
            for drafter in ("none", "kvspn"):
                cache = slots.open(memory)
                context = DraftContext(len(prompt), model.eot, (), 1, 1, model.draft_acceptance)
                made = parse_drafters(drafter).make(context)
                texts.append(converse(model, decode(prompt, (), cache, made, eot=model.eot, limit=40)))
                slots.release(cache)
            assert texts[0].tokens == texts[1].tokens
            assert texts[1].stats.drafted > 0
        [alone] = model.encode([audio])
        cache = slots.open(alone)
        prompt = model.prompt("de", None)
        assert converse(model, greedy(prompt, (), cache, eot=model.eot, limit=40)).tokens == texts[0].tokens
        slots.release(cache)


def test_a_folder_of_one_that_reads_is_refused_by_name(served, tmp_path: Path) -> None:
    name, folder = served
    if name == "attending":
        said = json.loads((folder / "config.json").read_text())
        assert (said["d_model"], said["encoder_width"]) == (16, 24)
        return
    for key, value, told in (
        ("stacked", 0, "stacked is 0; give a whole number"),
        ("stacked", 2000, "stacked is 2000, and the encoder gives 1500 frames"),
        ("text_config", {"vocab_size": 20}, "the tokenizer has .* tokens, and the network of config.json knows 20"),
    ):
        broken = tmp_path / f"{key}{value if isinstance(value, int) else ''}"
        broken.mkdir()
        for file in folder.iterdir():
            (broken / file.name).write_bytes(file.read_bytes())
        said = json.loads((folder / "config.json").read_text())
        said[key] = said[key] | value if isinstance(value, dict) else value
        (broken / "config.json").write_text(json.dumps(said))
        with pytest.raises(BadModel, match=told):
            load_speech(broken, device="cpu")


@pytest.mark.parametrize(
    "changes",
    [
        ('kind = "decoder-only"', 'kind = "encoder-only"', "kind is 'encoder-only'"),
        ("width = 16", "width = 32", "the base's tokens have 24 numbers"),
        ("heads = 2", "heads = 3", "heads of even width"),
        ("layers = 4", "layers = 3", "3 layers can't be split into 2 equal groups"),
        ('beside = "reading"', 'beside = "attending_kvspn"', "no earlier stage's body"),
        ('beside = "reading"\n', "", "guessing a stage to stand beside"),
        ('written = ["en", "de"]', 'written = ["fr"]', "writes fr, which isn't in languages"),
        ("batch = 4", "batch = 7", "make whole batches of 7"),
        ("blocks = 2", "blocks = 0", "blocks must be at least 1"),
        ("peak_lr = 1e-2", "peak_lr = nan", "peak_lr is nan; use a number above 0"),
        ("peak_lr = 1e-2", "peak_lr = -1.0", "peak_lr is -1.0; use a number above 0"),
        ("warmup = 2", "warmup = 2\nweight_decay = -3.0", "weight_decay is -3.0; use 0 or more"),
        ("warmup = 2", "warmup = 2\npad_s = inf", "pad_s is inf; use 0 or more"),
        ("stacked = 4", "stacked = 5000", "stacked is 5000, and the base's encoder has 1500 frames"),
        (
            'written = ["en", "de"]\nsteps = 10',
            'written = ["en"]\nsteps = 10',
            "attending_kvspn writes de, which attending beside it doesn't",
        ),
    ],
)
def test_a_wrong_recipe_is_refused_by_name(recipe: Path, trained: Path, tmp_path: Path, changes: tuple[str, str, str]):
    old, new, told = changes
    assert old in recipe.read_text()
    changed = tmp_path / "changed.toml"
    changed.write_text(recipe.read_text().replace(old, new))
    (tmp_path / "toy").symlink_to(trained / "toy")
    with pytest.raises(BadConfig, match=told):
        export_stage(changed, "reading_kvspn", tmp_path / "model", runs=tmp_path)


def test_no_kvspn_learns_beside_a_body_that_isnt_finished(recipe: Path, trained: Path, tmp_path: Path) -> None:
    shutil.copytree(trained / "toy" / "reading", tmp_path / "toy" / "reading")
    (tmp_path / "toy" / "reading" / "done").unlink()
    with pytest.raises(BadConfig, match=r"reading_kvspn stands beside reading, which isn't finished in .*toy: train"):
        run(recipe, tmp_path, "reading_kvspn")
    assert not (tmp_path / "toy" / "reading_kvspn" / "state.pt").exists()


def test_a_body_is_kept_as_a_folder_only(recipe: Path, trained: Path, tmp_path: Path) -> None:
    with pytest.raises(BadConfig, match="export its folder"):
        keep_stage(load_anchored(recipe), "reading", tmp_path / "reading.npz", runs=trained)
