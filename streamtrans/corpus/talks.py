"""Long talks made of a table's sentences: half of the time without a pause, the other half with natural ones.

Law: equal seeds give equal sentences, voices and pauses. The speech itself varies by some milliseconds from one
synthesis to the next, so a manifest that was made once is kept. The plan follows how long sentences *should* take
(:func:`expected_seconds`), for following how long they took would let such a millisecond change the texts.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt
import soundfile

from streamtrans.core import SAMPLE_RATE, BadConfig, milliseconds, samples
from streamtrans.corpus.stretches import trimmed
from streamtrans.corpus.tables import Row, normalise
from streamtrans.corpus.voices import DEFAULT_RATE, Voice, evaluation_voice
from streamtrans.text import joins_without_spaces

Audio = npt.NDArray[np.float32]

_MS = SAMPLE_RATE // 1000
_HAN_SECONDS, _LETTER_SECONDS, _ONSET_SECONDS = 0.247, 0.048, 0.2
"""Least squares over 120 sentences per language of the evaluation voices at their default rate."""


class Voiced(Protocol):
    """Whoever speaks: :class:`~streamtrans.corpus.voices.Speaker`."""

    def speak(self, text: str, voice: Voice) -> Audio:
        """Return ``text`` spoken: ``(n,)`` mono float32 at 16 kHz."""
        ...


@dataclass(frozen=True, slots=True)
class TalkConfig:
    """How a talk is built.

    Raises:
        BadConfig: a number is out of range.
    """

    seconds: float = 300.0
    """Length of the talk, in about: it ends with a whole sentence."""
    seed: int = 1
    """Decides sentences, voice and pauses."""
    flowing: float = 0.53
    """Share of the time that runs without a pause, planned a little above half; larger asks more of cuts."""
    run_s: tuple[float, float] = (13.0, 26.0)
    """Shortest and longest run without a pause; planned, so a little above the 12 s that it must reach."""
    joint_ms: tuple[int, int] = (0, 120)
    """Silence between two sentences of a run: no pause to a listener."""
    pause_ms: tuple[int, int] = (600, 2_500)
    """Silence between two sentences elsewhere, and around a run."""
    lead_ms: int = 500
    """Silence before the first word."""
    tail_ms: int = 1_000
    """Silence after the last one."""

    def __post_init__(self) -> None:
        if not self.seconds > 0:
            raise BadConfig(f"a talk of {self.seconds:g} s has no room for a sentence; use more than 0")
        if not 0 <= self.flowing <= 1:
            raise BadConfig(f"flowing is {self.flowing}; a share of the time lies in 0..1")
        for name in ("run_s", "joint_ms", "pause_ms"):
            low, high = getattr(self, name)
            if not 0 <= low <= high:
                raise BadConfig(f"{name} is {low}..{high}; use 0 or more, the smaller first")


@dataclass(frozen=True, slots=True)
class Step:
    """The next sentence, and the silence before it."""

    row: Row
    gap_ms: int


@dataclass(frozen=True, slots=True)
class Sentence:
    """One sentence of a talk: it takes the samples ``[start, end)`` and says ``texts``, one per language."""

    start: int
    end: int
    texts: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class SpokenTalk:
    """A talk: ``audio`` ``(n,)`` mono float32 at 16 kHz, and what is said when."""

    name: str
    language: str
    audio: Audio
    sentences: tuple[Sentence, ...]
    voice: Voice

    def flowing_share(self, run_ms: int = 12_000, pause_ms: int = 200) -> float:
        """Return the share of the time that lies in runs of ``run_ms`` or more without a pause of ``pause_ms``."""
        runs: list[list[int]] = []
        for sentence in self.sentences:
            if runs and sentence.start - runs[-1][1] < samples(pause_ms):
                runs[-1][1] = sentence.end
            else:
                runs.append([sentence.start, sentence.end])
        return sum(end - start for start, end in runs if end - start >= samples(run_ms)) / len(self.audio)


def plan_talk(rows: Sequence[Row], voice: Voice, config: TalkConfig) -> tuple[Step, ...]:
    """Draw sentences and pauses; every row is used once before one is used again.

    Raises:
        BadConfig: there are no rows, or they lack the voice's language.
    """
    if not rows:
        raise BadConfig("the table has no rows without entities: there is nothing to say")
    if voice.language not in rows[0].texts:
        raise BadConfig(f"the table has no {voice.language!r} column: it has {', '.join(rows[0].texts)}")
    rng = np.random.default_rng([config.seed, zlib.crc32(voice.language.encode())])
    steps: list[Step] = []
    waiting: list[int] = []
    total = flowing = 0.0
    while total < config.seconds:
        pause = int(rng.integers(config.pause_ms[0], config.pause_ms[1] + 1)) if steps else config.lead_ms
        total += pause / 1000
        wanted = rng.uniform(*config.run_s) if flowing < config.flowing * total else 0.0
        run, gap = 0.0, pause
        while not run or run < wanted:
            waiting = waiting or rng.permutation(len(rows)).tolist()
            row = rows[waiting.pop()]
            run += (gap / 1000 if run else 0.0) + expected_seconds(row.texts[voice.language], voice)
            steps.append(Step(row, gap))
            gap = int(rng.integers(config.joint_ms[0], config.joint_ms[1] + 1))
        total += run
        flowing += run if wanted else 0.0
    return tuple(steps)


def expected_seconds(text: str, voice: Voice) -> float:
    """Return about how long ``voice`` takes to say ``text``; equal texts take equally long."""
    each = _HAN_SECONDS if joins_without_spaces(voice.language) else _LETTER_SECONDS
    return (_ONSET_SECONDS + each * len(text)) * DEFAULT_RATE / voice.rate


def speak_talk(name: str, rows: Sequence[Row], language: str, config: TalkConfig, speaker: Voiced) -> SpokenTalk:
    """Plan a talk in ``language`` and let the evaluation voice of its ``name`` speak it.

    Sentences begin and end on whole milliseconds, so that a file of milliseconds says exactly when.
    """
    voice = evaluation_voice(name, language)
    pieces: list[Audio] = []
    sentences: list[Sentence] = []
    at = 0
    for step in plan_talk(rows, voice, config):
        speech = trimmed(speaker.speak(step.row.texts[language], voice))
        speech = np.pad(speech, (0, -len(speech) % _MS))
        pieces += [np.zeros(step.gap_ms * _MS, np.float32), speech]
        at += step.gap_ms * _MS
        texts = {code: normalise(text, code) for code, text in step.row.texts.items()}
        sentences.append(Sentence(at, at + len(speech), texts))
        at += len(speech)
    pieces.append(np.zeros(config.tail_ms * _MS, np.float32))
    return SpokenTalk(name, language, np.concatenate(pieces), tuple(sentences), voice)


def write_talks(
    folder: Path,
    rows: Sequence[Row],
    languages: Sequence[str],
    config: TalkConfig,
    speaker: Voiced,
    *,
    count: int = 1,
    done: Callable[[SpokenTalk], None] | None = None,
) -> Path:
    """Build ``count`` talks per language; write FLAC files, what is said when, and ``MANIFEST.tsv``; return its path.

    Talk number ``k`` of a language draws with seed ``config.seed + k``.

    Raises:
        BadConfig: there is a manifest already, nothing to say, or a number is out of range.
    """
    manifest = folder / "MANIFEST.tsv"
    if manifest.exists():
        raise BadConfig(f"{manifest} is there already: talks made once are kept; name another folder, or remove it")
    if count < 1:
        raise BadConfig(f"{count} talks per language; use 1 or more")
    folder.mkdir(parents=True, exist_ok=True)
    codes = tuple(rows[0].texts) if rows else ()
    lines = ["\t".join(("audio", "language", "segments", *codes))]
    for language in languages:
        for number in range(count):
            seed = config.seed + number
            talk = speak_talk(f"{language}-{seed}", rows, language, replace(config, seed=seed), speaker)
            audio, segments = f"{talk.name}.flac", f"{talk.name}.json"
            soundfile.write(folder / audio, talk.audio, SAMPLE_RATE, subtype="PCM_16")
            (folder / segments).write_text(_sidecar(talk), encoding="utf-8")
            lines.append("\t".join((audio, language, segments, *(whole_text(talk.sentences, code) for code in codes))))
            if done is not None:
                done(talk)
    manifest.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return manifest


def whole_text(sentences: Sequence[Sentence], language: str) -> str:
    """Return what all ``sentences`` say in ``language``, in one line."""
    between = "" if joins_without_spaces(language) else " "
    return between.join(sentence.texts.get(language, "") for sentence in sentences)


def _sidecar(talk: SpokenTalk) -> str:
    """Return the talk's sentences as JSON, one line each."""
    lines = [
        json.dumps(
            {"start_ms": milliseconds(each.start), "end_ms": milliseconds(each.end), "texts": dict(each.texts)},
            ensure_ascii=False,
        )
        for each in talk.sentences
    ]
    about = {"language": talk.language, "voice": asdict(talk.voice), "flowing_share": round(talk.flowing_share(), 4)}
    return json.dumps(about)[:-1] + ', "sentences": [\n ' + ",\n ".join(lines) + "\n]}\n"
