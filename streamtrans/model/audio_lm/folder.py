"""What the folders of audio language models have in common."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from streamtrans.core import BadModel
from streamtrans.model.audio_lm.model import AudioLanguageModel, Manner
from streamtrans.model.audio_lm.network import AudioNetwork
from streamtrans.model.config import read_features, shown
from streamtrans.model.loading import fill, read_tensors
from streamtrans.model.scoring import Rules
from streamtrans.text import Vocabulary


def part(raw: Mapping[str, Any], name: str, usual: Mapping[str, Any]) -> dict[str, Any]:
    """Return a part of a ``config.json``, with what is ``usual`` where it says nothing.

    Raises:
        BadModel: it is none.
    """
    said = raw.get(name, {})
    if not isinstance(said, dict):
        raise BadModel(f"{name} of config.json is {shown(said)}; it must be a JSON object")
    return {**usual, **{key: value for key, value in said.items() if value is not None}}


def usual_whisper(audio: Mapping[str, Any]) -> None:
    """Refuse an encoder that computes otherwise than Whisper's.

    Raises:
        BadModel: it does.
    """
    for name, usual in (("activation_function", "gelu"), ("scale_embedding", False)):
        if audio.get(name, usual) != usual:
            raise BadModel(f"audio_config: {name} is {shown(audio[name])}; every Whisper encoder has {usual!r}")


def build(
    folder: Path,
    network: AudioNetwork,
    vocabulary: Vocabulary,
    rules: Rules,
    manner: Manner,
    *,
    device: torch.device,
    dtype: torch.dtype,
    packed: str | None,
) -> AudioLanguageModel:
    """Fill a network with the weights of its folder, and make a model of it.

    Raises:
        BadModel: features or weights don't fit the network, or a language can't be asked for.
    """
    tower, language = network.tower_shape, network.language_model.shape
    features = read_features(folder, tower.mels)
    tensors = dict(read_tensors(folder))
    if language.tied:
        tensors.pop("language_model.lm_head.weight", None)
    fill(network, tensors, folder)
    model = AudioLanguageModel(
        folder.name, network, vocabulary, rules, features=features, manner=manner, device=device, dtype=dtype
    )
    for code in manner.languages:
        try:
            model.prompt(code, code), model.prompt(code, None)
        except ValueError as error:
            raise BadModel(
                f"{folder} can't ask for {code}, which is among its languages: {shown(str(error))}"
            ) from None
    if packed is not None:
        model.pack(packed)
    model.ready()
    return model
