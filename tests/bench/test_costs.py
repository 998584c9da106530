"""Costs at Whisper's sizes, and peers: on sizes that take no time."""

import json

import pytest
import torch
from typer.testing import CliRunner

from streamtrans.bench import peers, shapes
from streamtrans.bench.costs import (
    DRAFT,
    PLAIN,
    SHORT_DRAFT,
    STEP,
    CostConfig,
    RatedDrafter,
    Table,
    cost_tables,
    measure_costs,
    speed_up,
    verify,
)
from streamtrans.bench.peers import PeerConfig, compare_peers, peer_table
from streamtrans.cli.app import app
from streamtrans.core import BadConfig
from streamtrans.model import linear

torch.set_num_threads(1)

COSTS = {STEP: {"ratio": 1.0}, verify(2): {"ratio": 1.1}, verify(3): {"ratio": 1.2}, DRAFT: {"ratio": 0.4}}


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """Let `nano` be smaller still, and its vocabulary too."""
    monkeypatch.setitem(shapes.WIDTHS, "nano", 64)
    whisper_shape = shapes.whisper_shape

    def shape(*arguments):
        config = whisper_shape(*arguments)
        object.__setattr__(config, "vocab_size", 500)
        return config

    for module in ("costs", "peers"):
        monkeypatch.setattr(f"streamtrans.bench.{module}.whisper_shape", shape)


def test_speed_up_follows_from_costs():
    assert speed_up(COSTS, DRAFT, 1.0, 2) == pytest.approx(3 / (0.8 + 1.2))
    assert speed_up(COSTS, DRAFT, 0.0, 1) == pytest.approx(1 / 1.5)
    assert speed_up(COSTS, DRAFT, 0.5, 2) == pytest.approx(1.75 / 2.0)


def test_a_rated_drafter_is_right_as_often_as_it_should_be():
    known = tuple(range(10, 10 + 4000))
    drafter, kept, drafted = RatedDrafter(known, 1, 0.8, 1, seed=1), 0, 0
    for at in range(3000):
        talk = drafter.propose((0, *known[:at])[-1 - at :], None, 5)
        next(talk)
        with pytest.raises(StopIteration) as stop:
            talk.send(None)
        [token] = stop.value.value.tokens
        kept, drafted = kept + (token == known[at]), drafted + 1
    assert kept / drafted == pytest.approx(0.8, abs=0.03)


def test_costs_are_measured_in_every_precision():
    config = CostConfig("nano", 3, frames=10, rounds=2, rates=(0.5, 0.9), tokens=12, texts=1, longest=3, listed=50)
    seen = []
    found = measure_costs(config, progress=lambda *at: seen.append(at))
    assert list(found) == [PLAIN, "float32", "bfloat16", "int8"]
    measured = [each for each in found.values() if "missing" not in each]
    assert seen == [(done, 3 * len(measured)) for done in range(1, 3 * len(measured) + 1)]
    for each in measured:
        assert list(each["passes"]) == [STEP, verify(2), verify(3), verify(4), DRAFT, SHORT_DRAFT]
        assert each["passes"][STEP]["ratio"] == 1
        assert all(cost["ms"] > 0 for cost in each["passes"].values())
        assert len(each["speed_up"][DRAFT]["0.5"]) == 3
        assert [text["rate"] for text in each["texts"]] == [0.5, 0.9] * 2
        assert all(text["equal"] for text in each["texts"])
        for text in each["texts"]:
            assert 1 < text["tokens_per_pass"] <= text["count"] + 1
    titles = [table.title for table in cost_tables(found)]
    assert titles[0] == "cost of a pass"
    assert len(titles) == 4


@pytest.mark.parametrize("hidden", [("bfloat16",), ("int8",), ("bfloat16", "int8")])
def test_a_processor_without_instructions_takes_fewer_steps(hidden, monkeypatch):
    if "bfloat16" in hidden:
        monkeypatch.setattr(linear, "has_bfloat16", lambda: False)
    if "int8" in hidden:
        slow, works = (linear.Int8Linear, linear.Int8Product), linear.works
        monkeypatch.setattr(linear, "works", lambda kind, *dtype: kind not in slow and works(kind, *dtype))
    config = CostConfig("nano", 3, frames=10, rounds=1, rates=(0.5,), tokens=8, texts=1, longest=1, listed=50)
    seen = []
    found = measure_costs(config, progress=lambda *at: seen.append(at))
    assert set(hidden) <= {name for name, each in found.items() if "missing" in each}
    measured = [each for each in found.values() if "missing" not in each]
    assert seen == [(done, 2 * len(measured)) for done in range(1, 2 * len(measured) + 1)]
    assert len(cost_tables(found)) == 4


def test_a_table_is_markdown():
    table = Table("title", ("a", "b"), (("x", 1.23456), ("y", None)))
    assert table.markdown() == "**title**\n\n| a | b |\n| --- | --- |\n| x | 1.235 |\n| y | None |\n"


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"shape": "huge"}, "shape is 'huge'; use nano, tiny"),
        ({"layers": 4}, "layers is 4"),
        ({"rates": (2.0,)}, "rates are"),
        ({"precisions": ("int3",)}, "no precision int3"),
        ({"rounds": 0}, "must be 1 or more"),
    ],
)
def test_costs_that_make_no_sense_are_refused(changes, problem):
    with pytest.raises(BadConfig, match=problem):
        CostConfig(**changes)


def test_peers_write_the_same_text():
    pytest.importorskip("transformers", reason="a peer")
    who = ("ours float32", "transformers float32", "ours int8")
    config = PeerConfig(shape="nano", layers=2, frames=20, short=3, long=9, rounds=1, streams=2, contenders=who)
    found = compare_peers(config)
    assert list(found) == list(who)
    for each in found.values():
        assert each.get("equal", True)
        assert each.get("tokens", 9) == 9
    assert found["ours float32"]["ratio"] == 1
    assert len(peer_table(found).rows) == 3


def test_ctranslate2_writes_the_same_text():
    pytest.importorskip("ctranslate2", reason="a peer")
    pytest.importorskip("transformers", reason="it converts the weights")
    who = ("ours float32", "ctranslate2 float32", "ctranslate2 int8")
    config = PeerConfig(shape="nano", layers=2, frames=20, short=3, long=9, rounds=1, streams=3, contenders=who)
    found = compare_peers(config)
    assert all(each["equal"] and each["tokens"] == 9 for each in found.values())


def test_a_peer_that_is_not_installed_says_so(monkeypatch):
    monkeypatch.setattr(peers.importlib.util, "find_spec", lambda name: None)
    who = ("ours float32", "transformers float32", "ctranslate2 int8")
    found = compare_peers(PeerConfig(shape="nano", layers=1, frames=20, short=2, long=3, rounds=1, contenders=who))
    assert found["transformers float32"] == {"missing": "transformers isn't installed"}
    assert peer_table(found).rows[2] == ("ctranslate2 int8", "ctranslate2 isn't installed", "–", "–", "–")
    with pytest.raises(BadConfig, match="no contender theirs"):
        PeerConfig(contenders=("theirs",))
    with pytest.raises(BadConfig, match="short must be below long"):
        PeerConfig(short=9, long=9)


def invoke(*arguments):
    done = CliRunner().invoke(app, ["bench", *map(str, arguments)])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code == 0, done.output
    return done.stdout


def test_the_verbs_keep_figures_and_tables(tmp_path):
    few = ("--shape", "nano", "--frames", 10, "--rounds", 1, "--results", tmp_path)
    printed = invoke("costs", *few, "--layers", 3, "--tokens", 12, "--texts", 1, "--precisions", "float32")
    assert "cost of a pass" in printed
    figures = json.loads((tmp_path / "costs.json").read_text())["figures"]
    assert list(figures["precisions"]) == ["float32"]
    assert "| step |" in (tmp_path / "costs.md").read_text()
    invoke("peers", *few, "--layers", 1, "--short", 2, "--long", 4, "--contenders", "ours float32")
    assert "| ours float32 |" in (tmp_path / "peers.md").read_text()
    with pytest.raises(BadConfig, match="--precisions names int3; use plain float32, float32"):
        invoke("costs", "--precisions", "int3")
