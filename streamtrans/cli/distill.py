"""``streamtrans compress distill`` and ``qlora``: a model learns from another one, or beside four-bit weights."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from streamtrans.cli.stopping import stopping_well

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
To = Annotated[
    list[str] | None,
    typer.Option("--to", help="Languages to write. By default those of the manifest's texts.", show_default=False),
]
Work = Annotated[
    Path | None,
    typer.Option(help="Folder to go on from, by default DESTINATION-training.", show_default=False),
]
Steps = Annotated[int, typer.Option(min=1, help="Steps to take.")]
Batch = Annotated[int, typer.Option(min=1, help="Recordings per step.")]
Together = Annotated[
    int | None, typer.Option(min=1, help="Recordings per pass: fewer take less memory.", show_default=False)
]
Rate = Annotated[float, typer.Option("--lr", help="Learning rate at its peak.")]
Silence = Annotated[
    float | None,
    typer.Option(
        "--silence",
        help="Seconds of silence behind recordings, in the place of the padding that the family wants.",
        show_default=False,
    ),
]
Seed = Annotated[int, typer.Option(help="Of the order of recordings, and of fresh adapters.")]
_TERMS = {
    "texts": "loss of texts",
    "teacher": "divergence from the teacher",
    "norm": "norm of the gradient",
}
"""What the last step is told by."""
Device = Annotated[str, typer.Option(help="cpu, cuda, or auto.")]


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
    to: To = None,
    steps: Steps = 200,
    batch: Batch = 16,
    together: Together = None,
    lr: Rate = 6e-5,
    silence: Silence = None,
    seed: Seed = 1,
    device: Device = "auto",
    work: Work = None,
) -> None:
    """Teach a model what another one writes: whole texts, tokens, or both.

    After pruning, on recordings without any text:

        streamtrans compress distill openai/whisper-base smaller recovered --speech calls.tsv --texts teacher --to es,en

    A text that the two spell with different tokens is learnt as a text alone. Broken off, the same command goes on.
    """
    from streamtrans.compress.teaching import Teaching

    teaching = Teaching(
        student,
        tuple(map(str, speech)),
        learns=learns,
        teacher=teacher,
        texts=texts,
        to=_codes(to),
        kl=kl,
        steps=steps,
        batch=batch,
        together=together or batch,
        peak_lr=lr,
        warmup=max(1, steps // 10),
        silence_s=silence,
        seed=seed,
        device=device,
    )
    _run(teaching, destination, work)


def qlora(
    model: Annotated[str, typer.Argument(help="A Whisper, whisperM2M or Qwen2-Audio: folder or hub name.")],
    destination: Annotated[Path, typer.Argument(help="The folder to write; new or empty.")],
    *,
    speech: Speech,
    rank: Annotated[int, typer.Option(min=1, help="Of the adapters.")] = 64,
    alpha: Annotated[float, typer.Option(min=0, help="They count alpha / sqrt(rank) times.")] = 128.0,
    packed: Annotated[bool, typer.Option(help="Hold the base in four bits; without, this is plain LoRA.")] = True,
    to: To = None,
    steps: Steps = 200,
    batch: Batch = 16,
    together: Together = None,
    lr: Rate = 1e-5,
    silence: Silence = None,
    seed: Seed = 1,
    device: Device = "auto",
    work: Work = None,
) -> None:
    """Train adapters on all linears beside a base in four bits (nf4), and save the whole in bfloat16.

    Little memory is needed to train it; what is saved is as large and as fast as any model in 16 bits, loads in
    transformers, and can be made smaller by quantize:

        streamtrans compress qlora Qwen/Qwen2-Audio-7B-Instruct taught --speech talks.tsv --together 1

        streamtrans compress quantize taught small --bits 4
    """
    from streamtrans.compress.teaching import Teaching

    teaching = Teaching(
        model,
        tuple(map(str, speech)),
        learns="qlora" if packed else "lora",
        to=_codes(to),
        steps=steps,
        batch=batch,
        together=together or batch,
        peak_lr=lr,
        warmup=max(1, steps // 10),
        rank=rank,
        alpha=alpha,
        silence_s=silence,
        seed=seed,
        device=device,
    )
    _run(teaching, destination, work)
    _show_counts(teaching, destination, work)


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


def _show_counts(teaching: Teaching, destination: Path, work: Path | None) -> None:
    from streamtrans.cli.report import show
    from streamtrans.compress.teaching.counts import count

    found = count(teaching, destination, work or _work(destination))
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


def _work(destination: Path) -> Path:
    return destination.with_name(f"{destination.name}-training")


def _run(teaching: Teaching, destination: Path, work: Path | None) -> None:
    from streamtrans.cli.report import telling
    from streamtrans.compress.teaching import teach

    place = work or _work(destination)
    with stopping_well("the same command", place), telling("training") as told:
        found = teach(teaching, destination, work=place, told=told)
    show_taught(found)
    typer.echo(f"written to {destination}", err=True)


def _codes(to: list[str] | None) -> tuple[str, ...]:
    return tuple(code for codes in to or () for code in codes.split(",") if code)
