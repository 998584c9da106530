"""Speak a drawn sentence in one of its languages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from streamtrans.core import BadConfig
from streamtrans.corpus.augment import Augmentation, augment
from streamtrans.corpus.tables import Row
from streamtrans.corpus.voices import ACCENTS, Speaker, Voice, evaluation_voice, random_voice


@dataclass(frozen=True, slots=True)
class Utterance:
    """A sentence spoken in ``language``, with what it says in every language of ``texts``.

    ``audio`` has shape ``(n,)``: mono float32 at 16 kHz. ``texts[language] == text``.
    """

    id: str
    language: str
    text: str
    texts: Mapping[str, str]
    audio: npt.NDArray[np.float32]
    voice: Voice


def spoken(
    rng: np.random.Generator,
    row: Row,
    *,
    speaker: Speaker | None = None,
    augmentation: Augmentation | None = None,
    source_weights: Mapping[str, float] | None = None,
    babble: Sequence[npt.NDArray[np.float32]] = (),
) -> Utterance:
    """Speak ``row`` with a random training voice in one of its languages.

    Args:
        rng: draws the language, the voice and the augmentation.
        row: a sentence in normal form, as :meth:`Mixture.sample` draws it.
        speaker: who speaks; by default the engine of this process.
        augmentation: how the speech is spoilt; ``CLEAN`` leaves it.
        source_weights: how often each language is spoken; by default those of the row equally often.
        babble: other speech, to be mixed in as noise.

    Raises:
        BadConfig: no language of the row has a voice and a weight.
    """
    languages = [language for language in row.texts if language in ACCENTS]
    weights = [1.0 if source_weights is None else source_weights.get(code, 0.0) for code in languages]
    if sum(weights) <= 0:
        raise BadConfig(
            f"row {row.id} has {', '.join(row.texts)}: none of them has both a synthetic voice and a weight"
        )
    shares = np.cumsum(weights)
    language = languages[int(np.searchsorted(shares, rng.random() * shares[-1], side="right"))]
    voice = random_voice(language, rng)
    clean = (speaker or Speaker()).speak(row.texts[language], voice)
    audio = augment(clean, rng, augmentation, babble)
    return Utterance(row.id, language, row.texts[language], row.texts, audio, voice)


def spoken_for_evaluation(row: Row, language: str, speaker: Speaker | None = None) -> Utterance:
    """Speak ``row`` in ``language`` with the evaluation voice of its id, without any augmentation."""
    if language not in row.texts:
        raise BadConfig(f"row {row.id} has no {language!r} side: it has {', '.join(row.texts)}")
    voice = evaluation_voice(row.id, language)
    audio = (speaker or Speaker()).speak(row.texts[language], voice)
    return Utterance(row.id, language, row.texts[language], row.texts, audio, voice)
