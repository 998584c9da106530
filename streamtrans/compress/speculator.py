"""An audio language model gets a KVSPN, whose weights are random until somebody trains it."""

from __future__ import annotations

from pathlib import Path

import torch

from streamtrans.compress.weights import Weights, write_folder
from streamtrans.core import BadModel
from streamtrans.model.audio_lm import qwen2_audio, voxtral
from streamtrans.model.causal.kvspn import CausalKvspn, Speculation
from streamtrans.model.config import read_json, shown
from streamtrans.model.loading import find_folder

_SHAPES = {
    "qwen2_audio": lambda raw: qwen2_audio.shapes(raw)[-1],
    "voxtral": lambda raw: voxtral.shapes(raw)[-1],
    "stacked_audio": lambda raw: qwen2_audio.shapes(raw)[-1],
}


def add_speculator(source: str | Path, destination: str | Path, *, blocks: int = 3, seed: int = 0) -> int:
    """Write an audio language model's folder with a KVSPN of so many ``blocks``; return its parameters.

    What the model writes stays as it is: drafts change no text. Untrained, few of its guesses are right.

    Raises:
        BadModel: no audio language model, one that has a KVSPN, or its layers can't be split into so many groups.
        BadConfig: the destination exists and isn't empty.
    """
    folder = find_folder(source)
    raw = read_json(folder / "config.json")
    family = raw.get("model_type")
    if family not in _SHAPES:
        raise BadModel(f"{folder} holds a {shown(family)} model; those that take a KVSPN here: {', '.join(_SHAPES)}")
    if raw.get("speculator_blocks"):
        raise BadModel(f"{folder} has a KVSPN already")
    base = _SHAPES[family](raw)
    made = raw | {"speculator_blocks": blocks}
    speculation = Speculation.of(made, base)
    if speculation is None:
        raise BadModel(f"a KVSPN of {blocks} blocks is none; give 1 or more")
    torch.manual_seed(seed)
    kvspn = CausalKvspn(base, speculation)
    with Weights(folder) as weights:
        tensors = {name: weights[name] for name in weights}
    dtype = next(each.dtype for each in tensors.values() if each.is_floating_point())
    tensors |= {f"speculator.{name}": each.detach().to(dtype) for name, each in kvspn.state_dict().items()}
    write_folder(Path(destination), tensors, like=folder, also={"config.json": made})
    return sum(each.numel() for each in kvspn.parameters())
