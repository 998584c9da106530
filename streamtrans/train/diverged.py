"""What is left of a run whose loss is no number any more: the batch that caused it, and where it came from."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path

from safetensors.torch import save_file

from streamtrans.core import StreamtransError
from streamtrans.train.batches import Batch


class Diverged(StreamtransError, FloatingPointError):
    """The loss or its gradient is NaN or infinite."""


def save_culprit(folder: Path, name: str, batch: Batch, origin: Mapping[str, object]) -> Path:
    """Write ``name.safetensors`` with a batch's tensors and ``name.json`` with where they came from."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {item.name: getattr(batch, item.name) for item in fields(batch)}
    path = folder / f"{name}.safetensors"
    save_file({key: value.cpu().contiguous() for key, value in tensors.items() if value is not None}, path)
    text = json.dumps(_numbers(origin), ensure_ascii=False, indent=2) + "\n"
    path.with_suffix(".json").write_text(text, encoding="utf-8")
    return path


def _numbers(value: object) -> object:
    """Spell numbers that JSON doesn't know."""
    if isinstance(value, Mapping):
        return {name: _numbers(item) for name, item in value.items()}
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value
