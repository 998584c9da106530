"""``streamtrans compress``: smaller models from larger ones, and one from many."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from streamtrans.cli.commands import expanded
from streamtrans.cli.distill import distill, qlora
from streamtrans.core import BadConfig
from streamtrans.foreign import Chosen

if TYPE_CHECKING:
    from streamtrans.compress.pruning import Pruned

compress = typer.Typer(
    name="compress",
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Make one model of several, and smaller ones of larger ones.",
)


@compress.callback()
def _compress() -> None:
    """Make one model of several, and smaller ones of larger ones."""


@compress.command()
def merge(
    base: Annotated[str, typer.Argument(help="The checkpoint that all were fine-tuned from: folder or hub name.")],
    destination: Annotated[Path, typer.Argument(help="The folder to write; new or empty.")],
    *,
    models: Annotated[
        list[str],
        typer.Option("--model", help="NAME=FOLDER of a fine-tuned model, such as de=runs/de. Repeatable."),
    ],
    method: Annotated[
        str | None,
        typer.Option(help="lors, task, mean, ties or dare. By default lors.", show_default=False),
    ] = None,
    values: Annotated[
        list[str] | None,
        typer.Option("--set", help="An option of the method, such as entries=0.3. Repeatable.", show_default=False),
    ] = None,
    scale: Annotated[
        float | None,
        typer.Option(
            min=0, help="λ. By default the method's, for lors one part in so many models.", show_default=False
        ),
    ] = None,
    add_to: Annotated[
        Path | None,
        typer.Option(
            help="A merged folder that the models are added to, with its method; its own models aren't needed.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Merge fine-tuned models of one ancestor into one: per-language models become one for all of them.

    As LoRS-Merging does it, then with one language more:

        streamtrans compress merge openai/whisper-small merged --model de=runs/de --model fr=runs/fr

        streamtrans compress merge openai/whisper-small more --add-to merged --model it=runs/it

    A merged model is as large and as fast as its ancestor.
    """
    from streamtrans.cli.report import show
    from streamtrans.compress.merging import add_to_merged
    from streamtrans.compress.merging import merge as run

    named = _named(models)
    if add_to is not None:
        given = {"--method": method, "--set": values or None, "--scale": scale}
        if said := [name for name, value in given.items() if value is not None]:
            raise BadConfig(f"--add-to goes on with the method of {add_to}; leave out {', '.join(said)}")
        found = add_to_merged(base, add_to, named, destination)
    else:
        found = run(
            base, named, destination, method=Chosen(method or "lors"), options=_options(values or []), scale=scale
        )
    rows = [(name, f"{share:.1%}") for name, share in found.energy.items()]
    show(f"{' + '.join(found.models)} by {found.method}, λ {found.scale:.3g}", ("of what it learnt", "kept"), rows)
    if found.likeness:
        pairs = [(f"{one}, {other}", f"{cosine:.3f}") for (one, other), cosine in found.likeness.items()]
        show("cosine of what two have learnt", ("", ""), pairs)
    typer.echo(f"written to {destination}", err=True)


@compress.command()
def prune(
    model: Annotated[str, typer.Argument(help="The checkpoint to make smaller: folder or hub name.")],
    destination: Annotated[Path, typer.Argument(help="The folder to write; new or empty.")],
    *,
    selection: Annotated[
        Path,
        typer.Option(
            help="Recordings with references, a .tsv with audio, language and a language code per text. Layers are "
            "chosen by them: take none that you report scores on."
        ),
    ],
    remove: Annotated[int, typer.Option(min=1, help="How many layers go; the first and the last stay.")],
    stack: Annotated[str, typer.Option(help="decoder or encoder; language_model of an audio LLM.")] = "decoder",
    order: Annotated[str, typer.Option(help="importance (measured), or to compare with: even, middle.")] = "importance",
    to: Annotated[
        list[str] | None,
        typer.Option("--to", help="Languages whose texts count. By default all there are.", show_default=False),
    ] = None,
    together: Annotated[int, typer.Option(min=1, help="Recordings decoded at once.")] = 8,
    work: Annotated[
        Path | None,
        typer.Option(
            help="Folder of the scores, by default DESTINATION-pruning. What is scored in it isn't scored again: "
            "name the same one for other orders and numbers of layers.",
            show_default=False,
        ),
    ] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda, or auto.")] = "auto",
    dtype: Annotated[str, typer.Option(help="Precision of the scoring; auto as it is served.")] = "auto",
    silence: Annotated[
        float | None,
        typer.Option(
            min=0,
            help="Seconds of silence behind recordings, in the place of a Whisper's padding: a quarter of the work.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Remove the layers that a model writes well without.

    Each candidate is left out in turn, the selection is transcribed and translated, and the layer goes without which
    the score is best; then the next one. Transcripts count 100 minus their errors in percent, translations chrF++
    (chrF into languages without spaces). Broken off, the same command goes on where it was:

        streamtrans compress prune openai/whisper-small smaller --selection people.tsv --remove 4
    """
    from streamtrans.cli.report import keep, telling
    from streamtrans.compress.pruning import Pruning
    from streamtrans.compress.pruning import prune as run
    from streamtrans.compress.pruning.search import work_folder
    from streamtrans.evaluate import Watch
    from streamtrans.evaluate.manifest import read_talks

    asked = Pruning(remove, stack, order, tuple(to or ()), together, device, dtype, silence)
    with Watch() as watch, telling("layers") as told:
        found = run(model, destination, read_talks(selection), asked, work=work, told=told)
    figures, folder = _smaller(found, model, destination), work_folder(destination, work)
    keep(f"{order}-{remove}", figures, watch.measured, folder)
    _show_removals(found, figures, folder)
    typer.echo(f"written to {destination}", err=True)


@compress.command()
def quantize(
    model: Annotated[str, typer.Argument(help="A model that hears: folder or hub name.")],
    destination: Annotated[Path, typer.Argument(help="The folder to write; new or empty.")],
    *,
    bits: Annotated[int, typer.Option(help="8 or 4, of attention and MLPs; the token embedding gets 8.")] = 8,
) -> None:
    """Store a model's matrices as whole numbers: half or a quarter of the bytes on disk, and nothing is trained.

    It is unpacked when loaded, so memory and speed are those of the precision that it is served in (--dtype):

        streamtrans compress quantize openai/whisper-small small-int8
    """
    from streamtrans.cli.report import show
    from streamtrans.compress.quantize import held_bytes, ms_per_token
    from streamtrans.compress.quantize import quantize as run
    from streamtrans.model.loading import find_folder, load_speech

    found = run(model, destination, bits=bits)
    rows: list[tuple[object, ...]] = [
        ("parameters", f"{found.parameters:,}", f"{found.parameters:,}"),
        ("numbers in the file", f"{found.parameters:,}", f"{found.stored:,}"),
        ("MB on disk", f"{found.bytes_before / 1e6:.1f}", f"{found.bytes / 1e6:.1f}"),
    ]
    for dtype in ("float32", "bfloat16", "int8"):
        both = [load_speech(folder, device="cpu", dtype=dtype) for folder in (find_folder(model), destination)]
        before, now = (f"{held_bytes(each) / 1e6:.1f}" for each in both)
        rows.append((f"MB in memory, served in {both[1].precision}", before, now))
        rows.append((f"ms per token, served in {both[1].precision}", *ms_per_token(both)))
    show(f"{found.bits} bits", ["", "before", "now"], rows)
    packed = 100 * (1 - found.stored / found.parameters)
    typer.echo(f"no parameter is gone; counted as numbers in the file, as arXiv 2505.20237 counts, {packed:.0f} % are")
    typer.echo(f"written to {destination}", err=True)


compress.command("distill")(expanded(distill))
compress.command("qlora")(expanded(qlora))


def _smaller(found: Pruned, model: str, destination: Path) -> dict[str, Any]:
    from streamtrans.model.loading import find_folder
    from streamtrans.runtime import identity

    before, now = (_weights_bytes(folder) for folder in (find_folder(model), destination))
    return {"model": identity(model), **found.figures(), "bytes_before": before, "bytes": now}


def _show_removals(found: Pruned, figures: dict[str, Any], folder: Path) -> None:
    from streamtrans.cli.report import show
    from streamtrans.compress.pruning.plots import draw

    names = list(found.whole.directions)
    rows = [
        [label, score.mean, *score.directions.values(), 1000 * score.seconds / max(1, score.passes)]
        for label, score in (
            ("none", found.whole),
            *((", ".join(map(str, each.removed)), each.score) for each in found.rounds),
        )
    ]
    show(
        f"{found.stack} of {found.depth} layers, by {found.order}: score by layers removed",
        ["layers removed", "mean", *names, "ms per pass"],
        rows,
    )
    before, now = (figures[name] / 1e6 for name in ("bytes_before", "bytes"))
    typer.echo(f"weights: {before:.1f} MB before, {now:.1f} MB now; plot: {draw(folder)}", err=True)


def _weights_bytes(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.glob("*.safetensors"))


def _named(models: list[str]) -> dict[str, str]:
    """Read ``NAME=FOLDER`` options."""
    found = dict[str, str]()
    for text in models:
        name, equals, folder = text.partition("=")
        if not (name and equals and folder) or name in found:
            raise BadConfig(f"--model is {text!r}; give NAME=FOLDER, each name once, such as de=runs/de")
        found[name] = folder
    return found


def _options(values: list[str]) -> dict[str, Any]:
    """Read ``NAME=NUMBER`` options."""
    found = dict[str, Any]()
    for text in values:
        name, _, value = text.partition("=")
        try:
            number = json.loads(value)
        except ValueError:
            number = None
        if not name or isinstance(number, bool) or not isinstance(number, int | float):
            raise BadConfig(f"--set is {text!r}; give NAME=NUMBER, such as entries=0.3")
        found[name] = number
    return found
