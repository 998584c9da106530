"""Speech spoken ahead of training, by a voice too slow to speak on the fly: a folder of FLAC files and a manifest.

The manifest grows by whole lines, so training may read it while somebody still speaks.

Law: equal settings speak equal sentences with equal styles, wherever the speaking was interrupted.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt
import soundfile

from streamtrans.core import SAMPLE_RATE, BadConfig
from streamtrans.corpus.parallel import Parallel
from streamtrans.corpus.tables import Row, has_digits

MANIFEST = "manifest.tsv"
LANGUAGES = ("en", "zh", "de", "es", "fr", "it")
COLUMNS = ("audio", "language", "text", *LANGUAGES)
PER_FOLDER = 1000
SPEEDS = (0.85, 1.2)


@dataclass(frozen=True, slots=True)
class AheadConfig:
    """What is spoken. ``weights`` say how often each language speaks."""

    count: int
    """Rows that are looked at; not all of them can be spoken."""
    weights: Mapping[str, float]
    seed: int = 1
    shard: int = 0
    """Which process this is, where several fill one folder: each has sentences of its own."""
    shards: int = 1

    def __post_init__(self) -> None:
        if self.count < 1 or not 0 <= self.shard < self.shards:
            raise BadConfig("speaking ahead: count must be at least 1, shard from 0 to below shards")


class Styled(Protocol):
    """A voice in several styles, such as :class:`~streamtrans.corpus.kokoro.Kokoro`."""

    @property
    def styles(self) -> Mapping[str, Sequence[str]]:
        """Language → styles to draw from."""
        ...

    def speak(self, text: str, style: str, *, speed: float = 1.0) -> npt.NDArray[np.float32]:
        """Return ``text`` spoken, ``(n,)`` float32 at 16 kHz; empty where nothing of it can be said."""
        ...


def speak_ahead(
    rows: Parallel, voice: Styled, out: Path, config: AheadConfig, *, say: Callable[[str], None] = print
) -> int:
    """Speak the first ``count`` rows into ``out``, those that aren't there yet; returns how many utterances that made.

    Raises:
        BadConfig: there are no styles for a language with a weight.
    """
    known = voice.styles
    weights = {code: weight for code, weight in config.weights.items() if weight > 0}
    if lacking := [code for code in weights if code not in known]:
        raise BadConfig(f"no style speaks {', '.join(lacking)}; leave their weights out")
    out.mkdir(parents=True, exist_ok=True)
    done, added = _spoken(out), 0
    for number in range(config.shard, config.count, config.shards):
        rng = np.random.default_rng([config.seed, number])
        row = rows.row(number)
        able = [code for code in weights if code in row.texts and not has_digits(row.texts[code])]
        name = f"{number // PER_FOLDER:03d}/{number:06d}.flac"
        if not able or name in done:
            continue
        shares = np.array([weights[code] for code in able])
        # A row that only rarely spoken languages could speak is passed over as often as they are rare.
        if rng.random() > shares.max() / max(weights.values()):
            continue
        language = str(rng.choice(able, p=shares / shares.sum()))
        style = str(rng.choice(list(known[language])))
        audio = voice.speak(row.texts[language], style, speed=float(rng.uniform(*SPEEDS)))
        if audio.size < SAMPLE_RATE // 4:
            continue
        (out / name).parent.mkdir(exist_ok=True)
        soundfile.write(out / name, audio, SAMPLE_RATE, subtype="PCM_16")
        _note(out, name, language, row)
        added += 1
        if added % 50 == 0:
            say(f"{out}: {added} spoken, at row {number:,}")
    return added


def _spoken(out: Path) -> set[str]:
    manifest = out / MANIFEST
    if not manifest.exists():
        manifest.write_text("\t".join(COLUMNS) + "\n", encoding="utf-8")
    return {line.partition("\t")[0] for line in manifest.read_text(encoding="utf-8").split("\n")[1:]}


def _note(out: Path, name: str, language: str, row: Row) -> None:
    """Add a line in one write: a reader sees all of it or nothing."""
    texts = {code: " ".join(text.split()) for code, text in row.texts.items()}
    cells = (name, language, texts[language], *(texts.get(code, "") for code in LANGUAGES))
    descriptor = os.open(out / MANIFEST, os.O_WRONLY | os.O_APPEND)
    try:
        os.write(descriptor, ("\t".join(cells) + "\n").encode())
    finally:
        os.close(descriptor)
