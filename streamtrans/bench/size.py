"""How large the wheel and the model are."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

from streamtrans.bench.measurement import Progress, Report, Table, silent
from streamtrans.core import BadConfig, Group, Option
from streamtrans.model.loading import find_folder
from streamtrans.runtime import ModelChoice

_MB = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """Build the wheel; its size, and the model's."""

    project: Annotated[Path, Option("Source folder of the project.")] = Path()
    choice: Annotated[ModelChoice, Group("model")] = field(default_factory=ModelChoice)

    def measure(self, progress: Progress = silent) -> Report:
        """Build, and weigh."""
        progress("wheel", 0, 1)
        figures = wheel_figures(self.project)
        figures["model_mb"] = folder_mb(find_folder(self.choice.model))
        progress("wheel", 1, 1)
        shown = [(name, value) for name, value in figures.items() if name != "largest"]
        largest = Table("largest in the wheel", ("file", "MB"), [*figures["largest"].items()])
        return Report(figures, [Table("size", ("", "value"), shown), largest])


def wheel_figures(project: Path) -> dict[str, Any]:
    """Build the wheel of the source folder ``project`` and return its size and its largest members.

    Raises:
        BadConfig: ``project`` is no source folder, or the build failed.
    """
    if not (project / "pyproject.toml").is_file():
        raise BadConfig(f"{project} has no pyproject.toml: run this in a clone of the project, or name it")
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(_builder(folder), cwd=project, capture_output=True, text=True, check=False)
        wheels = list(Path(folder).glob("*.whl"))
        if done.returncode or not wheels:
            raise BadConfig(f"the wheel can't be built: {(done.stderr or done.stdout).strip()[-400:]}")
        with zipfile.ZipFile(wheels[0]) as archive:
            members = sorted(archive.infolist(), key=lambda member: -member.compress_size)
        return {
            "wheel": wheels[0].name,
            "wheel_mb": round(wheels[0].stat().st_size / _MB, 2),
            "files": len(members),
            "largest": {member.filename: round(member.compress_size / _MB, 2) for member in members[:5]},
        }


def folder_mb(folder: Path) -> float | None:
    """Return the size of a folder's files in megabytes (10^6 bytes); ``None`` where it isn't there."""
    if not folder.is_dir():
        return None
    return round(sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) / _MB, 2)


def _builder(folder: str) -> list[str]:
    """Return the command that builds into ``folder``: the backend itself where it is installed, else pip."""
    if importlib.util.find_spec("hatchling") is not None:
        return [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder]
    return [sys.executable, "-m", "pip", "wheel", "--no-deps", "-w", folder, "."]
