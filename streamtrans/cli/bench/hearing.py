"""What hearing costs in minute 1 and in minute 30 of one run of speech."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import typer

from streamtrans.cli.bench.verbs import RESULTS, Results, bench
from streamtrans.cli.options import Dtype, Model, Threads
from streamtrans.core import SAMPLE_RATE, BadConfig
from streamtrans.runtime import ModelChoice

if TYPE_CHECKING:
    from collections.abc import Callable

    from rich.progress import Progress, TaskID

    from streamtrans.audio import Samples

_AT = (1, 2, 5, 15, 30)


@bench.command()
def hearing(
    *,
    minutes: Annotated[int, typer.Option(min=1, help="Length of the run; 1, 2, 5, 15, 30 and the last are told.")] = 30,
    streams: Annotated[int, typer.Option(min=1, help="Streams heard together, beside one alone.")] = 8,
    segment_s: Annotated[float, typer.Option(help="Seconds after which the speech is cut, without a pause.")] = 8.0,
    blocks: Annotated[
        int | None, typer.Option(min=1, help="Encoder frames per block. By default the model's.", show_default=False)
    ] = None,
    results: Results = RESULTS,
    model: Model = None,
    dtype: Dtype = "auto",
    threads: Threads = 1,
) -> None:
    """Hear one long run of speech block by block: cost per second of audio, state and memory as it goes on.

    Beside it what re-encoding the segment, or all that the model can hold, would cost. On the CPU.
    """
    import torch

    from streamtrans.bench.hearing import HearingConfig, measure_hearing
    from streamtrans.cli.bench.report import identity, keep, progress, show
    from streamtrans.evaluate.machine import Watch
    from streamtrans.model.layers import Blocks
    from streamtrans.model.loading import load_model

    choice = ModelChoice(model, "cpu", dtype, threads=threads)
    weights = load_model(choice.model, device=choice.device, dtype=choice.dtype)
    torch.set_num_threads(threads or 1)
    if blocks is not None:
        weights.hear_in(Blocks(blocks, weights.config.encoder_left))
    at = tuple(sorted({*(minute for minute in _AT if minute < minutes), minutes}))
    config = HearingConfig(at, segment_s)
    speech = _speech(minutes, streams)
    found: dict[str, dict[str, Any]] = {}
    with Watch() as watch, progress() as bar:
        for count in sorted({1, streams}):
            task = bar.add_task(f"minutes of {count}", total=minutes)
            found[str(count)] = measure_hearing(weights, speech[:count], config, progress=_advance(bar, task))
    about = {"model": identity(model), "precision": weights.precision, "segment_s": segment_s}
    size = {"blocks": weights.blocks.size, "left": weights.blocks.left} if weights.blocks else {}
    keep("hearing", {**about, **size, "streams": found}, watch.measured, results)
    for name, table in found.items():
        figures = list(next(iter(table.values())))
        lines = [[figure, *(minute.get(figure) for minute in table.values())] for figure in figures]
        show(f"streams: {name}; by minute of the run", ["", *table], lines)


def _advance(bar: Progress, task: TaskID) -> Callable[[int, int], None]:
    return lambda done, _: bar.update(task, completed=done)


def _speech(minutes: int, streams: int) -> list[Samples]:
    """Return a run without a pause for each stream: all say the same, each beginning at another place.

    Raises:
        BadConfig: there is nothing to speak with.
    """
    from streamtrans.bench.talk import talk

    try:
        spoken = talk(60 * minutes, pause_s=(0.0, 0.0))
    except BadConfig as error:
        raise BadConfig(f"there is no speech to hear: {error}") from None
    length = 60 * minutes * SAMPLE_RATE
    return [np.roll(spoken, -number * length // streams)[:length] for number in range(streams)]
