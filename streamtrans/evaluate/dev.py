"""Score a model on a text table: every row is spoken, read offline through the engine, and compared.

No detector takes part: an utterance is one job, encoded once and written in all languages, as the server
would write a segment of the same audio.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import asdict, dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Any, NoReturn

from streamtrans.core import (
    SAMPLE_RATE,
    BadConfig,
    BadModel,
    DecodeStats,
    Detection,
    Job,
    Reading,
    Target,
)
from streamtrans.corpus import (
    Row,
    Utterance,
    normalise,
)
from streamtrans.engine import Engine, EngineConfig
from streamtrans.evaluate.beams import BeamEngine
from streamtrans.evaluate.spoken import evaluation_speaker, sample
from streamtrans.metrics import bleu, bleu_signature, word_error_rate
from streamtrans.stream import Speller

if TYPE_CHECKING:
    from streamtrans.model.api import SpeechModel

_AHEAD = 8
"""Batches spoken at a time: more sorts better by length, and holds more audio."""

Progress = Callable[[int, int], None]
"""Called with (utterances done, of how many)."""


@dataclass(frozen=True, slots=True)
class DevConfig:
    """What is evaluated.

    Raises:
        BadConfig: a number is out of range.
    """

    sources: tuple[str, ...] = ()
    """Languages to speak; empty takes all that the table and the model have."""
    targets: tuple[str, ...] = ()
    """Languages to write, with the same default; the spoken one is transcribed."""
    rows: int | None = None
    """How many rows, evenly spread over the table; ``None`` takes all."""
    together: int = 16
    """Utterances decoded at once, each in all targets: larger is faster and takes more memory."""
    drafter: str | None = None
    """As in ``EngineConfig``; ``None`` lets the engine choose."""
    top_k: float = 1
    """For KVSPN's drafts: 1 is exact."""
    beams: int = 1
    """Texts kept while searching: 1 is greedy, as is served; more find better ones and cost more."""
    draft_tokens: int | None = None
    """KVSPN's guesses at a time; ``None`` follows what is accepted."""
    blocks: int | None = None
    """Frames that the encoder hears at once; 0 hears an utterance whole, ``None`` as the model is served."""
    recheck: int = 240
    """Utterances, in about, that are read again without drafts, spread over the rows; 0 reads none again."""

    def __post_init__(self) -> None:
        if self.recheck < 0:
            raise BadConfig(f"recheck is {self.recheck}; use 0 (nothing is read again) or more")
        if self.blocks is not None and self.blocks < 0:
            raise BadConfig(f"blocks is {self.blocks}; use 0 (an utterance is heard whole) or more")
        for name, value in (("rows", self.rows), ("together", self.together), ("beams", self.beams)):
            if value is not None and value < 1:
                raise BadConfig(f"{name} is {value}; use 1 or more")


@dataclass(frozen=True, slots=True)
class Text:
    """What the model wrote for one utterance in one language. ``reference`` is in normal form."""

    row: str
    source: str
    target: str
    reference: str
    hypothesis: str


@dataclass(frozen=True, slots=True)
class Recheck:
    """The same utterances with and without drafts; ``equal`` is the share of identical texts.

    ``different`` holds (row, spoken, written, with drafts, without) of the others: near-ties, where rounding decides.
    """

    utterances: int
    drafted_passes_per_token: float
    undrafted_passes_per_token: float
    equal: float
    different: tuple[tuple[str, str, str, str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class DevResult:
    """Scores and costs. ``bleu[source][target]``; ``error_rate`` is of words, or characters for Chinese."""

    bleu: Mapping[str, Mapping[str, float]]
    error_rate: Mapping[str, float]
    signatures: Mapping[str, str]
    rows: int
    utterances: int
    audio_s: float
    busy_s: float  # of the engine
    decode: DecodeStats
    recheck: Recheck | None
    texts: Sequence[Text] = field(repr=False)
    blocks: int = 0
    """Frames that the encoder heard at once; 0: all of an utterance."""
    cut: int = 0
    """Utterances that were longer than the model can hold: only their beginning was read."""

    @property
    def mean_bleu(self) -> float | None:
        """The mean over all directions between two languages; ``None`` if there are none."""
        scores = [score for row in self.bleu.values() for score in row.values()]
        return sum(scores) / len(scores) if scores else None

    def figures(self) -> dict[str, Any]:
        """Return all but the texts, as JSON can hold it."""
        return {
            "mean_bleu": None if self.mean_bleu is None else round(self.mean_bleu, 2),
            "bleu": {
                source: {target: round(score, 2) for target, score in row.items()} for source, row in self.bleu.items()
            },
            "error_rate": {source: round(rate, 4) for source, rate in self.error_rate.items()},
            "bleu_signatures": dict(self.signatures),
            "rows": self.rows,
            "utterances": self.utterances,
            "cut": self.cut,
            "blocks": self.blocks,
            "audio_s": round(self.audio_s, 1),
            "busy_s": round(self.busy_s, 1),
            "passes_per_token": ratio(self.decode.passes, self.decode.tokens),
            "acceptance": acceptance(self.decode),
            "decode": asdict(self.decode),
            "recheck": asdict(self.recheck) if self.recheck else None,
        }


def evaluate_dev(
    model: SpeechModel,
    speller: Speller,
    rows: Sequence[Row],
    config: DevConfig | None = None,
    *,
    speak: Callable[[Row, str], Utterance] | None = None,
    progress: Progress | None = None,
) -> DevResult:
    """Speak ``rows`` in every source language, write each utterance in every target language, and score it.

    Args:
        model: the weights.
        speller: their tokenizer.
        rows: of a table; the languages are those of the first.
        config: what is evaluated.
        speak: says a row in a language; by default the evaluation voices do.
        progress: told after every utterance.

    Raises:
        BadConfig: there are no rows, a language is missing, or a package for speaking or scoring is.
    """
    config = config or DevConfig()
    blocks = _hear_in(model, config.blocks)
    chosen = sample(rows, config.rows)
    sources = _languages(config.sources, chosen[0], model)
    targets = _languages(config.targets, chosen[0], model)
    say = speak or evaluation_speaker()
    utterances = [(row, source) for row in chosen for source in sources]
    again = {id(row) for row in sample(chosen, max(1, config.recheck // len(sources)))} if config.recheck else set()
    reader = _Reader(model, speller, targets, config)
    texts: list[Text] = []
    audio_s, kept = 0.0, _Kept()
    spoken = (say(row, source) for row, source in utterances)
    held = {(row.id, source) for row, source in utterances if id(row) in again}
    with reader.engine as engine:
        for number, (utterance, found, cost) in enumerate(reader.read(spoken), 1):
            texts += found
            audio_s += len(utterance.audio) / SAMPLE_RATE
            if (utterance.id, utterance.language) in held:
                kept.add(utterance, found, cost)
            if progress is not None:
                progress(number, len(utterances))
    return DevResult(
        bleu={
            source: {target: _score(texts, source, target) for target in targets if target != source}
            for source in sources
        },
        error_rate={source: _score(texts, source, source) for source in sources if source in targets},
        signatures={target: bleu_signature(target) for target in targets},
        rows=len(chosen),
        utterances=len(utterances),
        audio_s=audio_s,
        busy_s=engine.stats.busy_s,
        decode=engine.stats.decode,
        recheck=_recheck(model, speller, targets, config, kept) if config.recheck else None,
        texts=texts,
        blocks=blocks,
        cut=reader.cut,
    )


def acceptance(decode: DecodeStats) -> dict[str, float]:
    """Return per drafter the share of its drafted tokens that were kept."""
    return {name: ratio(kept, drafted) for name, (drafted, kept) in decode.by_drafter.items()}


def ratio(part: float, whole: float) -> float:
    """Return ``part / whole``, or 0 where there was nothing."""
    return round(part / whole, 4) if whole else 0.0


@dataclass(slots=True)
class _Kept:
    """What is read once more: utterances, their texts, and what these cost."""

    utterances: list[Utterance] = field(default_factory=list)
    texts: dict[tuple[str, str, str], str] = field(default_factory=dict)
    cost: DecodeStats = field(default_factory=DecodeStats)

    def add(self, utterance: Utterance, texts: Iterable[Text], cost: DecodeStats) -> None:
        self.utterances.append(utterance)
        self.texts |= {(text.row, text.source, text.target): text.hypothesis for text in texts}
        self.cost += cost


class _Reader:
    """Feeds utterances to an engine, those of similar length together."""

    def __init__(self, model: SpeechModel, speller: Speller, targets: tuple[str, ...], config: DevConfig) -> None:
        self.engine = _engine(model, len(targets), config)
        self._speller = speller
        self._targets = targets
        self._most = config.together * _AHEAD
        self._longest = model.max_samples
        self.cut = 0

    def read(self, spoken: Iterator[Utterance]) -> Iterator[tuple[Utterance, list[Text], DecodeStats]]:
        """Yield each utterance with its texts and their cost; while some are read, the next are spoken."""
        under_way: list[tuple[Utterance, Future[Detection | Reading]]] = []
        while True:
            ahead = sorted(islice(spoken, self._most), key=lambda utterance: len(utterance.audio))
            submitted = [(utterance, self.engine.submit(self._job(utterance))) for utterance in ahead]
            for utterance, future in under_way:
                yield (utterance, *self._texts(utterance, future.result()))
            if not submitted:
                return
            under_way = submitted

    def _job(self, utterance: Utterance) -> Job:
        wanted = tuple(Target(target) for target in self._targets)
        # A stream's segments are never longer; a lost ending costs its score, and is counted.
        audio = utterance.audio[: self._longest]
        self.cut += len(audio) < len(utterance.audio)
        return Job(0, 0, len(audio), True, audio, wanted, utterance.language)

    def _texts(self, utterance: Utterance, reading: Detection | Reading) -> tuple[list[Text], DecodeStats]:
        if not isinstance(reading, Reading):
            raise TypeError(f"a job is answered by a Reading, not by a {type(reading).__name__}")
        texts = [
            Text(
                row=utterance.id,
                source=utterance.language,
                target=target,
                reference=normalise(utterance.texts[target], target),
                hypothesis=self._speller.decode(hypothesis.tokens).strip(),
            )
            for target, hypothesis in zip(self._targets, reading.hypotheses, strict=True)
        ]
        return texts, sum((hypothesis.stats for hypothesis in reading.hypotheses), DecodeStats())


def _hear_in(model: SpeechModel, size: int | None) -> int:
    """Let the model hear in blocks of ``size`` frames; return the size that it hears in then.

    Raises:
        BadModel: it can't hear in blocks.
    """
    from streamtrans.model.layers import Blocks
    from streamtrans.model.speech import TorchSpeechModel

    if not isinstance(model, TorchSpeechModel):
        if size:
            raise BadModel(f"{model.name} has no encoder whose blocks could be set: leave blocks out")
        return 0
    if size is not None:
        model.hear_in(Blocks(size, model.config.encoder_left) if size else None)
    return model.blocks.size if model.blocks else 0


def _engine(model: SpeechModel, targets: int, config: DevConfig) -> Engine | BeamEngine:
    """Return what decodes: the engine that serves, or its stand-in with beams, utterance by utterance."""
    slots = targets if config.beams > 1 else config.together * targets
    settings = EngineConfig(
        slots=slots, max_batch=slots, drafter=config.drafter, top_k=config.top_k, draft_tokens=config.draft_tokens
    )
    return BeamEngine(model, config.beams, settings) if config.beams > 1 else Engine(model, _deaf, settings)


def _recheck(model: SpeechModel, speller: Speller, targets: tuple[str, ...], config: DevConfig, kept: _Kept) -> Recheck:
    plain = DevConfig(together=config.together, drafter="none", beams=config.beams)
    reader = _Reader(model, speller, targets, plain)
    different: list[tuple[str, str, str, str, str]] = []
    with reader.engine as engine:
        for _, texts, _ in reader.read(iter(kept.utterances)):
            for text in texts:
                drafted = kept.texts[key := (text.row, text.source, text.target)]
                if drafted != text.hypothesis:
                    different.append((*key, drafted, text.hypothesis))
    undrafted = engine.stats.decode
    return Recheck(
        utterances=len(kept.utterances),
        drafted_passes_per_token=ratio(kept.cost.passes, kept.cost.tokens),
        undrafted_passes_per_token=ratio(undrafted.passes, undrafted.tokens),
        equal=ratio(len(kept.texts) - len(different), len(kept.texts)),
        different=tuple(different),
    )


def _score(texts: Sequence[Text], source: str, target: str) -> float:
    """Return BLEU of a direction, or the error rate where the text is a transcript."""
    mine = [text for text in texts if (text.source, text.target) == (source, target)]
    hyps, refs = [text.hypothesis for text in mine], [text.reference for text in mine]
    return word_error_rate(hyps, refs, target) if source == target else bleu(hyps, refs, target)


def _languages(asked: tuple[str, ...], row: Row, model: SpeechModel) -> tuple[str, ...]:
    known = tuple(language for language in row.texts if language in model.languages)
    for language in asked:
        if language not in known:
            raise BadConfig(
                f"can't evaluate {language!r}: the table and {model.name} have"
                f" {', '.join(known) or 'nothing'} in common"
            )
    if not known:
        raise BadConfig(f"the table has {', '.join(row.texts)}, and {model.name} knows none of them")
    return asked or known


def _deaf(name: str) -> NoReturn:
    raise BadConfig(f"no detector takes part in an offline evaluation, and {name!r} was asked for")
