"""What is heard ahead: equal to what is heard live, taken in order, refused by name if it isn't what was written."""

import importlib.util
import json
import shutil
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
import torch

from streamtrans.core import BadConfig
from streamtrans.text import Tokenizer
from streamtrans.train.anchored.batches import POOL, UNASKED, HeardBatches, Prompting
from streamtrans.train.anchored.heard import Heard, Shelf, lay_together
from streamtrans.train.anchored.lessons import WORK, Directions, Listener
from streamtrans.train.anchored.listening import hear_ahead, open_shelf
from streamtrans.train.anchored.recipe import AnchoredRecipe, load_anchored
from streamtrans.train.anchored.scoring import anchored_cross_entropy
from streamtrans.train.anchored.taught import CHAPTER, TaughtBatches, clarity
from streamtrans.train.anchored.trainer import AnchoredConfig, train_anchored
from streamtrans.train.anchored.weights import load_base, load_start
from tests.train.anchored.conftest import hear

SPEAKS = all(
    importlib.util.find_spec(name) is not None for name in ("espeakng_loader", "py_nanotts", "pypinyin", "peft")
)
pytestmark = pytest.mark.skipif(not SPEAKS, reason="needs streamtrans[train]")


@pytest.fixture(scope="module")
def plain(toy: Path) -> Path:
    """Return the toy's recipe with a stage of directions alone, which starts from the base."""
    text = toy.read_text()
    before, _, second = text.split("[[stages]]")
    recipe = toy.parent / "plain.toml"
    recipe.write_text(before + "[[stages]]" + second.replace('start_from = "ears"\n', ""))
    return recipe


@pytest.fixture
def heard(plain: Path, shelf_once: Path, tmp_path: Path) -> Path:
    """Return a folder of runs in which all was heard, to be spoilt."""
    shutil.copytree(shelf_once, tmp_path / "runs", ignore=shutil.ignore_patterns("chapters.json"))
    return tmp_path / "runs"


@pytest.fixture(scope="module")
def shelf_once(plain: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    runs = tmp_path_factory.mktemp("heard")
    hear(plain, runs)
    return runs


def opened(recipe: AnchoredRecipe, runs: Path) -> Shelf:
    return open_shelf(recipe, "words", runs, load_base(Path(recipe.base)))


def taught(recipe: AnchoredRecipe, runs: Path) -> TaughtBatches:
    asking = Prompting(Tokenizer.load(Path(recipe.base)))
    return TaughtBatches(recipe, recipe.stage("words"), opened(recipe, runs), asking, runs / "chapters.json")


def test_what_is_read_back_is_what_is_heard_live_to_the_last_bit(plain: Path, shelf_once: Path) -> None:
    recipe = load_anchored(plain)
    shelf = opened(recipe, shelf_once)
    base = Path(recipe.base)
    listener = Listener(load_base(base), load_base(base), Prompting(Tokenizer.load(base)))
    batches = list(HeardBatches(recipe, recipe.stage("words"), 2, 2, 0, POOL))
    live, kept = lay_together([listener.hear(batch) for batch in batches]), shelf.read(shelf.entries()[0])
    for item in fields(Heard):
        assert torch.equal(getattr(live, item.name), getattr(kept, item.name)), item.name
    ears = load_base(base).model.encoder.to(WORK)
    with torch.no_grad():
        features, visible = ears(batches[0].mel.to(WORK), batches[0].frames)
    assert torch.equal(kept.features[: int(visible.sum())], features[visible])


def test_the_decoder_learns_from_kept_features_what_it_would_learn_live(plain: Path, shelf_once: Path) -> None:
    recipe = load_anchored(plain)
    base = Path(recipe.base)
    batches = taught(recipe, shelf_once)
    batch = next(iter(batches.after(0)))
    directions = Directions(load_base(base), recipe.stage("words"), batches.asking)
    with torch.autocast("cpu", torch.bfloat16):
        loss, terms = directions.loss(batch)
    loss.backward()
    assert all(value.grad is not None for name, value in directions.trained.items() if "embed" not in name)
    # The same by plain logits: cross-entropy, and divergence from the kept beliefs.
    network = load_base(base)
    total, apart, rows, known = 0.0, 0.0, 0, 0
    for at, (tokens, labels) in enumerate(zip(batch.tokens, batch.labels, strict=True)):
        length = int((labels >= 0).nonzero().max()) + 1 if (labels >= 0).any() else 0
        if not length:
            continue
        utterance = at * len(batch.features) // len(batch.tokens)
        features = batch.features[utterance][batch.visible[utterance]][None].float()
        texts = _texts(tokens[:length])
        hidden, _ = network.read_targets(texts, features, None)
        believed = network.model.decoder.logits(hidden[0]).log_softmax(-1)
        asked = (labels[:length] >= 0).nonzero()[:, 0]
        total -= float(believed[asked, labels[asked]].detach().sum())
        rows += len(asked)
        shares = batch.shares[at, asked]
        known += int((shares.sum(-1) > 0).sum())
        mine = believed[asked].gather(1, batch.ids[at, asked].long())
        apart += float((torch.special.xlogy(shares, shares) - shares * mine).detach().sum())
    assert float(terms["texts"]) == pytest.approx(total / rows, rel=1e-2)
    assert float(terms["anchor"]) == pytest.approx(apart / known, rel=0.05)
    assert float(loss.detach()) == pytest.approx((total + directions.stage.anchor * apart) / rows, rel=1e-2)


def _texts(tokens: torch.Tensor):
    from streamtrans.model.network import Texts

    return Texts(tokens[None], torch.ones(1, len(tokens), dtype=torch.bool))


@pytest.mark.parametrize("known", [1.0, 0.3, 0.0])
def test_the_gradient_of_texts_and_anchor_is_that_of_their_sum(known: float) -> None:
    torch.manual_seed(0)
    hidden, weight = torch.randn(300, 8, dtype=torch.float64, requires_grad=True), torch.randn(50, 8).double()
    gold = torch.randint(50, (300,))
    ids = torch.stack([torch.randperm(50)[:4] for _ in range(300)])
    shares = torch.rand(300, 4).softmax(-1) * (torch.arange(300) % 3 > 0)[:, None]
    loss, _ = anchored_cross_entropy(hidden, weight, gold, ids, shares, pull=1.5, known=known)
    (mine,) = torch.autograd.grad(loss, hidden)
    logits = (hidden @ weight.t()).log_softmax(-1)
    own = torch.where(torch.arange(300) % 3 > 0, known, 1.0)  # where the anchor says nothing, the text does
    wanted = (own * torch.nn.functional.nll_loss(logits, gold, reduction="none")).mean()
    wanted = wanted + 1.5 * (torch.special.xlogy(shares, shares) - shares * logits.gather(1, ids)).sum() / 300
    (theirs,) = torch.autograd.grad(wanted, hidden)
    assert float(loss.detach()) == pytest.approx(float(wanted.detach()), rel=1e-5)
    assert torch.allclose(mine, theirs, atol=1e-6)


def test_what_is_asked_is_known_and_the_anchor_has_no_say_at_ends(plain: Path, shelf_once: Path) -> None:
    recipe = load_anchored(plain)
    batches = taught(recipe, shelf_once)
    tokenizer = batches.asking.tokenizer
    names = {tokenizer.language_token(code): at for at, code in enumerate(recipe.languages)}
    seen = set()
    for _, batch in zip(range(2 * CHAPTER * POOL), batches.after(0), strict=False):
        ends = batch.labels == tokenizer.eot
        assert float(batch.shares[ends].max()) <= 0.5 * 1.001  # the stage's weight of ends
        assert (batch.shares[batch.labels == UNASKED] == 0).all()
        for tokens, labels, shares in zip(batch.tokens, batch.labels, batch.shares, strict=True):
            if (labels >= 0).any():
                seen.add((names[int(tokens[1])], bool(shares.any())))
                text = labels[labels >= 0].tolist()
                assert tokens[4 : 3 + len(text)].tolist() == text[:-1]
    assert seen >= {(0, True), (2, True), (0, False)}  # all was spoken in Chinese: English, transcripts, silence


def test_what_the_stock_decoder_cannot_hear_teaches_no_translation(plain: Path, shelf_once: Path) -> None:
    recipe = load_anchored(plain)
    stage = replace(recipe.stage("words"), clear=0.9)
    english = recipe.languages.index("en")
    batches = taught(recipe, shelf_once)
    batches.stage = stage
    heard = batches.shelf.read(batches.shelf.entries()[0])
    unclear = [row for row in range(len(heard.lengths)) if clarity(heard, row) < stage.clear]
    assert unclear  # random weights hear nothing
    for row in unclear:
        assert {*batches.asked(heard, row, np.random.default_rng(0))} <= {english, int(heard.spoken[row])}


def test_clarity_is_the_geometric_mean_of_what_was_believed_of_what_was_said() -> None:
    said = torch.tensor([[[7, 8, 9, UNASKED]]], dtype=torch.int32)
    ids = torch.tensor([[[[7, 1], [2, 8], [3, 4]], [[0, 0]] * 3]], dtype=torch.int32)
    shares = torch.tensor([[[[0.8, 0.2], [0.5, 0.5], [0.9, 0.1]], [[0.0, 0.0]] * 3]], dtype=torch.float16)
    heard = Heard(torch.zeros(4, 2), torch.tensor([4]), torch.tensor([0]), said, ids, shares)

    assert clarity(heard, 0) == pytest.approx((0.8 * 0.5 * 1e-3) ** (1 / 3), rel=1e-3)
    assert clarity(replace(heard, spoken=torch.tensor([UNASKED])), 0) == 1.0


def test_new_files_come_first_and_a_resumed_run_takes_what_the_unbroken_one_took(plain: Path, heard: Path) -> None:
    recipe = load_anchored(plain)
    unbroken = [batch for _, batch in zip(range(3 * CHAPTER * POOL), taught(recipe, heard).after(0), strict=False)]
    chapters = json.loads((heard / "chapters.json").read_text())
    assert chapters[0] == [f"{number:05d}.safetensors" for number in range(CHAPTER)]
    assert chapters[1][0] == f"{CHAPTER:05d}.safetensors"
    hear(plain, heard, files=CHAPTER + 2)  # what comes later changes no chapter that has begun
    again = taught(recipe, heard).after(CHAPTER * POOL + 5)
    for batch in unbroken[CHAPTER * POOL + 5 :]:
        other = next(again)
        assert all(torch.equal(getattr(batch, item.name), getattr(other, item.name)) for item in fields(batch))
    next(again)
    assert f"{CHAPTER + 1:05d}.safetensors" in json.loads((heard / "chapters.json").read_text())[3]


def test_a_run_that_goes_on_from_what_was_kept_begins_a_chapter_of_its_own(plain: Path, heard: Path) -> None:
    next(taught(load_anchored(plain), heard).after(3 * CHAPTER * POOL + 1))
    chapters = json.loads((heard / "chapters.json").read_text())
    assert chapters == [[], [], [], [f"{number:05d}.safetensors" for number in range(CHAPTER)]]


def test_a_file_that_is_missing_or_broken_is_refused_by_name_and_heard_again(plain: Path, heard: Path) -> None:
    recipe = load_anchored(plain)
    folder = heard / "toy" / "words" / "heard"
    file = folder / "00002.safetensors"
    whole = file.read_bytes()
    for broken in (whole[:-3], whole[:-1] + bytes([whole[-1] ^ 1]), b""):
        file.write_bytes(broken)
        with pytest.raises(BadConfig, match=r"00002.safetensors is not what was written, by its checksum: delete its"):
            next(taught(recipe, heard).after(0))
    file.unlink()
    with pytest.raises(BadConfig, match=r"there is no file .*00002.safetensors: delete its line"):
        next(taught(recipe, heard).after(0))
    manifest = folder / "manifest.jsonl"
    lines = manifest.read_text().splitlines()
    manifest.write_text("\n".join(lines[:2] + lines[3:]) + "\n")
    with pytest.raises(BadConfig, match=r"00002.safetensors is to be learnt from, and isn't in the manifest"):
        next(taught(recipe, heard).after(0))
    hear(plain, heard)
    assert file.read_bytes() == whole
    manifest.write_text(manifest.read_text() + "{half a li")
    with pytest.raises(BadConfig, match=r"manifest.jsonl:6 is no line of such a manifest"):
        opened(recipe, heard)


def test_too_little_or_other_ears_are_refused(plain: Path, heard: Path, tmp_path: Path, toy: Path) -> None:
    recipe = load_anchored(plain)
    with pytest.raises(BadConfig, match=r"holds 0 files of what was heard ahead, and 4 are needed"):
        train_anchored(AnchoredConfig(str(plain), runs=str(tmp_path / "none"), loader_processes=0))
    other = load_start(recipe, recipe.stage("words"), heard)
    other.model.encoder.layers[0].fc1.bias.data += 1
    with pytest.raises(BadConfig, match=r"manifest.jsonl:1: other weights heard 00000.safetensors; empty"):
        open_shelf(recipe, "words", heard, other)
    with pytest.raises(BadConfig, match="stage ears hears for itself"):
        hear_ahead(toy, "ears", runs=tmp_path, files=1)
