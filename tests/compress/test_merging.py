"""Merging: each method by hand, whole folders, a language that comes later, and what is refused."""

import itertools
import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from transformers import WhisperForConditionalGeneration
from typer.testing import CliRunner

from streamtrans.cli.app import app
from streamtrans.compress import weights
from streamtrans.compress.merging import METHODS, add_to_merged, load_method, merge
from streamtrans.compress.merging.merge import is_matrix
from streamtrans.core import BadConfig, BadModel
from streamtrans.model.loading import load_model
from tests.checkpoints import make_whisper

SHAPE = {
    "d_model": 24,
    "encoder_layers": 1,
    "encoder_attention_heads": 2,
    "encoder_ffn_dim": 40,
    "decoder_layers": 1,
    "decoder_attention_heads": 2,
    "decoder_ffn_dim": 32,
}


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    folder = tmp_path_factory.mktemp("base")
    make_whisper(folder, **SHAPE)
    return folder


@pytest.fixture(scope="module")
def children(base, tmp_path_factory):
    """Three models that differ a little from their ancestor, each in its own way."""
    found = {}
    for seed, name in enumerate(("de", "es", "fr"), 1):
        folder = found[name] = tmp_path_factory.mktemp(name)
        for file in base.iterdir():
            (folder / file.name).write_bytes(file.read_bytes())
        torch.manual_seed(seed)
        tensors = load_file(base / "model.safetensors")
        tensors = {key: tensor + 0.02 * torch.randn_like(tensor) for key, tensor in tensors.items()}
        tensors.pop("proj_out.weight", None)
        save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    return found


def test_lors_is_low_rank_plus_the_largest_of_the_rest():
    torch.manual_seed(0)
    delta = torch.randn(30, 50)
    kept = load_method("lors", {"rank_share": 0.1, "entries": 0.2}).keep(delta, "x.fc1.weight", "de")
    left, values, right = np.linalg.svd(delta.double().numpy(), full_matrices=False)
    low = (left[:, :3] * values[:3]) @ right[:3]
    residual = delta.double().numpy() - low
    floor = np.sort(np.abs(residual).ravel())[-300]
    np.testing.assert_allclose(kept.numpy(), low + residual * (np.abs(residual) >= floor), atol=1e-5)


@pytest.mark.parametrize(("width", "rank"), [(768, 7), (512, 5)])
def test_the_rank_is_one_percent_of_the_width(width, rank):
    torch.manual_seed(0)
    method = load_method("lors", {"entries": 1e-9})
    assert torch.linalg.matrix_rank(method.keep(torch.randn(width, width), "fc1.weight", "de"), atol=1e-2) == rank


def test_ties_elects_a_sign_and_averages_those_who_agree():
    method = load_method("ties", {"entries": 1.0})
    one, two, three = torch.tensor([3.0, -1.0, 0.0]), torch.tensor([1.0, 2.0, 0.0]), torch.tensor([-2.0, 2.0, 0.0])
    assert method.join([one, two, three]).tolist() == [2.0, 2.0, 0.0]
    trimmed = load_method("ties", {"entries": 0.5}).keep(torch.tensor([[4.0, -1.0], [0.5, -3.0]]), "fc1.weight", "de")
    assert trimmed.tolist() == [[4.0, 0.0], [0.0, -3.0]]


def test_dare_drops_and_rescales_and_draws_for_each_tensor_alone():
    method = load_method("dare", {"entries": 0.25})
    delta = torch.ones(400, 400)
    kept = method.keep(delta, "a.fc1.weight", "de")
    assert set(kept.unique().tolist()) == {0.0, 4.0}
    assert float(kept.mean()) == pytest.approx(1, abs=0.03)
    assert torch.equal(kept, method.keep(delta, "a.fc1.weight", "de"))
    for name, model in (("b.fc1.weight", "de"), ("a.fc1.weight", "fr")):
        assert not torch.equal(kept, method.keep(delta, name, model))


@pytest.mark.parametrize("method", METHODS)
def test_a_merged_folder_loads_here_and_in_transformers(method, base, children, tmp_path):
    found = merge(base, children, tmp_path / "merged", method=method)
    assert found.models == ("de", "es", "fr")
    assert all(0 < share <= 1.0001 or method == "dare" for share in found.energy.values())
    assert all(abs(cosine) < 0.2 for cosine in found.likeness.values())
    load_model(tmp_path / "merged", device="cpu", dtype="float32")
    theirs = WhisperForConditionalGeneration.from_pretrained(tmp_path / "merged")
    assert sum(parameter.numel() for parameter in theirs.parameters()) > 0


def test_the_mean_is_the_mean_and_lors_keeps_small_tensors_whole(base, children, tmp_path):
    merge(base, children, tmp_path / "mean", method="mean")
    merge(base, children, tmp_path / "lors", method="lors")
    parents = [load_file(folder / "model.safetensors") for folder in children.values()]
    mean, lors = (load_file(tmp_path / name / "model.safetensors") for name in ("mean", "lors"))
    for name, tensor in mean.items():
        wanted = torch.stack([parent[name] for parent in parents]).mean(0)
        torch.testing.assert_close(tensor, wanted, atol=1e-5, rtol=0)
        assert torch.equal(lors[name], tensor) != is_matrix(name, tensor)


@pytest.mark.parametrize("method", [name for name in METHODS if load_method(name).additive])
def test_a_language_that_comes_later_is_as_if_it_had_been_there(method, base, children, tmp_path):
    merge(base, children, tmp_path / "at once", method=method)
    first = {name: children[name] for name in ("de", "es")}
    merge(base, first, tmp_path / "two", method=method)
    found = add_to_merged(base, tmp_path / "two", {"fr": children["fr"]}, tmp_path / "later")
    assert found.models == ("de", "es", "fr")
    later, once = (load_file(tmp_path / name / "model.safetensors") for name in ("later", "at once"))
    for name in once:
        torch.testing.assert_close(later[name], once[name], atol=1e-5, rtol=0)
    cards = [json.loads((tmp_path / name / "merge.json").read_text()) for name in ("later", "at once")]
    assert cards[0] == cards[1]


@given(order=st.permutations([0, 1, 2]), method=st.sampled_from(sorted(METHODS)), seed=st.integers(0, 99))
@settings(max_examples=30, deadline=None)
def test_the_order_of_models_doesnt_matter(order, method, seed):
    torch.manual_seed(seed)
    chosen = load_method(method)
    kept = [chosen.keep(torch.randn(12, 9), "x.fc1.weight", str(number)) for number in range(3)]
    torch.testing.assert_close(chosen.join(kept), chosen.join([kept[number] for number in order]))


def test_merging_again_gives_the_same_file(base, children, tmp_path):
    for name, method in itertools.product(("one", "two"), ("lors", "dare")):
        merge(base, children, tmp_path / f"{name} {method}", method=method)
    for method in ("lors", "dare"):
        files = [tmp_path / f"{name} {method}" / "model.safetensors" for name in ("one", "two")]
        assert files[0].read_bytes() == files[1].read_bytes()


def test_what_is_interrupted_leaves_nothing_and_can_be_done_again(base, children, tmp_path, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(weights, "save_file", full)
        with pytest.raises(OSError, match="No space"):
            merge(base, children, tmp_path / "merged")
    assert list(tmp_path.iterdir()) == []
    for name in ("merged", "again"):
        merge(base, children, tmp_path / name)
    for file in (tmp_path / "merged").iterdir():
        assert file.read_bytes() == (tmp_path / "again" / file.name).read_bytes()


def changed(folder, target, change):
    target.mkdir()
    for file in folder.iterdir():
        (target / file.name).write_bytes(file.read_bytes())
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, target / "model.safetensors", {"format": "pt"})
    return target


FC1 = "model.decoder.layers.0.fc1.weight"


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda t: t.update({FC1: torch.zeros(3, 3)}), r"fc1.weight has shape \(3, 3\), and in .* \(32, 24\)"),
        (lambda t: t.pop(FC1), "1 tensors are missing"),
        (lambda t: t[FC1].__setitem__((0, 0), torch.nan), "fc1.weight holds infinite numbers or none"),
        (lambda t: t.update({n: torch.randn_like(v) for n, v in t.items()}), "isn't descended from"),
    ],
)
def test_models_that_dont_go_together_are_refused_by_name(change, problem, base, children, tmp_path):
    broken = changed(children["fr"], tmp_path / "broken", change)
    with pytest.raises(BadModel, match=problem):
        merge(base, {"de": children["de"], "fr": broken}, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_requests_that_make_no_sense_are_refused(base, children, tmp_path):
    with pytest.raises(BadConfig, match="1 model can't be merged"):
        merge(base, {"de": children["de"]}, tmp_path / "out")
    with pytest.raises(BadConfig, match="unknown merging method 'slerp'"):
        merge(base, children, tmp_path / "out", method="slerp")
    with pytest.raises(BadConfig, match="ties has no option 'rank'; it has entries"):
        merge(base, children, tmp_path / "out", method="ties", options={"rank": 1})
    with pytest.raises(BadConfig, match="entries is 2; use more than 0"):
        merge(base, children, tmp_path / "out", method="dare", options={"entries": 2})
    with pytest.raises(BadModel, match=r"has no merge\.json"):
        add_to_merged(base, children["de"], {"fr": children["fr"]}, tmp_path / "out")
    merge(base, children, tmp_path / "ties", method="ties")
    with pytest.raises(BadConfig, match="ties looks at all models at once"):
        add_to_merged(base, tmp_path / "ties", {"it": children["fr"]}, tmp_path / "out")
    merge(base, children, tmp_path / "lors")
    with pytest.raises(BadConfig, match="holds de, es, fr; name models that it doesn't hold"):
        add_to_merged(base, tmp_path / "lors", {"fr": children["fr"]}, tmp_path / "out")
    with pytest.raises(BadModel, match="was merged on another ancestor"):
        add_to_merged(children["de"], tmp_path / "lors", {"it": children["fr"]}, tmp_path / "out")
    with pytest.raises(BadConfig, match="exists already"):
        merge(base, children, tmp_path / "lors")


def test_the_command_line_merges_adds_and_says_what_was_kept(base, children, tmp_path):
    def run(*arguments):
        done = CliRunner().invoke(app, ["compress", "merge", *map(str, arguments)])
        if done.exception is not None and not isinstance(done.exception, SystemExit):
            raise done.exception
        assert done.exit_code == 0, done.output
        return done.stdout

    models = ("--model", f"de={children['de']}", "--model", f"es={children['es']}")
    said = run(base, tmp_path / "two", *models, "--set", "entries=0.3")
    assert "de + es by lors" in said
    assert "cosine of what two have learnt" in said
    assert json.loads((tmp_path / "two" / "merge.json").read_text())["options"]["entries"] == 0.3
    assert "de + es + fr" in run(
        base, tmp_path / "three", "--add-to", tmp_path / "two", "--model", f"fr={children['fr']}"
    )
    with pytest.raises(BadConfig, match="leave out --method"):
        run(base, tmp_path / "x", "--add-to", tmp_path / "two", "--model", "fr=a", "--method", "lors")
    with pytest.raises(BadConfig, match="give NAME=FOLDER"):
        run(base, tmp_path / "x", "--model", "de")
    with pytest.raises(BadConfig, match="give NAME=NUMBER"):
        run(base, tmp_path / "x", *models, "--set", "entries=many")
