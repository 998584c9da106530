"""What is taught to whom: the same settings in a recipe (TOML) and behind the options of ``streamtrans compress``.

An unknown key is an error that names the nearest known one; relative paths are relative to the working folder.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from streamtrans.core import BadConfig
from streamtrans.text import canonical
from streamtrans.train.recipe import build, read_recipe

LEARNS = ("decoder", "all", "lora", "qlora")
TEXTS = ("given", "teacher", "both")
SAVED_AS = ("bfloat16", "float16", "float32")
PRECISIONS = ("auto", "float32", "bfloat16")


@dataclass(frozen=True, slots=True)
class Teaching:
    """One training.

    Raises:
        BadConfig: a value is impossible, or two contradict each other.
    """

    base: str
    """Who learns: a Whisper, whisperM2M or Qwen2-Audio folder, or a hub name."""
    speech: tuple[str, ...]
    """Manifests: ``audio``, ``language``, and where people wrote texts a language code per text."""
    learns: str = "decoder"
    """``decoder``, of an audio LLM its language model; ``all``, the encoder too (tokens, positions and convolutions
    stay either way); ``lora``, adapters on all linears; ``qlora``, these beside a base in four bits (nf4, its scales
    packed too)."""
    teacher: str = ""
    """Who teaches: any model that loads here; none learns from texts alone."""
    texts: str = "given"
    """What is to be written: the ``given`` texts, the ``teacher``'s (no text is needed then), or ``both``."""
    to: tuple[str, ...] = ()
    """Languages to write; empty takes those of the manifest's texts."""
    kl: float = 0.0
    """Weight of the KL divergence from the teacher's tokens, where both spell a text alike; texts weigh 1."""
    steps: int = 200
    batch: int = 16
    """Recordings per step."""
    together: int = 16
    """Recordings per pass: fewer take less memory, and change nothing else."""
    each: int = 2
    """Most texts of a recording in one step."""
    peak_lr: float = 6e-5
    warmup: int = 20
    final_lr_share: float = 0.1
    weight_decay: float = 0.0
    rank: int = 64
    """Of adapters, which count alpha / sqrt(rank) times (rsLoRA). Rank and alpha are those of arXiv 2505.20237."""
    alpha: float = 128.0
    silence_s: float | None = None
    """Silence behind each recording, in the place of the padding that the model's family wants: much less to compute.
    Stock Whisper needs about 6 s to find its end."""
    seed: int = 1
    device: str = "auto"
    precision: str = "auto"
    """What passes are computed in: ``auto`` is bfloat16 on a GPU, float32 on a CPU. What learns stays in float32."""
    saved_as: str = "bfloat16"
    save_every: int = 25
    log_every: int = 10
    name: str = ""
    """Of the run, in a recipe."""

    def __post_init__(self) -> None:
        choices = {"learns": LEARNS, "texts": TEXTS, "saved_as": SAVED_AS, "precision": PRECISIONS}
        for name, known in choices.items():
            if getattr(self, name) not in known:
                raise BadConfig(f"{name} is {getattr(self, name)!r}; use {', '.join(known)}")
        counts = ("steps", "batch", "together", "each", "warmup", "rank", "save_every", "log_every")
        if low := [name for name in counts if getattr(self, name) < 1]:
            raise BadConfig(f"{', '.join(low)} must be at least 1")
        amounts = ("kl", "peak_lr", "final_lr_share", "weight_decay", "alpha", "silence_s")
        if odd := [name for name in amounts if not math.isfinite(getattr(self, name) or 0)]:
            raise BadConfig(f"{', '.join(odd)} must be a finite number")
        if self.peak_lr <= 0 or self.alpha <= 0 or min(self.kl, self.weight_decay, self.silence_s or 0) < 0:
            raise BadConfig("peak_lr and alpha must be above 0, kl, weight_decay and silence_s at least 0")
        if not self.speech:
            raise BadConfig("speech names no manifest: who learns needs recordings")
        if not self.teacher and (self.kl > 0 or self.texts != "given"):
            raise BadConfig("kl and the teacher's texts need a teacher: name one")
        if self.teacher and self.kl == 0 and self.texts == "given":
            raise BadConfig('the teacher has nothing to say: set kl above 0, or texts to "teacher" or "both"')
        for code in self.to:
            canonical(code)

    def settings(self) -> dict[str, Any]:
        """Return what the weights that it ends with depend on, besides what its files hold."""
        return {name: value for name, value in asdict(self).items() if name not in _PASSING}


_PASSING = ("name", "base", "speech", "together", "save_every", "log_every")


def is_teaching(path: str | Path) -> bool:
    """Say whether a recipe is one of these."""
    return "speech" in read_recipe(path)


def load_teaching(path: str | Path) -> Teaching:
    """Read a recipe.

    Raises:
        BadConfig: the file is missing, isn't TOML, or has an unknown, missing or impossible value.
    """
    teaching = build(Teaching, read_recipe(path), str(path))
    if not teaching.name:
        raise BadConfig(f"{path}: name says in which folder of the runs this one stands")
    return teaching
