"""``streamtrans compress distill`` and ``qlora``: a model learns from another one, or beside four-bit weights."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from streamtrans.cli.stopping import stopping_well
from streamtrans.core.options import Option

if TYPE_CHECKING:
    from streamtrans.compress.teaching import Taught, Teaching

Speech = Annotated[
    list[Path],
    typer.Option(
        "--speech",
        help="A manifest of recordings: .tsv with audio, language, and a language code per text, if there are texts. "
        "Repeatable.",
    ),
]
_TERMS = {
    "texts": "loss of texts",
    "teacher": "divergence from the teacher",
    "norm": "norm of the gradient",
}
"""What the last step is told by."""


@dataclass(frozen=True, slots=True)
class Lesson:
    """What is learnt for how long, whoever teaches."""

    to: Annotated[tuple[str, ...], Option("Languages to write. By default those of the manifest's texts.")] = ()
    steps: Annotated[int, Option("Steps to take.", least=1)] = 200
    batch: Annotated[int, Option("Recordings per step.", least=1)] = 16
    together: Annotated[int | None, Option("Recordings per pass: fewer take less memory.", least=1)] = None
    peak_lr: Annotated[float, Option("Learning rate at its peak.", name="--lr")] = 6e-5
    silence_s: Annotated[
        float | None,
        Option("Seconds of silence behind recordings, in the place of the padding that the family wants.", "--silence"),
    ] = None
    seed: Annotated[int, Option("Of the order of recordings, and of fresh adapters.")] = 1
    device: Annotated[str, Option("cpu, cuda, or auto.")] = "auto"
    work: Annotated[Path | None, Option("Folder to go on from, by default DESTINATION-training.")] = None

    def of(self, student: str, speech: list[Path]) -> Teaching:
        """Return a training on texts alone."""
        from streamtrans.compress.teaching import Teaching

        return Teaching(
            student,
            tuple(map(str, speech)),
            to=tuple(code for codes in self.to for code in codes.split(",") if code),
            steps=self.steps,
            batch=self.batch,
            together=self.together or self.batch,
            peak_lr=self.peak_lr,
            warmup=max(1, self.steps // 10),
            silence_s=self.silence_s,
            seed=self.seed,
            device=self.device,
        )

    def place(self, destination: Path) -> Path:
        """Return where it is gone on from."""
        return self.work or destination.with_name(f"{destination.name}-training")


def distill(
    teacher: Annotated[str, typer.Argument(help="Who teaches: folder or hub name.")],
    student: Annotated[str, typer.Argument(help="Who learns: folder or hub name, such as a pruned model.")],
    destination: Annotated[Path, typer.Argument(help="The folder to write; new or empty.")],
    *,
    speech: Speech,
    texts: Annotated[
        str,
        typer.Option(help="given (people's), teacher (no text is needed), or both: the teacher's beside people's."),
    ] = "both",
    kl: Annotated[
        float, typer.Option(min=0, help="Weight of the divergence from the teacher, token by token; texts weigh 1.")
    ] = 1.0,
    learns: Annotated[str, typer.Option(help="decoder, all, lora or qlora.")] = "decoder",
    lesson: Lesson = Lesson(),
) -> None:
    """Teach a model what another one writes: whole texts, tokens, or both.

    After pruning, on recordings without any text:

        streamtrans compress distill openai/whisper-base smaller recovered --speech calls.tsv --texts teacher --to es,en

    A text that the two spell with different tokens is learnt as a text alone. Broken off, the same command goes on.
    """
    taught = replace(lesson.of(student, speech), learns=learns, teacher=teacher, texts=texts, kl=kl)
    _run(taught, destination, lesson.place(destination))


def qlora(
    model: Annotated[str, typer.Argument(help="A Whisper, whisperM2M or Qwen2-Audio: folder or hub name.")],
    destination: Annotated[Path, typer.Argument(help="The folder to write; new or empty.")],
    *,
    speech: Speech,
    rank: Annotated[int, typer.Option(min=1, help="Of the adapters.")] = 64,
    alpha: Annotated[float, typer.Option(min=0, help="They count alpha / sqrt(rank) times.")] = 128.0,
    packed: Annotated[bool, typer.Option(help="Hold the base in four bits; without, this is plain LoRA.")] = True,
    lesson: Lesson = Lesson(peak_lr=1e-5),
) -> None:
    """Train adapters on all linears beside a base in four bits (nf4), and save the whole in bfloat16.

    Little memory is needed to train it; what is saved is as large and as fast as any model in 16 bits, loads in
    transformers, and can be made smaller by quantize:

        streamtrans compress qlora Qwen/Qwen2-Audio-7B-Instruct taught --speech talks.tsv --together 1

        streamtrans compress quantize taught small --bits 4
    """
    taught = replace(lesson.of(model, speech), learns="qlora" if packed else "lora", rank=rank, alpha=alpha)
    _run(taught, destination, lesson.place(destination))
    _show_counts(taught, destination, lesson.place(destination))


def show_taught(found: Taught) -> None:
    """Say what a training was."""
    from streamtrans.cli.report import show

    rows: list[tuple[str, object]] = [
        ("recordings", found.recordings),
        ("texts", found.texts),
        ("parameters that learnt", f"{found.learning:,}"),
        ("seconds per step", found.seconds_per_step),
        *((_TERMS[name], value) for name, value in found.loss.items()),
    ]
    if "teacher" in found.loss:
        rows.insert(2, ("texts that both spell alike", f"{found.alike:.1%}"))
    show("taught", ["", ""], rows)


def _show_counts(teaching: Teaching, destination: Path, place: Path) -> None:
    from streamtrans.cli.report import show
    from streamtrans.compress.teaching.counts import count

    found = count(teaching, destination, place)
    before, learning, _ = found.values()
    rows: list[list[object]] = [
        ["parameters", *(f"{each.parameters:,}" for each in found.values())],
        ["of adapters beside them", *(f"{each.adapters:,}" for each in found.values())],
        ["numbers held for them", *(f"{each.numbers:,}" for each in found.values())],
        ["MB on disk", *(None if each.bytes_on_disk is None else each.bytes_on_disk / 1e6 for each in found.values())],
        ["MB in memory", *(each.bytes_held / 1e6 for each in found.values())],
        ["ms per token of a text read", *(each.ms_per_token for each in found.values())],
    ]
    show("counted in every way", ["", "before", "while it learns", "saved"], rows)
    gone, packed = (100 * (1 - at / before.parameters) for at in (learning.parameters, learning.numbers))
    typer.echo(
        f"while it learns {gone:.0f} % of the parameters are gone; counted as numbers held, as arXiv 2505.20237 counts,"
        f" {packed:.0f} %"
    )


def _run(teaching: Teaching, destination: Path, place: Path) -> None:
    from streamtrans.cli.report import telling
    from streamtrans.compress.teaching import teach

    with stopping_well("the same command", place), telling("training") as told:
        found = teach(teaching, destination, work=place, told=told)
    show_taught(found)
    typer.echo(f"written to {destination}", err=True)
