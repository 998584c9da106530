"""What the ablations need: decoders of another depth, KVSPN from the decoder's layers, Medusa's labels."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from streamtrans.core import BadConfig
from streamtrans.model.config import NetworkConfig
from streamtrans.model.network import Network
from streamtrans.train.batches import Batch
from streamtrans.train.objective import Lesson, Objective, Student
from streamtrans.train.recipe import Stage, load_recipe
from streamtrans.train.trainer import _load_parts, stage_network, start_speculator

SHAPE = {
    "d_model": 24,
    "encoder_layers": 1,
    "encoder_attention_heads": 2,
    "encoder_ffn_dim": 24,
    "decoder_layers": 6,
    "decoder_attention_heads": 2,
    "decoder_ffn_dim": 24,
    "vocab_size": 40,
    "num_mel_bins": 20,
    "max_source_positions": 100,
    "max_target_positions": 48,
}
ROOT = Path(__file__).parents[2]


class Sized:
    size = 6000


def student(**keys: object) -> Student:
    torch.manual_seed(0)
    return Student(Network(NetworkConfig(**{**SHAPE, **keys})), 30)  # type: ignore[arg-type]


@pytest.mark.parametrize(("wanted", "chosen"), [(4, [0, 2, 3, 5]), (6, [0, 1, 2, 3, 4, 5]), (2, [0, 5])])
def test_a_decoder_starts_from_evenly_spread_layers(tmp_path: Path, wanted: int, chosen: list[int]) -> None:
    donor, heir = student(), student(decoder_layers=wanted)
    (tmp_path / "base").mkdir()
    save_file(donor.state_dict(), tmp_path / "base" / "weights.safetensors")
    stage = Stage("s", {"mt": 1.0}, 1, start_from={"decoder": "base"})
    _load_parts(heir, stage, tmp_path)
    for mine, number in zip(heir.network.model.decoder.layers, chosen, strict=True):
        theirs = donor.network.model.decoder.layers[number]
        assert all(torch.equal(a, b) for a, b in zip(mine.parameters(), theirs.parameters(), strict=True))


def test_a_doubled_decoder_says_nearly_the_same(tmp_path: Path) -> None:
    donor, heir = student(), student(decoder_layers=12)
    (tmp_path / "base").mkdir()
    save_file(donor.state_dict(), tmp_path / "base" / "weights.safetensors")
    _load_parts(heir, Stage("s", {"mt": 1.0}, 1, start_from={"decoder": "base"}), tmp_path)
    first, second = heir.network.model.decoder.layers[:2]
    origin = donor.network.model.decoder.layers[0]
    torch.testing.assert_close(first.fc2.weight + second.fc2.weight, origin.fc2.weight)
    torch.testing.assert_close(first.fc1.weight, origin.fc1.weight)


def test_kvspn_starts_from_the_top_layers_of_its_groups() -> None:
    network = student(speculator_blocks=3, speculator_own_keys=True).network
    start_speculator(network)
    assert network.speculator is not None
    for block, number in zip(network.speculator.blocks, (1, 3, 5), strict=True):
        layer = network.model.decoder.layers[number]
        assert torch.equal(block.base_attn.q_proj.weight, layer.self_attn.q_proj.weight)
        assert block.base_attn.k_proj is not None
        assert torch.equal(block.base_attn.k_proj.weight, layer.self_attn.k_proj.weight)
        assert torch.equal(block.fc2.weight, layer.fc2.weight)


def batch() -> Batch:
    tokens = torch.tensor([[1, 2, 10, 11, 12, 0], [1, 3, 20, 21, 0, 0]])
    labels = torch.tensor([[-1, 10, 11, 12, 0, -1], [-1, 20, 21, 0, -1, -1]])
    return Batch(
        source=torch.tensor([[10, 0], [20, 0]]),
        source_visible=torch.ones(2, 2, dtype=torch.bool),
        tokens=tokens,
        labels=labels,
        mel=torch.randn(2, 20, 16),
        frames=torch.tensor([16, 12]),
        ctc=torch.tensor([[3, 4], [5, -1]]),
    )


def test_medusa_learns_the_token_after_the_next() -> None:
    learner = student(speculator_blocks=3, speculator_input="hidden")
    seen: list[torch.Tensor] = []
    objective = Objective(Stage("s", {"st": 1.0, "spec": 1.0}, 1))
    objective._score = lambda _student, _hidden, labels: (seen.append(labels), torch.zeros(()))[1]  # type: ignore
    objective._hear(learner, batch(), Lesson(None, torch.arange(6)), {})
    base, ahead = seen
    assert base.tolist() == [[-1, 10, 11, 12, 0, -1, 20, 21, 0]]
    assert ahead.tolist() == [[10, 11, 12, 0, -1, 20, 21, 0, -1]]


def test_a_frozen_base_stays_and_kvspn_learns_from_it() -> None:
    learner = student(speculator_blocks=3, speculator_own_keys=True)
    stage = Stage("s", {"st": 1.0, "spec": 0.5, "follow": 1.0}, 1, chains=4, frozen=("encoder", "decoder"))
    for part in stage.frozen:
        learner.parts()[part].requires_grad_(False)
    loss, terms = Objective(stage)(learner, batch(), 0.0, seed=3)
    assert set(terms) == {"spec_st", "follow_st"}
    assert float(loss.detach()) == pytest.approx(0.5 * terms["spec_st"] + terms["follow_st"], rel=1e-5)
    loss.backward()  # type: ignore[no-untyped-call]
    assert all(p.grad is None for p in learner.network.model.parameters())
    assert learner.network.speculator is not None
    assert any(bool((p.grad != 0).any()) for p in learner.network.speculator.parameters() if p.grad is not None)


def test_detached_drafts_leave_the_base_alone() -> None:
    grads = []
    for spec, detached in ((0.5, False), (0.5, True), (0.0, False)):
        learner = student(speculator_blocks=3)
        stage = Stage("s", {"st": 1.0, "spec": spec}, 1, spec_detached=detached)
        torch.manual_seed(5)
        loss, _ = Objective(stage)(learner, batch(), 0.0)
        loss.backward()  # type: ignore[no-untyped-call]
        grads.append(learner.network.model.decoder.layers[0].self_attn.k_proj.weight.grad.clone())  # type: ignore
    through, stopped, without = grads
    torch.testing.assert_close(stopped, without)
    assert not torch.allclose(through, without)


def test_what_workers_decide_by_is_what_they_share() -> None:
    objective = Objective(Stage("s", {"st": 1.0}, 1), share=lambda values: dict.fromkeys(values, 7.0))
    _, terms = objective(student(), batch(), 0.0)
    assert terms == objective.running == {"st": 7.0}


def test_every_ablation_is_a_network() -> None:
    recipe = load_recipe(ROOT / "recipes" / "ablations.toml")
    shapes = {stage.name: stage_network(recipe, stage, Sized()) for stage in recipe.stages}  # type: ignore[arg-type]
    assert [shapes[f"depth-{depth}"].decoder_layers for depth in (24, 14, 12, 10, 8)] == [24, 14, 12, 10, 8]
    groups = (("depth", 40), ("joint", 40), ("frozen", 40))
    budgets = {s.name: s.steps for s in recipe.stages}
    assert all(steps == next((n for g, n in groups if name.startswith(g)), 100) for name, steps in budgets.items())
    with pytest.raises(BadConfig, match="unknown key 'decoder_layer'; did you mean 'decoder_layers'"):
        stage_network(recipe, Stage("s", {"mt": 1.0}, 1, network={"decoder_layer": 2}), Sized())  # type: ignore
