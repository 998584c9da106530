"""Write a stage of an anchored run as a checkpoint folder, or as the little that it has learnt."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from streamtrans.core import BadConfig
from streamtrans.model.config import read_json
from streamtrans.train.anchored.bodies import make_body
from streamtrans.train.anchored.recipe import load_anchored
from streamtrans.train.anchored.trainer import TAUGHT
from streamtrans.train.anchored.weights import load_base, stage_tensors
from streamtrans.train.finetune.adapters import COMPANIONS

ENDS = ("eos_token_id", "decoder_start_token_id", "bos_token_id", "pad_token_id")
"""What a body's generation config has of the base's: the rest, such as its heads that align, is of another decoder."""


def export_stage(recipe: str | Path, stage: str, destination: Path, *, runs: str | Path = "runs") -> None:
    """Write the folder of a stage's network; its weights are the averaged ones that did best with people.

    Raises:
        BadConfig: the stage has left no weights yet, or the destination exists.
    """
    plan = load_anchored(recipe)
    if destination.exists() and any(destination.iterdir()):
        raise BadConfig(f"{destination} exists already; name a new folder")
    tensors = stage_tensors(Path(runs) / plan.name, plan.stage(stage).name)
    destination.mkdir(parents=True, exist_ok=True)
    base = Path(plan.base)
    for name in COMPANIONS:
        if (base / name).exists():
            shutil.copyfile(base / name, destination / name)
    if plan.stage(stage).lesson in TAUGHT:
        body = make_body(plan, plan.stage(stage), load_base(base))
        ends = {name: value for name, value in _generation(base).items() if name in ENDS}
        for name, said in (("config.json", body.settings()), ("generation_config.json", ends)):
            (destination / name).write_text(json.dumps(said, indent=2) + "\n", encoding="utf-8")
    weights = destination / "model.safetensors"
    save_file({name: tensor.to(torch.float16) for name, tensor in tensors.items()}, weights, metadata={"format": "pt"})
    weights.chmod(0o644)  # the writer leaves it readable by its owner only


def _generation(base: Path) -> dict[str, Any]:
    file = base / "generation_config.json"
    return read_json(file) if file.exists() else {}
