"""Logs in the formats of other tools: simulstream's metrics log, and OmniSTEval's hypotheses.

Law: read back by its own tool, an exported log has the text and the times that ours has. A log that was cut off
exports what there is of it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from streamtrans.core import SAMPLE_RATE, BadConfig, Caption
from streamtrans.evaluate.logs import Log
from streamtrans.foreign import Table
from streamtrans.metrics import Timed, TimedWord, settled, shared, units
from streamtrans.text import joins_without_spaces


def export_simulstream(logs: Sequence[Log], path: Path, language: str) -> tuple[Path, ...]:
    """Write one language of ``logs`` as a metrics log of simulstream; return the files written.

    A talk is an ``id`` with a line per caption that changes its text: the audio processed and the computing time
    in seconds, and the units deleted from the text's end and generated there
    (https://github.com/hlt-mt/simulstream, ``metrics/readers.py``). Read it with ``detokenizer_type: simuleval``
    and ``latency_unit: word``, or ``char`` for languages written without spaces.

    The computing time is what wall time exceeds the audio by, 0 without wall time: it makes delays
    computation-aware, but its sum is no real-time factor. Where an older segment changes under a newer one, all
    the format can say is that both were written anew.

    Raises:
        BadConfig: two talks have one name, a log was never to have ``language``, or the file can't be written.
    """
    _check(logs, language)
    lines: list[Mapping[str, Any]] = []
    for number, log in enumerate(logs):
        lines.append({"id": number, "metadata": {"wav_name": log.header.audio}})
        lines += _increments(log, number, language)
    _write(path, "\n".join(json.dumps(line, ensure_ascii=False) for line in lines))
    return (path, *_write_references(logs, path, language))


def export_omnisteval(logs: Sequence[Log], path: Path, language: str) -> tuple[Path, ...]:
    """Write one language of ``logs`` as hypotheses for ``omnisteval longform``; return the files written.

    A line per talk, as SimulEval writes them (https://github.com/pe-trik/OmniSTEval): ``delays`` and, where
    every event has its wall time, ``elapsed`` say in ms when each unit settled. Evaluate it with
    ``--word_level``, or ``--char_level`` for languages written without spaces.

    Where all logs know the sentences of their references, these are written beside ``path``, with the suffixes
    ``.segments.yaml`` and ``.references.txt``, for ``--speech_segmentation`` and ``--ref_sentences_file``.

    Raises:
        BadConfig: as for :func:`export_simulstream`.
    """
    _check(logs, language)
    walls = [log.timed_by_wall() for log in logs]
    joint = "" if joins_without_spaces(language) else " "
    lines: list[str] = []
    for number, (log, wall) in enumerate(zip(logs, walls, strict=True)):
        words = _settled(log.timed(), language)
        line: dict[str, Any] = {
            "index": number,
            "source": log.header.audio,
            "prediction": joint.join(word.text for word in words),
            "delays": [word.at_ms for word in words],
        }
        if wall is not None and None not in walls:  # all talks or none, says OmniSTEval
            line["elapsed"] = [word.at_ms for word in _settled(wall, language)]
        if log.header.samples:
            line["source_length"] = _seconds(log.header.samples) * 1000
        lines.append(json.dumps(line, ensure_ascii=False))
    _write(path, "\n".join(lines))
    return (path, *_write_references(logs, path, language))


Export = Callable[[Sequence[Log], Path, str], tuple[Path, ...]]
"""Writes one language of some logs to a file, and returns the files written."""

EXPORTS: Table[Export] = Table(
    "format",
    {
        "simulstream": "streamtrans.evaluate.exports:export_simulstream",
        "omnisteval": "streamtrans.evaluate.exports:export_omnisteval",
    },
)
"""Format → ``module:function`` that writes it."""


@dataclass(frozen=True, slots=True)
class _Change:
    at: int
    wall_ms: float | None
    deleted: Sequence[str] = ()
    generated: Sequence[str] = ()

    def line(self, number: int) -> Mapping[str, Any]:
        audio = _seconds(self.at)
        return {
            "id": number,
            "total_audio_processed": audio,
            "computation_time": 0.0 if self.wall_ms is None else max(0.0, self.wall_ms / 1000 - audio),
            "generated_tokens": list(self.generated),
            "deleted_tokens": list(self.deleted),
        }


def _increments(log: Log, number: int, language: str) -> list[Mapping[str, Any]]:
    """Return the lines of one talk; the last one says how long it was."""
    changes: list[_Change] = []
    segments: dict[int, tuple[str, ...]] = {}
    text: list[str] = []
    for logged in log.events:
        caption = logged.event
        if not isinstance(caption, Caption) or caption.language != language:
            continue
        segments[caption.segment] = units(caption.text, language)
        new = [unit for segment in sorted(segments) for unit in segments[segment]]
        if new != text:
            kept = shared(text, new)
            changes.append(_Change(logged.at, logged.wall_ms, text[kept:], new[kept:]))
        text = new
    end = max([log.header.samples, *(logged.at for logged in log.events)])
    return [change.line(number) for change in (*changes, _Change(end, None))]


def _settled(timed: Sequence[Timed], language: str) -> tuple[TimedWord, ...]:
    return settled((at, event) for at, event in timed if isinstance(event, Caption) and event.language == language)


def _check(logs: Sequence[Log], language: str) -> None:
    if not logs:
        raise BadConfig("no logs to export: name one or more")
    names = [Path(log.header.audio).stem for log in logs]
    double = next((name for name in names if names.count(name) > 1), None)
    if double is not None:
        raise BadConfig(f"two of the logs are of a talk named {double!r}: both formats tell talks apart by name")
    for log in logs:
        if language not in log.header.targets:
            has = ", ".join(log.header.targets) or "nothing"
            raise BadConfig(f"the log of {log.header.audio!r} has no {language!r}: it has {has}")


def _write_references(logs: Sequence[Log], path: Path, language: str) -> tuple[Path, ...]:
    """Write the sentences of the references where all are known: times as YAML, texts as lines."""
    if not all(log.header.references.get(language) for log in logs):
        return ()
    times, texts = [], []
    for log in logs:
        for line in log.header.references[language]:
            seconds = {"offset": line.start_ms / 1000, "duration": line.duration_ms / 1000}
            times.append("- " + json.dumps({"wav": log.header.audio, **seconds}, ensure_ascii=False))
            texts.append(" ".join(line.text.split()))
    files = path.with_name(path.name + ".segments.yaml"), path.with_name(path.name + ".references.txt")
    for file, lines in zip(files, (times, texts), strict=True):
        _write(file, "\n".join(lines))
    return files


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text + "\n", encoding="utf-8", newline="\n")
    except OSError as error:
        raise BadConfig(f"{path} can't be written: {error.strerror}") from None


def _seconds(count: int) -> float:
    return count / SAMPLE_RATE
