"""The stacks of layers that a checkpoint folder holds, and the folder without some of their layers."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from streamtrans.compress.convert import renumbered_heads
from streamtrans.compress.weights import Weights, write_folder
from streamtrans.core import BadConfig, BadModel
from streamtrans.model.audio_lm.qwen2_audio import shapes
from streamtrans.model.causal.kvspn import Speculation
from streamtrans.model.config import NetworkConfig, read_json, shown
from streamtrans.model.loading import read_alignment_heads
from streamtrans.model.whisper import PRUNED_FROM

CARD = "prune.json"
"""What a pruned folder says of its making."""


@dataclass(frozen=True, slots=True)
class Stack:
    """A stack of equal layers. ``tensor`` matches names of its tensors: what stands before the number, it, the rest."""

    tensor: re.Pattern[str]
    families: tuple[str, ...]


_WHISPERS = ("whisper", "whisper_m2m")
STACKS: Mapping[str, Stack] = {
    "decoder": Stack(re.compile(r"(model\.decoder\.layers\.)(\d+)(\..+)"), _WHISPERS),
    "encoder": Stack(re.compile(r"(model\.encoder\.layers\.)(\d+)(\..+)"), _WHISPERS),
    "language_model": Stack(re.compile(r"(language_model\.model\.layers\.)(\d+)(\..+)"), ("qwen2_audio",)),
}
"""Name → which tensors it is made of, in which families (``model_type``)."""


def find_stack(folder: Path, name: str) -> Stack:
    """Return a stack of a folder.

    Raises:
        BadConfig: there is no such stack.
        BadModel: the folder's model has none of that name.
    """
    if name not in STACKS:
        raise BadConfig(f"unknown stack {name!r}; use {', '.join(STACKS)}")
    family = read_json(folder / "config.json").get("model_type")
    if family not in STACKS[name].families:
        able = [each for each, stack in STACKS.items() if family in stack.families]
        raise BadModel(
            f"{folder} holds a {shown(family)} model, which has no stack {name!r}; it has {', '.join(able) or 'none'}"
        )
    return STACKS[name]


def check(folder: Path, stack: Stack) -> int:
    """Read all weights of a folder once, and return how many layers its stack has.

    Raises:
        BadModel: a weight isn't finite, or a layer is missing.
    """
    with Weights(folder) as weights:
        for name in weights:
            weights[name]  # reading refuses what isn't finite
        found = {int(match[2]) for name in weights if (match := stack.tensor.fullmatch(name))}
    if found != set(range(len(found))) or not found:
        raise BadModel(f"{folder}: the layers of the stack are numbered {sorted(found)}; they must be 0, 1, 2, …")
    return len(found)


def cut(folder: Path, name: str, kept: Sequence[int], target: Path, card: Mapping[str, Any]) -> None:
    """Write ``folder`` with the ``kept`` layers of a stack as a new folder.

    Alignment heads of layers that stay are counted anew. A KVSPN stays where each of its groups lost as many layers;
    else it goes, and has to be trained again.

    Raises:
        BadConfig: ``target`` exists and isn't empty.
        BadModel: as :func:`check`.
    """
    stack, raw = find_stack(folder, name), read_json(folder / "config.json")
    also: dict[str, Mapping[str, Any]] = {CARD: card}
    dropped: tuple[str, ...] = ()
    if name == "language_model":
        speculation = Speculation.of(raw, shapes(raw)[-1])
        if speculation is not None and not groups_stay(speculation, kept):
            dropped, raw = ("speculator.",), raw | {"speculator_blocks": 0}
        raw = _fewer_in_language_model(raw, kept)
    else:
        before = NetworkConfig.of(raw)
        if name == "decoder":
            also |= _fewer_heads(folder, before, kept)
            if before.speculator_blocks and not groups_stay(before, kept):
                dropped, raw = ("speculator.",), raw | {"speculator_blocks": 0}
            if "kept_decoder_layers" in raw:
                raw = raw | {"kept_decoder_layers": [raw["kept_decoder_layers"][layer] for layer in kept]}
        elif "num_hidden_layers" in raw:
            raw = raw | {"num_hidden_layers": len(kept)}
        depths = {"encoder_layers": before.encoder_layers, "decoder_layers": before.decoder_layers}
        raw = raw | {f"{name}_layers": len(kept), PRUNED_FROM: raw.get(PRUNED_FROM, depths)}
    with Weights(folder) as weights:
        tensors: dict[str, Tensor] = {}
        for old in weights:
            match = stack.tensor.fullmatch(old)
            if match is None and not old.startswith(dropped):
                tensors[old] = weights[old]
            elif match is not None and int(match[2]) in kept:
                tensors[f"{match[1]}{kept.index(int(match[2]))}{match[3]}"] = weights[old]
        write_folder(target, tensors, like=folder, also={**also, "config.json": raw})


def groups_stay(config: NetworkConfig | Speculation, kept: Sequence[int]) -> bool:
    """Whether every KVSPN block still reads layers of the group that it was trained on, as many as the others."""
    blocks = [layer // config.group for layer in kept]
    sizes = {blocks.count(block) for block in range(config.speculator_blocks)}
    return len(sizes) == 1 and 0 not in sizes


def _fewer_heads(folder: Path, before: NetworkConfig, kept: Sequence[int]) -> dict[str, Mapping[str, Any]]:
    file = folder / "generation_config.json"
    settings = read_json(file) if file.exists() else {}
    if not settings.get("alignment_heads"):
        return {}
    heads = read_alignment_heads(folder, before, distilled=before.decoder_layers < before.encoder_layers)
    return {file.name: settings | {"alignment_heads": renumbered_heads(heads, kept)}}


def _fewer_in_language_model(raw: Mapping[str, Any], kept: Sequence[int]) -> dict[str, Any]:
    """Return the config of an audio LLM with fewer layers; hubs leave out what is as transformers has it."""
    inner = dict(raw.get("text_config") or {})
    inner["num_hidden_layers"] = len(kept)
    if inner.get("layer_types"):
        inner["layer_types"] = [inner["layer_types"][layer] for layer in kept]
    return {**raw, "text_config": inner}
