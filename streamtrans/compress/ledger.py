"""Lines of JSON in a file: what stands there is not computed again, whatever broke off its writing."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from streamtrans.core import BadConfig


class Ledger:
    """A file whose first line says what it is ``about``, with one line per thing that is known.

    A line that was being written when its writer was stopped is forgotten, and is written again.

    Raises:
        BadConfig: the file was begun for something else, or isn't one of ours.
    """

    def __init__(self, file: Path, about: Mapping[str, Any], what: str) -> None:
        self.file, self.what = file, what
        file.parent.mkdir(parents=True, exist_ok=True)
        whole = self._whole()
        if whole:
            self._check(whole[0], json.loads(json.dumps(about)))
            with file.open("r+", encoding="utf-8") as stream:
                stream.truncate(len("".join(whole).encode()))
        else:
            file.write_text(json.dumps(about, ensure_ascii=False) + "\n", encoding="utf-8")
        self.lines: list[dict[str, Any]] = [json.loads(line) for line in whole[1:]]

    def add(self, line: Mapping[str, Any]) -> None:
        """Write a line down, and see it safe on the disk."""
        self.lines.append(dict(line))
        with self.file.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(line, ensure_ascii=False) + "\n")
            stream.flush()
            os.fsync(stream.fileno())

    def _whole(self) -> list[str]:
        if not self.file.exists():
            return []
        text = self.file.read_bytes().decode("utf-8", "replace")
        return [f"{line}\n" for line in text.split("\n")[:-1]]

    def _check(self, line: str, about: Mapping[str, Any]) -> None:
        try:
            said = json.loads(line)
        except ValueError:
            said = None
        if not isinstance(said, dict):
            raise BadConfig(f"{self.file} holds no {self.what}; name another --work folder")
        if other := sorted(name for name in {*said, *about} if said.get(name) != about.get(name)):
            raise BadConfig(
                f"{self.file} was begun with another {', '.join(other)}; name another --work folder, or remove it"
            )


def begin(work: Path, models: str, about: Mapping[str, Any]) -> Ledger:
    """Return the scores of a folder ``work`` of models that were made of what they are ``about``.

    Who removes the scores has them made anew, of the same models.

    Raises:
        BadConfig: the folder was begun with something else, or has ``models`` and nothing that says what of.
    """
    made = work / "made.jsonl"
    if not made.exists() and any(work.glob(f"{models}/*")):
        raise BadConfig(f"{work} holds models, and no {made.name} says what of; name another --work folder")
    Ledger(made, about, "word of what models were made of")
    return Ledger(work / "scores.jsonl", about, "scores of models")
