"""The matrices of a checkpoint as whole numbers: fewer bytes on disk, unpacked when loaded (``model.stored``).

Attention and MLPs get 8 or 4 bits, the token embedding and what scores the vocabulary 8; norms, biases and convolutions
stay as they are. No data is needed and nothing is trained. What is served is as fast, and takes as much memory, as the
precision that it is served in.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from streamtrans.compress.merging.merge import is_matrix
from streamtrans.compress.weights import Weights, check_new, write_folder
from streamtrans.core import SAMPLE_RATE, BadConfig, BadModel
from streamtrans.model.api import Forward, SpeechModel
from streamtrans.model.audio_lm.model import AudioLanguageModel
from streamtrans.model.config import read_json, shown
from streamtrans.model.loading import FAMILIES, find_folder
from streamtrans.model.speech import TorchSpeechModel
from streamtrans.model.stored import is_stored, store

CARD = "quantize.json"
_EIGHT = (
    "model.decoder.embed_tokens.weight",
    "language_model.model.embed_tokens.weight",
    "language_model.lm_head.weight",
)
"""As wide as the vocabulary."""
_TIED = "proj_out.weight"
"""Whisper's head, for which the embedding stands."""


@dataclass(frozen=True, slots=True)
class Quantized:
    """What was stored.

    ``parameters`` are the model's; ``stored`` counts the numbers in the file, two 4-bit ones as one and steps too: what
    some reports call parameters. Bytes are those of all tensors.
    """

    bits: int
    parameters: int
    stored: int
    bytes_before: int
    bytes: int


def quantize(source: str | Path, destination: str | Path, *, bits: int = 8) -> Quantized:
    """Write a checkpoint folder with its matrices as whole numbers of ``bits``.

    Raises:
        BadModel: none that hears, stored so already, or a weight isn't finite.
        BadConfig: neither 8 nor 4 bits, or the destination isn't new.
    """
    folder, target = find_folder(source), Path(destination)
    if bits not in (8, 4):
        raise BadConfig(f"bits is {bits}; use 8 or 4")
    check_new(target)
    family = read_json(folder / "config.json").get("model_type")
    if family not in FAMILIES:
        raise BadModel(
            f"{folder} holds a {shown(family)} model; what is stored so is read here only: {', '.join(FAMILIES)}"
        )
    found: dict[str, Tensor] = {}
    parameters = before = 0
    with Weights(folder) as weights:
        if is_stored(weights):
            raise BadModel(f"{folder} is stored as whole numbers already; give what it was made of")
        for name in weights:
            if name == _TIED:
                continue
            tensor = weights[name]
            parameters, before = parameters + tensor.numel(), before + tensor.nbytes
            if name in _EIGHT:
                found |= store(name, tensor, 8)
            else:
                found |= store(name, tensor, bits) if is_matrix(name, tensor) else {name: tensor}
        sizes = sum(each.numel() for each in found.values()), sum(each.nbytes for each in found.values())
        made = Quantized(bits, parameters, sizes[0], before, sizes[1])
        write_folder(target, found, like=folder, also={CARD: {"bits": bits, "parameters": parameters}})
    return made


def ms_per_token(models: Sequence[SpeechModel], count: int = 24) -> list[float]:
    """Return how long each decoder takes for a token, alone, over two seconds of noise: the median of ``count``.

    They take turns, so that what else the machine does meets all of them.
    """
    took: list[list[float]] = [[] for _ in models]
    caches = []
    for model in models:
        audio = np.random.default_rng(0).normal(0, 0.1, min(2 * SAMPLE_RATE, model.max_samples)).astype(np.float32)
        caches.append(model.allocate(1).open(model.encode([audio])[0]))
    for _ in range(min(count, *(model.max_tokens for model in models))):
        for model, cache, mine in zip(models, caches, took, strict=True):
            began = time.perf_counter()
            model.step([Forward((model.eot,), cache, 1)])
            mine.append(time.perf_counter() - began)
    return [1000 * statistics.median(mine) for mine in took]


def held_bytes(model: SpeechModel) -> int:
    """Return the bytes of all tensors that the network of a model holds, packed ones included, each once."""
    assert isinstance(model, TorchSpeechModel | AudioLanguageModel), "what is stored so is read by these alone"
    held: dict[int, Tensor] = {}
    for module in model.network.modules():
        for each in (*vars(module).values(), *module._parameters.values(), *module._buffers.values()):
            if isinstance(each, torch.Tensor):
                held[id(each)] = each
    return sum(each.numel() * each.element_size() for each in held.values())
