"""What somebody says about captions before there are any; the same words wherever captions are made."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Literal, get_args

from streamtrans.core.errors import BadConfig
from streamtrans.core.options import Option, asked

Mode = Literal["live", "stable", "final"]
MODES: tuple[Mode, ...] = get_args(Mode)

_MOST_MS = 2**31 - 1
"""What fits into a message."""


@dataclass(frozen=True, slots=True)
class CaptionChoice:
    """How lively captions are, and where a segment ends; ``None`` leaves it to whoever makes them.

    Raises:
        BadConfig: it is no mode, or a number is out of range; it is called by the name of its option.
    """

    mode: Annotated[
        Mode | None,
        Option(
            "live (committed and tentative text), stable (committed only) or final (whole segments).", metavar="MODE"
        ),
    ] = None
    erasure_budget: Annotated[
        float | None,
        Option(
            "Words taken back per word, on average, that you can bear, such as 0.2: chooses among the settings that "
            "were measured with the model.",
            metavar="SHARE",
        ),
    ] = None
    latency_budget_ms: Annotated[
        int | None,
        Option(
            "How late words may have settled, on average, such as 1500: chooses likewise.",
            name="--latency-budget",
            metavar="MS",
        ),
    ] = None
    min_silence_ms: Annotated[
        int | None,
        Option(
            "Silence that ends a segment: larger joins sentences, smaller is sooner.",
            name="--min-silence",
            metavar="MS",
        ),
    ] = None
    max_segment_ms: Annotated[
        int | None,
        Option("Speech without such a pause is divided after so long.", name="--max-segment", metavar="MS"),
    ] = None

    def __post_init__(self) -> None:
        """Check what was said."""
        if self.mode is not None:
            check_mode(self.mode, "--mode")
        if self.erasure_budget is not None and not 0 <= self.erasure_budget < math.inf:
            raise BadConfig(f"--erasure-budget is {self.erasure_budget}; give 0 or more, such as 0.2")
        for each in asked(type(self)):
            value = getattr(self, each.field)
            if each.field.endswith("_ms") and value is not None and not 0 < value <= _MOST_MS:
                raise BadConfig(f"{each.flag} is {value}; give milliseconds, such as 1500")

    @property
    def budgets(self) -> tuple[float | None, int | None]:
        """The erasure and the latency, in ms, that can be borne."""
        return self.erasure_budget, self.latency_budget_ms

    def over(self, default: CaptionChoice) -> CaptionChoice:
        """Return what holds where this is said and ``default`` otherwise.

        Budgets of the default go with its mode, and both together: who chooses another mode, or a budget, isn't held to
        one that was meant for something else.
        """
        mode = self.mode or default.mode
        budgets = default.budgets if mode == default.mode and self.budgets == (None, None) else self.budgets
        return CaptionChoice(
            mode, *budgets, self.min_silence_ms or default.min_silence_ms, self.max_segment_ms or default.max_segment_ms
        )

    def __str__(self) -> str:
        """Return what is said, such as ``stable, min silence 700``."""
        said = [
            f"{each.flag[2:].replace('-', ' ')} {getattr(self, each.field):g}{' ms' * each.field.endswith('_ms')}"
            for each in asked(type(self))
            if each.field != "mode" and getattr(self, each.field) is not None
        ]
        return ", ".join([*([self.mode] if self.mode else []), *said])


def check_mode(mode: str, name: str = "mode") -> None:
    """Refuse what is no caption mode.

    Raises:
        BadConfig: it isn't.
    """
    if mode not in MODES:
        raise BadConfig(f"{name} is {mode!r}; use one of {', '.join(MODES)}")


LIVE = CaptionChoice("live")
"""What is made where nobody says anything."""
