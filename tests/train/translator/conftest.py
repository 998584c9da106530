"""A toy translator: a table of the articles of human rights, a recipe, and what a few steps have made of them."""

from pathlib import Path

import pytest

from streamtrans.text import articles
from streamtrans.train.translator.trainer import TranslatorConfig, train_translator

RECIPE = """
name = "toy"
pieces = 420
[directions]
en = ["de", "fr"]
[text]
tables = "{folder}/text"
shares = {{ "rights*" = 1.0 }}
[network]
d_model = 32
encoder_layers = 3
decoder_layers = 2
heads = 2
inner = 48
positions = 128
[training]
steps = 12
batch = 4
warmup = 2
average = 0.9
[held]
per_mille = 250
rows = 4
every = 6
manifest = "{folder}/people.tsv"
"""


def write_table(file: Path, *languages: str) -> None:
    """Write parts of the articles side by side; they needn't be translations of each other here."""
    parts = [[part.strip() for part in articles()[code].replace(".", ",").split(",")] for code in languages]
    rows = [row for row in zip(*parts, strict=False) if all(len(cell) > 2 for cell in row)]
    file.write_text("\n".join("\t".join(row) for row in (languages, *rows)) + "\n", encoding="utf-8")


def run(recipe: Path, runs: Path) -> Path:
    return train_translator(TranslatorConfig(str(recipe), str(runs), save_every=5, log_every=1))


@pytest.fixture(scope="session")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the path of a recipe."""
    folder = tmp_path_factory.mktemp("translator")
    (folder / "text").mkdir()
    write_table(folder / "text" / "rights.tsv", "en", "de", "fr")
    write_table(folder / "text" / "rights_de.tsv", "en", "de")
    (folder / "unheard.wav").touch()
    (folder / "people.tsv").write_text("audio\tlanguage\ten\tde\nunheard.wav\ten\tall human beings\talle Menschen\n")
    (folder / "toy.toml").write_text(RECIPE.format(folder=folder))
    return folder / "toy.toml"


@pytest.fixture(scope="session")
def trained(toy: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of an unbroken run."""
    return run(toy, tmp_path_factory.mktemp("runs"))
