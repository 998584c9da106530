"""Is KVSPN more coherent beside one body than beside another? What it guesses right, and what that is worth.

arXiv 2508.11189 leaves decoder-only models for later. Here each model is measured against itself without drafts, on the
same audio: ratios compare, milliseconds of different implementations don't.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Annotated, Any

from streamtrans.audio import read_audio
from streamtrans.bench.drafting import Way, compare_drafters
from streamtrans.bench.measurement import TABLES, Progress, Report, Table, languages, silent
from streamtrans.core import BadConfig, Group, Option
from streamtrans.corpus import Utterance, Voice, read_manifest, spoken_for_evaluation
from streamtrans.evaluate.spoken import dev_rows, sample
from streamtrans.model.loading import load_speech
from streamtrans.runtime import ModelChoice, default_threads, identity

ALONE, DRAFTED = Way(), Way("kvspn")
"""Without drafts, and with one token of KVSPN at a time, verified at k = 1."""
COLUMNS = ("", "right", "guess : step", "passes per token", "speed", "same text", "guess ms", "step ms", "BLEU")


@dataclass(frozen=True, slots=True, kw_only=True)
class Bodies:
    """Measure KVSPN beside models of different build: acceptance, cost of a guess and of a step, speed, same text.

    Each model is decoded greedily without drafts and with KVSPN's guesses of one token, verified at k = 1, on people's
    recordings or on sentences that are spoken. Milliseconds are processor time.
    """

    bodies: Annotated[tuple[str, ...], Option("NAME=FOLDER of a model with a KVSPN. Repeatable.", name="--body")] = ()
    recordings: Annotated[
        Path | None,
        Option("Manifest of recordings, as evaluate --recordings reads it; by default sentences are spoken."),
    ] = None
    tables: Annotated[Path | None, TABLES] = None
    rows: Annotated[int, Option("Recordings, or sentences, spread over all there are.", least=1)] = 48
    source: Annotated[
        tuple[str, ...], Option("Languages that are spoken, joined by commas.", name="--from", read=languages)
    ] = ("en", "es", "fr", "it")
    to: Annotated[tuple[str, ...], Option("Languages to write.", read=languages)] = ("en",)
    choice: Annotated[ModelChoice, Group("device", "dtype", "threads")] = field(default_factory=ModelChoice)

    def measure(self, progress: Progress = silent) -> Report:
        """Decode everything with each body, with and without guesses."""
        import torch

        folders = _named(self.bodies)
        utterances = self._recorded() if self.recordings else self._spoken()
        found: dict[str, Any] = {}
        for name, folder in folders.items():
            model = load_speech(folder, device=self.choice.device, dtype=self.choice.dtype)
            torch.set_num_threads(self.choice.threads or default_threads(model))
            ways, told = (ALONE, DRAFTED), partial(progress, name)
            compared = compare_drafters({"": model}, model.vocabulary, utterances, self.to, ways, progress=told)
            found[name] = {"model": identity(folder), "parameters": model.parameters, **compared}
        asked = {"rows": len(utterances), "sources": self.source, "targets": self.to}
        table = Table("KVSPN of one token, k = 1, against the same body without", COLUMNS, _lines(found))
        return Report({**asked, "bodies": found}, [table], markdown=True)

    def _recorded(self) -> list[Utterance]:
        assert self.recordings is not None, "it was asked for"
        recordings, problems = read_manifest(self.recordings)
        if problems:
            raise BadConfig(problems[0])
        fitting = [each for each in recordings if each.language in self.source and {*self.to} <= each.texts.keys()]
        if not fitting:
            raise BadConfig(
                f"{self.recordings} has no recording in {', '.join(self.source)} with texts in {', '.join(self.to)}"
            )
        return [
            Utterance(
                str(each.audio), each.language, each.text, each.texts, read_audio(each.audio), Voice(each.language)
            )
            for each in sample(fitting, self.rows)
        ]

    def _spoken(self) -> list[Utterance]:
        rows = sample(dev_rows(self.tables), self.rows)
        return [spoken_for_evaluation(row, code) for row in rows for code in self.source]


def _named(pairs: tuple[str, ...]) -> dict[str, str]:
    """Read ``NAME=FOLDER`` options."""
    found = dict[str, str]()
    for pair in pairs:
        name, equals, folder = pair.partition("=")
        if name in found or not (name and equals and folder):
            raise BadConfig(
                f"--body is {pair!r}; give NAME=FOLDER, each name once, such as reading=checkpoints/reading"
            )
        found[name] = folder
    if not found:
        raise BadConfig("name what is measured: --body NAME=FOLDER, once for each model")
    return found


def _lines(found: Mapping[str, Mapping[str, Any]]) -> list[list[object]]:
    lines: list[list[object]] = []
    for name, body in found.items():
        alone, drafted = body[ALONE.name], body[DRAFTED.name]
        guess, step = drafted["cpu_ms_per_guess"], alone["cpu_ms_per_pass"]
        lines.append(
            [
                name,
                drafted["acceptance"].get("kvspn", 0.0),
                round(guess / step, 3),
                drafted["passes_per_token"],
                drafted["speed"],
                drafted["equal"],
                guess,
                step,
                alone["bleu"],
            ]
        )
    return lines
