"""What goes wrong becomes a value, so that it stays with the request it belongs to.

Law: of a batch that fails only the broken member fails; a detector's answer is as many probabilities as windows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from streamtrans.core import BadAnswer, Detect, Detection

A = TypeVar("A")
R = TypeVar("R")


def each(call: Callable[[Sequence[A]], Sequence[R]], requests: Sequence[A]) -> list[R | Exception]:
    """Answer all requests in one call; where that fails, one by one, so that only the broken one fails."""
    together = attempt(lambda: _counted(call(requests), len(requests)))
    if not isinstance(together, Exception):
        return [*together]
    if len(requests) == 1:
        return [together]
    return [outcome for request in requests for outcome in each(call, [request])]


def _counted(answers: Sequence[R], count: int) -> Sequence[R]:
    if len(answers) != count:
        raise RuntimeError(f"{count} requests got {len(answers)} answers")
    return answers


def attempt(call: Callable[[], R]) -> R | Exception:
    """Turn an exception into a value: the one place where the device thread catches whatever comes."""
    try:
        return call()
    except Exception as error:  # noqa: BLE001 (the device thread outlives whatever a job raises)
        return error


def detection(detect: Detect, probabilities: tuple[float, ...], state: object | None) -> Detection | Exception:
    """Return a detector's answer, or what is wrong with it; others in its batch are none the worse."""
    if len(probabilities) != len(detect.windows):
        return BadAnswer(f"{detect.vad} gave {len(probabilities)} probabilities for {len(detect.windows)} windows")
    if not all(0 <= probability <= 1 for probability in probabilities):
        return BadAnswer(f"{detect.vad} gave a probability that isn't in [0, 1]: {probabilities}")
    return Detection(probabilities, state)
