"""How long to wait between two attempts to come back."""

from __future__ import annotations

import random

from streamtrans.client.errors import ClientError

_FIRST_S, _LONGEST_S = 0.05, 2.0
"""Each pause is twice as long as the one before, give or take a half."""


def pause_s(error: ClientError, attempts: int) -> float:
    """Return how long to wait after ``error`` where so many attempts have failed; the first is made at once."""
    usual_s = min(_FIRST_S * 2 ** (attempts - 1), _LONGEST_S) * random.uniform(0.5, 1.5) if attempts else 0.0
    return max(usual_s, error.retry_after_s or 0.0)
