"""EuroLLM, TowerInstruct and other translators of the Llama kind that are asked in ChatML.

```
<|im_start|>user ⏎ Translate the following text from German into English. ⏎ German: … ⏎ English:<|im_end|> ⏎ …
                                                                                    |
                                        a translated token looks at the tokens of the text
```
Source of the prompt: Alves et al. 2024 (Tower); EuroLLM was taught with prompts of the same form.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from streamtrans.core import BadAnswer
from streamtrans.model.api import Written
from streamtrans.model.cache import EncodedSpeech, SlotBatch, SlotHistory, SlotShape, SlotSpan, words_looked_at
from streamtrans.model.causal.network import CausalNetwork, Shape
from streamtrans.model.causal.words import BEGIN, END, Words, chat_words
from streamtrans.model.config import read_json
from streamtrans.model.loading import fill, languages_of, read_tensors
from streamtrans.model.writing import Frames, Writer, known
from streamtrans.text import display_name

_ROOM = 64
"""Positions that a prompt leaves to its answer, at least."""


class ChatTranslator(Writer):
    """A decoder that is asked to translate what stands in its prompt."""

    asked_in_words = True

    def __init__(
        self,
        name: str,
        network: CausalNetwork,
        words: Words,
        languages: tuple[str, ...],
        *,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__(name, words.vocabulary, words.rules, device=device, dtype=dtype)
        self.network = self._held(network)
        self.languages = languages
        self._words = words

    @property
    def shape(self) -> SlotShape:
        """What one of its slots holds."""
        shape = self.network.shape
        return SlotShape(shape.num_key_value_heads, shape.head_dim, shape.num_hidden_layers, shape.positions)

    def _pack(self, precision: str) -> None:
        self.network.pack(precision)

    def targets(self, source: str) -> tuple[str, ...]:
        """Return the other languages, for any becomes any; none where a text in ``source`` can't be read."""
        return tuple(code for code in self.languages if code != source) if source in self.languages else ()

    def check(self, target: str, source: str) -> None:
        """Refuse what can't be translated."""
        for language, does in ((target, "writes"), (source, "reads")):
            known(self.name, does, language, self.languages)

    def read(self, texts: Sequence[Written]) -> list[EncodedSpeech]:
        """Make the prompt of each text; it is read together with its answer's draft."""
        return [self._asked(text) for text in texts]

    def _asked(self, written: Written) -> EncodedSpeech:
        self.check(written.target, written.source)
        text = self._words.plain(written.text)
        source, target = display_name(written.source), display_name(written.target)
        before = f"{BEGIN}user\nTranslate the following text from {source} into {target}.\n{source}: "
        prompt, ends = self._words.backend.commanded(f"{before}{text}\n{target}:{END}\n{BEGIN}assistant\n")
        if len(prompt) > self.max_tokens - _ROOM:
            raise BadAnswer(f"a prompt of {len(prompt)} tokens leaves no room; {self.name} holds {self.max_tokens}")
        past = (end - len(before) for end in ends)
        reach = tuple(end if 0 < end <= len(text) else 0 for end in past)
        return EncodedSpeech(len(prompt), prompt=tuple(prompt), reach=reach)

    def _read(self, tokens: Tensor, batch: SlotBatch, span: SlotSpan) -> tuple[Tensor, Frames]:
        layers = len(self.network.model.layers)
        watched = _Watched(SlotHistory(span, layers * 2 // 3))
        histories = [
            watched if number == watched.history.layer else SlotHistory(span, number) for number in range(layers)
        ]
        x = self.network(self.network.model.embed_tokens(tokens), histories, span.embedded_positions)
        assert watched.weights is not None, "every layer attends"
        return x, words_looked_at(watched.weights, batch)

    def _score(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        return self.network.score(rows)


class _Watched:
    """A history that shows how much attention each token pays to those that may be of the text."""

    def __init__(self, history: SlotHistory) -> None:
        self.history = history
        self.weights: Tensor | None = None

    def attend(self, queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        """Attend as the history does."""
        seen = self.history.attend(queries, keys, values)
        batch = self.history.span.batch
        lane, _ = batch.slots.lanes[self.history.layer]
        there = batch.pick(lane.narrow(2, 0, batch.frames))
        there = there.repeat_interleave(queries.shape[1] // there.shape[1], 1)
        scores = (queries * queries.shape[-1] ** -0.5) @ there.transpose(-1, -2)
        if batch.frame_bias is not None:  # behind a shorter prompt stands what is no text
            scores = scores + batch.frame_bias
        self.weights = scores.softmax(-1)
        return seen


def load(folder: Path, *, device: torch.device, dtype: torch.dtype, packed: str | None = None) -> ChatTranslator:
    """Load a folder of the Llama kind that was taught to translate when asked in ChatML."""
    raw = read_json(folder / "config.json")
    shape = Shape.of(raw)
    words, languages = chat_words(folder, shape.vocab_size, raw.get("eos_token_id")), languages_of(folder, raw)
    # Older folders hold what follows from the config.
    tensors = {name: each for name, each in read_tensors(folder).items() if not name.endswith("rotary_emb.inv_freq")}
    if shape.tied:
        tensors.pop("lm_head.weight", None)
    with torch.device("meta"):
        network = CausalNetwork(shape)
    fill(network, tensors, folder)
    model = ChatTranslator(folder.name, network, words, languages, device=device, dtype=dtype)
    if packed is not None:
        model.pack(packed)
    return model
