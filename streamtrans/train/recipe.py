"""A recipe is a file: everything a training run depends on, in TOML.

An unknown key is an error that names the nearest known one. Relative paths are relative to the working folder.
"""

from __future__ import annotations

import difflib
import tomllib
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, TypeVar

from streamtrans.core import BadConfig

T = TypeVar("T")

PARTS = ("encoder", "decoder", "text_encoder", "speculator", "ctc_head")
STRETCHES = ("joined", "cut", "carried", "empty")
LOSSES = ("st", "mt", "kl", "spec", "follow", "ctc")
MIXTURE = ("requests", "templates", "tatoeba")


@dataclass(frozen=True, slots=True)
class DataRecipe:
    """Where sentences come from. The weights say how often each kind of table is drawn."""

    tables: str = "data/text"
    requests: float = 0.6
    templates: float = 0.2
    tatoeba: float = 0.2


@dataclass(frozen=True, slots=True)
class Stage:
    """One stretch of training: which losses, on how many batches, starting from which earlier stages."""

    name: str
    weights: dict[str, float]
    steps: int
    batch: int = 32
    """Utterances (or sentences, without speech) per step and worker: larger is smoother and slower."""
    targets: int = 3
    """Target texts per utterance: the encoder is run once for all of them."""
    peak_lr: float = 2e-3
    warmup: int = 200
    final_lr_share: float = 0.05
    weight_decay: float = 0.02
    smoothing: float = 0.1
    repeat: int = 2
    """How often a spoken utterance is used, each time with other targets and masks: synthesis costs time."""
    augment: bool = True
    clean: float = 0.0
    """Share of utterances that are left as they were spoken."""
    masks: float = 1.0
    """Strength of SpecAugment: 0 hides nothing, 1 up to an eighth of the time and twelve bands, each twice."""
    spec_from: float = 0.0
    """Share of the stage after which KVSPN is trained along; before, its loss is left out."""
    chains: int = 1
    """Longest chain that KVSPN guesses before the base reads on, in training; drawn anew for each."""
    spec_detached: bool = False
    """Stop KVSPN's gradient at the base's keys and values."""
    frozen: tuple[str, ...] = ()
    """Parts of the network that stay as they are."""
    blocks: tuple[int, ...] = ()
    """Block sizes of the encoder in frames, one drawn for each step; 0 is full context, as is naming none."""
    left: int = 200
    """Frames that a block of the encoder sees before its first."""
    stretches: dict[str, float] = field(default_factory=dict)
    """How often sentences are joined, cut off, carried over or missing: keys of ``StretchConfig``."""
    mixture: dict[str, float] = field(default_factory=dict)
    """How often each kind of table is drawn, where it differs from the recipe's ``[data]``."""
    network: dict[str, Any] = field(default_factory=dict)
    """What differs from the recipe's ``[network]``."""
    start_from: dict[str, str] = field(default_factory=dict)
    """Part of the network → earlier stage whose weights it starts with. A decoder that is to have more or fewer
    layers takes evenly spread ones; a speculator that starts from ``"decoder"`` takes the network's own layers."""

    def __post_init__(self) -> None:
        _check_names(self.weights, LOSSES, f"stage {self.name}: weights")
        _check_names(self.mixture, MIXTURE, f"stage {self.name}: mixture")
        _check_names(self.stretches, STRETCHES, f"stage {self.name}: stretches")
        _check_names(self.start_from, PARTS, f"stage {self.name}: start_from")
        _check_names(dict.fromkeys(self.frozen), PARTS, f"stage {self.name}: frozen")
        if self.chains < 1 or self.left < 0 or any(size < 0 for size in self.blocks):
            raise BadConfig(f"stage {self.name}: chains must be at least 1, left and blocks at least 0")
        if self.steps < 1 or self.batch < 1 or self.repeat < 1:
            raise BadConfig(f"stage {self.name}: steps, batch and repeat must be at least 1")
        if not any(self.weights.get(name, 0) > 0 for name in ("st", "mt", "ctc")):
            raise BadConfig(f"stage {self.name}: one of the weights st, mt and ctc must be above 0")

    def trains(self, part: str) -> bool:
        """Whether a part of the network learns."""
        return part not in self.frozen

    @property
    def hears(self) -> bool:
        """Whether the stage needs speech."""
        return self.weights.get("st", 0) > 0 or self.weights.get("ctc", 0) > 0


@dataclass(frozen=True, slots=True)
class Recipe:
    """A whole training run."""

    name: str
    languages: tuple[str, ...]
    vocabulary: int
    ctc_vocabulary: int
    network: dict[str, Any]
    features: dict[str, Any]
    data: DataRecipe
    stages: tuple[Stage, ...]
    seed: int = 1

    def stage(self, name: str) -> Stage:
        """Return a stage by name."""
        for stage in self.stages:
            if stage.name == name:
                return stage
        known = ", ".join(stage.name for stage in self.stages)
        raise BadConfig(f"recipe {self.name} has no stage {name!r}; it has {known}")


def load_recipe(path: str | Path) -> Recipe:
    """Read a recipe.

    Raises:
        BadConfig: the file is missing, isn't TOML, or has an unknown or ill-typed key.
    """
    raw = read_recipe(path)
    raw["data"] = build(DataRecipe, raw.get("data", {}), f"{path}: [data]")
    raw["stages"] = tuple(build(Stage, stage, f"{path}: [[stages]]") for stage in raw.get("stages", ()))
    raw.setdefault("languages", ())
    recipe = build(Recipe, raw, str(path))
    names = [stage.name for stage in recipe.stages]
    if not names or len(set(names)) != len(names):
        raise BadConfig(f"{path}: a recipe needs stages with different names; it has {names}")
    return recipe


def read_recipe(path: str | Path) -> dict[str, Any]:
    """Read the tables of a recipe, of whatever kind.

    Raises:
        BadConfig: the file is missing, or isn't TOML.
    """
    try:
        return tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise BadConfig(f"there is no recipe at {path}") from None
    except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise BadConfig(f"{path} is not a TOML file: {error}") from None


def build(kind: type[T], raw: dict[str, Any], where: str) -> T:
    """Make a configuration dataclass of a TOML table, whose lists are tuples there, naming what does not fit."""
    known = {item.name for item in fields(kind)}  # type: ignore[arg-type]
    _check_names(raw, known, where)
    try:
        return kind(**{name: tuple(value) if isinstance(value, list) else value for name, value in raw.items()})
    except TypeError as error:
        raise BadConfig(f"{where}: {error}") from None


def _check_names(raw: dict[str, Any], known: Any, where: str) -> None:
    for name in raw:
        if name not in known:
            near = difflib.get_close_matches(name, list(known), n=1)
            hint = f"; did you mean {near[0]!r}?" if near else f"; known are {', '.join(sorted(known))}"
            raise BadConfig(f"{where}: unknown key {name!r}{hint}")
