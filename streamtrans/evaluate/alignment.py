"""Which heads of the decoder look at what is being said: measured where the truth is known.

Two sentences are spoken without a pause, and their texts are read as if the model had written them. A head that
aligns looks before the joint for tokens of the first sentence and behind it for those of the second, in order. Few
do; and since a model adds the weights of its alignment heads up, those that align best together are chosen.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from streamtrans.audio import Samples
from streamtrans.core import BadConfig, Tokens, milliseconds, samples
from streamtrans.corpus import Row, Speaker, normalise, random_voice
from streamtrans.corpus.stretches import SEPARATOR, trimmed
from streamtrans.model.api import Hearing
from streamtrans.model.cache import EncodedSpeech, SlotBatch, SlotHistory, SlotSpan, middles
from streamtrans.model.config import read_json

if TYPE_CHECKING:
    from streamtrans.model.speech import TorchSpeechModel
    from streamtrans.text import Tokenizer

Say = Callable[[Row, str], Samples]
Head = tuple[int, int]


@dataclass(frozen=True, slots=True)
class AlignmentConfig:
    """What is measured, and how many heads are chosen.

    Raises:
        BadConfig: a number is out of range.
    """

    pairs: int = 90  # of sentences, each read in the spoken language and in another one; larger is surer and slower
    most: int = 6  # heads chosen; more are steadier, until they are worse than the others
    gain: float = 0.002  # what another head must add to the score; larger chooses fewer
    candidates: int = 24  # best heads, alone, that may be chosen; larger takes more memory
    tolerance_ms: int = 100  # how far on the wrong side of the joint still counts as right
    seed: int = 0

    def __post_init__(self) -> None:
        for name, least in (("pairs", 2), ("most", 1), ("candidates", 1), ("tolerance_ms", 0)):
            if getattr(self, name) < least:
                raise BadConfig(f"{name} is {getattr(self, name)}; use {least} or more")


@dataclass(frozen=True, slots=True)
class Score:
    """How well one head, or several together, tell where a token comes from; a head that is blind gets 0.5 twice.

    ``side`` is the share of tokens whose frame lies on their sentence's side of the joint, ``order`` that of pairs of
    tokens whose frames come in the tokens' order, equal ones counting half. ``offset_ms`` is how far the frames lie
    from where the tokens would be if their sentence were spoken evenly, in the mean.
    """

    side: float
    order: float
    offset_ms: float

    @property
    def value(self) -> float:
        """What heads are chosen by."""
        return (self.side + self.order) / 2

    def figures(self) -> dict[str, float]:
        """Return numbers for JSON."""
        return {"side": round(self.side, 4), "order": round(self.order, 4), "offset_ms": round(self.offset_ms, 1)}


@dataclass(frozen=True, slots=True)
class AlignmentReport:
    """The score of every head alone, those chosen, and what they reach together on pairs that chose nothing."""

    alone: dict[Head, Score]
    chosen: tuple[Head, ...]
    steps: tuple[Score, ...]
    """What the first, the first two, … of the chosen reach on the pairs that chose them."""
    together: Score
    transcripts: Score
    translations: Score
    texts: int

    def figures(self) -> dict[str, Any]:
        """Return all of it, as JSON can hold it."""
        return {
            "texts": self.texts,
            "chosen": [list(head) for head in self.chosen],
            "steps": [score.figures() for score in self.steps],
            "held_out": {
                "all": self.together.figures(),
                "transcripts": self.transcripts.figures(),
                "translations": self.translations.figures(),
            },
            "alone": {f"{layer}.{head}": score.figures() for (layer, head), score in self.alone.items()},
        }


@dataclass(frozen=True, slots=True)
class _Text:
    """What is read of a pair: ``tokens`` with the prompt; those from ``start`` on are the text.

    ``sides`` ``(N,)`` is 0 for text tokens of the first sentence, 1 for those of the second and -1 for the break
    between them; ``centres`` ``(N,)`` are the samples where evenly spoken sentences would have them.
    """

    audio: Samples
    tokens: Tokens
    start: int
    joint: int
    sides: NDArray[np.int64]
    centres: NDArray[np.float64]
    translated: bool


def find_heads(
    model: TorchSpeechModel,
    tokenizer: Tokenizer,
    rows: Sequence[Row],
    config: AlignmentConfig | None = None,
    *,
    say: Say | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> AlignmentReport:
    """Measure every head of the decoder's attention to the encoder, and choose those that align best together.

    Two thirds of the pairs choose, the others judge.

    Args:
        model: the weights.
        tokenizer: theirs.
        rows: sentences, best of those that trained: what is chosen here must not know what is evaluated later.
        config: how much is measured.
        say: speaks a row in a language; by default training voices do.
        progress: told after every reading of a text, with how many there will be.

    Raises:
        BadConfig: the rows have too few pairs, in two of the model's languages, that fit into its memory.
    """
    config = config or AlignmentConfig()
    texts = _texts(model, tokenizer, rows, config, say or _training_speaker(config.seed))
    choosing = [text for at, text in enumerate(texts) if at // 2 % 3]
    judging = [text for at, text in enumerate(texts) if not at // 2 % 3]
    watch = _Watch(model, samples(config.tolerance_ms), 2 * len(choosing) + len(judging), progress)
    layers, count = model.config.decoder_layers, model.config.decoder_attention_heads
    heads = [(layer, head) for layer in range(layers) for head in range(count)]
    scores = _mean([watch.rate(text, watch.read(text)) for text in choosing])
    alone = dict(sorted(zip(heads, scores, strict=True), key=lambda pair: -pair[1].value))
    best = [*alone][: config.candidates]
    places = [heads.index(head) for head in best]
    chosen, steps = _choose(watch, [(text, watch.read(text)[places]) for text in choosing], config)
    places = [places[at] for at in chosen]
    judged = [watch.rate(text, watch.read(text)[places].sum(0, keepdim=True)) for text in judging]
    apart = [[rate for rate, text in zip(judged, judging, strict=True) if text.translated == kind] for kind in (0, 1)]
    [together], [transcripts], [translations] = map(_mean, (judged, *apart))
    names = tuple(best[at] for at in chosen)
    return AlignmentReport(alone, names, steps, together, transcripts, translations, len(texts))


def write_heads(folder: Path, heads: Sequence[Head]) -> None:
    """Name the alignment heads in a checkpoint's ``generation_config.json``, as Hugging Face spells them."""
    file = folder / "generation_config.json"
    settings = (read_json(file) if file.exists() else {}) | {"alignment_heads": [list(head) for head in heads]}
    file.write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")


class _Watch:
    """Reads texts, and rates where heads look meanwhile."""

    def __init__(
        self, model: TorchSpeechModel, tolerance: int, total: int, progress: Callable[[int, int], None] | None
    ) -> None:
        self._model = model
        self._slots = model.allocate(1)
        self._tolerance = tolerance
        self._done, self._total, self._progress = 0, total, progress

    @torch.inference_mode()
    def read(self, text: _Text) -> Tensor:
        """Return what every head sees when it writes each token of the text, ``(L * H, N, S)``."""
        [heard] = self._model.listen([Hearing(text.audio)])
        assert isinstance(heard.memory, EncodedSpeech), "a torch model remembers speech as its slots take it"
        cache = self._slots.open(heard.memory)
        batch = SlotBatch([cache])
        span = SlotSpan(batch, [len(text.tokens)])
        decoder = self._model.network.model.decoder
        seen: list[Tensor] = []
        x = decoder.embed(torch.tensor([text.tokens], device=self._model.device), span.embedded_positions)
        for number, layer in enumerate(decoder.layers):
            x = layer(x, SlotHistory(span, number), batch.crossing(number, seen.append))
        self._slots.release(cache)
        self._done += 1
        if self._progress is not None:
            self._progress(self._done, self._total)
        # A token is written at the position before it.
        return torch.cat(seen)[:, :, text.start - 1 : -1].flatten(0, 1).float()

    def rate(self, text: _Text, weights: Tensor) -> NDArray[np.float64]:
        """Return side, order and offset in samples ``(n, 3)`` of ``n`` ways to look, ``(n, N, S)``."""
        frames: NDArray[np.int64] = middles(weights).cpu().numpy()
        at = (frames + 0.5) * self._model.frame_samples
        known = text.sides >= 0
        astray = np.where(text.sides == 0, at - text.joint, text.joint - at) > self._tolerance
        first, second = np.triu_indices(at.shape[1], 1)
        order = np.sign(at[:, second] - at[:, first]).mean(1)
        offset = np.abs(at - text.centres)[:, known].mean(1)
        return np.stack([1 - astray[:, known].mean(1), (1 + order) / 2, offset], 1)


def _choose(
    watch: _Watch, texts: Sequence[tuple[_Text, Tensor]], config: AlignmentConfig
) -> tuple[list[int], tuple[Score, ...]]:
    """Add, one after the other, the head with which all chosen ones together score best, while that gains enough."""
    chosen: list[int] = []
    steps: list[Score] = []
    while len(chosen) < min(config.most, len(texts[0][1])):
        # Weights are added up, as the model does it: (n, N, S), one for each head that may come next.
        tried = _mean([watch.rate(text, weights + weights[chosen].sum(0)) for text, weights in texts])
        place, score = max(
            ((at, score) for at, score in enumerate(tried) if at not in chosen), key=lambda pair: pair[1].value
        )
        if steps and score.value < steps[-1].value + config.gain:
            break
        chosen.append(place)
        steps.append(score)
    return chosen, tuple(steps)


def _mean(rates: Sequence[NDArray[np.float64]]) -> list[Score]:
    return [Score(float(side), float(order), float(offset) / samples(1)) for side, order, offset in np.mean(rates, 0)]


def _texts(
    model: TorchSpeechModel, tokenizer: Tokenizer, rows: Sequence[Row], config: AlignmentConfig, say: Say
) -> list[_Text]:
    """Draw pairs of rows and speak them; each comes twice, in the spoken language and in another one."""
    random = np.random.default_rng(config.seed)
    found: list[_Text] = []
    for _ in range(10 * config.pairs):
        if len(found) == 2 * config.pairs:
            return found
        first, second = (rows[int(at)] for at in random.integers(len(rows), size=2))
        codes = [code for code in model.languages if code in first.texts and code in second.texts]
        if len(codes) < 2:
            continue
        source, other = (codes[int(at)] for at in random.permutation(len(codes))[:2])
        audios = [trimmed(say(row, source)) for row in (first, second)]
        if 0 < sum(map(len, audios)) <= model.max_samples and all(map(len, audios)):
            for code in (source, other):
                lines = [normalise(row.texts[code], code) for row in (first, second)]
                found.append(_text(tokenizer, model.prompt(code, source), audios, lines, translated=code == other))
    raise BadConfig(
        f"only {len(found) // 2} of {config.pairs} pairs of sentences could be spoken: give a table with at least two"
        f" of the model's languages ({', '.join(model.languages)}) and sentences of which two fit into"
        f" {milliseconds(model.max_samples) / 1000:g} s"
    )


def _text(
    tokenizer: Tokenizer, prompt: Tokens, audios: Sequence[Samples], lines: Sequence[str], *, translated: bool
) -> _Text:
    tokens = tokenizer.encode(SEPARATOR.join(lines))
    breaks = [at for at, token in enumerate(tokens) if SEPARATOR.encode() in tokenizer.piece(token)]
    middle = breaks[0]
    sides = np.array([0] * middle + [-1] + [1] * (len(tokens) - middle - 1))
    joint = len(audios[0])
    shares = [(np.arange(count) + 0.5) / max(1, count) for count in (middle, len(tokens) - middle - 1)]
    centres = np.concatenate([shares[0] * joint, [joint], joint + shares[1] * len(audios[1])])
    return _Text(np.concatenate(audios), (*prompt, *tokens), len(prompt), joint, sides, centres, translated)


def _training_speaker(seed: int) -> Say:
    speaker, random = Speaker(), np.random.default_rng(seed)
    return lambda row, language: speaker.speak(row.texts[language], random_voice(language, random))
