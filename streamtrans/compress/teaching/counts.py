"""What four bits save while a model learns, and what they cost: counted side by side, for reports mix it up."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from streamtrans.audio import duration_seconds
from streamtrans.compress.teaching.packed import held_bytes, numbers
from streamtrans.compress.teaching.pupils import NOTHING, Asked, SpeechPupil, load_pupil
from streamtrans.compress.teaching.recipe import Teaching
from streamtrans.evaluate.manifest import read_talks
from streamtrans.model.loading import find_folder

TEXT = "One, two, three, and on."
ROUNDS = 5


@dataclass(frozen=True, slots=True)
class Counted:
    """One form of a model.

    ``parameters`` are those of the model itself; ``adapters`` come on top. ``numbers`` counts what is held as some
    reports do: two four-bit weights as one, their scales too. ``ms_per_token`` is for reading a text of one recording,
    hearing included, alone; on a CPU it is processor time.
    """

    parameters: int
    adapters: int
    numbers: int
    bytes_held: int
    ms_per_token: float
    bytes_on_disk: int | None = None


def count(teaching: Teaching, made: Path, work: Path) -> dict[str, Counted]:
    """Count a model before it learnt with adapters, while it did, and as it was saved."""
    base = find_folder(teaching.base)
    return {
        "before": _counted(base, teaching, NOTHING, work, on_disk=True),
        "learning": _counted(base, teaching, teaching.learns, work, on_disk=False),
        "saved": _counted(made, teaching, NOTHING, work, on_disk=True),
    }


def _counted(folder: Path, teaching: Teaching, learns: str, work: Path, *, on_disk: bool) -> Counted:
    pupil = load_pupil(folder, teaching, learns, work / "heard")
    if isinstance(pupil, SpeechPupil):
        pupil.hears = True  # what it heard before would cost nothing
    talk = min(read_talks(teaching.speech[0]), key=lambda each: duration_seconds(each.audio))
    asked = [Asked(talk, ((talk.language, TEXT),))]
    # What else a machine does would count as a difference: on a CPU only the time that was computed does.
    clock = time.process_time if pupil.device.type == "cpu" else time.perf_counter
    took = []
    with torch.no_grad():
        for _ in range(1 + ROUNDS):
            began = clock()
            pupil.read(asked)
            if pupil.device.type == "cuda":
                torch.cuda.synchronize()
            took.append(clock() - began)
    module: nn.Module = pupil.module
    adapters = sum(value.numel() for name, value in module.named_parameters() if "lora_" in name)
    parameters, found = numbers(module)
    disk = sum(file.stat().st_size for file in folder.glob("*.safetensors")) if on_disk else None
    tokens = len(pupil.tokens(TEXT))
    return Counted(parameters, adapters, found, held_bytes(module), 1000 * min(took[1:]) / tokens, disk)
