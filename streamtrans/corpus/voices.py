"""Synthetic speech: eSpeak NG in process, with voices for training and others kept for evaluation.

Law: no voice of an evaluation is ever drawn for training.
"""

from __future__ import annotations

import ctypes
import os
import re
import threading
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import soxr

from streamtrans.core import SAMPLE_RATE, BadConfig, UnsupportedLanguage, needs

ACCENTS: Mapping[str, Mapping[str, float]] = {
    "en": {
        "en-us": 6,
        "en": 3,
        "en-gb-x-rp": 2,
        "en-gb-scotland": 1,
        "en-gb-x-gbclan": 1,
        "en-gb-x-gbcwmd": 1,
        "en-us-nyc": 2,
        "en-029": 1,
    },
    "de": {"de": 1},
    "es": {"es": 1, "es-419": 1},
    "fr": {"fr": 2, "fr-be": 1, "fr-ch": 1},
    "it": {"it": 1},
    # The pinyin voice reads what pypinyin makes of the characters: polyphones come out right more often
    # (曲目 qǔ, 爵士乐), all tones sound. The voice reading characters itself knows more neutral tones and the
    # tone changes of 一 and 不. Both last equally long; training hears both, evaluation the first.
    "zh": {"cmn-latn-pinyin": 3, "cmn": 1},
}
"""Language → engine voice → how often it is drawn. The first of each is the evaluation's."""

EVALUATION_VARIANTS = ("Annie", "Gene", "linda", "marcelo", "steph2", "m8", "f5", "Lee")

# Every other variant of eSpeak NG 1.52 except Gene2, aunty and steph3, whose spectra are nearly those of
# Gene, linda and steph2: trained on, they would make the evaluation easier than it claims to be.
_CLEAR = (
    "",  # the plain voice
    "Alex",
    "Alicia",
    "Andrea",
    "Andy",
    "AnxiousAndy",
    "Denis",
    "Diogo",
    "Henrique",
    "Hugo",
    "Jacky",
    "Marco",
    "Mario",
    "Michael",
    "Mike",
    "Mr serious",
    "Nguyen",
    "Reed",
    "RicishayMax",
    "RicishayMax2",
    "RicishayMax3",
    "Storm",
    "Tweaky",
    "UniRobot",
    "adam",
    "anika",
    "anikaRobot",
    "announcer",
    "antonio",
    "belinda",
    "benjamin",
    "boris",
    "caleb",
    "david",
    "ed",
    "edward",
    "edward2",
    "f1",
    "f2",
    "f3",
    "f4",
    "fast",
    "grandma",
    "grandpa",
    "gustave",
    "ian",
    "iven",
    "iven2",
    "iven3",
    "iven4",
    "john",
    "kaukovalta",
    "m1",
    "m2",
    "m3",
    "m4",
    "m5",
    "m6",
    "m7",
    "max",
    "michel",
    "miguel",
    "mike2",
    "norbert",
    "pablo",
    "paul",
    "pedro",
    "quincy",
    "rob",
    "robert",
    "sandro",
    "shelby",
    "steph",
    "travis",
    "victor",
    "zac",
)
_HARSH = (
    "Demonic",
    "croak",
    "klatt",
    "klatt2",
    "klatt3",
    "klatt4",
    "klatt5",
    "klatt6",
    "robosoft",
    "robosoft2",
    "robosoft3",
    "robosoft4",
    "robosoft5",
    "robosoft6",
    "robosoft7",
    "robosoft8",
    "whisper",
    "whisperf",
)
TRAINING_VARIANTS: Mapping[str, float] = {
    **dict.fromkeys(_CLEAR, 1.0),
    **dict.fromkeys(_HARSH, 0.1),  # whispering, creaking and robots: rarely
}
"""Variant → how often it is drawn for training."""

DEFAULT_RATE = 175  # words per minute: the engine's own default
DEFAULT_PITCH = 50  # 0..99
DEFAULT_RANGE = 50  # 0..99, how lively the melody is

EVALUATION_VOICES: tuple[tuple[str, int, int], ...] = tuple(
    setting
    for variant in EVALUATION_VARIANTS
    for setting in ((variant, DEFAULT_RATE, DEFAULT_PITCH), (variant, 150, 60))
)
"""The 16 (variant, rate, pitch) settings that evaluations speak with, in the order of the modulus."""


@dataclass(frozen=True, slots=True)
class Voice:
    """Who speaks. An empty ``variant`` is the plain voice, an empty ``accent`` the language's first one."""

    language: str
    variant: str = ""
    rate: int = DEFAULT_RATE  # words per minute; larger speaks faster
    pitch: int = DEFAULT_PITCH  # 0..99; larger is higher
    pitch_range: int = DEFAULT_RANGE  # 0..99; 0 is monotone
    accent: str = ""

    @property
    def engine_name(self) -> str:
        """The engine's name of this voice, such as ``en-us+f2``."""
        if self.language not in ACCENTS:
            raise _unspoken(self.language)
        accent = self.accent or next(iter(ACCENTS[self.language]))
        return f"{accent}+{self.variant}" if self.variant else accent


def evaluation_voice(row_id: str, language: str) -> Voice:
    """Return the evaluation voice of a row: the same one for ever, by the checksum of its id."""
    index = zlib.crc32(row_id.encode()) % len(EVALUATION_VOICES)
    variant, rate, pitch = EVALUATION_VOICES[index]
    return Voice(language, variant, rate, pitch)


def random_voice(language: str, rng: np.random.Generator) -> Voice:
    """Draw a training voice: any variant but the evaluation's, any accent, rate 120 to 220 around 165."""
    if language not in ACCENTS:
        raise _unspoken(language)
    return Voice(
        language=language,
        variant=_draw(TRAINING_VARIANTS, rng),
        rate=round(float(rng.triangular(120, 165, 220))),
        pitch=int(rng.integers(20, 86)),
        pitch_range=int(rng.integers(20, 86)),
        accent=_draw(ACCENTS[language], rng),
    )


def _draw(weights: Mapping[str, float], rng: np.random.Generator) -> str:
    """Draw a key in proportion to its weight."""
    shares = np.cumsum(tuple(weights.values()))
    return tuple(weights)[int(np.searchsorted(shares, rng.random() * shares[-1], side="right"))]


def _unspoken(language: str) -> UnsupportedLanguage:
    return UnsupportedLanguage(f"no synthetic voice speaks {language!r}: there are {', '.join(sorted(ACCENTS))}")


class Speaker:
    """Speak text. All speakers of a process share one engine, for the library holds global state.

    The same text and voice sound alike each time but are not equal bit by bit: the engine's vibrato and
    breath run on from one utterance to the next.
    """

    def __init__(self) -> None:
        _engine()

    def speak(self, text: str, voice: Voice) -> npt.NDArray[np.float32]:
        """Return ``text`` spoken by ``voice``: ``(n,)`` float32 at 16 kHz, nothing trimmed.

        Raises:
            UnsupportedLanguage: no synthetic voice speaks ``voice.language``.
            BadConfig: the engine knows no such accent or variant.
        """
        name = voice.engine_name
        if voice.language == "zh":
            text, name = _readable_chinese(text, name)
        engine = _engine()
        with engine.lock:
            pcm = engine.synthesise(text, name, voice)
        speech: npt.NDArray[np.float32] = soxr.resample(pcm, engine.rate, SAMPLE_RATE, quality="HQ")
        return np.clip(speech, -1.0, 1.0)

    def sounds(self, text: str, name: str) -> str:
        """Return how the engine voice ``name`` pronounces ``text``, in IPA with ``^`` inside of affricates and such.

        Marks that end clauses are lost, as are notes of the language.

        Raises:
            BadConfig: the engine has no such voice.
        """
        engine = _engine()
        with engine.lock:
            return _LANGUAGE_NOTE.sub("", engine.pronounce(text, name))


def _readable_chinese(text: str, name: str) -> tuple[str, str]:
    """Turn characters into pinyin for the pinyin voice; text that mixes in Latin goes to the other voice.

    The pinyin voice would read the Latin letters as syllables; ``cmn`` reads them as English.
    """
    from streamtrans.corpus.romanise import romanise

    accent, plus, variant = name.partition("+")
    if accent != _PINYIN_VOICE:
        return text, name
    if any(character.isascii() and character.isalpha() for character in text):
        return text, f"cmn{plus}{variant}"
    return romanise(text, "zh"), name


# The engine -----------------------------------------------------------------------------------------------

_PINYIN_VOICE = "cmn-latn-pinyin"
_SYNCHRONOUS = 2  # AUDIO_OUTPUT_SYNCHRONOUS: speak inside the call, hand the samples to the callback
_DONT_EXIT = 0x8000  # espeakINITIALIZE_DONT_EXIT: report missing data instead of ending the process
_UTF8 = 1  # espeakCHARS_UTF8
_BUFFER_MS = 2000  # larger means fewer callbacks into Python
_RATE, _PITCH, _RANGE = 1, 3, 4  # espeak_PARAMETER
_IPA_TIED = 0x02 | 0x80 | ord("^") << 8  # IPA; a tie, which is this sign, between the letters of one sound
_LANGUAGE_NOTE = re.compile(r"\([a-z-]+\)")
_CALLBACK = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p)


class _Engine:
    """The library, initialised for this process. Hold ``lock`` while it speaks."""

    def __init__(self) -> None:
        try:
            import espeakng_loader
        except ImportError:
            raise BadConfig(needs("speaking", "espeakng-loader", "train")) from None
        self.process = os.getpid()
        self.lock = threading.Lock()
        self._parts: list[bytes] = []
        self._voice = ""
        # Held for as long as the library may call it.
        self._callback = _CALLBACK(self._take)
        self._library = ctypes.CDLL(espeakng_loader.get_library_path())
        self._library.espeak_Synth.argtypes = [
            ctypes.c_char_p,
            ctypes.c_size_t,
            ctypes.c_uint,
            ctypes.c_int,
            ctypes.c_uint,
            ctypes.c_uint,
            ctypes.c_void_p,
            ctypes.c_void_p,
        ]
        self._library.espeak_TextToPhonemes.restype = ctypes.c_char_p
        self._data = Path(espeakng_loader.get_data_path())
        folder = str(self._data).encode()
        self.rate: int = self._library.espeak_Initialize(_SYNCHRONOUS, _BUFFER_MS, folder, _DONT_EXIT)
        if self.rate <= 0:
            raise BadConfig("eSpeak NG found no data: reinstall espeakng-loader, whose wheel brings it")
        self._library.espeak_SetSynthCallback(self._callback)

    def _take(self, samples: int | None, count: int, _events: int | None) -> int:
        """Keep a buffer of samples; 0 tells the library to go on."""
        if samples and count > 0:
            self._parts.append(ctypes.string_at(samples, 2 * count))
        return 0

    def synthesise(self, text: str, name: str, voice: Voice) -> npt.NDArray[np.float32]:
        """Return ``(n,)`` float32 at the engine's rate."""
        if name != self._voice:
            variant = name.partition("+")[2]
            # The library would speak with the plain voice instead of complaining.
            if variant and not (self._data / "voices" / "!v" / variant).is_file():
                raise BadConfig(f"eSpeak NG has no variant {variant!r}: see TRAINING_VARIANTS for what there is")
            if self._library.espeak_SetVoiceByName(name.encode()) != 0:
                self._voice = ""
                raise BadConfig(f"eSpeak NG has no voice {name!r}: see ACCENTS for what there is")
            self._voice = name
        for parameter, value in ((_RATE, voice.rate), (_PITCH, voice.pitch), (_RANGE, voice.pitch_range)):
            self._library.espeak_SetParameter(parameter, value, 0)
        self._parts.clear()
        encoded = text.replace("\0", " ").encode()
        failed = self._library.espeak_Synth(encoded, len(encoded) + 1, 0, 1, 0, _UTF8, None, None)
        if failed:
            raise BadConfig(f"eSpeak NG could not speak {text!r} (code {failed})")
        return np.frombuffer(b"".join(self._parts), dtype="<i2").astype(np.float32) / 32768.0

    def pronounce(self, text: str, name: str) -> str:
        """Return the sounds of a text, clause after clause."""
        if self._library.espeak_SetVoiceByName(name.encode()) != 0:
            raise BadConfig(f"eSpeak NG has no voice {name!r}: see ACCENTS for what there is")
        self._voice = name
        left = ctypes.c_char_p(text.replace("\0", " ").encode())
        clauses: list[str] = []
        while left.value:
            found = self._library.espeak_TextToPhonemes(ctypes.byref(left), _UTF8, _IPA_TIED)
            clauses.append((found or b"").decode())
        return " ".join(clause for clause in clauses if clause)


_shared: _Engine | None = None
_creating = threading.Lock()  # two threads must not make two engines of the one library


def _engine() -> _Engine:
    """Return this process's engine; a forked child makes its own instead of using its parent's."""
    global _shared  # noqa: PLW0603  the library's state is global, so there can be only one
    with _creating:
        if _shared is None or _shared.process != os.getpid():
            _shared = _Engine()
        return _shared
