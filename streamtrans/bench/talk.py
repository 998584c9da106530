"""Synthetic talks to load a server with: sentences of our own, spoken with the evaluation voices."""

from __future__ import annotations

import numpy as np

from streamtrans.audio import Samples
from streamtrans.core import SAMPLE_RATE, BadConfig
from streamtrans.corpus import Speaker, evaluation_voice

SENTENCES = {
    "en": (
        "please switch off the lamp in the living room before we leave",
        "what will the weather be like on the coast this weekend",
        "remind me to call my sister tomorrow evening at half past seven",
        "play something quiet while i am cooking dinner",
        "how long does the train to the airport take from here",
        "put milk bread and apples on the shopping list",
        "is there any news about the election in france",
        "cancel the meeting with my boss on friday afternoon",
    ),
    "de": (
        "schalte bitte das licht im wohnzimmer aus bevor wir gehen",
        "wie wird das wetter am wochenende an der küste",
        "erinnere mich morgen abend daran meine schwester anzurufen",
        "spiele etwas ruhiges während ich das abendessen koche",
        "wie lange braucht der zug von hier zum flughafen",
        "schreibe milch brot und äpfel auf die einkaufsliste",
        "gibt es neuigkeiten über die wahl in frankreich",
        "sage die besprechung mit meinem chef am freitag ab",
    ),
}
"""Language → what is said; written for this purpose, part of no corpus."""


def talk(seconds: float, *, seed: int = 0, language: str = "en", pause_s: tuple[float, float] = (0.5, 1.2)) -> Samples:
    """Return a talk ``(samples,)`` of at least ``seconds``: one voice, pauses between the sentences.

    Args:
        seconds: the talk goes on to the end of the sentence that reaches it, and of the pause after it.
        seed: decides the voice, the order of the sentences and the pauses.
        language: a key of :data:`SENTENCES`.
        pause_s: shortest and longest pause; shorter ones are joined into one segment.

    Raises:
        BadConfig: there are no sentences in ``language``, or nothing to speak them with.
    """
    if language not in SENTENCES:
        raise BadConfig(f"no talk in {language!r}: there are sentences in {', '.join(SENTENCES)}")
    random = np.random.default_rng(seed)
    speaker, voice = Speaker(), evaluation_voice(f"talk {seed}", language)
    parts = [np.zeros(SAMPLE_RATE // 2, np.float32)]
    left = round(seconds * SAMPLE_RATE) - len(parts[0])
    while left > 0:
        for sentence in random.permutation(SENTENCES[language]):
            silence = np.zeros(round(random.uniform(*pause_s) * SAMPLE_RATE), np.float32)
            parts += [speaker.speak(str(sentence), voice), silence]
            left -= len(parts[-1]) + len(parts[-2])
            if left <= 0:
                break
    return np.concatenate(parts)
