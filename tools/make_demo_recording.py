"""Speak the demo's sentences and join them with pauses: ``streamtrans/demo/speech.flac``.

The sentences and their translations stand in ``references.json`` beside it; this script writes the time of
each sentence back into that file. The voices are evaluation voices, which no training ever hears.

    python tools/make_demo_recording.py
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import numpy.typing as npt
import soundfile

from streamtrans.core import SAMPLE_RATE, milliseconds, samples
from streamtrans.corpus import Speaker, Voice

FOLDER = Path(__file__).parent.parent / "streamtrans" / "demo"

NOISE = 3e-4
"""Amplitude of the noise under everything (about -70 dB): a room is never digitally silent."""

AUDIBLE = 0.01
"""What is softer at either end of a sentence is cut off, so that the pauses are as long as they claim."""


def main() -> None:
    """Write the recording and the times."""
    plan = json.loads((FOLDER / "references.json").read_text(encoding="utf-8"))
    random = np.random.default_rng(plan["seed"])
    speaker = Speaker()
    pieces = [np.zeros(samples(800), np.float32)]
    length = len(pieces[0])
    for sentence in plan["sentences"]:
        language = sentence["source"]
        speech = spoken(speaker, sentence["texts"][language], Voice(language, **plan["voices"][language]))
        sentence["start_ms"], sentence["end_ms"] = milliseconds(length), milliseconds(length + len(speech))
        pause = np.zeros(samples(float(random.uniform(1_200, 1_800))), np.float32)
        pieces += [speech, pause]
        length += len(speech) + len(pause)
    audio = np.concatenate(pieces)
    audio += random.normal(0, NOISE, len(audio)).astype(np.float32)
    soundfile.write(FOLDER / "speech.flac", audio, SAMPLE_RATE, subtype="PCM_16")
    text = json.dumps(plan, ensure_ascii=False, indent=2) + "\n"
    (FOLDER / "references.json").write_text(text, encoding="utf-8")
    size = (FOLDER / "speech.flac").stat().st_size
    print(f"{len(plan['sentences'])} sentences, {length / SAMPLE_RATE:.1f} s, {size:,} bytes")


def spoken(speaker: Speaker, text: str, voice: Voice) -> npt.NDArray[np.float32]:
    """Return ``text`` spoken by ``voice``, without silence around it, with a peak of a half."""
    audio = speaker.speak(text, voice)
    loud = np.flatnonzero(np.abs(audio) > AUDIBLE)
    audio = audio[loud[0] : loud[-1] + 1]
    loudest = float(np.abs(audio).max())
    return (0.5 / loudest * audio).astype(np.float32)


if __name__ == "__main__":
    main()
