"""The one clock: integer samples since the stream began, at 16 kHz.

Milliseconds exist only in configuration, logs and on the wire.
"""

SAMPLE_RATE = 16_000
"""Samples per second of all audio inside the program."""


def samples(ms: float) -> int:
    """Return the number of samples in ``ms`` milliseconds, rounded to the nearest sample."""
    return round(ms * SAMPLE_RATE / 1000)


def milliseconds(count: int) -> int:
    """Return the whole milliseconds in ``count`` samples, rounded down."""
    return count * 1000 // SAMPLE_RATE
