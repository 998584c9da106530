"""What a search for layers saves by keeping what the encoder said, and what each layer makes of it."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from streamtrans.bench.measurement import Progress, Report, Table, silent, use_threads
from streamtrans.compress.pruning import ORDERS
from streamtrans.compress.pruning.scores import Score, score
from streamtrans.compress.pruning.stacks import check, find_stack
from streamtrans.compress.pruning.subjects import SpeechSubject, check_silence
from streamtrans.core import BadConfig, Option
from streamtrans.evaluate.manifest import read_talks
from streamtrans.model.loading import find_folder, load_model

TOGETHER = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Reuse:
    """Search for decoder layers to remove, with and without what the readings before have worked out."""

    selection: Annotated[Path, Option("Manifest of the recordings that layers are chosen by.", argument=True)]
    model: Annotated[str, Option("The Whisper that loses layers: folder or hub name.")] = "openai/whisper-base"
    remove: Annotated[int, Option("Layers to remove.", least=1)] = 2
    silence_s: Annotated[
        float | None, Option("Seconds of silence behind recordings, in the place of padding.", "--silence", least=0)
    ] = None
    threads: Annotated[int | None, Option("Of torch.", least=1)] = 1

    def __post_init__(self) -> None:
        check_silence(self.silence_s)

    def measure(self, progress: Progress = silent) -> Report:
        """Let both read the selection in turn for each candidate, so that what else the machine does meets both."""
        use_threads(self.threads)
        folder = find_folder(self.model)
        depth = check(folder, find_stack(folder, "decoder"))
        if self.remove > depth - 2:
            raise BadConfig(f"--remove is {self.remove}: of {depth} decoder layers the first and the last stay")
        model, talks = load_model(folder, device="cpu"), read_talks(self.selection)
        keeping, anew = (
            SpeechSubject(model, "decoder", talks, (), TOGETHER, silence_s=self.silence_s) for _ in range(2)
        )
        both: list[tuple[Score, Score]] = []
        seconds = [0.0, 0.0]

        def scored(without: frozenset[int]) -> Score:
            anew.forget()
            found = []
            for at, subject in enumerate((keeping, anew)):
                began = time.process_time()
                found.append(score(subject.write([layer for layer in range(depth) if layer not in without])))
                seconds[at] += time.process_time() - began
            both.append((found[0], found[1]))
            return found[0]

        scored(frozenset())
        rounds = ORDERS["importance"](depth, self.remove, scored, progress)
        alike = sum(one.directions == other.directions for one, other in both)
        rows: list[tuple[str, float, float]] = [
            ("recordings heard", keeping.heard, anew.heard),
            ("recordings whose keys were made", keeping.projected, anew.projected),
            ("passes of the decoder", sum(one.passes for one, _ in both), sum(other.passes for _, other in both)),
            ("seconds of the processor", round(seconds[0], 1), round(seconds[1], 1)),
        ]
        figures = {
            "recordings": len(keeping.asked),
            "readings": len(both),
            "alike": alike,
            "removed": rounds[-1].removed,
            **{name: {"kept": kept, "anew": anew} for name, kept, anew in rows},
        }
        title = f"{len(both)} readings of {len(keeping.asked)} recordings"
        notes = [f"scores are equal in {alike} of {len(both)} readings; {seconds[1] / seconds[0]:.2f} times faster"]
        return Report(figures, [Table(title, ("", "kept", "made anew each time"), rows)], notes, markdown=True)
