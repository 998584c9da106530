"""Reports of streamed talks: averages over directions, and tables in Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

Columns = tuple[tuple[str, str], ...]

QUALITY: Columns = (
    ("BLEU", "bleu"),
    ("offline", "offline_bleu"),
    ("lost", "bleu_lost"),
    ("chrF", "chrf"),
    ("erasure", "normalized_erasure"),
    ("passes/partial", "passes_per_partial"),
    ("kept", "acceptance"),
    ("RTF", "realtime_factor"),
)
DELAYS: Columns = (
    ("StreamLAAL", "stream_laal_ms"),
    ("LongYAAL", "long_yaal_ms"),
    ("LAAL", "laal_ms"),
    ("first p50", "first_caption_ms"),
    ("p95", "first_caption_p95_ms"),
    ("commit p50", "commit_lag_ms"),
    ("p95", "commit_lag_p95_ms"),
)
"""Headings and fields of what tables show; milliseconds are shown as seconds."""

_RATES = ("wer", "cer")
_NOT_AVERAGED = ("talks", "segments", "words", "reference_words", "partials", "speech_starts_without_caption")


def averaged(figures: Mapping[str, Any]) -> dict[str, Any]:
    """Return a setting's figures with the means over its directions: translations, and apart from them transcripts.

    A direction without a figure takes no part in that figure's mean.
    """
    directions = figures["directions"]
    translations = [each for each in directions if each["source"] != each["target"]]
    transcripts = [each for each in directions if each["source"] == each["target"]]
    return {
        **{name: value for name, value in figures.items() if name != "directions"},
        "average": _means(translations),
        "transcripts": _means(transcripts),
        "directions": directions,
        "problems": list(dict.fromkeys(problem for each in directions for problem in each["problems"])),
    }


def rows(settings: Sequence[Mapping[str, Any]], columns: Columns) -> list[list[Any]]:
    """Return a line per setting: its name and the averages over its translations."""
    return [[each["setting"], *_cells(each["average"] or each["transcripts"], columns)] for each in settings]


def direction_rows(setting: Mapping[str, Any], columns: Columns) -> list[list[Any]]:
    """Return a line per direction of one setting; a transcript has its error rate in the place of BLEU."""
    lines: list[list[Any]] = []
    for each in setting["directions"]:
        line = _cells(each, columns)
        if columns[0][1] == "bleu" and (rate := error_rate(each)) is not None:
            line[0] = f"{rate:.0%} wrong"
        lines.append([f"{each['source']}→{each['target']}", *line])
    return lines


def error_rate(direction: Mapping[str, Any]) -> float | None:
    """Return a transcript's error rate, of words or characters."""
    return next((direction[name] for name in _RATES if direction.get(name) is not None), None)


def headings(columns: Columns) -> list[str]:
    """Return the headings of a table's columns, after the first."""
    return [heading for heading, _ in columns]


def markdown(report: Mapping[str, Any], plots: Sequence[str] = ()) -> str:
    """Return a report with one table of all settings, a table per setting, what went wrong, and the plots' names."""
    settings, columns = report["settings"], QUALITY + DELAYS
    lines = ["# Streamed talks", ""]
    lines += [f"{name}: {report[name]}" for name in ("command", "clock", "streams") if report.get(name)]
    model = report.get("model")
    if model:
        lines.append(f"model: {model['name']} ({model['sha256'][:12]})")
    lines += [
        "",
        "Means over all directions between two languages; seconds. *offline*: the same segments read at once. *first*: "
        "from a segment's first sample to its first text. *commit*: from the end of a word's audio to its promise. "
        "*kept*: share of drafted tokens.",
        "",
        *_table(["setting", *headings(columns)], rows(settings, columns)),
    ]
    lines += [f"\n![{name}]({name})" for name in plots]
    for setting in settings:
        values = ", ".join(f"{name} = {value}" for name, value in setting["values"].items()) or "defaults"
        lines += ["", f"## {setting['setting']}", "", f"{values}; {setting['audio_s']:g} s of audio", ""]
        lines += _table(["direction", *headings(columns)], direction_rows(setting, columns))
        lines += ["", *(f"- {problem}" for problem in setting["problems"])] if setting["problems"] else []
    return "\n".join(lines) + "\n"


def _table(heading: Sequence[str], lines: Sequence[Sequence[Any]]) -> list[str]:
    return [
        "| " + " | ".join(heading) + " |",
        "|" + "---|" * len(heading),
        *("| " + " | ".join(map(_text, line)) + " |" for line in lines),
    ]


def _text(value: Any) -> str:
    if value is None:
        return "–"
    return f"{value:.4g}" if isinstance(value, float) else str(value).replace("|", "\\|")


def _cells(figures: Mapping[str, Any], columns: Columns) -> list[Any]:
    return [_seconds(field, figures.get(field)) for _, field in columns]


def _seconds(field: str, value: Any) -> Any:
    return round(value / 1000, 2) if field.endswith("_ms") and value is not None else value


def _means(directions: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    means: dict[str, float] = {}
    for name in dict.fromkeys(name for each in directions for name in each):
        values = [each[name] for each in directions if isinstance(each.get(name), (int, float))]
        if values and name not in _NOT_AVERAGED:
            means[name] = round(sum(values) / len(values), 4)
    return means
