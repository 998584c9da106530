"""Fixtures for what measures a model: a tiny one of random weights, rows of text, and somebody to say them."""

from pathlib import Path

import numpy as np
import pytest
import torch

from streamtrans.corpus import Row, Utterance, Voice
from streamtrans.model.loading import load_model
from tests.checkpoints import make_whisper_m2m

torch.set_num_threads(1)

TEXTS = {
    "en": "turn on the light in the kitchen",
    "de": "mach das licht in der küche an",
    "zh": "打开厨房的灯",
}


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny")
    make_whisper_m2m(folder, decoder_layers=2)
    return folder


@pytest.fixture(scope="session")
def model(tiny):
    return load_model(tiny, device="cpu", dtype="float64")


@pytest.fixture(scope="session")
def rows():
    return [Row(str(number), TEXTS) for number in range(7)]


@pytest.fixture(scope="session")
def speak():
    """Noise whose length and colour depend on the row and the language."""

    def say(row, language):
        random = np.random.default_rng(int(row.id) * 100 + ord(language[0]))
        audio = random.normal(0, 0.1, random.integers(8_000, 28_000)).astype(np.float32)
        return Utterance(row.id, language, row.texts[language], row.texts, audio, Voice(language))

    return say
