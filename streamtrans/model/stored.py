"""Matrices stored as whole numbers, in half or a quarter of the bytes of 16-bit ones; they are unpacked when loaded.

```
 NAME.int8  (rows, inputs) int8         NAME.step  (rows,) float32: what one is worth
 NAME.int4  (rows, inputs / 2) uint8    NAME.step  (rows, inputs / 64) float16; two numbers a byte, each plus 8, the
                                                   first in the lower half
```

Law: a matrix stored in int8 is served in int8 by the whole numbers that stand in the file.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

import torch
from torch import Tensor

from streamtrans.core import BadModel

GROUP = 64
"""Inputs that share a step in int4."""

FORMS = ("int8", "int4")
_TINY = 2.0**-24
"""The least that float16 holds: a step of something to divide by where all is zero."""
_CLIPS = (1.0, 0.95, 0.9, 0.85, 0.8, 0.75)


def store(name: str, matrix: Tensor, bits: int) -> dict[str, Tensor]:
    """Return the tensors that stand for a matrix ``(rows, inputs)``; int4 where its inputs are whole groups."""
    matrix = matrix.float()
    if bits == 4 and matrix.shape[1] % GROUP == 0:
        whole, step = _in_groups(matrix)
        low, high = (whole + 8).to(torch.uint8).flatten(1).unflatten(1, (-1, 2)).unbind(-1)
        return {f"{name}.int4": low | (high << 4), f"{name}.step": step}
    step = matrix.abs().amax(1).clamp_min(_TINY) / 127
    return {f"{name}.int8": (matrix / step[:, None]).round().to(torch.int8), f"{name}.step": step}


def unpack(folder: Path, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors of a folder with all matrices as float32.

    Raises:
        BadModel: steps are missing, don't fit, or aren't finite.
    """
    found = dict(tensors)
    for name, whole in tensors.items():
        matrix, _, form = name.rpartition(".")
        if form in FORMS:
            step = found.pop(f"{matrix}.step", None)
            _check(folder, name, whole, step)
            del found[name]
            assert step is not None, "checked"
            found[matrix] = _worth(whole, step)
    return found


def is_stored(names: Iterable[str]) -> bool:
    """Whether some of the tensors of these names stand for others."""
    return any(name.rpartition(".")[2] in FORMS for name in names)


def _in_groups(matrix: Tensor) -> tuple[Tensor, Tensor]:
    """Return numbers within ±7 ``(rows, groups, 64)``, and steps: those of a few that leave the least square error."""
    groups = matrix.unflatten(1, (-1, GROUP))
    largest = groups.abs().amax(-1)
    best, step, whole = torch.full_like(largest, torch.inf), largest.half(), torch.zeros_like(groups)
    for clip in _CLIPS:
        tried = (clip * largest / 7).clamp(_TINY, 65_504).half()
        numbers = (groups / tried.float()[..., None]).round().clamp(-7, 7)
        error = (numbers * tried.float()[..., None] - groups).square().sum(-1)
        better = error < best
        best, step = torch.where(better, error, best), torch.where(better, tried, step)
        whole = torch.where(better[..., None], numbers, whole)
    return whole, step


def _worth(whole: Tensor, step: Tensor) -> Tensor:
    if whole.dtype == torch.int8:
        return whole.float() * step[:, None]
    numbers = torch.stack([whole & 15, whole >> 4], -1).flatten(1).float() - 8
    return (numbers.unflatten(1, (-1, GROUP)) * step.float()[..., None]).flatten(1)


def _check(folder: Path, name: str, whole: Tensor, step: Tensor | None) -> None:
    rows, columns = (*whole.shape, 0, 0)[:2]
    wanted = {
        "int8": (torch.int8, torch.float32, (rows,)),
        "int4": (torch.uint8, torch.float16, (rows, 2 * columns // GROUP)),
    }[name.rpartition(".")[2]]
    if whole.dim() != 2 or step is None or (whole.dtype, step.dtype, tuple(step.shape)) != wanted:
        said = "no steps" if step is None else f"steps {tuple(step.shape)} of {step.dtype}"
        raise BadModel(
            f"{folder}: {name} holds {tuple(whole.shape)} of {whole.dtype} with {said}; it takes {wanted[0]} with"
            f" steps {wanted[2]} of {wanted[1]}"
        )
    if not step.isfinite().all():
        raise BadModel(f"{folder}: the steps of {name} hold infinite numbers or none at all")
