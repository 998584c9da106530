"""The measured table of (policy, β): what each setting costs a viewer, and which one keeps a caller's budgets.

A model folder may hold ``streaming.json``, written by ``streamtrans evaluate --settings … --write-table``; it belongs
to that model, for another one errs and hesitates elsewhere.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from streamtrans.core import BadConfig, BadModel, CaptionChoice, Mode, asked
from streamtrans.foreign import BadValue, parse, typed
from streamtrans.stream.config import SessionConfig

FILE = "streaming.json"

_MOST_BYTES = 1 << 20
"""Of that file; a row has a few hundred."""

_LONGEST_NAME = 100


@dataclass(frozen=True, slots=True)
class Setting:
    """One row: how a session is set, and what was measured of it.

    ``erasure`` is normalised; ``latency_ms`` is StreamLAAL, a word counting when it last changed; ``bleu_loss`` is
    against decoding the same segments offline.
    """

    name: str
    mode: Mode
    policy: str
    policy_n: int
    bias: float
    masked: int
    reading_interval_ms: int
    min_first_reading_ms: int
    erasure: float
    latency_ms: float
    bleu_loss: float

    def apply(self, config: SessionConfig) -> SessionConfig:
        """Return ``config`` set like this."""
        return replace(
            config,
            mode=self.mode,
            policy=self.policy,
            policy_n=self.policy_n,
            bias=self.bias,
            masked=self.masked,
            reading_interval_ms=self.reading_interval_ms,
            min_first_reading_ms=self.min_first_reading_ms,
        )

    def check(self) -> None:
        """Refuse what no session could be set to.

        Raises:
            BadConfig: a field is out of range, a measure is no finite number, or the name can't be shown.
        """
        for name in ("erasure", "latency_ms", "bleu_loss"):
            if not math.isfinite(getattr(self, name)):
                raise BadConfig(f"setting {self.name!r}: {name} is {getattr(self, name)}; it must be finite")
        if not 0 < len(self.name) <= _LONGEST_NAME or not self.name.isprintable():
            raise BadConfig(f"setting {self.name!r}: give a name of 1 to {_LONGEST_NAME} printable characters")
        self.apply(SessionConfig(("en",)))


class Unmet(BadConfig):
    """Something that was asked of captions can't be had; ``fields`` names what, as ``CaptionChoice`` does."""

    def __init__(self, message: str, named: Sequence[str]) -> None:
        super().__init__(message)
        self.fields = tuple(named)

    def by_option(self) -> BadConfig:
        """Return the error for whoever has asked by options."""
        flags = " and ".join(each.flag for each in asked(CaptionChoice) if each.field in self.fields)
        return BadConfig(f"{flags}: {self}")


class Settings:
    """The table. The first row of a mode is its default. ``level_db`` is that of speech that the model hears best."""

    def __init__(self, rows: Sequence[Setting] = (), level_db: float | None = None) -> None:
        self.rows = tuple(rows)
        self.level_db = level_db

    @classmethod
    def load(cls, folder: Path) -> Settings:
        """Read ``streaming.json`` of a model folder; there may be none, and then nothing was measured.

        Raises:
            BadModel: the file is there and is no such table.
        """
        path = folder / FILE
        if not path.exists():
            return cls()
        names = {item.name for item in fields(Setting)}
        try:
            table = typed(dict[str, Any], parse(path.read_bytes(), _MOST_BYTES))
            listed: tuple[dict[str, Any], ...] = typed(tuple[dict[str, Any], ...], table.get("settings"), "settings")
            level = typed(float | None, table.get("level_db"), "level_db")
            SessionConfig(("en",), level_db=level)
            rows = []
            for number, row in enumerate(listed):
                known = {key: value for key, value in row.items() if key in names}
                rows.append(typed(Setting, known, f"settings[{number}]"))
                rows[-1].check()
        except (OSError, BadValue, BadConfig) as error:
            raise BadModel(f"{path} is no table of settings: {error}") from None
        return cls(rows, level)

    def default(self, mode: Mode) -> Setting | None:
        """Return the first row of ``mode``, or ``None`` where nothing was measured."""
        return next((row for row in self.rows if row.mode == mode), None)

    def choose(
        self, mode: Mode, *, erasure_budget: float | None = None, latency_budget_ms: float | None = None
    ) -> Setting | None:
        """Return the row of ``mode`` that keeps both budgets and loses least; without budgets the default.

        Raises:
            Unmet: none does; the message says which budget can't be kept, and what can.
        """
        if erasure_budget is None and latency_budget_ms is None:
            return self.default(mode)
        rows = [row for row in self.rows if row.mode == mode]
        asked = [
            name
            for name, value in (("erasure_budget", erasure_budget), ("latency_budget_ms", latency_budget_ms))
            if value is not None
        ]
        if not rows:
            raise Unmet(f"no setting of mode {mode} was measured with this model, so no budget can be kept", asked)
        calm = [row for row in rows if erasure_budget is None or row.erasure <= erasure_budget]
        quick = [row for row in rows if latency_budget_ms is None or row.latency_ms <= latency_budget_ms]
        kept = [row for row in calm if row in quick]
        if kept:
            return min(kept, key=lambda row: (row.bleu_loss, row.latency_ms))
        problems, named = [], []
        if not calm:
            least = min(rows, key=lambda row: row.erasure)
            problems.append(f"the lowest erasure of mode {mode} is {least.erasure:.2f} ({least.name})")
            named.append("erasure_budget")
        if not quick:
            soonest = min(rows, key=lambda row: row.latency_ms)
            problems.append(f"the lowest latency of mode {mode} is {soonest.latency_ms:.0f} ms ({soonest.name})")
            named.append("latency_budget_ms")
        if not named:
            soonest = min(calm, key=lambda row: row.latency_ms)
            calmest = min(quick, key=lambda row: row.erasure)
            problems.append(
                f"within that erasure the latency is {soonest.latency_ms:.0f} ms or more ({soonest.name}), within that"
                f" latency the erasure is {calmest.erasure:.2f} or more ({calmest.name})"
            )
            named = asked
        raise Unmet("; ".join(problems), named)


def arrange(
    template: SessionConfig, wanted: CaptionChoice, settings: Settings, longest_ms: int
) -> tuple[SessionConfig, Setting | None]:
    """Return ``template`` with what is wanted of captions, and the measured setting that it follows, if any.

    Args:
        template: holds where nothing is wanted.
        wanted: mode, budgets and endpoints; what they crowd out makes room.
        settings: what was measured with the model.
        longest_ms: the longest segment that the model can hold.

    Raises:
        Unmet: a budget can't be kept, or a segment would be too long.
        BadConfig: the endpoints leave no room for a segment.
    """
    mode = wanted.mode or template.mode
    setting = settings.choose(mode, erasure_budget=wanted.erasure_budget, latency_budget_ms=wanted.latency_budget_ms)
    longest = min(longest_ms, template.max_behind_ms // 2)
    if wanted.max_segment_ms is not None and wanted.max_segment_ms > longest:
        raise Unmet(f"{wanted.max_segment_ms} is too long; use at most {longest}", ["max_segment_ms"])
    rules = template.endpoints
    silence = wanted.min_silence_ms or rules.min_silence_ms
    segment = min(wanted.max_segment_ms or rules.max_segment_ms, longest)
    endpoints = replace(
        rules,
        min_silence_ms=silence,
        padding_ms=min(rules.padding_ms, silence),
        max_segment_ms=segment,
        cut_search_ms=min(rules.cut_search_ms, segment // 2),
    )
    level = settings.level_db if template.level_db is None else template.level_db
    config = replace(template, mode=mode, endpoints=endpoints, level_db=level)
    return config if setting is None else setting.apply(config), setting
