"""Look at people's recordings while training: what the model writes now, and how far that is from what was said.

Errors are of words (characters in Chinese), both sides in the normal form of ``streamtrans.corpus``; BLEU is of the
texts as they are.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import torch

from streamtrans.audio import read_audio
from streamtrans.core import Tokens
from streamtrans.corpus import Recording, normalise
from streamtrans.decode import greedy
from streamtrans.metrics import bleu, word_error_rate
from streamtrans.model.api import SpeechModel
from streamtrans.model.features import FeatureConfig
from streamtrans.model.network import Network
from streamtrans.model.speech import Manner, TorchSpeechModel
from streamtrans.text import Tokenizer
from streamtrans.train.finetune.evaluation import converse_all

TOGETHER = 16
TOKENS_PER_SECOND, SPARE_TOKENS = 8, 12
"""A text that goes on for longer is a loop, and is cut off."""


@dataclass(frozen=True, slots=True)
class Written:
    """One text about one recording."""

    recording: str
    source: str
    target: str
    reference: str
    hypothesis: str


@dataclass(frozen=True, slots=True)
class Looked:
    """What a peek found: error rate per language, BLEU per direction (``"es-en"``), and the texts."""

    errors: Mapping[str, float]
    bleu: Mapping[str, float]
    texts: tuple[Written, ...]

    @property
    def score(self) -> float:
        """Mean BLEU minus the mean error in percent, of which a loop counts no more than a text that is all wrong."""
        errors = [min(1.0, rate) for rate in self.errors.values()]
        scores = list(self.bleu.values())
        return sum(scores) / max(1, len(scores)) - 100 * sum(errors) / max(1, len(errors))


def peek(
    network: Network,
    tokenizer: Tokenizer,
    features: FeatureConfig,
    recordings: Sequence[Recording],
    prompt: Callable[[str, str], Tokens | None],
) -> Looked:
    """Write recordings in every language that they have a text in and ``prompt(source, target)`` can ask for."""
    specials = {token for token in range(tokenizer.size) if tokenizer.is_special(token)}
    manner = Manner(
        languages=tokenizer.languages,
        prompt=lambda target, source: prompt(source or target, target) or (),
        padded=False,
        suppressed=frozenset(specials - {tokenizer.eot}),
    )
    model = TorchSpeechModel("peek", network, tokenizer, features, manner, dtype=torch.bfloat16)
    texts: list[Written] = []
    ordered = sorted(recordings, key=lambda each: each.audio.stat().st_size)
    for at in range(0, len(ordered), TOGETHER):
        texts += _write(model, ordered[at : at + TOGETHER], prompt)
    return _score(texts)


def _write(
    model: TorchSpeechModel, recordings: Sequence[Recording], prompt: Callable[[str, str], Tokens | None]
) -> list[Written]:
    audios = [read_audio(recording.audio) for recording in recordings]
    memories = model.encode(audios)
    asked = [
        (place, target, tokens)
        for place, recording in enumerate(recordings)
        for target in recording.texts
        if (tokens := prompt(recording.language, target)) is not None
    ]
    slots = model.allocate(len(asked))
    limits = [
        len(tokens) + SPARE_TOKENS + len(audios[place]) * TOKENS_PER_SECOND // 16_000 for place, _, tokens in asked
    ]
    talks = [
        greedy(tokens, (), slots.open(memories[place]), eot=model.eot, limit=min(limit, model.max_tokens))
        for (place, _, tokens), limit in zip(asked, limits, strict=True)
    ]
    said = converse_all(cast(SpeechModel, model), talks)
    return [
        Written(
            recordings[place].audio.stem,
            recordings[place].language,
            target,
            recordings[place].texts[target],
            model.tokenizer.decode(hypothesis.tokens).strip(),
        )
        for (place, target, _), hypothesis in zip(asked, said, strict=True)
    ]


def _score(texts: Sequence[Written]) -> Looked:
    by_direction: dict[tuple[str, str], list[Written]] = defaultdict(list)
    for text in texts:
        by_direction[text.source, text.target].append(text)
    errors, scores = {}, {}
    for (source, target), mine in sorted(by_direction.items()):
        hyps, refs = [text.hypothesis for text in mine], [text.reference for text in mine]
        if source == target:
            errors[source] = word_error_rate(
                [normalise(hyp, target) for hyp in hyps], [normalise(ref, target) for ref in refs], target
            )
        else:
            scores[f"{source}-{target}"] = bleu(hyps, refs, target)
    return Looked(errors, scores, tuple(texts))
