"""A translator of texts in memory: reads a text once for all languages that ask for the same, and writes each.

Law: it remembers nothing between calls, and a batch of one equals a row of many.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from streamtrans.core import BadAnswer, BadModel, Tokens
from streamtrans.model.api import Written
from streamtrans.model.cache import (
    CrossingPair,
    EncodedSpeech,
    SlotBatch,
    SlotHistory,
    SlotShape,
    SlotSpan,
    words_looked_at,
)
from streamtrans.model.loading import fill, read_tensors
from streamtrans.model.scoring import Rules
from streamtrans.model.seq2seq.network import Order, Seq2Seq, Shape
from streamtrans.model.writing import Frames, Writer
from streamtrans.text import Detokenizer, Vocabulary

_EMBEDDINGS = (
    "model.shared.weight",
    "model.encoder.embed_tokens.weight",
    "model.decoder.embed_tokens.weight",
    "lm_head.weight",
)
"""One and the same matrix; a checkpoint holds some of these."""
_COMPUTED = ("model.encoder.embed_positions.weight", "model.decoder.embed_positions.weight")
"""What follows from the config; some checkpoints hold it all the same, and older ones call it ``weights``."""


@dataclass(frozen=True, slots=True)
class Question:
    """How a translation is asked for: tokens ``before`` the text, and the ``prompt`` of its translation."""

    before: Tokens
    prompt: Tokens


class Asking(Protocol):
    """Which languages a translator knows, and how it is asked for them."""

    def targets(self, source: str) -> tuple[str, ...]:
        """Return the languages, ``source`` left out, that a text in it can become."""
        ...

    def __call__(self, target: str, source: str) -> Question:
        """Return how to ask.

        Raises:
            UnsupportedLanguage: the translator doesn't know one of the two, or not this way from one to the other.
        """
        ...


class Translator(Writer):
    """An encoder-decoder of texts.

    Args:
        name: to show.
        network: with its weights.
        vocabulary: of what it writes.
        asking: its languages.
        special: tokens that are never text.
        cut: turns a text to be read into tokens.
        device: where it computes.
        dtype: of what isn't packed.
    """

    def __init__(
        self,
        name: str,
        network: Seq2Seq,
        vocabulary: Vocabulary,
        asking: Asking,
        *,
        special: frozenset[int],
        cut: Callable[[str], Sequence[int]],
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        rules = Rules(network.shape.vocab_size, vocabulary.eot, special - {vocabulary.eot})
        super().__init__(name, vocabulary, rules, device=device, dtype=dtype)
        self.network = self._held(network)
        self._ask, self._cut = asking, cut

    @property
    def shape(self) -> SlotShape:
        """What one of its slots holds."""
        shape = self.network.shape
        heads, layers = shape.decoder_attention_heads, shape.decoder_layers
        return SlotShape(heads, shape.d_model // heads, layers, shape.positions, layers, shape.positions)

    def _pack(self, precision: str) -> None:
        self.network.pack(precision)

    def targets(self, source: str) -> tuple[str, ...]:
        """Return the languages, ``source`` left out, that a text in it can become; none where it can't be read."""
        return self._ask.targets(source)

    def check(self, target: str, source: str) -> None:
        """Refuse what can't be translated."""
        self._ask(target, source)

    @torch.inference_mode()
    def read(self, texts: Sequence[Written]) -> list[EncodedSpeech]:
        """Encode each text, all in one batch, and what is the same for several languages once."""
        questions = [self._ask(text.target, text.source) for text in texts]
        bodies = {text.text: tuple(self._cut(text.text)) for text in texts}
        lines = [
            (*question.before, *bodies[text.text], self.eot) for question, text in zip(questions, texts, strict=True)
        ]
        read = self._encode(list(dict.fromkeys(lines)))
        return [
            replace(read[line], prompt=question.prompt, reach=self._reach(question, bodies[text.text]))
            for question, text, line in zip(questions, texts, lines, strict=True)
        ]

    def _encode(self, lines: Sequence[Tokens]) -> dict[Tokens, EncodedSpeech]:
        longest = max(len(line) for line in lines)
        if longest > self.max_tokens:
            raise BadAnswer(f"a text of {longest} tokens is to be translated; {self.name} reads {self.max_tokens}")
        lengths = torch.tensor([len(line) for line in lines], device=self.device)
        even = min(map(len, lines)) == longest
        real = None if even else torch.arange(longest, device=self.device) < lengths[:, None]
        features = self.network.encode(self.scorer.stack(lines), real)
        pairs = [layer.encoder_attn.keys_values(features) for layer in self.network.model.decoder.layers]
        return {
            line: EncodedSpeech(
                len(line),
                tuple(
                    CrossingPair(keys[row, :, : len(line)].transpose(-1, -2), values[row, :, : len(line)])
                    for keys, values in pairs
                ),
            )
            for row, line in enumerate(lines)
        }

    def _reach(self, question: Question, body: Tokens) -> tuple[int, ...]:
        """Return per frame how many characters of the text there are up to its end."""
        spell = Detokenizer(self.vocabulary.piece).add
        texts = accumulate(map(spell, body))
        return (*(0 for _ in question.before), *(len(text.strip()) for text in texts), 0)

    def _read(self, tokens: Tensor, batch: SlotBatch, span: SlotSpan) -> tuple[Tensor, Frames]:
        decoder = self.network.model.decoder
        x = self.network.embed(tokens, span.embedded_positions)
        seen = list[Tensor]()
        telling = max(0, len(decoder.layers) - 2)  # the last layer but one aligns best (Garg et al. 2019)
        for number, layer in enumerate(decoder.layers):
            x = layer(x, SlotHistory(span, number), batch.crossing(number, seen.append if number == telling else None))
        return decoder.layer_norm(x), words_looked_at(seen[0], batch)

    def _score(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        return rows, self.network.logits(rows)


def load_seq2seq(folder: Path, shape: Shape, order: Order, positions: Tensor) -> Seq2Seq:
    """Build a network and fill it from a folder.

    Raises:
        BadModel: what lies there isn't what the config asks for.
    """
    tensors = dict(read_tensors(folder))
    found = {name: tensors.pop(name) for name in _EMBEDDINGS if name in tensors}
    if not found:
        raise BadModel(f"{folder} holds no embedding of tokens, which would be called {_EMBEDDINGS[0]}")
    shared, *others = found.values()
    if any(other.shape != shared.shape or not torch.equal(other, shared) for other in others):
        raise BadModel(f"{folder}: {' and '.join(found)} differ; only translators with one embedding for all are read")
    for name in (*_COMPUTED, *(f"{name}s" for name in _COMPUTED)):
        tensors.pop(name, None)
    tensors["model.shared.weight"] = shared
    tensors.setdefault("final_logits_bias", torch.zeros(1, shape.vocab_size))
    with torch.device("meta"):
        network = Seq2Seq(shape, order, positions)
    fill(network, tensors, folder)
    return network


def number(numbers: Mapping[str, int], name: str, file: Path) -> int:
    """Return the token of a piece.

    Raises:
        BadModel: there is none.
    """
    if name not in numbers:
        raise BadModel(f"{file} holds no {name}")
    return numbers[name]
