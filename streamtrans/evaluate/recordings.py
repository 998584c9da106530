"""Score a model on recordings: each is one utterance, read offline through the engine, in every language with a text.

Error rates compare both sides in the normal form of ``streamtrans.corpus.normalise`` (lower case, no punctuation), per
word, or per character in Chinese; BLEU and chrF compare the texts as they are, case and punctuation included.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

from streamtrans.audio import Samples
from streamtrans.core import SAMPLE_RATE, BadConfig, BadModel, Job, Reading, Target, UnsupportedLanguage, samples
from streamtrans.corpus import normalise
from streamtrans.engine import Engine, EngineConfig, check_stages
from streamtrans.evaluate.dev import Text
from streamtrans.evaluate.manifest import Talk
from streamtrans.metrics import bleu, bleu_signature, chrf, word_error_rate
from streamtrans.stream import Speller, Spellers, Stages
from streamtrans.stream.stages import spelling

if TYPE_CHECKING:
    from streamtrans.model.api import SpeechModel, TextModel
    from streamtrans.model.speech import TorchSpeechModel

NORMALISER = "streamtrans.corpus.normalise"
"""What both sides of an error rate went through; told with every score."""


@dataclass(frozen=True, slots=True)
class RecordingsConfig:
    """What is evaluated.

    Raises:
        BadConfig: a number is out of range.
    """

    targets: tuple[str, ...] = ()
    """Languages to write; empty takes every language that a recording has a text in."""
    together: int = 8
    """Recordings decoded at once: larger is faster and takes more memory."""
    drafter: str | None = None
    """As in ``EngineConfig``; ``None`` lets the engine choose."""
    top_k: float = 1
    silence_ms: int | None = None
    """Silence behind each recording in the place of the padding that the model's family wants; ``None`` leaves that."""
    without: int | None = None
    """A decoder layer to leave out, counted from 0, to learn what it is worth."""

    def __post_init__(self) -> None:
        if self.together < 1 or (self.silence_ms or 0) < 0:
            raise BadConfig("together must be at least 1, silence_ms at least 0")


@dataclass(frozen=True, slots=True)
class RecordingsResult:
    """Scores per direction; ``error_rate`` per language. ``texts`` holds what was written, and the references."""

    bleu: Mapping[str, Mapping[str, float]]
    chrf: Mapping[str, Mapping[str, float]]
    error_rate: Mapping[str, float]
    recordings: int
    audio_s: float
    busy_s: float
    unasked: tuple[str, ...]
    """Directions that the model can't be asked for."""
    texts: Sequence[Text] = field(repr=False)

    @property
    def mean_bleu(self) -> float | None:
        """The mean over all directions between two languages; ``None`` if there are none."""
        scores = [score for row in self.bleu.values() for score in row.values()]
        return sum(scores) / len(scores) if scores else None

    def figures(self) -> dict[str, Any]:
        """Return all but the texts, as JSON can hold it."""
        written = sorted({target for row in self.bleu.values() for target in row})
        return {
            "mean_bleu": None if self.mean_bleu is None else round(self.mean_bleu, 2),
            "bleu": _rounded(self.bleu),
            "chrf": _rounded(self.chrf),
            "error_rate": {source: round(rate, 4) for source, rate in self.error_rate.items()},
            "normaliser": f"error rates: {NORMALISER}; BLEU and chrF: none",
            "bleu_signatures": {target: bleu_signature(target) for target in written},
            "recordings": self.recordings,
            "unasked": list(self.unasked),
            "audio_s": round(self.audio_s, 1),
            "busy_s": round(self.busy_s, 1),
        }


def evaluate_recordings(
    model: SpeechModel,
    speller: Speller,
    talks: Sequence[Talk],
    config: RecordingsConfig | None = None,
    *,
    translator: TextModel | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> RecordingsResult:
    """Write every recording in every language that it has a text in and the model can be asked for.

    Behind a ``translator`` the model writes what was said, and that is translated.

    Raises:
        BadConfig: no recording can be scored in any language.
        BadModel: the model can't be changed as ``config`` says.
        BadAudio: a file can't be read.
    """
    config = config or RecordingsConfig()
    _change(model, config)
    asked = [(talk, askable(model, talk, config.targets, translator)) for talk in talks]
    refused = {f"{talk.language}-{code}" for talk, (_, others) in asked for code in others}
    able = sorted(
        ((talk, targets) for talk, (targets, _) in asked if targets), key=lambda each: each[0].audio.stat().st_size
    )
    if not able:
        raise BadConfig("no recording has a text in a language that the model can be asked for")
    slots = config.together * (max(len(targets) for _, targets in able) + (translator is not None))
    settings = EngineConfig(slots=slots, max_batch=slots, drafter=config.drafter, top_k=config.top_k)
    spellers: Spellers = speller if translator is None else Stages(speller, translator.vocabulary)
    texts: list[Text] = []
    audio_s = 0.0
    with Engine(model, _deaf, settings, translator) as engine:
        for at in range(0, len(able), config.together):
            part = able[at : at + config.together]
            audios = [_heard(talk, model.max_samples, config.silence_ms) for talk, _ in part]
            readings = [
                engine.submit(_job(audio, talk.language, targets))
                for audio, (talk, targets) in zip(audios, part, strict=True)
            ]
            for (talk, targets), reading in zip(part, readings, strict=True):
                texts += _texts(talk, targets, reading.result(), spellers)
            audio_s += sum(map(len, audios)) / SAMPLE_RATE
            if progress is not None:
                progress(len({(text.row, text.source) for text in texts}), len(able))
        busy_s = engine.stats.busy_s
    pairs = sorted({(text.source, text.target) for text in texts})
    scores = {pair: _score(texts, *pair) for pair in pairs}
    return RecordingsResult(
        bleu=_nested({pair: score[0] for pair, score in scores.items() if pair[0] != pair[1]}),
        chrf=_nested({pair: score[1] for pair, score in scores.items() if pair[0] != pair[1]}),
        error_rate={source: transcript_errors(texts, source) for source, target in pairs if source == target},
        recordings=len(able),
        audio_s=audio_s,
        busy_s=busy_s,
        unasked=tuple(sorted(refused)),
        texts=texts,
    )


def _change(model: SpeechModel, config: RecordingsConfig) -> None:
    """Take the family's padding away, or a layer out, where that is to be measured."""
    if config.silence_ms is None and config.without is None:
        return
    from streamtrans.model.speech import TorchSpeechModel

    if not isinstance(model, TorchSpeechModel):
        raise BadModel(f"{model.name} has neither padding nor layers to change")
    if config.silence_ms is not None:
        model.manner = replace(model.manner, padded=False)
    if config.without is not None:
        _leave_out(model, config.without)


def _leave_out(model: TorchSpeechModel, number: int) -> None:
    """Take a decoder layer away."""
    layers = model.network.model.decoder.layers
    if number not in range(len(layers)) or model.has_speculator:
        raise BadModel(
            f"layer {number} can't be left out of {model.name}: it has decoder layers 0 to {len(layers) - 1}, and none "
            "can go where a KVSPN reads them"
        )
    del layers[number]  # type: ignore[attr-defined]
    model.config = replace(model.config, decoder_layers=len(layers))
    model.manner = replace(model.manner, alignment_heads=())  # they are counted by layer


def askable(
    model: SpeechModel, talk: Talk, wanted: tuple[str, ...], translator: TextModel | None = None
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the languages to write of a recording, and those that the models can't be asked for."""
    able, unable = [], []
    for code, text in talk.references.items():
        if text.strip() and (not wanted or code in wanted):
            try:
                if translator is None:
                    model.prompt(code, talk.language)
                else:
                    check_stages(model, translator, code, talk.language)
                able.append(code)
            except UnsupportedLanguage:
                unable.append(code)
    return tuple(able), tuple(unable)


def _heard(talk: Talk, longest: int, silence_ms: int | None) -> Samples:
    audio = talk.load()
    return np.pad(audio, (0, samples(silence_ms or 0)))[:longest]


def _job(audio: Samples, language: str, targets: Sequence[str]) -> Job:
    return Job(0, 0, len(audio), True, audio, tuple(Target(code) for code in targets), language)


def _texts(talk: Talk, targets: Sequence[str], reading: object, spellers: Spellers) -> list[Text]:
    if not isinstance(reading, Reading):
        raise TypeError(f"a job is answered by a Reading, not by a {type(reading).__name__}")
    return [
        Text(
            talk.name,
            talk.language,
            code,
            talk.references[code],
            spelling(spellers, code, talk.language).decode(hypothesis.tokens).strip(),
        )
        for code, hypothesis in zip(targets, reading.hypotheses, strict=True)
    ]


def _score(texts: Sequence[Text], source: str, target: str) -> tuple[float, float]:
    mine = [text for text in texts if (text.source, text.target) == (source, target)]
    hyps, refs = [text.hypothesis for text in mine], [text.reference for text in mine]
    return bleu(hyps, refs, target), chrf(hyps, refs)


def transcript_errors(texts: Sequence[Text], language: str) -> float:
    """Return the error rate of the transcripts among ``texts`` in ``language``, both sides in normal form."""
    mine = [text for text in texts if text.source == text.target == language]
    return word_error_rate(
        [normalise(text.hypothesis, language) for text in mine],
        [normalise(text.reference, language) for text in mine],
        language,
    )


def _nested(scores: Mapping[tuple[str, str], float]) -> dict[str, dict[str, float]]:
    found: dict[str, dict[str, float]] = {}
    for (source, target), score in scores.items():
        found.setdefault(source, {})[target] = score
    return found


def _rounded(scores: Mapping[str, Mapping[str, float]]) -> dict[str, dict[str, float]]:
    return {source: {target: round(score, 2) for target, score in row.items()} for source, row in scores.items()}


def _deaf(name: str) -> NoReturn:
    raise BadConfig(f"no detector takes part in an offline evaluation, and {name!r} was asked for")
