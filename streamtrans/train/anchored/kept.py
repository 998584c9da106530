"""What a stage has learnt, small enough for a repository: differences from where it started, in few bits.

A file ``STAGE.npz`` holds per tensor whole numbers and, row by row, what one of them is worth. Who has the base and no
run goes on from it; the optimiser begins anew, and the rounding is learnt away.
"""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from streamtrans.core import BadConfig

LEVELS = {"hearing": 127, "directions": 5}
"""Lesson → the largest whole number: adapters are few, the decoder's differences are many and stand rounding."""
_SCALE, _STEP, _DONE = "/scale", "/step", "/done"


@dataclass(frozen=True, slots=True)
class Kept:
    """A stage as it was kept: how many steps it had taken, whether these were all, and its values."""

    step: int
    done: bool
    values: dict[str, Tensor]


def write_kept(file: Path, kept: Kept, start: Mapping[str, Tensor], levels: int) -> int:
    """Write what ``kept`` adds to ``start``; returns the bytes that takes."""
    arrays: dict[str, np.ndarray[tuple[int, ...], np.dtype[np.generic]]] = {
        _STEP: np.array(kept.step),
        _DONE: np.array(kept.done),
    }
    for name, value in kept.values.items():
        rows = (value - start[name]).float().flatten(1) if value.ndim > 1 else (value - start[name]).float()[None]
        scale = (rows.abs().amax(1, keepdim=True) / levels).clamp(min=1e-12).half().float().clamp(min=6e-8)
        codes = (rows / scale).round().clamp(-levels, levels).to(torch.int8)
        arrays[name] = codes.reshape(value.shape).numpy()
        arrays[name + _SCALE] = scale.half().numpy()
    file.parent.mkdir(parents=True, exist_ok=True)
    # As numpy reads it, and a tenth smaller than numpy would write it.
    with zipfile.ZipFile(file, "w", zipfile.ZIP_BZIP2) as packed:
        for name, array in arrays.items():
            with packed.open(f"{name}.npy", "w") as entry:
                np.lib.format.write_array(entry, array, allow_pickle=False)
    return file.stat().st_size


def read_kept(file: Path, start: Mapping[str, Tensor]) -> Kept:
    """Read a stage back, given what it started from; values are in the order of ``start``.

    Raises:
        BadConfig: the file belongs to another base, or to another kind of stage.
    """
    values: dict[str, Tensor] = {}
    with np.load(file, allow_pickle=False) as arrays:
        names = {name for name in arrays.files if not name.startswith("/") and not name.endswith(_SCALE)}
        if names != start.keys() or any(arrays[name].shape != start[name].shape for name in names):
            raise BadConfig(f"{file} was kept of another base or another stage: its tensors don't fit")
        for name in start:
            codes, scale = torch.from_numpy(arrays[name]), torch.from_numpy(arrays[name + _SCALE])
            rows = codes.float().flatten(1) if codes.ndim > 1 else codes.float()[None]
            values[name] = start[name] + (rows * scale.float()).reshape(codes.shape)
        return Kept(int(arrays[_STEP]), bool(arrays[_DONE]), values)
