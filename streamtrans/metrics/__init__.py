"""Law: a number follows from texts and events alone; what can't be measured is refused by name.

Quality of texts (BLEU, chrF, error rate) and what a viewer notices of captions (erasure, delay). Nothing here
knows a model or reads a clock.
"""

from streamtrans.metrics.captions import Timed, erasure, first_caption_ms, lag_percentiles, percentile
from streamtrans.metrics.texts import bleu, bleu_signature, chrf, word_error_rate

__all__ = [
    "Timed",
    "bleu",
    "bleu_signature",
    "chrf",
    "erasure",
    "first_caption_ms",
    "lag_percentiles",
    "percentile",
    "word_error_rate",
]
