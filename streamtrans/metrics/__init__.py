"""Law: a number follows from texts and events alone; what can't be measured is refused by name.

Quality of texts (BLEU, chrF, error rate) and what a viewer notices of captions (erasure, delay). Nothing here
knows a model or reads a clock.
"""

from streamtrans.metrics.captions import (
    Erased,
    Timed,
    count_erased,
    erasure,
    first_caption_after_ms,
    first_caption_ms,
    lag_percentiles,
    moved,
    percentile,
    shared,
    units,
)
from streamtrans.metrics.latency import (
    LatencyScores,
    ReferenceSegment,
    TimedWord,
    commit_lag_ms,
    corpus_latency,
    latency,
    settled,
)
from streamtrans.metrics.texts import bleu, bleu_signature, chrf, word_error_rate
from streamtrans.metrics.trend import Trend, trend

__all__ = [
    "Erased",
    "LatencyScores",
    "ReferenceSegment",
    "Timed",
    "TimedWord",
    "Trend",
    "bleu",
    "bleu_signature",
    "chrf",
    "commit_lag_ms",
    "corpus_latency",
    "count_erased",
    "erasure",
    "first_caption_after_ms",
    "first_caption_ms",
    "lag_percentiles",
    "latency",
    "moved",
    "percentile",
    "settled",
    "shared",
    "trend",
    "units",
    "word_error_rate",
]
