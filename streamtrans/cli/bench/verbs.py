"""The verbs of ``streamtrans bench``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from streamtrans.cli.options import Device, Drafter, Dtype, Model, Threads, To, TopK, Vad, languages
from streamtrans.core import BadConfig
from streamtrans.runtime import ModelChoice

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
        for case in cases(counts("--streams", streams), threads):
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
def soak(
    *,
    streams: Annotated[int, typer.Option(min=1, help="Speakers at once.")] = 4,
    minutes: Annotated[float, typer.Option(min=0.1, help="How long they go on.")] = 120,
    warm_up: Annotated[float, typer.Option(min=0, help="Minutes at the beginning that don't count.")] = 10,
    block: Annotated[float, typer.Option(min=0.01, help="Minutes that are averaged before a slope is fitted.")] = 5,
    every: Annotated[float, typer.Option(min=0.1, help="Seconds between two samples.")] = 30,
    results: Results = RESULTS,
    model: Model = None,
    device: Device = "auto",
    dtype: Dtype = "auto",
    drafter: Drafter = None,
    top_k: TopK = "1",
    vad: Vad = "silero",
    threads: Threads = None,
) -> None:
    """Load a server for hours; whether memory or lag grow, with a 95 % interval.

    Streams of speech and silence in real time, against `streamtrans serve` in a process of its own.
    """
    import asyncio

    from streamtrans.cli.bench.realtime import speeches
    from streamtrans.cli.bench.report import identity, keep, show
    from streamtrans.cli.bench.soak import Plan, line, slopes_table
    from streamtrans.cli.bench.soak import soak as load_for_hours
    from streamtrans.cli.bench.startup import started
    from streamtrans.evaluate.machine import Watch

    choice = ModelChoice(model, device, dtype, drafter, top_k, vad, threads)
    plan = Plan(streams, minutes, warm_up, block, every)
    who = identity(model)
    speech = speeches(streams, 300)
    with Watch() as watch, started([*choice.arguments(), "--max-sessions", str(streams)]) as (process, port):
        address = f"127.0.0.1:{port}"
        found = asyncio.run(load_for_hours(plan, address, process, speech, lambda it: typer.echo(line(it), err=True)))
    keep("soak", {"model": who, **found}, watch.measured, results)
    show("slope per minute after the warm-up", *slopes_table(found))


@bench.command()
def decode(
    *,
    tables: Tables = TABLES,
    rows: Annotated[int, typer.Option(min=1, help="Sentences, spread over the table.")] = 12,
    source: Annotated[str, typer.Option("--from", help="Languages that are spoken, joined by commas.")] = "en,de,zh",
    to: To = "en,de,fr",
    beside: Annotated[
        list[str] | None,
        typer.Option(help="NAME=FOLDER of a model to measure too: double, pruned, medusa, equal. Repeatable."),
    ] = None,
    results: Results = RESULTS,
    model: Model = None,
    device: Device = "auto",
    dtype: Dtype = "auto",
    threads: Threads = None,
) -> None:
    """Fill the paper's tables: BLEU, milliseconds per token, speed, drafts kept, passes per token.

    One text at a time; every way of decoding takes its turn on each, so that speeds are paired. Then each
    sentence is read again every half second, with and without the previous reading as draft.
    """
    from streamtrans.bench.drafting import Way, compare_drafters, compare_rereading
    from streamtrans.bench.paper import fill_tables, ways_for
    from streamtrans.cli.bench.report import dev_rows, identity, keep, load_alone, progress, show
    from streamtrans.corpus import spoken_for_evaluation
    from streamtrans.evaluate.dev import sample
    from streamtrans.evaluate.machine import Watch

    targets = languages(to)
    folders = {"": model, **_beside(beside or [])}
    loaded = {name: load_alone(ModelChoice(path, device, dtype, threads=threads)) for name, path in folders.items()}
    models = {name: weights for name, (weights, _) in loaded.items()}
    tokenizer = loaded[""][1]
    chosen = sample(dev_rows(tables), rows)
    spoken = [spoken_for_evaluation(row, code) for row in chosen for code in languages(source)]
    again = tuple(Way(name, count=None) for name in ("none", "echo", "echo,kvspn")[: 2 + models[""].has_speculator])
    with Watch() as watch, progress() as bar:
        first = bar.add_task("ways of decoding", total=len(spoken))
        plain = compare_drafters(
            models, tokenizer, spoken, targets, ways_for(models), progress=lambda n, _: bar.update(first, completed=n)
        )
        second = bar.add_task("readings", total=len(spoken))
        growing = compare_rereading(
            models[""], spoken, targets, again, progress=lambda n, _: bar.update(second, completed=n)
        )
    filled = fill_tables(plain)
    figures = {
        "models": {name or "base": identity(path) for name, path in folders.items()},
        "rows": rows,
        "sources": languages(source),
        "targets": targets,
        "tables": filled,
        "ways": plain,
        "rereading": growing,
    }
    keep("decode", figures, watch.measured, results)
    for title, lines in filled.items():
        show(title, list(lines[0]), [list(line.values()) for line in lines])
    show("re-read every 500 ms", ["", *growing], _sides(growing))


@bench.command()
def ablations(
    *,
    recipe: Annotated[Path, typer.Argument(help="Recipe whose stages are compared.")] = Path("recipes/ablations.toml"),
    runs: Annotated[Path, typer.Option(help="Folder of the training runs.")] = Path("runs"),
    tables: Tables = TABLES,
    rows: Annotated[int, typer.Option(min=1, help="Sentences that are scored, in all languages.")] = 30,
    timed: Annotated[int, typer.Option(min=1, help="Sentences that are timed, one text at a time.")] = 2,
    results: Results = RESULTS,
    threads: Threads = 1,
) -> None:
    """Compare the finished stages of a recipe: parameters, BLEU, transcript errors, drafts kept, speed."""
    from streamtrans.bench.ablations import compare_stages
    from streamtrans.cli.bench.report import dev_rows, keep, progress, show
    from streamtrans.evaluate.machine import Watch

    if threads is not None:
        import torch

        torch.set_num_threads(threads)
    with Watch() as watch, progress() as bar:
        task = bar.add_task("stages", total=None)
        found = compare_stages(
            recipe,
            runs,
            dev_rows(tables),
            rows_scored=rows,
            rows_timed=timed,
            progress=lambda n, total: bar.update(task, completed=n, total=total),
        )
    keep("ablations", {"recipe": recipe.name, "rows": rows, "timed": timed, "stages": found}, watch.measured, results)
    names = list(next(iter(found.values())))
    show("ablations", ["", *names], [[stage, *(line[name] for name in names)] for stage, line in found.items()])


@bench.command()
def text(
    *,
    recipe: Annotated[Path, typer.Argument(help="Recipe of the run.")] = Path("recipes/nano.toml"),
    stage: Annotated[str, typer.Option(help="Stage whose weights are taken.")] = "stream",
    runs: Annotated[Path, typer.Option(help="Folder of the training runs.")] = Path("runs"),
    tables: Tables = TABLES,
    rows: Annotated[int, typer.Option(min=1, help="Sentences, spread over the table.")] = 40,
    results: Results = RESULTS,
    threads: Threads = 1,
) -> None:
    """Translate the text instead of the speech: what the decoder could write if every word were understood."""
    import torch

    from streamtrans.bench.textual import score_text
    from streamtrans.cli.bench.report import dev_rows, keep, progress, show
    from streamtrans.evaluate.machine import Watch

    torch.set_num_threads(threads or 1)
    with Watch() as watch, progress() as bar:
        task = bar.add_task("rows", total=rows)
        found = score_text(
            recipe, stage, runs, dev_rows(tables), rows_scored=rows, progress=lambda n, _: bar.update(task, completed=n)
        )
    keep("text", {"recipe": recipe.name, "stage": stage, **found}, watch.measured, results)
    codes = list(found["bleu"])
    lines = [[source, *(found["bleu"][source].get(target) for target in codes)] for source in codes]
    show(f"BLEU from text, mean {found['mean_bleu']}", ["", *codes], lines)


@bench.command(name="long")
def long_texts(
    *,
    lengths: Annotated[str, typer.Option(help="Tokens of the text, joined by commas.")] = (
        "100,200,300,400,500,600,700,800,900,1000"
    ),
    rounds: Annotated[int, typer.Option(min=1, help="How often each is timed.")] = 15,
    width: Annotated[int, typer.Option(min=64, help="Of the network; 1024 is Whisper Medium's.")] = 1024,
    results: Results = RESULTS,
    threads: Threads = 1,
) -> None:
    """Time a guess of KVSPN in long texts: all keys, each group's top layer, the newest positions only.

    Random weights in float32; takes about 3 GB of memory at medium width.
    """
    import torch

    from streamtrans.bench.long import LongConfig, measure_long
    from streamtrans.cli.bench.report import keep, progress, show
    from streamtrans.evaluate.machine import Watch

    torch.set_num_threads(threads or 1)
    config = LongConfig(tuple(counts("--lengths", lengths)), rounds=rounds, width=width)
    with Watch() as watch, progress() as bar:
        task = bar.add_task("lengths", total=len(config.lengths))
        found = measure_long(config, progress=lambda n, _: bar.update(task, completed=n))
    keep("long", {"width": width, "rounds": rounds, "lengths": found}, watch.measured, results)
    names = list(next(iter(found.values())))
    cells = [[n, *(f"{at[v]['ms']:g} ms ({at[v]['of_a_step']:.2f})" for v in names)] for n, at in found.items()]
    show("milliseconds (share of a base step of the same round)", ["tokens", *names], cells)


@bench.command()
def parity(
    *,
    tokens: Annotated[int, typer.Option(min=1, help="Tokens scored at once, then one by one.")] = 8,
    results: Results = RESULTS,
) -> None:
    """Compare our logits with transformers' at Whisper-medium shape, and count parameters.

    Random weights in float32, one full 30 s window; takes about 5 GB of memory and a minute or two.
    """
    from streamtrans.bench.parity import compare_with_transformers, count_parameters, parity_figures
    from streamtrans.cli.bench.report import keep, show
    from streamtrans.evaluate.machine import Watch

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


def counts(option: str, text: str) -> list[int]:
    """Read whole numbers from 1 up, joined by commas.

    Raises:
        BadConfig: it is something else.
    """
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdigit() and int(part) > 0 for part in parts):
        raise BadConfig(f"{option} is {text!r}; give whole numbers from 1 up, such as 1,8")
    return [int(part) for part in parts]


def _beside(pairs: list[str]) -> dict[str, str]:
    """Read ``NAME=FOLDER`` options."""
    from streamtrans.bench.paper import DOUBLE, EQUAL, MEDUSA, PRUNED

    found = dict[str, str]()
    for pair in pairs:
        name, equals, folder = pair.partition("=")
        if name not in (DOUBLE, PRUNED, MEDUSA, EQUAL) or name in found or not (equals and folder):
            raise BadConfig(
                f"--beside is {pair!r}; give NAME=FOLDER once each for double, pruned, medusa and equal, such as"
                " pruned=runs/pruned"
            )
        found[name] = folder
    return found


def _sides(table: dict[str, dict[str, Any]]) -> list[list[Any]]:
    """Turn figures per way into lines of one figure each."""
    names = [name for name in next(iter(table.values())) if name != "acceptance"]
    lines = [[name, *(way[name] for way in table.values())] for name in names]
    return [*lines, ["drafts kept", *(_kept(way["acceptance"]) for way in table.values())]]


def _kept(acceptance: dict[str, float]) -> str:
    return "\n".join(f"{name} {share:.1%}" for name, share in acceptance.items()) or "–"
