from pathlib import Path

import pytest

from streamtrans.core import BadConfig, UnsupportedLanguage
from streamtrans.train.finetune.readers import find_reader
from streamtrans.train.finetune.recipe import is_finetune, load_finetune
from streamtrans.train.finetune.trainer import learning_rate

RECIPES = Path(__file__).parents[3] / "recipes"
MEDIUM = RECIPES / "whisper_m2m_medium.toml"


def test_the_shipped_recipe_has_the_settings_of_the_paper() -> None:
    recipe = load_finetune(MEDIUM)
    assert recipe.stage().weights == {"st": 2.0, "mt": 1.0, "kl": 0.5, "spec": 0.2}
    assert (recipe.lora.alpha, recipe.lora.layers) == (64, 20)
    training = recipe.training
    assert (training.peak_lr, training.warmup, training.steps, training.batch) == (1e-4, 5_000, 2_000_000, 64)
    assert training.precision == "fp16"
    assert recipe.languages == ("en", "zh", "de", "es", "fr", "it")
    assert all(callable(find_reader(source.reader)) for source in recipe.data)


def test_the_kinds_of_recipes_are_told_apart() -> None:
    assert is_finetune(MEDIUM)
    assert not is_finetune(RECIPES / "nano.toml")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("peak_lr = ", "peek_lr = ", r"\[training\]: unknown key 'peek_lr'; did you mean 'peak_lr'"),
        ("rank = 32", "rnak = 32", r"\[lora\]: unknown key 'rnak'; did you mean 'rank'"),
        ("\n[pseudo_labels]", "\n[pseudo_label]", "unknown key 'pseudo_label'; did you mean 'pseudo_labels'"),
        ('on_bad = "skip"', 'on_bad = "ignore"', "on_bad is 'ignore'; use skip or refuse"),
        ('precision = "fp16"', 'precision = "fp8"', "precision is 'fp8'; use no, fp16, bf16"),
        ('"v_proj"]', '"w_proj"]', "modules w_proj don't exist; known are q_proj"),
        ("batch = 64  ", "batch = 0 ", "batch must be at least 1"),
        ('split = "dev"', 'spilt = "dev"', r"\[\[evaluation.data\]\]: unknown key 'spilt'; did you mean 'split'"),
        ("rank = 32", 'rank = "32"', r"\[lora\]"),
        ('"fr", "it"]   #', '"fr", "fr"]   #', "languages must name two or more, each once"),
        ("seed = 1", "seed =", "is not a TOML file"),
        ("\nname = ", "\nnam = ", "unknown key 'nam'; did you mean 'name'"),
    ],
)
def test_mistakes_are_named(tmp_path: Path, old: str, new: str, message: str) -> None:
    text = MEDIUM.read_text(encoding="utf-8")
    assert old in text
    (tmp_path / "bad.toml").write_text(text.replace(old, new, 1), encoding="utf-8")
    with pytest.raises(BadConfig, match=message):
        load_finetune(tmp_path / "bad.toml")


def test_pseudo_labels_stay_within_the_languages(tmp_path: Path) -> None:
    text = MEDIUM.read_text(encoding="utf-8").replace('to = ["en", "zh"', 'to = ["en", "pt"')
    (tmp_path / "bad.toml").write_text(text, encoding="utf-8")
    with pytest.raises(UnsupportedLanguage, match="'pt' is none of en, zh, de"):
        load_finetune(tmp_path / "bad.toml")


def test_the_rate_rises_and_falls_linearly() -> None:
    rates = [learning_rate(step, warmup=10, steps=110, peak=2.0) for step in range(110)]
    assert rates[0] == pytest.approx(0.2)
    assert rates[9] == rates[10] == max(rates) == pytest.approx(2.0)
    assert rates[60] == pytest.approx(1.0)
    assert rates[-1] == pytest.approx(0.02)
    assert learning_rate(110, warmup=10, steps=110, peak=2.0) == 0.0
