"""The optimiser: Muon for the matrices inside the layers, AdamW for everything else."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Protocol

import torch
import torch.distributed as dist
from torch import Tensor, nn


class Pace(Protocol):
    """What a stage says about the optimisers."""

    @property
    def peak_lr(self) -> float: ...

    @property
    def weight_decay(self) -> float: ...


class SharedMuon(torch.optim.Muon):
    """Muon (K. Jordan et al. 2024) whose workers each treat a share of the matrices and hand the results round.

    Orthogonalising is a quarter of a small model's step, and gradients are equal on all workers: none of it needs
    to be done twice. The update is scaled to AdamW's, so that one learning rate serves both.
    """

    def __init__(self, matrices: Sequence[nn.Parameter], stage: Pace, *, rank: int, workers: int) -> None:
        super().__init__(
            list(matrices), lr=stage.peak_lr, weight_decay=stage.weight_decay, adjust_lr_fn="match_rms_adamw"
        )
        self.matrices, self.rank, self.workers = list(matrices), rank, workers

    def step(self, closure: Any = None) -> Any:
        """Update this worker's matrices, then receive the others'."""
        for number, matrix in enumerate(self.matrices):
            if number % self.workers != self.rank:
                matrix.grad = None  # Muon passes over what has no gradient
        answer = super().step(closure)
        self._hand_round([matrix.data for matrix in self.matrices])
        return answer

    def gather(self) -> None:
        """Give every worker all momentum, so that any of them can save it."""
        for matrix in self.matrices:
            if "momentum_buffer" not in self.state[matrix]:
                self.state[matrix]["momentum_buffer"] = torch.zeros_like(matrix)
        self._hand_round([self.state[matrix]["momentum_buffer"] for matrix in self.matrices])

    def _hand_round(self, tensors: Sequence[Tensor]) -> None:
        for owner in range(self.workers if self.workers > 1 else 0):
            own = tensors[owner :: self.workers]
            flat = torch.cat([tensor.flatten() for tensor in own])
            dist.broadcast(flat, owner)
            for tensor, piece in zip(own, flat.split([tensor.numel() for tensor in own]), strict=True):
                tensor.copy_(piece.view_as(tensor))


def make_optimizers(
    student: nn.Module, stage: Pace, *, rank: int = 0, workers: int = 1
) -> tuple[torch.optim.AdamW, SharedMuon]:
    """Split the trainable parameters: Muon takes the matrices inside layers and blocks, AdamW the rest."""
    matrices: list[nn.Parameter] = []
    others: list[nn.Parameter] = []
    for name, parameter in student.named_parameters():
        if not parameter.requires_grad:
            continue
        inside = parameter.ndim == 2 and (".layers." in name or ".blocks." in name)
        (matrices if inside else others).append(parameter)
    plain = torch.optim.AdamW(others, lr=stage.peak_lr, betas=(0.9, 0.98), weight_decay=stage.weight_decay, fused=True)
    return plain, SharedMuon(matrices, stage, rank=rank, workers=workers)


class Schedule(Protocol):
    """What a stage says about its learning rate."""

    @property
    def steps(self) -> int: ...

    @property
    def peak_lr(self) -> float: ...

    @property
    def warmup(self) -> int: ...

    @property
    def final_lr_share(self) -> float: ...


def learning_rate(stage: Schedule, step: int) -> float:
    """Return the rate at ``step``: linear warm-up, then a cosine down to the final share."""
    if step < stage.warmup:
        return stage.peak_lr * (step + 1) / stage.warmup
    done = (step - stage.warmup) / max(1, stage.steps - stage.warmup)
    low = stage.final_lr_share
    return stage.peak_lr * (low + (1 - low) * 0.5 * (1 + math.cos(math.pi * min(1.0, done))))


def set_learning_rate(optimizers: Sequence[torch.optim.Optimizer], rate: float) -> None:
    """Give all groups the same rate."""
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = rate
