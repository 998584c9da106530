"""What a model without some layers is worth: scores per direction of the texts that it writes, kept line by line.

Transcripts count 100 minus their error rate in percent; translations chrF++, or chrF into languages without spaces.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from streamtrans.compress.ledger import Ledger
from streamtrans.core import BadConfig
from streamtrans.evaluate.dev import Text
from streamtrans.evaluate.manifest import Talk
from streamtrans.evaluate.recordings import transcript_errors
from streamtrans.metrics import chrf
from streamtrans.text import joins_without_spaces


@dataclass(frozen=True, slots=True)
class Written:
    """Texts, and what their decoding took, encoder not included."""

    texts: Sequence[Text]
    passes: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Score:
    """Points per direction (``de-en``; ``de-de`` is a transcript), higher is better; and what decoding took."""

    directions: Mapping[str, float]
    passes: int = 0
    seconds: float = 0.0

    @property
    def mean(self) -> float:
        """The mean over the directions, which decides: one below 0, where a text is mostly a loop, counts 0."""
        return sum(max(0.0, points) for points in self.directions.values()) / len(self.directions)


def score(written: Written) -> Score:
    """Compare texts with their references."""
    pairs = sorted({(text.source, text.target) for text in written.texts})
    return Score(
        {f"{source}-{target}": _points(written.texts, source, target) for source, target in pairs},
        written.passes,
        round(written.seconds, 3),
    )


def _points(texts: Sequence[Text], source: str, target: str) -> float:
    mine = [text for text in texts if (text.source, text.target) == (source, target)]
    if source == target:
        return 100 - 100 * transcript_errors(mine, source)
    order = 0 if joins_without_spaces(target) else 2
    return chrf([text.hypothesis for text in mine], [text.reference for text in mine], word_order=order)


def selection_sha256(talks: Sequence[Talk]) -> str:
    """Return a checksum over the recordings and the references that layers are chosen by."""
    digest = hashlib.sha256()
    for talk in talks:
        digest.update(json.dumps([talk.language, dict(talk.references)], ensure_ascii=False).encode())
        digest.update(_sound(talk))
    return digest.hexdigest()


def is_transcript(direction: str) -> bool:
    """Whether a direction (``de-de``, ``pt-br-pt-br``) goes from a language into itself."""
    return direction[: len(direction) // 2] == direction[len(direction) // 2 + 1 :]


def check_apart(one: Mapping[Path, Sequence[Talk]], other: Mapping[Path, Sequence[Talk]], why: str) -> None:
    """See that no recording, whatever its name, is in manifests of both.

    Raises:
        BadConfig: one is.
    """
    known = {_sound(talk): file for file, talks in one.items() for talk in talks}
    for file, talks in other.items():
        for talk in talks:
            if (first := known.get(_sound(talk))) is not None:
                raise BadConfig(f"{talk.audio} is in {first} and in {file}: {why}")


def _sound(talk: Talk) -> bytes:
    return hashlib.sha256(talk.audio.read_bytes()).digest()


class Notebook:
    """Scores by the layers that were missing, one line each in a file: what stands there is not computed again.

    Raises:
        BadConfig: the file was begun for something else, or isn't one of ours.
    """

    def __init__(self, file: Path, about: Mapping[str, Any]) -> None:
        self._ledger = Ledger(file, about, "scores of layers")
        self._known: dict[frozenset[int], Score] = {}
        for line in self._ledger.lines:
            self._known[frozenset(line["without"])] = Score(**{k: v for k, v in line.items() if k != "without"})

    def of(self, without: frozenset[int], compute: Callable[[], Score]) -> Score:
        """Return the score without some layers, computed where nobody has noted it."""
        if without not in self._known:
            found = self._known[without] = compute()
            self._ledger.add({"without": sorted(without), **asdict(found)})
        return self._known[without]
