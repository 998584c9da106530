"""What ``streamtrans evaluate MANIFEST.tsv --recordings`` does: people's recordings, each read at once."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

from streamtrans.core import BadConfig, Option
from streamtrans.runtime import ModelChoice

if TYPE_CHECKING:
    from streamtrans.cli.report import Kept
    from streamtrans.evaluate.recordings import RecordingsResult
    from streamtrans.model.api import SpeechModel


@dataclass(frozen=True, slots=True)
class Recordings:
    """Whether each line of the manifest is read at once, and how."""

    recordings: Annotated[
        bool,
        Option("Read each line of the manifest at once, as one utterance: errors, BLEU and chrF per direction."),
    ] = False
    silence: Annotated[
        int | None,
        Option("With --recordings: milliseconds of silence behind each, in the place of Whisper's 30 s.", least=0),
    ] = None
    without_layer: Annotated[
        int | None, Option("With --recordings: leave this decoder layer out, counted from 0.", least=0)
    ] = None

    def read(
        self, manifest: Path | None, targets: tuple[str, ...], together: int, choice: ModelChoice, kept: Kept
    ) -> None:
        """Score the recordings of a manifest, and say how well they were heard and translated.

        Raises:
            BadConfig: there is no manifest, or nothing in it can be scored.
        """
        if manifest is None:
            raise BadConfig("--recordings needs a manifest: a .tsv with audio, language and a language code per text")
        from streamtrans.cli.report import progress
        from streamtrans.evaluate import Watch
        from streamtrans.evaluate.manifest import read_talks
        from streamtrans.evaluate.recordings import RecordingsConfig, evaluate_recordings
        from streamtrans.model.loading import load_translator
        from streamtrans.runtime import identities, load_alone

        talks = read_talks(manifest)
        config = RecordingsConfig(
            targets=targets,
            together=together,
            drafter=choice.drafter,
            top_k=choice.engine_config(slots=1).top_k,
            silence_ms=self.silence,
            without=self.without_layer,
        )
        kept.prepare()
        loaded = load_alone(replace(choice, translator=None))
        translator = None
        if choice.translator is not None:
            translator = load_translator(choice.translator, device=choice.device, dtype=choice.dtype)
        with Watch() as watch, progress() as bar:
            task = bar.add_task("recordings", total=len(talks))
            result = evaluate_recordings(
                cast("SpeechModel", loaded),
                loaded.tokenizer,
                talks,
                config,
                translator=translator,
                progress=lambda done, total: bar.update(task, completed=done, total=total),
            )
        changed = {"silence_ms": self.silence, "without_layer": self.without_layer}
        figures = {**identities(choice), **changed, **result.figures()}
        if not kept.put("recordings", figures, watch.measured, result.texts):
            _show(result)


def _show(result: RecordingsResult) -> None:
    from streamtrans.cli.report import show

    spoken = sorted({*result.bleu, *result.error_rate})
    written = sorted({*(code for row in result.bleu.values() for code in row), *result.error_rate})
    lines = [
        [
            source,
            *(
                (f"{result.error_rate[code]:.1%}" if code in result.error_rate else None)
                if code == source
                else (f"{result.bleu[source][code]:.1f}" if code in result.bleu.get(source, {}) else None)
                for code in written
            ),
        ]
        for source in spoken
    ]
    show("BLEU from row to column; errors of transcripts on the diagonal", ["", *written], lines)
    chrf = [[source, *(result.chrf.get(source, {}).get(code) for code in written)] for source in spoken]
    show("chrF", ["", *written], chrf)
    mean = None if result.mean_bleu is None else round(result.mean_bleu, 2)
    show("all of it", ["", "value"], [["mean BLEU", mean], ["recordings", result.recordings]])
