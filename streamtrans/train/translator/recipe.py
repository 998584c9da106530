"""The recipe of a translator, in TOML: which sentences, which directions, how large.

An unknown key is an error that names the nearest known one; relative paths are relative to the working folder.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from pathlib import Path

from streamtrans.core import BadConfig
from streamtrans.text import canonical
from streamtrans.train.anchored.recipe import TextRecipe
from streamtrans.train.recipe import build, read_recipe


@dataclass(frozen=True, slots=True)
class TranslatorNetwork:
    """Sizes of the network. The decoder has fewer layers than the encoder: that is how such a folder is known."""

    d_model: int = 256
    encoder_layers: int = 4
    decoder_layers: int = 3
    heads: int = 4
    inner: int = 1024
    """Width of the layers' middles."""
    positions: int = 256
    """Tokens that a text may have."""

    def __post_init__(self) -> None:
        for name in (each.name for each in fields(self)):
            if type(getattr(self, name)) is not int or getattr(self, name) < 1:
                raise BadConfig(f"[network]: {name} is {getattr(self, name)!r}; give a whole number, at least 1")
        if not 1 <= self.decoder_layers < self.encoder_layers:
            raise BadConfig(f"[network]: decoder_layers must be 1 to {self.encoder_layers - 1}, below encoder_layers")
        if self.d_model % (2 * self.heads):
            raise BadConfig(f"[network]: d_model {self.d_model} does not divide into {self.heads} heads of even width")


@dataclass(frozen=True, slots=True)
class TranslatorTraining:
    """How it learns, and for how long."""

    steps: int
    batch: int = 128
    """Pairs per step, on average: batches hold about equally many tokens."""
    peak_lr: float = 2e-3
    warmup: int = 200
    final_lr_share: float = 0.1
    weight_decay: float = 0.01
    smoothing: float = 0.1
    dropout: float = 0.1
    average: float = 0.998
    """Decay of the running average of the weights, which is what is measured and served."""
    beginnings: float = 0.25
    """Share of pairs of which only the beginning is read and written: so a text that is still being said is translated
    as far as it goes, and nothing is made up behind it."""

    def __post_init__(self) -> None:
        for name in ("steps", "batch", "warmup"):
            if getattr(self, name) < 1:
                raise BadConfig(f"[training]: {name} must be at least 1")
        for name in ("smoothing", "dropout", "average", "beginnings", "final_lr_share"):
            if not 0 <= getattr(self, name) <= 1:
                raise BadConfig(f"[training]: {name} is a share, 0 to 1")


@dataclass(frozen=True, slots=True)
class HeldRecipe:
    """What is translated while training, and never learnt from."""

    per_mille: int = 3
    """Of so many sentences in a thousand no translation is learnt, in whatever table they stand."""
    rows: int = 200
    """Of these, how many are translated per direction."""
    every: int = 500
    """Steps."""
    manifest: str = ""
    """Texts besides: a manifest as ``streamtrans evaluate`` reads it, of which the recordings aren't heard."""

    def __post_init__(self) -> None:
        if not 1 <= self.per_mille <= 500 or self.rows < 1 or self.every < 1:
            raise BadConfig("[held]: per_mille is 1 to 500, rows and every are at least 1")


@dataclass(frozen=True, slots=True)
class TranslatorRecipe:
    """A whole run."""

    name: str
    directions: dict[str, tuple[str, ...]]
    """Language that is read → languages that are written of it."""
    text: TextRecipe
    training: TranslatorTraining
    network: TranslatorNetwork = field(default_factory=TranslatorNetwork)
    held: HeldRecipe = field(default_factory=HeldRecipe)
    pieces: int = 8000
    """Of the vocabulary, which is learnt from the same sentences."""
    seed: int = 1

    @property
    def languages(self) -> tuple[str, ...]:
        """All that are read or written."""
        return tuple(dict.fromkeys(code for source, to in self.directions.items() for code in (source, *to)))


def is_translator(path: str | Path) -> bool:
    """Say whether a recipe is one of these."""
    return "directions" in read_recipe(path)


def load_translator_recipe(path: str | Path) -> TranslatorRecipe:
    """Read a recipe.

    Raises:
        BadConfig: the file is missing, isn't TOML, or has an unknown, missing or impossible value.
        UnsupportedLanguage: a language is unknown.
    """
    raw = read_recipe(path)
    tables = (
        ("text", TextRecipe),
        ("training", TranslatorTraining),
        ("network", TranslatorNetwork),
        ("held", HeldRecipe),
    )
    for name, kind in tables:
        if not isinstance(raw.get(name, {}), dict):
            raise BadConfig(f"{path}: {name} is {raw[name]!r}; it must be a table, [{name}]")
        if name in raw:
            raw[name] = build(kind, raw[name], f"{path}: [{name}]")
    said = raw["directions"]
    listed = said if isinstance(said, dict) and all(isinstance(to, list) for to in said.values()) else {}
    if not all(isinstance(code, str) for to in listed.values() for code in to):
        listed = {}
    raw["directions"] = {canonical(source): tuple(map(canonical, to)) for source, to in listed.items()}
    if not any(raw["directions"].values()) or any(source in to for source, to in raw["directions"].items()):
        raise BadConfig(f'{path}: [directions] names what is read and what is written of it, such as en = ["de"]')
    return build(TranslatorRecipe, raw, str(path))
