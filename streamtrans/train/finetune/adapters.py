"""Which weights learn: LoRA on the lower encoder layers, and all of the rest but convolutions and positions.

Source: arXiv 2508.11189, section 3.3. The adapters are ``peft``'s; they are added up into the weights on export.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from streamtrans.core import BadConfig, BadModel
from streamtrans.model.config import NetworkConfig, read_json
from streamtrans.model.loading import DTYPES, load_network, read_tensors
from streamtrans.model.network import Network
from streamtrans.train.finetune.recipe import FinetuneRecipe, LoraRecipe
from streamtrans.train.objective import Student

ADAPTER = "default"
COMPANIONS = (
    "config.json",
    "tokenizer.json",
    "preprocessor_config.json",
    "generation_config.json",
    "tokenizer_config.json",
)


def make_student(recipe: FinetuneRecipe) -> Student:
    """Load the base in float32 and say which of its weights learn.

    Raises:
        BadModel: the base is no whisperM2M folder with a text encoder and a KVSPN.
        BadConfig: it has fewer encoder layers than should get adapters.
    """
    folder = Path(recipe.base)
    if not folder.is_dir():
        raise BadModel(f"there is no folder {folder}; make it with streamtrans convert openai/whisper-medium {folder}")
    raw = read_json(folder / "config.json")
    config = NetworkConfig.of(raw)
    if raw.get("model_type") != "whisper_m2m" or not config.text_encoder_layers or not config.speculator_blocks:
        raise BadModel(
            f"{folder} is no whisperM2M checkpoint with a text encoder and a KVSPN; streamtrans convert makes one of "
            "a Whisper checkpoint"
        )
    if recipe.lora.layers > config.encoder_layers:
        raise BadConfig(f"[lora]: layers is {recipe.lora.layers}, but {folder} has {config.encoder_layers}")
    network = load_network(folder, config).float()
    torch.manual_seed(recipe.seed)
    choose_trained(network, recipe.lora)
    if network.speculator is not None and recipe.loss.spec == 0:
        network.speculator.requires_grad_(False)
    return Student(network)


def choose_trained(network: Network, lora: LoraRecipe) -> None:
    """Put adapters on the lower encoder layers, in place, and leave gradients to what is trained."""
    network.requires_grad_(True)
    encoder = network.model.encoder
    if lora.layers:
        from peft import LoraConfig, inject_adapter_in_model

        layers = "|".join(str(layer) for layer in range(lora.layers))
        modules = "|".join(re.escape(name) for name in lora.modules)
        adapters = LoraConfig(
            r=lora.rank,
            lora_alpha=lora.alpha,
            lora_dropout=lora.dropout,
            target_modules=rf"layers\.({layers})\.self_attn\.({modules})",
        )
        inject_adapter_in_model(adapters, encoder, ADAPTER)
    for name, parameter in encoder.named_parameters():
        parameter.requires_grad_(".lora_" in name)
    for layer in encoder.layers[lora.layers :]:
        layer.requires_grad_(True)
    encoder.layer_norm.requires_grad_(True)


def trained(student: nn.Module) -> dict[str, nn.Parameter]:
    """Return the parameters that learn, by name."""
    return {name: parameter for name, parameter in student.named_parameters() if parameter.requires_grad}


@torch.no_grad()
def deltas(part: nn.Module) -> dict[str, Tensor]:
    """Return what the adapters of a part add to its weights, by the weights' names without adapters."""
    from peft.tuners.lora import LoraLayer

    return {
        f"{name}.weight": module.get_delta_weight(ADAPTER)
        for name, module in part.named_modules()
        if isinstance(module, LoraLayer)
    }


@torch.no_grad()
def merged(network: Network) -> dict[str, Tensor]:
    """Return the network's tensors under their checkpoint names, adapters added to the weights they adapt.

    The network itself stays as it is.
    """
    added = deltas(network)
    tensors: dict[str, Tensor] = {}
    for name, tensor in network.state_dict().items():
        if ".lora_" not in name:
            plain = name.replace(".base_layer.", ".")
            tensors[plain] = tensor + added[plain] if plain in added else tensor
    return tensors


def export(network: Network, base: Path, destination: Path, *, dtype: str) -> None:
    """Write a network as a whisperM2M folder like ``base``, replacing what was there when all is written.

    The text encoder stays in: inference leaves it aside, and another run can start from the folder.
    """
    part = destination.with_name(f"{destination.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    wanted = DTYPES[dtype]
    # The fixed sinusoids are a formula; they stay as exact as the base has them.
    fixed = {
        name: tensor for name, tensor in read_tensors(base).items() if name.endswith("encoder.embed_positions.weight")
    }
    tensors = {
        name: fixed.get(name, tensor.to(wanted) if tensor.is_floating_point() else tensor).cpu().contiguous()
        for name, tensor in merged(network).items()
    }
    save_file(tensors, part / "model.safetensors", metadata={"format": "pt"})
    (part / "model.safetensors").chmod(0o644)  # the writer leaves it readable by its owner only
    for name in COMPANIONS:
        if (base / name).exists():
            shutil.copyfile(base / name, part / name)
    _note_dtype(part / "config.json", dtype)
    replace_folder(part, destination)


def replace_folder(part: Path, destination: Path) -> None:
    """Put a finished folder in the place of an older one; at no time is a half-written one there."""
    old = destination.with_name(f"{destination.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if destination.exists():
        os.rename(destination, old)
    os.rename(part, destination)
    shutil.rmtree(old, ignore_errors=True)


def _note_dtype(path: Path, dtype: str) -> None:
    settings: Mapping[str, object] = read_json(path)
    path.write_text(json.dumps({**settings, "torch_dtype": dtype}, indent=2) + "\n", encoding="utf-8")
