"""Checkpoint folders: safetensors in the Hugging Face layout, never pickle."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from streamtrans.core import BadConfig, BadModel
from streamtrans.model.cache import Heads
from streamtrans.model.config import NetworkConfig, read_json
from streamtrans.model.linear import PRECISIONS, has_bfloat16, usable
from streamtrans.model.network import Network
from streamtrans.model.speech import TorchSpeechModel

FAMILIES: dict[str, str] = {
    "whisper": "streamtrans.model.whisper:load",
    "whisper_m2m": "streamtrans.model.whisper_m2m:load",
}
"""``model_type`` of ``config.json`` → ``module:function`` that loads a folder of that family."""

DTYPES = {"float64": torch.float64, "float16": torch.float16, **PRECISIONS}
"""What ``dtype`` may be → the dtype of what isn't packed."""

WIDE = 512
"""Width from which ``auto`` takes bfloat16 on processors that have it: narrower models wait for calls, not for weights
(``streamtrans bench costs``)."""

FILES = ["*.json", "*.safetensors"]

EMBEDDED = Path(__file__).parent.parent / "models" / "nano"
"""The model in the package, used where none is named."""


def load_model(where: str | Path | None = None, *, device: str = "auto", dtype: str = "auto") -> TorchSpeechModel:
    """Load a checkpoint folder, a hub name (``org/name``), or the embedded model where ``where`` is ``None``.

    Args:
        where: folder or hub name.
        device: ``auto`` takes a GPU if there is one; else as torch spells it (``cpu``, ``cuda:1``).
        dtype: ``auto`` is bfloat16 on GPU, and on CPU for wide models, else float32; or one of :data:`DTYPES`. On CPU
            what can't be had is replaced by the next best.

    Raises:
        BadModel: no such folder, a file is missing, unsafe or does not fit the others.
        BadConfig: the device or the dtype doesn't exist here.
    """
    folder = find_folder(where)
    chosen = choose_device(device)
    raw = read_json(folder / "config.json")
    kind = raw.get("model_type")
    if kind not in FAMILIES:
        raise BadModel(f"{folder} holds a model of type {kind!r}; known are {', '.join(sorted(FAMILIES))}")
    module, function = FAMILIES[kind].split(":")
    precision = choose_precision(dtype, chosen, int(raw.get("d_model", 0)))
    model: TorchSpeechModel = getattr(importlib.import_module(module), function)(
        folder, device=chosen, dtype=DTYPES[precision]
    )
    model.pack(precision if chosen.type == "cpu" and precision in PRECISIONS else None)
    return model


def find_folder(where: str | Path | None) -> Path:
    """Return the local folder of a checkpoint, fetching a hub name if needed."""
    if where is None:
        return EMBEDDED
    folder = Path(where)
    if folder.is_dir():
        return folder
    name = str(where)
    if name.count("/") != 1 or name.startswith((".", "/", "~")):
        raise BadModel(
            f"there is no folder {name}; give a checkpoint folder or a hub name such as openai/whisper-small"
        )
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(name, allow_patterns=FILES))
    except (OSError, ValueError) as error:
        raise BadModel(f"{name} is no folder here and could not be fetched from the hub: {error}") from None


def choose_device(device: str) -> torch.device:
    """Resolve ``auto`` and check that the device exists."""
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        chosen = torch.device(device)
        torch.empty(0, device=chosen)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise BadConfig(f"device {device!r} can't be used here: {reason}") from None
    return chosen


def choose_precision(dtype: str, device: torch.device, width: int) -> str:
    """Resolve ``auto`` for a model of ``width``, check the name, and see what the processor can do."""
    if dtype == "auto":
        fast = device.type == "cuda" or (width >= WIDE and has_bfloat16())
        return "bfloat16" if fast else "float32"
    if dtype not in DTYPES:
        raise BadConfig(f"dtype {dtype!r} is unknown; use auto, {', '.join(DTYPES)}")
    if device.type == "cpu":
        return usable(dtype) if dtype in PRECISIONS else dtype
    if dtype == "int8":
        raise BadConfig(f"int8 is for CPUs, and the device is {device}; use bfloat16 or float16")
    return dtype


def read_alignment_heads(folder: Path, config: NetworkConfig) -> Heads:
    """Read which (layer, head) of the decoder look at what is said, from ``generation_config.json``; none if unsaid.

    Raises:
        BadModel: the decoder has no such head.
    """
    file = folder / "generation_config.json"
    listed = (read_json(file) if file.exists() else {}).get("alignment_heads") or []
    layers, heads = config.decoder_layers, config.decoder_attention_heads
    if not isinstance(listed, list) or not all(
        isinstance(pair, list) and len(pair) == 2 and pair[0] in range(layers) and pair[1] in range(heads)
        for pair in listed
    ):
        raise BadModel(
            f"{file}: alignment_heads is {listed!r}; give a list of [layer, head], out of {layers} layers with {heads}"
            " heads each"
        )
    return tuple((layer, head) for layer, head in listed)


def load_network(folder: Path, config: NetworkConfig) -> Network:
    """Build the network and fill it from ``model.safetensors`` (or its shards).

    A checkpoint without the text encoder is fine for inference: that part is left out.
    """
    tensors = dict(read_tensors(folder))
    tensors.pop("proj_out.weight", None)  # tied to the token embedding
    if not config.text_encoder_layers:
        tensors = {name: tensor for name, tensor in tensors.items() if not name.startswith("text_encoder.")}
    with torch.device("meta"):
        network = Network(config)
    wanted = network.state_dict()
    missing = sorted(set(wanted) - set(tensors))
    surplus = sorted(set(tensors) - set(wanted))
    if missing or surplus:
        raise BadModel(
            f"{folder}: the weights don't fit config.json: "
            f"{len(missing)} missing{_some(missing)}, {len(surplus)} unknown{_some(surplus)}"
        )
    for name, tensor in wanted.items():
        if tensor.shape != tensors[name].shape:
            raise BadModel(
                f"{folder}: {name} has shape {tuple(tensors[name].shape)}; config.json asks for {tuple(tensor.shape)}"
            )
    network.load_state_dict(tensors, assign=True)
    return network


def read_tensors(folder: Path) -> Mapping[str, Tensor]:
    """Read all tensors of a checkpoint folder.

    Raises:
        BadModel: there are no safetensors, or they are damaged.
    """
    single, index = folder / "model.safetensors", folder / "model.safetensors.index.json"
    if single.exists():
        files = [single]
    elif index.exists():
        files = [folder / name for name in sorted(set(read_json(index).get("weight_map", {}).values()))]
    elif any(folder.glob("*.bin")) or any(folder.glob("*.pt")):
        raise BadModel(f"{folder} has pickled weights only, which can run code when read; convert them to safetensors")
    else:
        raise BadModel(f"{folder} has no model.safetensors")
    tensors: dict[str, Tensor] = {}
    for file in files:
        try:
            tensors |= load_file(file)
        except (OSError, SafetensorError) as error:
            raise BadModel(f"{file} is not a readable safetensors file: {error}") from None
    return tensors


def _some(names: list[str]) -> str:
    return f" ({', '.join(names[:3])}{', …' if len(names) > 3 else ''})" if names else ""
