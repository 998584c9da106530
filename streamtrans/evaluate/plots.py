"""Curves of quality, latency and erasure over settings; drawn with matplotlib, of the ``eval`` extra."""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from streamtrans.core import BadConfig, needs

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_LATENCY, _QUALITY, _ERASURE = "stream_laal_ms", "bleu", "normalized_erasure"
_LABELS = {_LATENCY: "StreamLAAL, s (a word counts when it last changed)", _QUALITY: "BLEU", _ERASURE: "erasure"}
_LABELS[_ERASURE] = "normalised erasure (units withdrawn per unit of final text)"
_MARKERS = "osD^vP*X<>"

CURVES: Mapping[str, tuple[str, str]] = {
    "quality-latency": (_LATENCY, _QUALITY),
    "erasure-latency": (_LATENCY, _ERASURE),
    "quality-erasure": (_ERASURE, _QUALITY),
}
"""Name of a plot → the fields on its axes."""


def draw(settings: Sequence[Mapping[str, Any]], folder: Path) -> list[Path]:
    """Draw every curve that two or more settings have figures for; return the PNG files.

    Settings that differ in numbers only are joined by a line, in the order of the table; a dashed line is what
    offline decoding of the same segments reaches.

    Args:
        settings: with averages, as a report holds them.
        folder: made if need be.

    Raises:
        BadConfig: matplotlib is missing.
    """
    figure = _package()
    folder.mkdir(parents=True, exist_ok=True)
    paths: list[Path] = []
    for name, (across, up) in CURVES.items():
        shown = [each for each in settings if {across, up} <= each["average"].keys()]
        if len(shown) < 2:
            continue
        canvas = figure.Figure(figsize=(7.5, 5), layout="constrained")
        axes = canvas.add_subplot()
        _draw_curves(axes, shown, across, up)
        paths.append(folder / f"{name}.png")
        canvas.savefig(paths[-1], dpi=150)
    return paths


def family(setting: Mapping[str, Any]) -> str:
    """Name the curve that a setting lies on: its mode, and the policy where one promises."""
    values = setting["values"]
    mode, policy = str(values.get("mode", "live")), values.get("policy")
    return mode if policy is None or mode == "final" else f"{mode}, {policy}"


def _draw_curves(axes: Axes, settings: Sequence[Mapping[str, Any]], across: str, up: str) -> None:
    names = list(dict.fromkeys(family(each) for each in settings))
    for number, name in enumerate(names):
        points = [each for each in settings if family(each) == name]
        xs, ys = [_at(each, across) for each in points], [_at(each, up) for each in points]
        axes.plot(xs, ys, marker=_MARKERS[number % len(_MARKERS)], linewidth=1, alpha=0.85, label=name)
        for each, x, y in zip(points, xs, ys, strict=True):
            axes.annotate(each["setting"], (x, y), xytext=(4, 4), textcoords="offset points", fontsize=7)
    if up == _QUALITY:
        offline = [each["average"].get("offline_bleu") for each in settings]
        known = [value for value in offline if value is not None]
        if known:
            axes.axhline(sum(known) / len(known), linestyle="--", linewidth=1, color="0.5", label="offline, mean")
    if _ERASURE in (across, up):
        line = axes.axvline if across == _ERASURE else axes.axhline
        line(0.2, linestyle=":", linewidth=1, color="0.5", label="few revisions (0.2)")
    axes.set_xlabel(_LABELS[across])
    axes.set_ylabel(_LABELS[up])
    axes.margins(0.12)
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)


def _at(setting: Mapping[str, Any], field: str) -> float:
    value = float(setting["average"][field])
    return value / 1000 if field.endswith("_ms") else value


def _package() -> Any:
    try:
        return importlib.import_module("matplotlib.figure")
    except ImportError:
        raise BadConfig(needs("a plot", "matplotlib", "eval")) from None
