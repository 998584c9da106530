"""The verbs of ``streamtrans bench``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from streamtrans.cli.options import (
    Device,
    Drafter,
    Dtype,
    Model,
    ModelChoice,
    Threads,
    To,
    TopK,
    Vad,
    languages,
)
from streamtrans.core import BadConfig

bench = typer.Typer(
    name="bench",
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode="rich",
    help="Measure speed and size. Every figure is stored as JSON with its command and the machine.",
)

Results = Annotated[Path, typer.Option(help="Folder that keeps the figures, one JSON file per measurement.")]
Tables = Annotated[Path, typer.Option(help="Folder with the text tables (streamtrans corpus prepare).")]
RESULTS = Path("benchmarks/results")
TABLES = Path("data/text")


@bench.command()
def realtime(
    *,
    streams: Annotated[str, typer.Option(help="Speakers at once, one measurement each, such as 1,8.")] = "1,8",
    seconds: Annotated[float, typer.Option(min=2, help="Audio per speaker; it takes as long.")] = 60,
    to: To = "de",
    mode: Annotated[str, typer.Option(help="Caption mode: live, stable or final.")] = "live",
    results: Results = RESULTS,
    model: Model = None,
    device: Device = "auto",
    dtype: Dtype = "auto",
    drafter: Drafter = None,
    top_k: TopK = "1",
    vad: Vad = "silero",
    threads: Threads = None,
) -> None:
    """Serve speakers in real time; real-time factor, lag, passes per token and peak memory.

    A server in a process of its own serves synthetic talks. One speaker gets one core, more get all.
    """
    import asyncio

    from streamtrans.cli.bench.realtime import cases, measure, speeches
    from streamtrans.cli.bench.report import identity, keep, show
    from streamtrans.client import StreamOptions
    from streamtrans.evaluate.machine import Watch

    choice = ModelChoice(model, device, dtype, drafter, top_k, vad, threads)
    if mode not in ("live", "stable", "final"):
        raise BadConfig(f"mode is {mode!r}; use live, stable or final")
    options = StreamOptions(languages(to), encoding="pcm_s16le", mode=mode, vad=vad)  # type: ignore[arg-type]
    who = identity(model)
    with Watch() as watch:
        found: list[dict[str, Any]] = []
        for case in cases(_counts(streams), threads):
            typer.echo(f"speakers: {case.streams}, cores: {case.cores}, for {seconds:g} s …", err=True)
            speech = speeches(case.streams, seconds)
            found.append(asyncio.run(measure(case, choice, speech, options)))
    figures = {"model": who, "targets": options.targets, "mode": mode, "seconds": seconds, "cases": found}
    keep("realtime", figures, watch.measured, results)
    shown = [name for name in found[0] if name not in ("streams", "acceptance", "captions", "withdrawn")]
    show(
        "realtime",
        ["", *(str(each["streams"]) for each in found)],
        [[n, *(e[n] for e in found)] for n in shown],
    )


@bench.command()
def startup(
    *,
    runs: Annotated[int, typer.Option(min=1, help="How often the server is started.")] = 3,
    results: Results = RESULTS,
    model: Model = None,
    device: Device = "auto",
    dtype: Dtype = "auto",
    drafter: Drafter = None,
    top_k: TopK = "1",
    vad: Vad = "silero",
    threads: Threads = None,
) -> None:
    """Start streamtrans serve; seconds until it serves, and its memory."""
    from streamtrans.cli.bench.report import identity, keep, show
    from streamtrans.cli.bench.startup import start_once
    from streamtrans.evaluate.machine import Watch

    choice = ModelChoice(model, device, dtype, drafter, top_k, vad, threads)
    who = identity(model)
    with Watch() as watch:
        found = [start_once(choice.arguments()) for _ in range(runs)]
    figures = {"model": who, "runs": found, "slowest_s": max(run["ready_s"] for run in found)}
    keep("startup", figures, watch.measured, results)
    show("startup", list(found[0]), [list(run.values()) for run in found])


@bench.command()
def decode(
    *,
    tables: Tables = TABLES,
    rows: Annotated[int, typer.Option(min=1, help="Sentences, spread over the table.")] = 40,
    source: Annotated[str, typer.Option("--from", help="Language that is spoken.")] = "en",
    to: To = "de,fr",
    results: Results = RESULTS,
    model: Model = None,
    device: Device = "auto",
    dtype: Dtype = "auto",
    threads: Threads = None,
) -> None:
    """Compare drafters, one text at a time: passes per token, acceptance, milliseconds per token.

    Then read each sentence again every half second, with and without the previous reading as draft.
    """
    from streamtrans.cli.bench.report import dev_rows, identity, keep, load_alone, progress, show
    from streamtrans.corpus import spoken_for_evaluation
    from streamtrans.evaluate.dev import sample
    from streamtrans.evaluate.drafting import WAYS, Way, compare_drafters, compare_rereading
    from streamtrans.evaluate.machine import Watch

    targets = languages(to)
    weights, tokenizer = load_alone(ModelChoice(model, device, dtype, threads=threads))
    spoken = [spoken_for_evaluation(row, source) for row in sample(dev_rows(tables), rows)]
    fast = weights.has_speculator
    ways = WAYS if fast else tuple(way for way in WAYS if "kvspn" not in way.drafter)
    again = (Way("none"), Way("echo"), *((Way("echo,kvspn"),) if fast else ()))
    with Watch() as watch, progress() as bar:
        first = bar.add_task("drafters", total=len(spoken))
        plain = compare_drafters(
            weights,
            tokenizer,
            spoken,
            targets,
            ways,
            progress=lambda n, _: bar.update(first, completed=n),
        )
        second = bar.add_task("readings", total=len(spoken))
        growing = compare_rereading(
            weights, spoken, targets, again, progress=lambda n, _: bar.update(second, completed=n)
        )
    figures = {
        "model": identity(model),
        "rows": rows,
        "source": source,
        "targets": targets,
        "drafters": plain,
        "rereading": growing,
    }
    keep("decode", figures, watch.measured, results)
    for title, table in (("whole utterances", plain), ("re-read every 500 ms", growing)):
        names = [name for name in next(iter(table.values())) if name != "acceptance"]
        lines = [[name, *(way[name] for way in table.values())] for name in names]
        kept = ["drafts kept", *(_kept(way["acceptance"]) for way in table.values())]
        show(title, ["", *table], [*lines, kept])


@bench.command()
def parity(
    *,
    tokens: Annotated[int, typer.Option(min=1, help="Tokens scored at once, then one by one.")] = 8,
    results: Results = RESULTS,
) -> None:
    """Compare our logits with transformers' at Whisper-medium shape, and count parameters.

    Random weights in float32, one full 30 s window; takes about 5 GB of memory and a minute or two.
    """
    from streamtrans.cli.bench.report import keep, show
    from streamtrans.evaluate.machine import Watch
    from streamtrans.evaluate.parity import compare_with_transformers, count_parameters, parity_figures

    with Watch() as watch:
        found = parity_figures(compare_with_transformers(tokens=tokens))
    counts = count_parameters()
    keep("parity", {"logits": found, "parameters": counts}, watch.measured, results)
    show("largest difference to transformers, medium shape", ["", "value"], [[*item] for item in found.items()])
    millions = [[part, f"{count / 1e6:.2f} M"] for part, count in counts.items()]
    show("parameters of whisperM2M at medium shape", ["part", "count"], millions)


@bench.command()
def size(
    *,
    project: Annotated[Path, typer.Option(help="Source folder of the project.")] = Path(),
    results: Results = RESULTS,
    model: Model = None,
) -> None:
    """Build the wheel; its size, and the model's."""
    from streamtrans.cli.bench.report import keep, show
    from streamtrans.cli.bench.size import folder_mb, wheel_figures
    from streamtrans.evaluate.machine import Watch
    from streamtrans.model.loading import find_folder

    with Watch() as watch:
        figures = wheel_figures(project)
    figures["model_mb"] = folder_mb(find_folder(model))
    keep("size", figures, watch.measured, results)
    show("size", ["", "value"], [[name, value] for name, value in figures.items() if name != "largest"])
    show("largest in the wheel", ["file", "MB"], [[*item] for item in figures["largest"].items()])


def _counts(text: str) -> list[int]:
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdigit() and int(part) > 0 for part in parts):
        raise BadConfig(f"--streams is {text!r}; give whole numbers from 1 up, such as 1,8")
    return [int(part) for part in parts]


def _kept(acceptance: dict[str, float]) -> str:
    return "\n".join(f"{name} {share:.1%}" for name, share in acceptance.items()) or "–"
