"""Write a trained stage as a checkpoint folder: bf16 safetensors, without what only training needs."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from streamtrans.core import BadConfig
from streamtrans.model.layers import sinusoids
from streamtrans.model.network import Network, parameters_by_part
from streamtrans.text import Tokenizer
from streamtrans.train.batches import LONGEST_FRAMES
from streamtrans.train.recipe import load_recipe
from streamtrans.train.trainer import stage_network, stage_weights


def export(recipe: str | Path, stage: str, destination: str | Path, *, runs: str | Path = "runs") -> dict[str, object]:
    """Export a stage's weights as a whisperM2M folder and report size and checksum.

    The text encoder and the CTC head stay behind; weights are rounded to bfloat16. Of stages joined by ``+``, such as
    ``stream+live``, the mean is taken (weight-space averaging, Wortsman et al. 2022, arXiv 2109.01903): where one was
    trained on from the other, it knows what both know. What only the last has, KVSPN first of all, is the last's.

    Raises:
        BadConfig: a stage has left no weights yet.
    """
    plan = load_recipe(recipe)
    run, folder = Path(runs) / plan.name, Path(destination)
    *earlier, stage = stage.split("+")
    for name in (*earlier, stage):
        if not (run / plan.stage(name).name / "weights.safetensors").exists():
            raise BadConfig(f"stage {name} of {run} has no weights yet; run streamtrans train first")
    tokenizer = Tokenizer.load(run)
    exact = mean_weights([dict(stage_weights(run, name)) for name in (*earlier, stage)])
    trained = stage_network(plan, plan.stage(stage), tokenizer)
    # Positions behind the longest utterance of training were never used: the model doesn't promise them.
    positions = min(trained.max_source_positions, LONGEST_FRAMES // 2)
    config = replace(trained, text_encoder_layers=0, max_source_positions=positions)
    tensors = {
        name: tensor.to(torch.bfloat16).contiguous()
        for name, tensor in exact.items()
        if not name.startswith("text_encoder.")
    }
    # The fixed sinusoids are a formula, and tokens are numbers: bf16 keeps neither.
    exact["model.encoder.embed_positions.weight"] = sinusoids(positions, config.d_model)
    for name in ("model.encoder.embed_positions.weight", "speculator.draft_tokens"):
        if name in tensors:
            tensors[name] = exact[name]
    folder.mkdir(parents=True, exist_ok=True)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    settings = {
        "model_type": "whisper_m2m",
        "architectures": ["WhisperM2M"],
        "languages": list(plan.languages),
        **config.asdict(),
        "eos_token_id": tokenizer.eot,
        "decoder_start_token_id": tokenizer.sot,
        "torch_dtype": "bfloat16",
    }
    _write(folder / "config.json", settings)
    features = plan.features
    _write(
        folder / "preprocessor_config.json",
        {
            "feature_size": features["mels"],
            "n_fft": features["window"],
            "hop_length": features["hop"],
            "sampling_rate": 16_000,
            "scaling": features["scaling"],
        },
    )
    _write(
        folder / "generation_config.json",
        {"eos_token_id": tokenizer.eot, "decoder_start_token_id": tokenizer.sot},
    )
    shutil.copyfile(run / "tokenizer.json", folder / "tokenizer.json")
    weights = folder / "model.safetensors"
    weights.chmod(0o644)  # the writer leaves it readable by its owner only
    return {
        "bytes": weights.stat().st_size,
        "sha256": hashlib.sha256(weights.read_bytes()).hexdigest(),
        "parameters": parameters_by_part(Network(config)),
    }


def mean_weights(stages: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """Return the last stage's tensors, each averaged with those of the stages that have it in the same shape too.

    KVSPN is the last stage's own: it was trained on that base, and not on the others'.
    """
    last = stages[-1]
    mean: dict[str, Tensor] = {}
    for name, tensor in last.items():
        same = [other[name] for other in stages if name in other and other[name].shape == tensor.shape]
        shared = not name.startswith("speculator.") and tensor.is_floating_point()
        mean[name] = torch.stack(same).mean(0) if shared else tensor
    return mean


def _write(path: Path, value: object) -> None:
    path.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")
