from pathlib import Path

import pytest

from streamtrans.core import BadConfig
from streamtrans.train.finetune.recipe import is_finetune
from streamtrans.train.optim import learning_rate
from streamtrans.train.recipe import Stage, load_recipe
from streamtrans.train.translator.recipe import is_translator, load_translator_recipe

ROOT = Path(__file__).parents[2]


def test_the_shipped_recipes_load() -> None:
    for path in sorted((ROOT / "recipes").glob("*.toml")):
        if is_finetune(path):
            continue
        if is_translator(path):
            assert load_translator_recipe(path).languages
        else:
            assert load_recipe(path).stages
    nano = load_recipe(ROOT / "recipes" / "nano.toml")
    assert nano.network["decoder_layers"] == 12
    assert nano.stage("polish").weights | {"ctc": 0} == {"st": 2.0, "mt": 1.0, "kl": 0.5, "spec": 0.2, "ctc": 0}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("peak_lr", "peek_lr"), "unknown key 'peek_lr'; did you mean 'peak_lr'"),
        (("mt = 1.0", "mtt = 1.0"), "unknown key 'mtt'; did you mean 'mt'"),
        (('name = "ctc"', 'name = "mt"'), "stages with different names"),
        (("steps = ", "steps = -"), "at least 1"),
        (("seed = 1", "seed ="), "not a TOML file"),
        (("tatoeba = 0.15", "tatoba = 0.15"), "did you mean 'tatoeba'"),
    ],
)
def test_mistakes_are_named(tmp_path: Path, change: tuple[str, str], message: str) -> None:
    text = (ROOT / "recipes" / "nano.toml").read_text()
    assert change[0] in text
    (tmp_path / "bad.toml").write_text(text.replace(*change))
    with pytest.raises(BadConfig, match=message):
        load_recipe(tmp_path / "bad.toml")


def test_missing_recipe_and_stage_are_named(tmp_path: Path) -> None:
    with pytest.raises(BadConfig, match="there is no recipe"):
        load_recipe(tmp_path / "none.toml")
    with pytest.raises(BadConfig, match="no stage 'sst'; it has mt, ctc, st, polish"):
        load_recipe(ROOT / "recipes" / "nano.toml").stage("sst")


def test_the_learning_rate_warms_up_and_falls() -> None:
    stage = Stage("s", {"mt": 1.0}, steps=100, warmup=10, peak_lr=1.0, final_lr_share=0.1)
    rates = [learning_rate(stage, step) for step in range(100)]
    assert rates[0] == pytest.approx(0.1)
    assert max(rates) == pytest.approx(1.0)
    assert rates.index(max(rates)) in (9, 10)
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert rates[-1] == pytest.approx(0.1, abs=0.01)
