"""What was heard ahead, kept on disk: features of the finished encoder, and what the stock decoder says over them.

```
heard/manifest.jsonl         a line per file, with its checksum
heard/00000.safetensors ...  a pool of utterances each
```

The manifest grows by whole lines, so training may read it while somebody still hears.

Law: what is read back is what was heard, to the last bit, or is refused by the file's name.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import torch
from safetensors.torch import load, save
from torch import Tensor

from streamtrans.core import BadConfig

MANIFEST = "manifest.jsonl"
BELIEVED = 16
"""Likeliest tokens of the stock decoder that are kept of each position: they hold nearly all that it believes."""


@dataclass(frozen=True, slots=True)
class Heard:
    """``B`` utterances.

    ``features`` ``(F, E)`` in bfloat16 are those of all utterances end to end, ``lengths`` ``(B,)`` of each.
    ``spoken`` ``(B,)`` and ``texts`` ``(B, L, Y)`` as in :class:`~streamtrans.train.anchored.batches.HeardBatch`.
    ``ids`` and ``shares`` ``(B, 2, Y', K)``: the tokens that the stock decoder thinks likeliest at each place of the
    transcript and of the English, and how likely among these; all shares are 0 where it wasn't asked.
    """

    features: Tensor
    lengths: Tensor
    spoken: Tensor
    texts: Tensor
    ids: Tensor
    shares: Tensor


@dataclass(frozen=True, slots=True)
class Entry:
    """A line of the manifest: ``ears`` is the checksum of the weights that heard."""

    file: str
    sha256: str
    ears: str
    utterances: int
    seconds: float


class Shelf:
    """A folder of what certain weights heard."""

    def __init__(self, folder: Path, ears: str) -> None:
        """Open a folder, which may be empty.

        Raises:
            BadConfig: other weights heard what lies there, or its manifest can't be read.
        """
        self.folder, self.ears = folder, ears
        self.entries()

    def entries(self) -> list[Entry]:
        """Return what there is now, in the order in which it was heard.

        Raises:
            BadConfig: other weights heard it, or a line can't be read.
        """
        file = self.folder / MANIFEST
        if not file.exists():
            return []
        found: list[Entry] = []
        for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), start=1):
            try:
                found.append(Entry(**json.loads(line)))
            except (ValueError, TypeError):
                raise BadConfig(f"{file}:{number} is no line of such a manifest; delete it") from None
            if found[-1].ears != self.ears:
                raise BadConfig(f"{file}:{number}: other weights heard {found[-1].file}; empty {self.folder}")
        return found

    def add(self, name: str, heard: Heard) -> None:
        """Keep utterances under a name; they are there once all is written."""
        self.folder.mkdir(parents=True, exist_ok=True)
        data = save({key: tensor.contiguous() for key, tensor in asdict(heard).items()})
        (self.folder / f"{name}.part").write_bytes(data)
        os.replace(self.folder / f"{name}.part", self.folder / name)
        seconds = round(len(heard.features) / 50, 1)
        entry = Entry(name, hashlib.sha256(data).hexdigest(), self.ears, len(heard.lengths), seconds)
        with (self.folder / MANIFEST).open("a", encoding="utf-8") as manifest:
            manifest.write(json.dumps(asdict(entry)) + "\n")

    def read(self, entry: Entry) -> Heard:
        """Read a file back.

        Raises:
            BadConfig: it is missing, or isn't what was written.
        """
        file = self.folder / entry.file
        again = f"delete its line from {self.folder / MANIFEST} and hear it again"
        try:
            data = file.read_bytes()
        except FileNotFoundError:
            raise BadConfig(f"there is no file {file}: {again}") from None
        if hashlib.sha256(data).hexdigest() != entry.sha256:
            raise BadConfig(f"{file} is not what was written, by its checksum: {again}")
        return Heard(**load(data))


def lay_together(parts: Sequence[Heard]) -> Heard:
    """Return the utterances of several, one after the other."""
    longest = [max(part.texts.shape[2] for part in parts), max(part.ids.shape[2] for part in parts)]
    pad = torch.nn.functional.pad
    tables = {
        "texts": [pad(part.texts, (0, longest[0] - part.texts.shape[2]), value=-1) for part in parts],
        "ids": [pad(part.ids, (0, 0, 0, longest[1] - part.ids.shape[2])) for part in parts],
        "shares": [pad(part.shares, (0, 0, 0, longest[1] - part.shares.shape[2])) for part in parts],
    }
    plain = {item.name: [getattr(part, item.name) for part in parts] for item in fields(Heard)}
    return Heard(**{name: torch.cat(tensors) for name, tensors in (plain | tables).items()})


def checksum(tensors: Sequence[Tensor]) -> str:
    """Return the checksum of weights as they are computed with, in bfloat16."""
    total = hashlib.sha256()
    for tensor in tensors:
        total.update(tensor.to(torch.bfloat16).contiguous().view(torch.uint8).numpy().tobytes())
    return total.hexdigest()[:16]
