"""Weights of checkpoint folders, read tensor by tensor and written as a whole or not at all.

Law: a folder that a command of this room leaves behind is finished; whatever interrupts it leaves none.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from streamtrans.core import BadConfig, BadModel
from streamtrans.model.loading import COMPANIONS, INDEX, WEIGHTS, shards
from streamtrans.model.stored import is_stored


class Weights:
    """The tensors of one folder, each read when it is asked for; a context manager.

    Raises:
        BadModel: on entering, if the folder has no safetensors, or they are damaged.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._open = ExitStack()
        self._files: dict[str, Any] = {}

    def __enter__(self) -> Self:
        """Open the files."""
        if (self.folder / WEIGHTS).is_file():
            files = [WEIGHTS]
        elif (self.folder / INDEX).is_file():
            files = shards(self.folder)
        else:
            raise BadModel(f"{self.folder} has no {WEIGHTS}; give a checkpoint folder with safetensors")
        for name in files:
            try:
                file = self._open.enter_context(safe_open(self.folder / name, framework="pt"))
            except (OSError, SafetensorError) as error:
                raise BadModel(f"{self.folder / name} is not a readable safetensors file: {error}") from None
            self._files |= dict.fromkeys(file.keys(), file)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the files."""
        self._open.close()

    def __iter__(self) -> Iterator[str]:
        return iter(self._files)

    def __contains__(self, name: str) -> bool:
        return name in self._files

    def __getitem__(self, name: str) -> Tensor:
        """Read one tensor.

        Raises:
            BadModel: it holds numbers that aren't finite.
        """
        tensor: Tensor = self._files[name].get_tensor(name)
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            raise BadModel(f"{self.folder}: {name} holds infinite numbers or none at all; its training has failed")
        return tensor

    def check_like(self, other: Weights) -> None:
        """Refuse weights of another shape than ``other``'s.

        Raises:
            BadModel: a tensor is missing, unknown, or of another shape; or matrices are stored as whole numbers.
        """
        for weights in (self, other):
            if is_stored(weights):
                raise BadModel(
                    f"{weights.folder} is stored as whole numbers, which don't add up; give what it was made of"
                )
        missing, unknown = sorted(set(other) - set(self)), sorted(set(self) - set(other))
        if missing or unknown:
            raise BadModel(
                f"{self.folder} isn't shaped like {other.folder}: {len(missing)} tensors are missing and"
                f" {len(unknown)} unknown ({(missing + unknown)[0]} for one)"
            )
        for name in other:
            mine, theirs = self._shape(name), other._shape(name)
            if mine != theirs:
                raise BadModel(f"{self.folder}: {name} has shape {mine}, and in {other.folder} {theirs}")

    def _shape(self, name: str) -> tuple[int, ...]:
        return tuple(self._files[name].get_slice(name).get_shape())


def write_folder(
    target: Path, tensors: Mapping[str, Tensor], *, like: Path, also: Mapping[str, Mapping[str, Any]]
) -> None:
    """Write a checkpoint folder: ``tensors``, the companions of ``like``, and JSON files named by ``also``.

    The folder gets its name when everything is in it.

    Raises:
        BadConfig: ``target`` exists and isn't empty.
    """
    check_new(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}-") as place:
        folder = Path(place) / "folder"
        folder.mkdir()
        for name in COMPANIONS:
            if (like / name).exists() and name not in also:
                shutil.copyfile(like / name, folder / name)
        for name, said in also.items():
            (folder / name).write_text(json.dumps(said, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        save_file(
            {name: tensor.contiguous() for name, tensor in tensors.items()}, folder / WEIGHTS, metadata={"format": "pt"}
        )
        if target.exists():
            target.rmdir()
        os.replace(folder, target)


def check_new(target: Path) -> None:
    """Refuse a folder that has something in it.

    Raises:
        BadConfig: it has.
    """
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise BadConfig(f"{target} exists already; name a new folder")
