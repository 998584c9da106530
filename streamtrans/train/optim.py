"""The optimiser: Muon for the matrices inside the layers, AdamW for everything else."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import nn

from streamtrans.train.recipe import Stage


def make_optimizers(student: nn.Module, stage: Stage, *, muon: bool = True) -> list[torch.optim.Optimizer]:
    """Split the trainable parameters between the optimisers.

    Muon takes the two-dimensional weights inside layers and blocks (K. Jordan et al. 2024); its update is
    scaled to AdamW's, so that one learning rate serves both.
    """
    matrices: list[nn.Parameter] = []
    others: list[nn.Parameter] = []
    for name, parameter in student.named_parameters():
        if not parameter.requires_grad:
            continue
        inside = parameter.ndim == 2 and (".layers." in name or ".blocks." in name)
        (matrices if inside and muon else others).append(parameter)
    found: list[torch.optim.Optimizer] = [
        torch.optim.AdamW(others, lr=stage.peak_lr, betas=(0.9, 0.98), weight_decay=stage.weight_decay, fused=True)
    ]
    if matrices:
        found.append(
            torch.optim.Muon(
                matrices, lr=stage.peak_lr, weight_decay=stage.weight_decay, adjust_lr_fn="match_rms_adamw"
            )
        )
    return found


def learning_rate(stage: Stage, step: int) -> float:
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
