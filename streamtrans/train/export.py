"""Write a trained stage as a checkpoint folder: bf16 safetensors, without what only training needs."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from streamtrans.core import BadConfig
from streamtrans.model.config import NetworkConfig
from streamtrans.model.layers import sinusoids
from streamtrans.model.network import Network, parameters_by_part
from streamtrans.text import Tokenizer
from streamtrans.train.batches import LONGEST_FRAMES
from streamtrans.train.recipe import Recipe, load_recipe
from streamtrans.train.trainer import stage_network, stage_weights


def export(recipe: str | Path, stage: str, destination: str | Path, *, runs: str | Path = "runs") -> dict[str, object]:
    """Export a stage's weights as a whisperM2M folder and report size and checksum.

    The text encoder and the CTC head stay behind; weights are rounded to bfloat16. ``stream:0.1+live`` mixes one part
    in ten of an earlier stage's weights into a later one's (weight-space ensembles, Wortsman et al. 2022, arXiv
    2109.01903): where the later was trained on from the earlier, the mixture keeps some of what it forgot. KVSPN, and
    what only the later stage has, is the later's.

    Raises:
        BadConfig: a stage has left no weights yet, or a share is none.
    """
    plan = load_recipe(recipe)
    run, folder = Path(runs) / plan.name, Path(destination)
    earlier, share, stage = _parts(stage)
    for name in (earlier, stage) if earlier else (stage,):
        if not (run / plan.stage(name).name / "weights.safetensors").exists():
            raise BadConfig(f"stage {name} of {run} has no weights yet; run streamtrans train first")
    tokenizer = Tokenizer.load(run)
    exact = dict(stage_weights(run, stage))
    if earlier:
        exact = mixed(dict(stage_weights(run, earlier)), exact, share)
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
    _write_settings(folder, plan, config, tokenizer)
    shutil.copyfile(run / "tokenizer.json", folder / "tokenizer.json")
    weights = folder / "model.safetensors"
    weights.chmod(0o644)  # the writer leaves it readable by its owner only
    return {
        "bytes": weights.stat().st_size,
        "sha256": hashlib.sha256(weights.read_bytes()).hexdigest(),
        "parameters": parameters_by_part(Network(config)),
    }


def _write_settings(folder: Path, plan: Recipe, config: NetworkConfig, tokenizer: Tokenizer) -> None:
    """Write what a folder holds beside weights and tokens."""
    _write(
        folder / "config.json",
        {
            "model_type": "whisper_m2m",
            "architectures": ["WhisperM2M"],
            "languages": list(plan.languages),
            **config.asdict(),
            "eos_token_id": tokenizer.eot,
            "decoder_start_token_id": tokenizer.sot,
            "torch_dtype": "bfloat16",
        },
    )
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


def mixed(earlier: Mapping[str, Tensor], later: Mapping[str, Tensor], share: float) -> dict[str, Tensor]:
    """Return the later weights with ``share`` of the earlier ones mixed in, wherever both have the same shape.

    KVSPN stays as it is: it was trained on the later base, not on the earlier one.
    """
    found = dict(later)
    for name, tensor in later.items():
        other = earlier.get(name)
        if (
            other is None
            or other.shape != tensor.shape
            or name.startswith("speculator.")
            or not other.is_floating_point()
        ):
            continue
        found[name] = (1 - share) * tensor + share * other
    return found


def _parts(stage: str) -> tuple[str, float, str]:
    """Read ``name``, or ``earlier:share+name``."""
    mixture, plus, name = stage.rpartition("+")
    if not plus:
        return "", 0.0, name
    earlier, _, share = mixture.partition(":")
    try:
        value = float(share)
    except ValueError:
        value = -1.0
    if not 0 < value < 1:
        raise BadConfig(f"{stage!r}: write EARLIER:SHARE+LATER with a share between 0 and 1, such as stream:0.1+live")
    return earlier, value, name


def _write(path: Path, value: object) -> None:
    path.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")
