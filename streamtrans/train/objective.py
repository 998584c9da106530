"""The joint objective of whisperM2M with KVSPN.

``L = w_st L_st + w_mt L_mt + w_kl L_kl`` and ``w_spec`` times the same three for KVSPN, with the KL term (speech
taught by text) switched on once translation from text is better than from speech. Source: arXiv 2508.11189,
sections 2.1 and 3.2. Beside it a CTC loss on the spoken text, which brings the encoder up from scratch.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from streamtrans.model.layers import Blocks
from streamtrans.model.network import Network, Texts
from streamtrans.train.batches import UNKNOWN, Batch
from streamtrans.train.losses import cross_entropy, divergence
from streamtrans.train.recipe import Stage

AVERAGE = 0.98
"""Decay of the running losses that decide when KL starts: larger decides later and surer."""


class Student(nn.Module):
    """The network in training, with the CTC head (where there is one) that it loses afterwards."""

    def __init__(self, network: Network, ctc_vocabulary: int = 0) -> None:
        super().__init__()
        self.network = network
        self.ctc_head = nn.Linear(network.config.d_model, ctc_vocabulary) if ctc_vocabulary else None

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


@dataclass(frozen=True, slots=True)
class Lesson:
    """What one step draws at random: how far the encoder looks, where KVSPN's chains begin."""

    blocks: Blocks | None
    chains: Tensor | None


@dataclass(frozen=True, slots=True)
class States:
    """Hidden states ``(1, N, E)`` of base and KVSPN at the real tokens of texts, and what they should say next."""

    base: Tensor
    spec: Tensor | None
    labels: Tensor
    texts: Tensor | None = None


def read_real(tokens: Tensor, labels: Tensor) -> tuple[Texts, Tensor]:
    """Lay padded texts ``(B, T)`` end to end; returns them and their labels ``(1, N)``."""
    real = labels >= 0
    real[:, 0] = True  # the first token of the prompt is read, and asked nothing
    texts = Texts(tokens, real)
    return texts, labels.flatten()[texts.where][None]


@dataclass
class Objective:
    """Compute a stage's loss. Holds only running averages of the losses, and the dice of the current step."""

    stage: Stage
    running: dict[str, float] = field(default_factory=dict)
    dice: torch.Generator = field(default_factory=torch.Generator)
    share: Callable[[dict[str, float]], dict[str, float]] = dict
    """Averages a step's terms over all workers."""

    def __call__(
        self, student: Student, batch: Batch, progress: float, seed: int = 0
    ) -> tuple[Tensor, dict[str, float]]:
        """Return the weighted loss of a batch and its terms; ``progress`` runs from 0 to 1 over the stage."""
        self.dice.manual_seed(seed)
        weights = self.stage.weights
        lesson = self._plan(batch, progress)
        terms: dict[str, Tensor] = {}
        heard = self._hear(student, batch, lesson, terms)
        if weights.get("mt", 0) > 0:
            self._read(student, batch, heard, lesson, terms)
        total = torch.stack([self._weight(name) * term for name, term in terms.items()]).sum()
        values = self.share({name: float(term.detach()) for name, term in terms.items()})
        for name, value in values.items():
            self.running[name] = AVERAGE * self.running.get(name, value) + (1 - AVERAGE) * value
        return total, values

    def _weight(self, term: str) -> float:
        """Return a term's weight; KVSPN's, ``spec_…`` and ``follow_…``, weigh a multiple of the base's."""
        prefix, _, base = term.rpartition("_")
        weight = self.stage.weights.get(base, 0.0)
        return weight * self.stage.weights.get(prefix, 0.0) if prefix else weight

    def _plan(self, batch: Batch, progress: float) -> Lesson:
        """Draw what this step hears and guesses with: block sizes of the encoder, chains of KVSPN."""
        stage, device = self.stage, batch.tokens.device
        blocks = None
        if stage.blocks:
            size = int(stage.blocks[int(torch.randint(len(stage.blocks), (), generator=self.dice))])
            blocks = Blocks(size, stage.left) if size else None
        chains = None
        if (stage.weights.get("spec", 0) > 0 or stage.weights.get("follow", 0) > 0) and progress >= stage.spec_from:
            length, starts = batch.tokens.shape[1], list[int]()
            while len(starts) < length:
                chain = 1 + int(torch.randint(stage.chains, (), generator=self.dice))
                starts += [len(starts)] * chain
            chains = torch.tensor(starts[:length], device=device)
        return Lesson(blocks, chains)

    def _score(self, student: Student, hidden: Tensor, labels: Tensor) -> Tensor:
        projection = student.network.model.decoder.embed_tokens.weight
        return cross_entropy(hidden, projection, labels, smoothing=self.stage.smoothing)

    def _hear(self, student: Student, batch: Batch, lesson: Lesson, terms: dict[str, Tensor]) -> States | None:
        """Add the terms of speech; return the decoder's and KVSPN's states of all targets."""
        if batch.mel is None or batch.frames is None:
            return None
        features, visible = student.network.model.encoder(batch.mel, batch.frames, lesson.blocks)
        if self.stage.weights.get("ctc", 0) > 0 and student.ctc_head is not None and batch.ctc is not None:
            terms["ctc"] = ctc_loss(student.ctc_head(features), batch.frames, batch.ctc)
        if self.stage.weights.get("st", 0) <= 0:
            return None
        texts, labels = read_real(batch.tokens, batch.labels)
        if batch.begins is not None and visible is not None:
            # What came before is context: the encoder has heard it, the decoder doesn't look at it.
            visible = visible & (torch.arange(visible.shape[1], device=visible.device) >= batch.begins[:, None])
        base, spec = student.network.read_targets(
            texts, features, visible, chains=lesson.chains, through=not self.stage.spec_detached
        )
        self._judge(student, terms, "st", States(base, spec, labels))
        return States(base, spec, labels, texts.texts)

    def _read(
        self, student: Student, batch: Batch, heard: States | None, lesson: Lesson, terms: dict[str, Tensor]
    ) -> None:
        """Add the terms of text: translation, and the lesson it gives to speech."""
        # Beside speech one translation per sentence is enough: it costs as much as one more target.
        each = batch.tokens.shape[0] // batch.source.shape[0] if heard is not None else 1
        texts, labels = read_real(batch.tokens[::each], batch.labels[::each])
        features = student.network.read_text(batch.source, batch.source_visible)
        base, spec = student.network.read_targets(
            texts, features, batch.source_visible, chains=lesson.chains, through=not self.stage.spec_detached
        )
        self._judge(student, terms, "mt", States(base, spec, labels))
        if heard is None or heard.texts is None or self.stage.weights.get("kl", 0) <= 0 or not self._text_leads():
            return
        projection = student.network.model.decoder.embed_tokens.weight
        rows = heard.texts % each == 0
        if self.stage.trains("decoder"):
            terms["kl"] = divergence(heard.base[:, rows], base, projection, labels)
        if heard.spec is not None:
            terms["spec_kl"] = divergence(heard.spec[:, rows], base, projection, labels)

    def _judge(self, student: Student, terms: dict[str, Tensor], name: str, states: States) -> None:
        """Add the losses of base and drafter on one task's texts."""
        if self.stage.trains("decoder"):
            terms[name] = self._score(student, states.base, states.labels)
        if states.spec is None:
            return
        labels, base = states.labels, states.base
        if student.network.config.speculator_input == "hidden":
            # It says what follows the token that the base is just about to say. At the last one there is nothing:
            # what stands next in the row is another text's first token, which is asked nothing either.
            labels, base = labels.roll(-1, 1), base.roll(-1, 1)
            labels[:, -1] = -1
        projection = student.network.model.decoder.embed_tokens.weight
        if self.stage.weights.get("spec", 0) > 0:
            terms[f"spec_{name}"] = self._score(student, states.spec, labels)
        if self.stage.weights.get("follow", 0) > 0:
            terms[f"follow_{name}"] = divergence(states.spec, base, projection, labels)

    def _text_leads(self) -> bool:
        if not self.stage.trains("decoder"):
            return True  # a finished base has been taught already
        return self.running.get("mt", float("inf")) < self.running.get("st", 0.0)


def ctc_loss(scores: Tensor, mel_frames: Tensor, labels: Tensor) -> Tensor:
    """Return the CTC loss per label; ``scores`` ``(B, S, C)``, class 0 is the blank, ``labels`` padded with -1.

    Rows of unknown labels (-2) are left out.
    """
    known = (labels != UNKNOWN).all(1)
    if not known.any():
        return scores.sum() * 0.0  # a loss all the same: every worker shares gradients of the same weights
    scores, mel_frames, labels = scores[known], mel_frames[known], labels[known]
    lengths = (labels >= 0).sum(1)
    log_probs = scores.float().log_softmax(-1).transpose(0, 1)
    loss = F.ctc_loss(
        log_probs, labels.clamp(min=0), (mel_frames + 1) // 2, lengths, reduction="sum", zero_infinity=True
    )
    return loss / lengths.sum().clamp(min=1)
