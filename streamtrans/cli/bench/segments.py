"""``streamtrans bench segments`` and ``silence``: where speech is found, and what is made of sounds without any."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from streamtrans.cli.bench.verbs import RESULTS, Results, bench
from streamtrans.cli.options import Device, Dtype, Model, Threads, To, languages
from streamtrans.core import BadConfig
from streamtrans.runtime import ModelChoice

if TYPE_CHECKING:
    from collections.abc import Sequence

    from streamtrans.audio import Samples
    from streamtrans.bench.mixtures import Mixture
    from streamtrans.vad import Vad

BOUNDS = Path("benchmarks/speech_bounds.tsv")

Vads = Annotated[str, typer.Option(help="Detectors, joined by commas.")]
Noises = Annotated[
    list[Path] | None,
    typer.Option("--noise", help="A recording without speech to use as noise too. Repeatable."),
]

_SHOWN = ("within", "starts_within", "ends_within", "start_median_ms", "start_p95_ms", "end_median_ms", "end_p95_ms")
_COUNTED = ("missed", "false", "split", "merged", "lost_share", "alarm_share", "windows_lost", "windows_alarm")


@bench.command()
def segments(
    *,
    speech: Annotated[Path, typer.Option(help="Folder with the recordings that the table of stretches names.")],
    bounds: Annotated[Path, typer.Option(help="Where speech is in them: file, start_ms, end_ms.")] = BOUNDS,
    noise: Noises = None,
    snr: Annotated[str, typer.Option(help="Speech over noise in dB, joined by commas.")] = "20,10,5",
    orders: Annotated[int, typer.Option(min=1, help="Mixtures, each in another order and with other gaps.")] = 3,
    vads: Vads = "silero,webrtc,energy",
    results: Results = RESULTS,
) -> None:
    """Find real speech whose bounds are known: joined with known gaps, clean and in noise, with every detector.

    Errors are found minus true; segments count without their pre-roll and padding. Each mixture arrives in chunks of
    four sizes, drawn ones among them, and must be cut alike.
    """
    import torch

    from streamtrans.audio import read_audio
    from streamtrans.bench.mixtures import cut, read_bounds
    from streamtrans.bench.segments import TOLERANCE_MS, measure
    from streamtrans.cli.bench.report import keep, show
    from streamtrans.evaluate.machine import Watch

    torch.set_num_threads(1)
    stretches = cut(speech, read_bounds(bounds))
    recorded = {path.stem: read_audio(path) for path in noise or []}
    with Watch() as watch:
        mixtures = _mixtures(stretches, recorded, _decibels("--snr", snr), orders)
        found = measure(_detectors(vads), mixtures)
    minutes = sum(len(each.audio) for each in mixtures["clean"]) / 16_000 / 60
    about = {"stretches": len(stretches), "minutes_per_condition": round(minutes, 1), "tolerance_ms": TOLERANCE_MS}
    keep("segments", {**about, "vads": found}, watch.measured, results)
    for name, table in found.items():
        for columns in (_SHOWN, (*_COUNTED, "chunks_differ")):
            lines = [[condition, *(figures[column] for column in columns)] for condition, figures in table.items()]
            show(f"{name}: boundaries within ±{TOLERANCE_MS} ms, errors in ms", ["", *columns], lines)


@bench.command()
def silence(
    *,
    minutes: Annotated[float, typer.Option(min=0.01, help="Of each sound at each level.")] = 10,
    sounds: Annotated[str, typer.Option(help="Of silence, white, pink, hum, music, band; by default all.")] = "",
    levels: Annotated[str, typer.Option(help="Mean power in dB relative to full scale, joined by commas.")] = (
        "-50,-35,-20"
    ),
    noise: Noises = None,
    vads: Vads = "silero,webrtc,energy",
    read: Annotated[bool, typer.Option(help="Also translate what is taken for speech.")] = True,
    to: To = "en,de",
    mode: Annotated[str, typer.Option(help="Caption mode: live, stable or final.")] = "live",
    results: Results = RESULTS,
    model: Model = None,
    device: Device = "auto",
    dtype: Dtype = "auto",
    threads: Threads = 1,
) -> None:
    """Play what is no speech; how much each detector takes for speech, and how many characters are committed.

    The sessions have the settings that the server gives by default.
    """
    import torch

    from streamtrans.audio import read_audio
    from streamtrans.bench.silence import SOUNDS, SilenceConfig, committed, measure
    from streamtrans.cli.bench.report import identity, keep, progress, show
    from streamtrans.evaluate.machine import Watch
    from streamtrans.runtime import load

    if mode not in ("live", "stable", "final"):
        raise BadConfig(f"mode is {mode!r}; use live, stable or final")
    recorded = {path.stem: read_audio(path) for path in noise or []}
    chosen = tuple(part.strip() for part in sounds.split(",") if part.strip()) or (*SOUNDS, *recorded)
    config = SilenceConfig(minutes, chosen, tuple(sorted(_decibels("--levels", levels))))
    torch.set_num_threads(threads or 1)
    detectors = _detectors(vads)
    loaded = load(ModelChoice(model, device, dtype, threads=threads)) if read else None
    listen = {}
    if loaded is not None:
        for name in detectors:
            session = loaded.session_config(languages(to), None, name, mode)  # type: ignore[arg-type]
            listen[name] = partial(committed, session, loaded.model.tokenizer, loaded.engine)
    try:
        with Watch() as watch, progress() as bar:
            task = bar.add_task("sounds", total=None)
            found = measure(config, detectors, listen, recorded, progress=lambda n: bar.update(task, completed=n))
    finally:
        if loaded is not None:
            loaded.engine.close()
    about: dict[str, Any] = {"minutes": minutes, "targets": languages(to), "mode": mode}
    if read:
        about["model"] = identity(model)
    keep("silence", {**about, "sounds": found}, watch.measured, results)
    columns = [name for name in found[0] if name != "texts"]
    show("sounds without speech", columns, [[line[name] for name in columns] for line in found])


def _mixtures(
    stretches: Sequence[Samples], recorded: dict[str, Samples], decibels: Sequence[float], orders: int
) -> dict[str, list[Mixture]]:
    """Return condition → mixtures: clean, then every noise at every level."""
    from streamtrans.bench.mixtures import join, made_noise, spoil

    clean = [join(stretches, seed) for seed in range(orders)]
    mixtures = {"clean": clean}
    for kind in ("white", "pink", *recorded):
        for snr in decibels:
            mixtures[f"{kind} {snr:g} dB"] = [
                spoil(each, recorded[kind] if kind in recorded else made_noise(kind, len(each.audio), seed), snr)
                for seed, each in enumerate(clean)
            ]
    return mixtures


def _detectors(names: str) -> dict[str, Vad]:
    from streamtrans.vad import load_vad

    chosen = [part.strip() for part in names.split(",") if part.strip()]
    if not chosen:
        raise BadConfig("--vads names no detector; give one or more, such as silero,energy")
    return {name: load_vad(name) for name in chosen}


def _decibels(option: str, text: str) -> list[float]:
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise BadConfig(f"{option} is {text!r}; give numbers of dB, such as 20,10,5") from None
