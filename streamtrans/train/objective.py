"""The joint objective of whisperM2M with KVSPN.

``L = w_st L_st + w_mt L_mt + w_kl L_kl`` and ``w_spec`` times the same three for KVSPN, with the KL term (speech
taught by text) switched on once translation from text is better than from speech. Source: arXiv 2508.11189,
sections 2.1 and 3.2. Beside it a CTC loss on the spoken text, which brings the encoder up from scratch.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from streamtrans.model.network import Network
from streamtrans.train.batches import Batch
from streamtrans.train.losses import cross_entropy, divergence
from streamtrans.train.recipe import Stage

AVERAGE = 0.98
"""Decay of the running losses that decide when KL starts: larger decides later and surer."""


class Student(nn.Module):
    """The network in training, with the CTC head that it loses afterwards."""

    def __init__(self, network: Network, ctc_vocabulary: int) -> None:
        super().__init__()
        self.network = network
        self.ctc_head = nn.Linear(network.config.d_model, ctc_vocabulary)

    def parts(self) -> dict[str, nn.Module]:
        """Return the parts that a stage can start from, by name."""
        backbone = self.network.model
        named = {
            "encoder": backbone.encoder,
            "decoder": backbone.decoder,
            "text_encoder": self.network.text_encoder,
            "speculator": self.network.speculator,
            "ctc_head": self.ctc_head,
        }
        return {name: part for name, part in named.items() if part is not None}


@dataclass
class Objective:
    """Compute a stage's loss. Holds only running averages of the losses."""

    stage: Stage
    running: dict[str, float] = field(default_factory=dict)

    def __call__(self, student: Student, batch: Batch, progress: float) -> tuple[Tensor, dict[str, float]]:
        """Return the weighted loss of a batch and its terms; ``progress`` runs from 0 to 1 over the stage."""
        weights = self.stage.weights
        speculate = weights.get("spec", 0) > 0 and progress >= self.stage.spec_from
        terms: dict[str, Tensor] = {}
        heard = self._hear(student, batch, speculate, terms)
        if weights.get("mt", 0) > 0:
            self._read(student, batch, heard, speculate, terms)
        total = torch.stack([self._weight(name) * term for name, term in terms.items()]).sum()
        values = {name: float(term.detach()) for name, term in terms.items()}
        for name, value in values.items():
            self.running[name] = AVERAGE * self.running.get(name, value) + (1 - AVERAGE) * value
        return total, values

    def _weight(self, term: str) -> float:
        """Return a term's weight; KVSPN's terms are named ``spec_…`` and weigh ``w_spec`` times the base's."""
        base = term.removeprefix("spec_")
        weight = self.stage.weights.get(base, 0.0)
        return weight if base == term else self.stage.weights["spec"] * weight

    def _score(self, student: Student, hidden: Tensor, labels: Tensor) -> Tensor:
        projection = student.network.model.decoder.embed_tokens.weight
        return cross_entropy(hidden, projection, labels, smoothing=self.stage.smoothing)

    def _hear(
        self, student: Student, batch: Batch, speculate: bool, terms: dict[str, Tensor]
    ) -> tuple[Tensor, Tensor | None] | None:
        """Add the terms of speech; return the decoder's and KVSPN's states of all targets."""
        if batch.mel is None or batch.frames is None or batch.ctc is None:
            return None
        features, visible = student.network.model.encoder(batch.mel, batch.frames)
        if self.stage.weights.get("ctc", 0) > 0:
            terms["ctc"] = ctc_loss(student.ctc_head(features), batch.frames, batch.ctc)
        if self.stage.weights.get("st", 0) <= 0:
            return None
        base, spec = student.network.read_targets(batch.tokens, features, visible, speculate=speculate)
        terms["st"] = self._score(student, base, batch.labels)
        if spec is not None:
            terms["spec_st"] = self._score(student, spec, batch.labels)
        return base, spec

    def _read(
        self,
        student: Student,
        batch: Batch,
        heard: tuple[Tensor, Tensor | None] | None,
        speculate: bool,
        terms: dict[str, Tensor],
    ) -> None:
        """Add the terms of text: translation, and the lesson it gives to speech."""
        # Beside speech one translation per sentence is enough: it costs as much as one more target.
        each = batch.tokens.shape[0] // batch.source.shape[0]
        rows = slice(None) if heard is None else slice(None, None, each)
        tokens, labels = batch.tokens[rows], batch.labels[rows]
        features = student.network.read_text(batch.source, batch.source_visible)
        base, spec = student.network.read_targets(tokens, features, batch.source_visible, speculate=speculate)
        terms["mt"] = self._score(student, base, labels)
        if spec is not None:
            terms["spec_mt"] = self._score(student, spec, labels)
        if heard is None or self.stage.weights.get("kl", 0) <= 0 or not self._text_leads():
            return
        projection = student.network.model.decoder.embed_tokens.weight
        terms["kl"] = divergence(heard[0][rows], base, projection, labels)
        if spec is not None and heard[1] is not None:
            terms["spec_kl"] = divergence(heard[1][rows], base, projection, labels)

    def _text_leads(self) -> bool:
        return self.running.get("mt", float("inf")) < self.running.get("st", 0.0)


def ctc_loss(scores: Tensor, mel_frames: Tensor, labels: Tensor) -> Tensor:
    """Return the CTC loss per label; ``scores`` ``(B, S, C)``, class 0 is the blank, ``labels`` padded with -1."""
    lengths = (labels >= 0).sum(1)
    log_probs = scores.float().log_softmax(-1).transpose(0, 1)
    loss = F.ctc_loss(
        log_probs, labels.clamp(min=0), (mel_frames + 1) // 2, lengths, reduction="sum", zero_infinity=True
    )
    return loss / lengths.sum()
