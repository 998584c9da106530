"""Law: a measurement is one file and one line of :data:`MEASUREMENTS`; what it measures is what is served.

The project measures itself and the papers here; what a user evaluates is in :mod:`streamtrans.evaluate`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from streamtrans.bench.measurement import Measurement
from streamtrans.foreign import Table

Needs = Literal["nothing", "tables", "runs"]
"""What must be there beside a clone: text tables, or also runs of training."""


@dataclass(frozen=True, slots=True)
class Line:
    """Where a measurement is, ``module:Class``, and what the routine needs to include it; ``None``: it never does."""

    where: str
    routine: Needs | None = None


MEASUREMENTS: dict[str, Line] = {
    "startup": Line("streamtrans.bench.startup:Startup", "nothing"),
    "realtime": Line("streamtrans.bench.realtime:Realtime", "nothing"),
    "lags": Line("streamtrans.bench.lags:Lags"),
    "soak": Line("streamtrans.bench.soak:Soak"),
    "breaks": Line("streamtrans.bench.breaks:Breaks"),
    "viewers": Line("streamtrans.bench.viewers:Viewers"),
    "scripts": Line("streamtrans.bench.scripts:Scripts"),
    "malformed": Line("streamtrans.bench.malformed:Malformed"),
    "size": Line("streamtrans.bench.size:Size", "nothing"),
    "parity": Line("streamtrans.bench.parity:LogitsAndParameters", "nothing"),
    "decode": Line("streamtrans.bench.decode:WaysOfDecoding", "tables"),
    "bodies": Line("streamtrans.bench.bodies:Bodies"),
    "rereading": Line("streamtrans.bench.rereading:Rereading"),
    "hearing": Line("streamtrans.bench.hearing:LongHearing"),
    "cuts": Line("streamtrans.bench.cuts:Cuts"),
    "segments": Line("streamtrans.bench.segments:Segments"),
    "guard": Line("streamtrans.bench.guard:OffTarget"),
    "chatter": Line("streamtrans.bench.chatter:Chatter"),
    "silence": Line("streamtrans.bench.silence:Silence"),
    "levels": Line("streamtrans.bench.levels:Levels"),
    "costs": Line("streamtrans.bench.costs:Costs", "tables"),
    "passes": Line("streamtrans.bench.passes:Passes"),
    "peers": Line("streamtrans.bench.peers:Peers", "tables"),
    "race": Line("streamtrans.bench.race:Race"),
    "long": Line("streamtrans.bench.long:LongTexts", "tables"),
    "text": Line("streamtrans.bench.textual:TextInPlaceOfSpeech", "runs"),
    "layers": Line("streamtrans.bench.layers:Layers"),
    "reuse": Line("streamtrans.bench.reuse:Reuse"),
    "languages": Line("streamtrans.bench.languages:Languages"),
    "ablations": Line("streamtrans.bench.ablations:Ablations", "runs"),
}
"""Name → measurement: the verbs of ``streamtrans bench``, and the names of the files that keep their figures."""


def load_measurement(name: str) -> type[Measurement]:
    """Import a measurement of the table and return its class."""
    table: Table[type[Measurement]] = Table("measurement", {name: line.where for name, line in MEASUREMENTS.items()})
    return table.load(name)
