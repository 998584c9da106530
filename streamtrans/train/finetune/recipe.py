"""The recipe of a fine-tuning run, in TOML. Every default is the paper's where the paper states one.

Source: arXiv 2508.11189, sections 2.1 and 3.3. An unknown key is an error that names the nearest known one; relative
paths are relative to the working folder.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from streamtrans.core import BadConfig, UnsupportedLanguage
from streamtrans.text import canonical
from streamtrans.train.recipe import Stage, build, read_recipe

PROJECTIONS = ("q_proj", "k_proj", "v_proj", "out_proj")
PRECISIONS = ("no", "fp16", "bf16")
ON_BAD = ("skip", "refuse")
WEIGHTS = ("st", "mt", "kl", "spec")


@dataclass(frozen=True, slots=True)
class LoraRecipe:
    """Low-rank adapters on the lower encoder layers; the layers above them are trained whole."""

    layers: int = 20
    """Encoder layers, from the first on, that get adapters. Convolutions and positions below them stay."""
    alpha: float = 64.0
    """The adapter's product counts ``alpha / rank`` times."""
    rank: int = 32
    """Not stated by the paper; half of alpha is the usual choice. Larger learns more and costs more."""
    modules: tuple[str, ...] = ("q_proj", "v_proj")
    """Projections of self-attention that get one; not stated by the paper either."""
    dropout: float = 0.0

    def __post_init__(self) -> None:
        if self.layers < 0 or self.rank < 1 or self.alpha <= 0 or not 0 <= self.dropout < 1:
            raise BadConfig("[lora]: layers must be at least 0, rank 1, alpha above 0, dropout from 0 to below 1")
        if unknown := sorted(set(self.modules) - set(PROJECTIONS)):
            raise BadConfig(f"[lora]: modules {', '.join(unknown)} don't exist; known are {', '.join(PROJECTIONS)}")


@dataclass(frozen=True, slots=True)
class LossRecipe:
    """The joint objective of ``train.objective``; KL is held back until MT is better than ST."""

    st: float = 2.0
    mt: float = 1.0
    kl: float = 0.5
    spec: float = 0.2
    smoothing: float = 0.0
    targets: int = 1
    """Texts per utterance. The first is a translation; with more of them the others may be the transcript."""
    chains: int = 1
    """Longest chain that KVSPN guesses before the base reads on; above 1 it learns to draft several tokens."""
    spec_detached: bool = False
    """Stop KVSPN's gradient at the base's keys and values."""
    masks: float = 0.0
    """Strength of SpecAugment; 1 hides up to an eighth of the time and twelve bands, each twice."""

    def __post_init__(self) -> None:
        if min(self.st, self.mt) <= 0 or min(self.kl, self.spec) < 0:
            raise BadConfig("[loss]: st and mt must be above 0, kl and spec at least 0")
        if self.targets < 1 or self.chains < 1:
            raise BadConfig("[loss]: targets and chains must be at least 1")


@dataclass(frozen=True, slots=True)
class TrainingRecipe:
    """The optimiser (AdamW), its schedule (linear up, linear down to zero), and what is written when."""

    steps: int = 2_000_000
    warmup: int = 5_000
    peak_lr: float = 1e-4
    batch: int = 64
    """Utterances per step, over all devices together. Changing the number of devices changes nothing else."""
    accumulate: int = 1
    """Passes per step: larger fits a batch into less memory. Devices times passes must divide ``batch``."""
    weight_decay: float = 0.01
    betas: tuple[float, float] = (0.9, 0.999)
    clip: float = 1.0
    """Largest norm of the gradient."""
    precision: str = "fp16"
    """``fp16`` (with loss scaling), ``bf16`` or ``no``; weights and optimiser stay in float32."""
    loader_processes: int = 4
    """Processes per device that read and resample audio; 0 reads between the steps."""
    save_every: int = 1_000
    keep: int = 2
    """Checkpoints that are kept, the newest ones."""
    log_every: int = 50
    saved_as: str = "bfloat16"
    """Type of the exported weights."""

    def __post_init__(self) -> None:
        least_one = ("steps", "warmup", "batch", "accumulate", "save_every", "keep", "log_every")
        if low := [name for name in least_one if getattr(self, name) < 1]:
            raise BadConfig(f"[training]: {', '.join(low)} must be at least 1")
        if self.precision not in PRECISIONS:
            raise BadConfig(f"[training]: precision is {self.precision!r}; use {', '.join(PRECISIONS)}")
        if self.saved_as not in ("bfloat16", "float16", "float32"):
            raise BadConfig(f"[training]: saved_as is {self.saved_as!r}; use bfloat16, float16 or float32")


@dataclass(frozen=True, slots=True)
class Source:
    """One corpus: who reads it and where it lies."""

    reader: str
    path: str
    split: str = "train"
    audio: str = ""
    """Folder of the audio files, where it isn't where the corpus puts it."""
    language: str = ""
    """The spoken language, where the corpus doesn't say; for FLEURS the only one to take."""
    repeat: int = 1
    """How often its utterances count: larger shows a small corpus more often."""


@dataclass(frozen=True, slots=True)
class CorpusRecipe:
    """Which lines are good, and what becomes of the others."""

    max_seconds: float = 30.0
    """Longer recordings are bad lines; never more than the model can hold."""
    on_bad: str = "skip"
    """``skip`` reports bad lines and goes on without them, ``refuse`` reports them and ends."""

    def __post_init__(self) -> None:
        if self.on_bad not in ON_BAD:
            raise BadConfig(f"[corpus]: on_bad is {self.on_bad!r}; use {' or '.join(ON_BAD)}")
        if self.max_seconds <= 0:
            raise BadConfig("[corpus]: max_seconds must be above 0")


@dataclass(frozen=True, slots=True)
class PseudoRecipe:
    """A translation model that fills in the translations which are missing."""

    model: str
    """Any Hugging Face seq2seq folder or hub name."""
    to: tuple[str, ...] = ()
    """Languages to fill in; none named takes all of the recipe."""
    codes: dict[str, str] = field(default_factory=dict)
    """Our code → the model's, where they differ: ``{ zh = "zho_Hans" }``."""
    prefix: str = ""
    """What such models want before the text: ``"translate {source_name} to {target_name}: "``, ``">>{target}<< "``."""
    beams: int = 1
    batch: int = 32
    max_tokens: int = 256

    def __post_init__(self) -> None:
        if min(self.beams, self.batch, self.max_tokens) < 1:
            raise BadConfig("[pseudo_labels]: beams, batch and max_tokens must be at least 1")


@dataclass(frozen=True, slots=True)
class EvaluationRecipe:
    """What is measured while training, on data that are not trained on."""

    every: int = 5_000
    """Steps between evaluations; 0 never evaluates."""
    rows: int = 256
    """Utterances whose losses are averaged, evenly spread over the data."""
    bleu_rows: int = 64
    """Utterances of these that are translated greedily and scored."""
    max_tokens: int = 200
    data: tuple[Source, ...] = ()

    def __post_init__(self) -> None:
        if self.every and not self.data:
            raise BadConfig("[evaluation]: name held-out data in [[evaluation.data]], or set every = 0")
        if self.every < 0 or self.rows < 1 or self.bleu_rows < 0:
            raise BadConfig("[evaluation]: rows must be at least 1, every and bleu_rows at least 0")


@dataclass(frozen=True, slots=True)
class FinetuneRecipe:
    """A whole fine-tuning run."""

    name: str
    base: str
    """A whisperM2M folder, as ``streamtrans convert`` writes it."""
    languages: tuple[str, ...]
    data: tuple[Source, ...]
    seed: int = 1
    lora: LoraRecipe = field(default_factory=LoraRecipe)
    loss: LossRecipe = field(default_factory=LossRecipe)
    training: TrainingRecipe = field(default_factory=TrainingRecipe)
    corpus: CorpusRecipe = field(default_factory=CorpusRecipe)
    evaluation: EvaluationRecipe = field(default_factory=lambda: EvaluationRecipe(every=0))
    pseudo_labels: PseudoRecipe | None = None

    def stage(self) -> Stage:
        """Return what the objective needs to know, in the terms of the staged recipes."""
        return Stage(
            self.name,
            {name: getattr(self.loss, name) for name in WEIGHTS},
            steps=self.training.steps,
            targets=self.loss.targets,
            smoothing=self.loss.smoothing,
            chains=self.loss.chains,
            spec_detached=self.loss.spec_detached,
        )


def is_finetune(path: str | Path) -> bool:
    """Say whether a recipe fine-tunes a checkpoint, as opposed to training in stages from scratch."""
    return "base" in read_recipe(path)


def load_finetune(path: str | Path) -> FinetuneRecipe:
    """Read a recipe.

    Raises:
        BadConfig: the file is missing, isn't TOML, or has an unknown, missing or impossible value.
        UnsupportedLanguage: a language is unknown.
    """
    raw = read_recipe(path)
    tables = {"lora": LoraRecipe, "loss": LossRecipe, "training": TrainingRecipe, "corpus": CorpusRecipe}
    for name, kind in tables.items():
        if name in raw:
            raw[name] = build(kind, raw[name], f"{path}: [{name}]")
    if "pseudo_labels" in raw:
        raw["pseudo_labels"] = build(PseudoRecipe, raw["pseudo_labels"], f"{path}: [pseudo_labels]")
    if "evaluation" in raw:
        held = dict(raw["evaluation"])
        held["data"] = _sources(held.get("data", ()), f"{path}: [[evaluation.data]]")
        raw["evaluation"] = build(EvaluationRecipe, held, f"{path}: [evaluation]")
    raw["data"] = _sources(raw.get("data", ()), f"{path}: [[data]]")
    if not raw["data"]:
        raise BadConfig(f"{path}: name at least one corpus in [[data]]")
    recipe = build(FinetuneRecipe, raw, str(path))
    codes = tuple(canonical(code) for code in recipe.languages)
    if len(set(codes)) != len(codes) or len(codes) < 2:
        raise BadConfig(f"{path}: languages must name two or more, each once; they are {', '.join(recipe.languages)}")
    for code in recipe.pseudo_labels.to if recipe.pseudo_labels else ():
        if canonical(code) not in codes:
            raise UnsupportedLanguage(f"{path}: [pseudo_labels] to: {code!r} is none of {', '.join(codes)}")
    return replace(recipe, languages=codes)


def _sources(raw: Any, where: str) -> tuple[Source, ...]:
    if not isinstance(raw, list | tuple) or not all(isinstance(item, dict) for item in raw):
        raise BadConfig(f"{where}: write one such table per corpus")
    sources = tuple(build(Source, item, where) for item in raw)
    for source in sources:
        if source.repeat < 1:
            raise BadConfig(f"{where}: repeat must be at least 1")
    return sources
