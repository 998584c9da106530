"""What becomes of captions where speech is quieter, or begins behind a click.

Each sentence is a stream of its own, so nothing is known yet of how loud somebody speaks. Sentences, voices and clicks
are always the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Annotated, Any

import numpy as np

from streamtrans.audio import Samples
from streamtrans.bench.measurement import MODE, TO, Progress, Report, Table, decibels, languages, silent
from streamtrans.bench.talk import SENTENCES
from streamtrans.core import SAMPLE_RATE, BadConfig, CaptionChoice, Group, Mode, Option, check_mode, milliseconds
from streamtrans.corpus import Speaker, evaluation_voice
from streamtrans.evaluate.replay import Replay, replay
from streamtrans.metrics import chrf
from streamtrans.runtime import Loaded, ModelChoice, identity, load
from streamtrans.stream import SessionConfig

_LEAD = SAMPLE_RATE // 4
"""Samples of silence before each sentence."""

CLICKS = ("step", "burst", "thump")
"""A contact that closes, a knock of 20 ms, a thump of 150 ms; each begins with the stream, near full scale."""


@dataclass(frozen=True, slots=True)
class Clip:
    """A sentence ``(samples,)`` as 16-bit audio, and what it says in every language that is known."""

    audio: Samples
    texts: dict[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Levels:
    """Play sentences at lower and lower levels, and behind clicks: how many captions stay as they are at 0 dB.

    Once as the model is served, and once without levelling, where it is served with it. On synthetic voices.
    """

    levels: Annotated[tuple[float, ...], Option("Gains in dB, joined by commas.", read=decibels)] = (-6.0, -15.0, -30.0)
    voices: Annotated[int, Option("Voices that say each sentence.", least=1)] = 2
    source: Annotated[tuple[str, ...], Option("Languages to speak.", name="--from", read=languages)] = ("en", "de")
    to: Annotated[tuple[str, ...], TO] = ("en", "de")
    mode: Annotated[Mode, MODE] = "final"
    choice: Annotated[ModelChoice, Group("model", "device", "dtype", "threads", "vad")] = field(
        default_factory=lambda: ModelChoice(threads=1)
    )

    def __post_init__(self) -> None:
        check_mode(self.mode)
        if unknown := set(self.source) - set(SENTENCES):
            raise BadConfig(f"no sentences in {', '.join(unknown)}: there are some in {', '.join(SENTENCES)}")
        if not self.levels or max(self.levels) >= 0:
            raise BadConfig("--levels are gains below 0 dB, which all is compared with")

    def measure(self, progress: Progress = silent) -> Report:
        """Play everything in every way."""
        clips = [clip for number in range(self.voices) for clip in spoken(self.source, number)]
        played, loaded = spoiled(clips, self.levels), load(self.choice)
        lines: list[dict[str, Any]] = []
        with loaded.engine:
            served = loaded.session_config(self.to, None, self.choice.vad, CaptionChoice(self.mode))
            plain = replace(served, level_db=None)
            ways = {"as served": served} | ({} if plain == served else {"unlevelled": plain})
            for way, config in ways.items():
                lines += [{"way": way, **line} for line in compare(loaded, config, clips, played, progress)]
        columns = list(lines[0])
        about = {"model": identity(self.choice.model), "targets": self.to, "mode": self.mode, "sentences": len(clips)}
        table = Table("quieter, and behind a click", columns, [[line[name] for name in columns] for line in lines])
        return Report({**about, "level_db": served.level_db, "lines": lines}, [table])


def spoken(source: Sequence[str], seed: int) -> list[Clip]:
    """Return every sentence in the languages of ``source``, each in another voice, with silence around."""
    speaker, clips = Speaker(), []
    for language in source:
        for number, sentence in enumerate(SENTENCES[language]):
            voice = evaluation_voice(f"levels {seed} {number}", language)
            audio = np.pad(speaker.speak(sentence, voice), (_LEAD, SAMPLE_RATE))
            clips.append(Clip(audio, {code: each[number] for code, each in SENTENCES.items()}))
    return clips


def quieter(audio: Samples, gain_db: float) -> Samples:
    """Return ``audio`` as a microphone of 16 bits gives it at that gain."""
    steps = (np.clip(audio * 10 ** (gain_db / 20), -1, 1) * 32_767).round()
    heard: Samples = (steps / 32_768).astype(np.float32)
    return heard


def clicked(audio: Samples, kind: str, seed: int = 0) -> Samples:
    """Return ``audio`` with a click of :data:`CLICKS` at its beginning."""
    time = np.arange(samples := {"step": 400, "burst": 320, "thump": 2_400}[kind])
    if kind == "step":
        sound = np.exp(-time / 40)
    elif kind == "burst":
        sound = np.random.default_rng(seed).normal(0, 0.4, samples) * np.exp(-time / 80)
    else:
        sound = np.sin(2 * np.pi * 60 * time / SAMPLE_RATE) * np.exp(-time / 400)
    heard: Samples = np.clip(audio + np.pad(0.95 * sound, (0, len(audio) - samples)), -1, 1).astype(np.float32)
    return heard


def spoiled(clips: Sequence[Clip], levels: Sequence[float], kinds: Sequence[str] = CLICKS) -> dict[str, list[Samples]]:
    """Return by name ``clips`` at 0 dB, at every level, and behind every kind of click."""
    ways = {"0 dB": [quieter(clip.audio, 0) for clip in clips]}
    ways |= {f"{level:g} dB": [quieter(clip.audio, level) for clip in clips] for level in levels}
    return ways | {f"a {kind}": [clicked(clip.audio, kind, n) for n, clip in enumerate(clips)] for kind in kinds}


def compare(
    loaded: Loaded,
    config: SessionConfig,
    clips: Sequence[Clip],
    ways: Mapping[str, Sequence[Samples]],
    progress: Progress = silent,
) -> list[dict[str, Any]]:
    """Play ``clips`` in all ``ways``, at 0 dB first: a line of figures for each.

    ``same`` is the share of captions that are those at 0 dB, letter by letter; ``chrf`` compares all with what was
    said; ``late`` counts clips of which a word was lost: the first segment begins after the speech does.
    """
    lines, reference = list[dict[str, Any]](), list[list[str]]()
    for done, (name, audios) in enumerate(ways.items(), 1):
        played = [replay(config, loaded.spellers, loaded.engine, audio) for audio in audios]
        texts = [_texts(each, config.targets) for each in played]
        reference = reference or texts
        pairs = [pair for ours, theirs in zip(texts, reference, strict=True) for pair in zip(ours, theirs, strict=True)]
        known = [
            (text, clip.texts[target])
            for said, clip in zip(texts, clips, strict=True)
            for text, target in zip(said, config.targets, strict=True)
            if target in clip.texts
        ]
        # where nothing was heard at all, it begins after everything
        starts = [
            min((start for start, _ in each.segments.values()), default=len(audio))
            for each, audio in zip(played, audios, strict=True)
        ]
        lines.append(
            {
                "played": name,
                "same": round(sum(ours == theirs for ours, theirs in pairs) / len(pairs), 3),
                "chrf": round(chrf(*map(list, zip(*known, strict=True))), 1) if known else None,
                "late": sum(start > _LEAD for start in starts),
                "starts_ms": round(milliseconds(int(np.mean(starts)))),
            }
        )
        progress("ways to play", done, len(ways))
    return lines


def _texts(played: Replay, targets: Sequence[str]) -> list[str]:
    """Return what is written in each language."""
    return [" ".join(each.committed for each in played.finals if each.language == target) for target in targets]
