"""What ``streamtrans evaluate`` does without a manifest: sentences of a table are spoken, and each read at once."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

from streamtrans.cli.options import languages
from streamtrans.core import BadConfig, Option
from streamtrans.runtime import ModelChoice

if TYPE_CHECKING:
    from streamtrans.cli.report import Kept
    from streamtrans.evaluate import DevConfig, DevResult
    from streamtrans.model.api import SpeechModel


def _languages(option: str, text: str) -> tuple[str, ...]:
    return languages(text, option)


@dataclass(frozen=True, slots=True)
class Sentences:
    """Which sentences are spoken, by whom, and how they are decoded."""

    tables: Annotated[
        Path | None,
        Option(
            "Folder with massive_dev.tsv (streamtrans corpus prepare), or a table of that form. By default data/text, "
            "or the sentences of the package."
        ),
    ] = None
    rows: Annotated[int | None, Option("Only so many rows, spread over the table.", least=1)] = None
    sources: Annotated[
        tuple[str, ...],
        Option("Languages to speak, such as en,de. By default all.", repeats=True, read=_languages),
    ] = ()
    targets: Annotated[
        tuple[str, ...], Option("Languages to write. By default all.", repeats=True, read=_languages)
    ] = ()
    recheck: Annotated[
        int, Option("Utterances to read again without drafts, to compare passes and texts.", least=0)
    ] = 240
    voices: Annotated[str, Option("Who speaks: 'evaluation' voices, which no training hears, or 'training' ones.")] = (
        "evaluation"
    )
    draft_tokens: Annotated[int | None, Option("KVSPN's guesses at a time. By default what pays.", least=0, most=8)] = (
        None
    )
    blocks: Annotated[
        int | None,
        Option(
            "Encoder frames heard at once; 0: all of an utterance. By default what the model is served with.", least=0
        ),
    ] = None
    beams: Annotated[
        int,
        Option(
            "Search with so many texts at a time instead of writing the likeliest token each time; 3 is usual. "
            "Offline only: the live server is greedy.",
            least=1,
        ),
    ] = 1

    def read(self, together: int, choice: ModelChoice, kept: Kept) -> None:
        """Score the model on the sentences, and say how well it did.

        Raises:
            BadConfig: there are no such voices, or nothing to speak.
        """
        from streamtrans.cli.report import progress
        from streamtrans.evaluate import Watch, evaluate_dev
        from streamtrans.evaluate.spoken import dev_rows, training_speaker
        from streamtrans.runtime import identity, load_alone

        if self.voices not in ("evaluation", "training"):
            raise BadConfig(f"--voices is {self.voices!r}; use evaluation or training")
        table = dev_rows(self.tables)
        config = self._config(together, choice)
        kept.prepare()
        weights = load_alone(choice)
        with Watch() as watch, progress() as bar:
            task = bar.add_task("utterances", total=None)
            result = evaluate_dev(
                cast("SpeechModel", weights),  # its caches are of its own class
                weights.tokenizer,
                table,
                config,
                speak=training_speaker() if self.voices == "training" else None,
                progress=lambda done, total: bar.update(task, completed=done, total=total),
            )
        figures = {"model": identity(choice.model), **result.figures()}
        if not kept.put("dev", figures, watch.measured, result.texts):
            _show(result)

    def _config(self, together: int, choice: ModelChoice) -> DevConfig:
        from streamtrans.evaluate import DevConfig

        return DevConfig(
            sources=self.sources,
            targets=self.targets,
            rows=self.rows,
            together=together,
            drafter=choice.drafter,
            top_k=choice.engine_config(slots=1).top_k,
            beams=self.beams,
            draft_tokens=self.draft_tokens,
            blocks=self.blocks,
            recheck=self.recheck,
        )


def _show(result: DevResult) -> None:
    from streamtrans.cli.report import show

    written = tuple(dict.fromkeys((*(t for row in result.bleu.values() for t in row), *result.error_rate)))
    written = tuple(code for code in result.signatures if code in written)
    lines = []
    for source, scores in result.bleu.items():
        cells = []
        for target in written:
            if target == source:
                cells.append(f"{result.error_rate[source]:.1%}")
            else:
                cells.append(f"{scores[target]:.1f}")
        lines.append([source, *cells])
    show("BLEU from row to column; errors of transcripts on the diagonal", ["", *written], lines)
    figures = result.figures()
    kept = ", ".join(f"{name} {share:.1%}" for name, share in figures["acceptance"].items())
    summary: list[list[Any]] = [
        ["mean BLEU", result.mean_bleu],
        ["utterances", result.utterances],
        ["drafts accepted", kept or None],
        ["passes per token", figures["passes_per_token"]],
        ["engine seconds per second of audio", round(result.busy_s / result.audio_s, 4)],
    ]
    if result.recheck is not None:
        summary += [
            [
                f"of {result.recheck.utterances} utterances, passes per token",
                result.recheck.drafted_passes_per_token,
            ],
            ["the same without drafts", result.recheck.undrafted_passes_per_token],
            ["their texts equal without drafts", f"{result.recheck.equal:.2%}"],
        ]
    show("all of it", ["", "value"], summary)
