"""The recipe of an anchored run, in TOML: what is spoken, by whom, and the stages in order.

An unknown key is an error that names the nearest known one; relative paths are relative to the working folder.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from streamtrans.core import BadConfig
from streamtrans.text import canonical
from streamtrans.train.recipe import build, read_recipe

LESSONS = ("hearing", "directions", "body", "guessing")
BODIES = ("encoder-decoder", "decoder-only")
STARTS = ("best", "last")


@dataclass(frozen=True, slots=True)
class TextRecipe:
    """Which sentences are spoken."""

    tables: str
    """Folder of text tables."""
    shares: dict[str, float]
    """Table (``tatoeba2_*`` names many) → how many of its rows an epoch holds, as a share."""
    uncased: tuple[str, ...] = ()
    """Tables of these without capitals and marks, which get what the others have."""
    most_words: int = 24
    """Longer texts stay out; larger means slower steps."""


@dataclass(frozen=True, slots=True)
class VoiceRecipe:
    """Who speaks. The weights say how often, where a language has the voice."""

    pico: float = 1.0
    espeak: float = 0.1
    ahead: float = 1.0
    spoken: tuple[str, ...] = ()
    """Manifests of speech that was spoken ahead; each is read as far as it went when a chapter began."""
    sounds: tuple[str, ...] = ()
    """Folders of recordings without texts, for the encoder alone."""
    languages: dict[str, float] = field(default_factory=dict)
    """How often each language speaks, relative to 1."""


@dataclass(frozen=True, slots=True)
class BodyRecipe:
    """A decoder that learns from nothing what the finished encoder heard."""

    kind: str
    """``encoder-decoder`` attends to all frames; ``decoder-only`` reads ``stacked`` of them as one position."""
    width: int = 256
    layers: int = 4
    heads: int = 4
    inner: int = 1024
    """Of the MLPs; of a decoder alone they have three matrices in the place of two, and nothing else attends."""
    stacked: int = 4
    """Frames of 20 ms: more are cheaper, and heard less sharply."""

    def __post_init__(self) -> None:
        if self.kind not in BODIES:
            raise BadConfig(f"body: kind is {self.kind!r}; use {' or '.join(BODIES)}")
        if min(self.width, self.layers, self.heads, self.inner, self.stacked) < 1 or self.width % (2 * self.heads):
            raise BadConfig("body: sizes must be 1 or more, and the heads of even width")


@dataclass(frozen=True, slots=True)
class AnchoredStage:
    """One stage: what is learnt, and for how long."""

    name: str
    lesson: str
    """``hearing`` trains adapters of the encoder, ``directions`` the decoder; ``body`` another decoder, from nothing;
    ``guessing`` a KVSPN beside that one."""
    steps: int
    batch: int = 16
    """Utterances per step: larger is smoother and slower."""
    per_file: int = 256
    """Utterances in a file of what is heard ahead, a multiple of 8; four of them mix, and make whole batches."""
    repeat: int = 1
    """How often a batch is used: the anchor's answers, which are dear, are kept that long."""
    peak_lr: float = 6e-5
    warmup: int = 50
    final_lr_share: float = 0.1
    weight_decay: float = 0.0
    average: float = 0.998
    """Decay of the running average of the weights, which is what is measured and exported."""
    rank: int = 32
    """Of the encoder's adapters."""
    pad_s: float = 6.0
    """Silence behind the audio that the anchor hears: stock Whisper wants 30 s in all and needs about 5 s more."""
    features: float = 1.0
    """Weight of the distance between features, in units of their variance."""
    anchor: float = 1.0
    """Weight of the KL divergence from the stock decoder, on transcripts and into English."""
    known: float = 1.0
    """Weight of a text's own cross-entropy where the anchor believes something: 0 leaves that to the anchor."""
    clear: float = 0.0
    """Geometric mean of the probabilities that the stock decoder gives to the tokens of what was really said: of an
    utterance below it no translation is learnt, for what can't be heard can only be guessed, and that is learnt fast.
    """
    ending: float = 0.5
    """Weight of the same divergence at end-of-text: of *hearing* beside ``anchor``, of *directions* times ``anchor``.
    The stock decoder knows no audio that ends with speech: what it says there is worth learning of padded audio only.
    """
    joined: float = 0.25
    """Share of utterances that are two sentences with a pause between them."""
    sounds: float = 0.0
    """Share of utterances that are recordings without a text."""
    empty: float = 0.0
    """Share of utterances without speech, of which nothing is to be written."""
    clean: float = 0.4
    """Share of utterances that are left as they were spoken."""
    body: BodyRecipe | None = None
    """What a stage of lesson ``body`` trains."""
    beside: str = ""
    """The stage whose body gets a KVSPN by lesson ``guessing``."""
    blocks: int = 1
    """Of that KVSPN."""
    written: tuple[str, ...] = ()
    """Languages that are asked for; by default all."""
    heard: str = ""
    """Folder of what was heard ahead; by default that of the stage."""
    start_from: str = ""
    """An earlier stage; by default the base."""
    start_with: str = "best"
    """Of that stage: the ``best`` weights with people's recordings, or the ``last`` ones."""

    def __post_init__(self) -> None:
        if self.lesson not in LESSONS:
            raise BadConfig(f"stage {self.name}: lesson is {self.lesson!r}; use {' or '.join(LESSONS)}")
        if self.start_with not in STARTS:
            raise BadConfig(f"stage {self.name}: start_with is {self.start_with!r}; use {' or '.join(STARTS)}")
        if (self.body is not None) != (self.lesson == "body") or bool(self.beside) != (self.lesson == "guessing"):
            raise BadConfig(f"stage {self.name}: lesson body needs a body, guessing a stage to stand beside")
        for name in ("steps", "batch", "repeat", "rank", "warmup", "blocks"):
            if getattr(self, name) < 1:
                raise BadConfig(f"stage {self.name}: {name} must be at least 1")
        uneven = self.per_file < 1 or self.per_file % 8 or 4 * self.per_file % self.batch
        if self.lesson != "hearing" and uneven:
            raise BadConfig(
                f"stage {self.name}: per_file is a multiple of 8, and four files make whole batches of {self.batch}"
            )
        if not (self.peak_lr > 0 and math.isfinite(self.peak_lr)):
            raise BadConfig(f"stage {self.name}: peak_lr is {self.peak_lr}; use a number above 0")
        for name in ("weight_decay", "pad_s", "features", "anchor", "known", "ending"):
            if not (getattr(self, name) >= 0 and math.isfinite(getattr(self, name))):
                raise BadConfig(f"stage {self.name}: {name} is {getattr(self, name)}; use 0 or more")
        for name in ("joined", "sounds", "empty", "clean", "average", "clear", "final_lr_share"):
            if not 0 <= getattr(self, name) <= 1:
                raise BadConfig(f"stage {self.name}: {name} is a share, 0 to 1")


@dataclass(frozen=True, slots=True)
class PeekRecipe:
    """What people's recordings are looked at while training, never to learn from."""

    manifest: str = ""
    """Recordings with their texts, as ``streamtrans evaluate`` reads them; none looks at nothing."""
    every: int = 400
    """Steps."""
    rows: int = 64


@dataclass(frozen=True, slots=True)
class AnchoredRecipe:
    """A whole run."""

    name: str
    base: str
    """A folder that ``streamtrans convert`` made with the prompt of Whisper."""
    languages: tuple[str, ...]
    text: TextRecipe
    stages: tuple[AnchoredStage, ...]
    voices: VoiceRecipe = field(default_factory=VoiceRecipe)
    peek: PeekRecipe = field(default_factory=PeekRecipe)
    seed: int = 1
    kept: str = ""
    """Folder of stages that somebody kept, ``STAGE.npz``: a run that has no such stage goes on from them."""
    anchored: bool = True

    def stage(self, name: str) -> AnchoredStage:
        """Return a stage by name."""
        for stage in self.stages:
            if stage.name == name:
                return stage
        raise BadConfig(f"{self.name} has no stage {name!r}; it has {', '.join(each.name for each in self.stages)}")


def is_anchored(path: str | Path) -> bool:
    """Say whether a recipe is one of these."""
    return "anchored" in read_recipe(path)


def load_anchored(path: str | Path) -> AnchoredRecipe:
    """Read a recipe.

    Raises:
        BadConfig: the file is missing, isn't TOML, or has an unknown, missing or impossible value.
        UnsupportedLanguage: a language is unknown.
    """
    raw = read_recipe(path)
    for name, kind in (("text", TextRecipe), ("voices", VoiceRecipe), ("peek", PeekRecipe)):
        if name in raw:
            raw[name] = build(kind, raw[name], f"{path}: [{name}]")
    raw["stages"] = tuple(_stage(stage, f"{path}: [[stages]]") for stage in raw.get("stages", ()))
    raw["languages"] = tuple(canonical(code) for code in raw.get("languages", ()))
    recipe = build(AnchoredRecipe, raw, str(path))
    names = [stage.name for stage in recipe.stages]
    if not names or len(set(names)) != len(names):
        raise BadConfig(f"{path}: a recipe needs stages with different names; it has {names}")
    for at, stage in enumerate(recipe.stages):
        if stage.start_from and stage.start_from not in names[:at]:
            raise BadConfig(f"{path}: stage {stage.name} starts from {stage.start_from!r}, which is no earlier stage")
        if stage.beside and stage.beside not in {each.name for each in recipe.stages[:at] if each.body is not None}:
            raise BadConfig(f"{path}: stage {stage.name} is beside {stage.beside!r}, which is no earlier stage's body")
        if stage.beside and (other := set(stage.written) - set(recipe.stage(stage.beside).written or recipe.languages)):
            raise BadConfig(
                f"{path}: stage {stage.name} writes {', '.join(sorted(other))}, which {stage.beside} beside it doesn't"
            )
        if unknown := set(stage.written) - set(recipe.languages):
            raise BadConfig(f"{path}: stage {stage.name} writes {', '.join(sorted(unknown))}, which isn't in languages")
    return recipe


def _stage(raw: dict[str, Any], where: str) -> AnchoredStage:
    if "body" in raw:
        raw = raw | {"body": build(BodyRecipe, raw["body"], f"{where}: body")}
    return build(AnchoredStage, raw, where)
