"""What the engine counts."""

from __future__ import annotations

from dataclasses import dataclass, field

from streamtrans.core import DecodeStats


@dataclass(frozen=True, slots=True)
class EngineStats:
    """What the engine has done since it started, and what it holds now.

    Mean batch sizes are quotients: ``detects / detect_batches``, ``encodes / encode_batches``,
    ``forwards / passes``, ``guesses / guess_batches``.
    """

    detects: int = 0
    detect_batches: int = 0
    encodes: int = 0
    encode_batches: int = 0
    samples: int = 0  # of audio encoded: what is new, and the unfinished blocks again
    forwards: int = 0
    passes: int = 0  # of the target model
    guesses: int = 0
    guess_batches: int = 0
    readings: int = 0
    failed: int = 0
    cancelled: int = 0
    decode: DecodeStats = field(default_factory=DecodeStats)  # of all readings together
    devices: int = 1  # whose work the counters add up
    busy_s: float = 0.0
    decode_s: float = 0.0  # of these, in passes and guesses
    waiting: int = 0  # jobs without a slot
    live: int = 0  # jobs being decoded
    free: int = 0  # slots
