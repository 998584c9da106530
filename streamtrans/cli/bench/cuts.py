"""``streamtrans bench cuts``: are words lost or doubled where segments are cut in continuous speech?"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from streamtrans.cli.bench.verbs import RESULTS, Results, bench
from streamtrans.cli.options import languages
from streamtrans.core import SAMPLE_RATE, BadConfig


@bench.command()
def cuts(
    manifest: Annotated[Path, typer.Argument(help="Talks with known sentence times, as streamtrans talks makes them.")],
    *,
    to: Annotated[
        str | None,
        typer.Option("--to", help="Languages to compare. By default what is spoken.", show_default=False),
    ] = None,
    values: Annotated[
        list[str] | None,
        typer.Option("--set", help="A setting of the session, such as policy=hold; may be repeated."),
    ] = None,
    errors: Annotated[
        float, typer.Option(min=0, max=1, help="Probability that one of the two newest words is read wrong.")
    ] = 0.0,
    drift_ms: Annotated[int, typer.Option(min=0, help="By how much the reader may misjudge when a word was said.")] = 0,
    results: Results = RESULTS,
) -> None:
    """Play talks to the session with a reader that knows the truth; words lost or double are the session's doing.

    Audio, detector and session are the real ones; only the model is replaced. An hour takes a few minutes:

        streamtrans talks runs/hour --languages en --hours 1

        streamtrans bench cuts runs/hour/MANIFEST.tsv
    """
    from streamtrans.bench.cuts import Errors, check_cuts
    from streamtrans.cli.bench.report import keep, progress, show
    from streamtrans.evaluate.machine import Watch
    from streamtrans.evaluate.manifest import read_talks
    from streamtrans.evaluate.settings import Setting, parse_values
    from streamtrans.vad import load_vad

    talks = read_talks(manifest)
    if without := [talk.name for talk in talks if not talk.sentences]:
        raise BadConfig(f"{', '.join(without)}: the manifest names no segments, so nobody knows what is said when")
    setting, asked = Setting("cuts", parse_values(values or [])), languages(to) if to else ()
    found: list[dict[str, Any]] = []
    with Watch() as watch, progress() as bar:
        task = bar.add_task("talks", total=len(talks))
        for talk in talks:
            config = setting.session(asked or (talk.language,), talk.language)
            audio = talk.load()
            report = check_cuts(config, talk.sentences, audio, load_vad, errors=Errors(errors, drift_ms=drift_ms))
            found.append({"talk": talk.name, "minutes": round(len(audio) / SAMPLE_RATE / 60, 1), **asdict(report)})
            bar.advance(task)
    figures = {"values": dict(setting.values), "errors": errors, "drift_ms": drift_ms, "talks": found}
    keep("cuts", figures, watch.measured, results)
    shown = [name for name in found[0] if name not in ("talk", "examples")]
    heading = ["", *(each["talk"] for each in found)]
    show("words at cuts", heading, [[name.replace("_", " "), *(each[name] for each in found)] for name in shown])
    for each in found:
        for example in each["examples"]:
            typer.echo(f"{each['talk']}: {example}")
