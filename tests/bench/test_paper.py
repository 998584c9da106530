"""The paper's tables: which ways are measured, and how figures are laid beside the paper's."""

from types import SimpleNamespace

import pytest

from streamtrans.bench.drafting import Way
from streamtrans.bench.paper import DOUBLE, EQUAL, MEDUSA, PRUNED, TABLES, fill_tables, ways_for


def model(speculates: bool) -> SimpleNamespace:
    return SimpleNamespace(has_speculator=speculates)


def test_all_ways_are_measured_once_greedy_first() -> None:
    models = {"": model(True), DOUBLE: model(False), PRUNED: model(False), MEDUSA: model(True), EQUAL: model(True)}
    ways = ways_for(models)
    assert ways[0] == Way()
    assert len(set(ways)) == len(ways)
    assert {way.name for way in ways} >= {row.way.name for table in TABLES.values() for row in table}
    assert len({way.name for way in ways}) == len(ways)


def test_models_that_are_not_there_and_drafts_that_none_makes_are_left_out() -> None:
    ways = ways_for({"": model(False), PRUNED: model(False)})
    assert {way.name for way in ways} == {"none", "none beam 3", "ngram", "pruned"}


def figures(speed: float, bleu: float) -> dict[str, object]:
    return {
        "bleu": bleu,
        "ms_per_token": 5.0 / speed,
        "speed": speed,
        "acceptance": {"kvspn": 0.8},
        "passes_per_token": 0.6,
    }


def test_figures_stand_beside_the_papers() -> None:
    filled = fill_tables({"none": figures(1.0, 20.0), "kvspn": figures(1.3, 20.0), "kvspn k=2": figures(1.35, 19.5)})
    assert [line["row"] for line in filled["methods"]] == ["base (12 layers)", "KVSPN, k = 2", "KVSPN, k = 1"]
    second = filled["methods"][1]
    assert second["bleu_change"] == -0.5
    assert second["speed"] == 1.35
    assert second["paper_speed"] == 1.41
    assert second["paper_bleu_change"] == pytest.approx(-0.48)
    assert filled["depth"][1]["paper_speed"] == pytest.approx(1.36)
    assert filled["depth"][0]["row"] == "base (12 layers)"
