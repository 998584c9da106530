"""The lessons about bodies: *body* teaches one what was said, *guessing* a KVSPN what its finished base will say.

What KVSPN learns from is the base's own writing: that is what it will stand beside.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from streamtrans.core import Tokens
from streamtrans.decode import greedy
from streamtrans.train.anchored.batches import UNASKED, Prompting, answers
from streamtrans.train.anchored.bodies import Body
from streamtrans.train.anchored.lessons import read_texts
from streamtrans.train.anchored.recipe import AnchoredStage
from streamtrans.train.anchored.scoring import anchored_cross_entropy
from streamtrans.train.anchored.taught import TaughtBatch
from streamtrans.train.batches import stack_tokens
from streamtrans.train.finetune.evaluation import converse_all
from streamtrans.train.losses import cross_entropy, divergence

TOGETHER = 64
"""Texts that are written at once."""
TWICE, SPARE_TOKENS = 2, 12
"""A text of more than twice as many tokens as what was said, and some, is a loop, and is cut off."""
GUESSED = 0.3
"""Weight of the tokens themselves, beside all that the base thinks of each."""


class Fresh:
    """A body that learns from nothing: texts, and where the stock decoder knows them, what that thinks."""

    def __init__(self, body: Body, stage: AnchoredStage, asking: Prompting) -> None:
        self.body, self.stage, self.asking, self.network = body, stage, asking, body.network

    @property
    def trained(self) -> dict[str, nn.Parameter]:
        """All but encoder and tokens."""
        return {name: value for name, value in self.network.named_parameters() if value.requires_grad}

    def loss(self, batch: TaughtBatch) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the cross-entropy of all texts, and the distance from the stock decoder where it knows the task."""
        tokens, labels, ids, shares = (
            table[:, self.body.before :] for table in (batch.tokens, batch.labels, batch.ids, batch.shares)
        )
        texts, asked = read_texts(tokens, labels, self.asking.length - self.body.before)
        hidden, _ = self.body.read(texts, batch.features, batch.visible)
        rows = asked[0] >= 0
        ids, shares = (table.flatten(0, 1)[texts.where[rows]] for table in (ids, shares))
        return anchored_cross_entropy(
            hidden[0, rows],
            self.body.embedding,
            asked[0, rows],
            ids,
            shares,
            pull=self.stage.anchor,
            known=self.stage.known,
        )

    def tensors(self, values: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the network."""
        return {**self.network.state_dict(), **values}


class Guessing:
    """A KVSPN beside a finished body."""

    def __init__(self, body: Body, stage: AnchoredStage, asking: Prompting) -> None:
        self.body, self.stage, self.asking, self.network = body, stage, asking, body.network
        self.model = body.model()
        self.slots = self.model.allocate(TOGETHER)
        body.speculator.requires_grad_(True)

    @property
    def trained(self) -> dict[str, nn.Parameter]:
        """KVSPN."""
        return {name: value for name, value in self.network.named_parameters() if value.requires_grad}

    def loss(self, batch: TaughtBatch) -> tuple[Tensor, dict[str, Tensor]]:
        """Return how far guesses are from what the base writes of the same audio."""
        with torch.autocast("cpu", enabled=False):
            tokens, labels = self.written(batch)
        cut, prompt = self.body.before, self.asking.length - self.body.before
        texts, asked = read_texts(tokens[:, cut:], labels[:, cut:], prompt)
        hidden, guessed = self.body.read(texts, batch.features, batch.visible, guess=True)
        assert guessed is not None, "it was asked to guess"
        terms = {
            "guesses": cross_entropy(guessed, self.body.embedding, asked),
            "follows": divergence(guessed, hidden, self.body.embedding, asked),
        }
        return GUESSED * terms["guesses"] + terms["follows"], terms

    @torch.no_grad()
    def written(self, batch: TaughtBatch) -> tuple[Tensor, Tensor]:
        """Return tokens and labels ``(nB, Y)`` of what the base writes where ``batch`` has a text."""
        model, prompt = self.model, self.asking.length
        heard = [features[real].float() for features, real in zip(batch.features, batch.visible, strict=True)]
        memories, each = self.body.remember(heard), len(batch.tokens) // len(heard)
        asked = [row for row, labels in enumerate(batch.labels) if (labels >= 0).any()]
        lines: list[Tokens] = [()] * len(batch.tokens)
        answered: list[Tokens] = [()] * len(batch.tokens)
        for at in range(0, len(asked), TOGETHER):
            rows = asked[at : at + TOGETHER]
            caches = [self.slots.open(memories[row // each]) for row in rows]
            talks = []
            for row, cache in zip(rows, caches, strict=True):
                question = tuple(batch.tokens[row, self.body.before : prompt].tolist())
                limit = prompt + TWICE * int((batch.labels[row] >= 0).sum()) + SPARE_TOKENS
                talks.append(greedy(question, (), cache, eot=model.eot, limit=min(limit, model.max_tokens)))
            for row, cache, said in zip(rows, caches, converse_all(model, talks), strict=True):
                text = (*said.tokens, model.eot) if said.complete else said.tokens
                lines[row] = (*batch.tokens[row, :prompt].tolist(), *text[:-1])
                answered[row] = answers(text, prompt)
                self.slots.release(cache)
        return stack_tokens(lines, model.eot, 4), stack_tokens(answered, UNASKED, 4)

    def tensors(self, values: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the network."""
        return {**self.network.state_dict(), **values}
