"""The curve of what is left after each removal; drawn with matplotlib, of the ``eval`` extra."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import Any

from streamtrans.compress.pruning.scores import Score
from streamtrans.core import BadConfig, needs


def draw(work: Path) -> Path:
    """Draw every order that was kept in a folder of scores into one PNG; return it.

    Raises:
        BadConfig: matplotlib is missing.
    """
    try:
        figure = importlib.import_module("matplotlib.figure")
    except ImportError:
        raise BadConfig(needs("a plot", "matplotlib", "eval")) from None
    canvas = figure.Figure(figsize=(7.5, 5), layout="constrained")
    axes = canvas.add_subplot()
    for order, figures in sorted(_longest(work).items()):
        points = [Score(**each).mean for each in (figures["whole"], *(each["score"] for each in figures["rounds"]))]
        axes.plot(range(len(points)), points, marker="o", linewidth=1, label=order)
        for number, each in enumerate(figures["rounds"], 1):
            named = each["removed"] if order != "importance" else each["removed"][-1:]
            axes.annotate(
                ", ".join(map(str, named)), (number, points[number]), xytext=(4, 4), textcoords="offset points"
            )
    axes.set_xlabel("layers removed (their numbers beside the points)")
    axes.set_ylabel("mean score of the selection")
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    path = work / "scores.png"
    canvas.savefig(path, dpi=150)
    return path


def _longest(work: Path) -> dict[str, dict[str, Any]]:
    """Return per order the figures of the run that removed most."""
    found: dict[str, dict[str, Any]] = {}
    for file in sorted(work.glob("*.json")):
        figures = json.loads(file.read_text(encoding="utf-8"))["figures"]
        before = found.get(figures["order"])
        if before is None or len(before["rounds"]) < len(figures["rounds"]):
            found[figures["order"]] = figures
    return found
