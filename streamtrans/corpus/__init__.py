"""Law: the same seed draws the same sentences and the same voices, and none of an evaluation's.

Text tables, parallel texts drawn from them, and synthetic speech for them.
"""

from streamtrans.corpus.augment import CLEAN, Augmentation, augment
from streamtrans.corpus.han import simplify
from streamtrans.corpus.lexicon import Entry, Lexicon, parse_lexicon, shipped_lexicon
from streamtrans.corpus.manifest import Recording, read_manifest
from streamtrans.corpus.mixture import Mixture, MixtureConfig, fitting
from streamtrans.corpus.prepare import PrepareReport, prepare
from streamtrans.corpus.refill import Template, parse_template, refill
from streamtrans.corpus.romanise import romanise
from streamtrans.corpus.speech import Utterance, spoken, spoken_for_evaluation
from streamtrans.corpus.tables import Row, TableReport, has_digits, normalise, own_sentences, read_table, scan_table
from streamtrans.corpus.voices import (
    EVALUATION_VOICES,
    TRAINING_VARIANTS,
    Speaker,
    Voice,
    evaluation_voice,
    random_voice,
)

__all__ = [
    "CLEAN",
    "EVALUATION_VOICES",
    "TRAINING_VARIANTS",
    "Augmentation",
    "Entry",
    "Lexicon",
    "Mixture",
    "MixtureConfig",
    "PrepareReport",
    "Recording",
    "Row",
    "Speaker",
    "TableReport",
    "Template",
    "Utterance",
    "Voice",
    "augment",
    "evaluation_voice",
    "fitting",
    "has_digits",
    "normalise",
    "own_sentences",
    "parse_lexicon",
    "parse_template",
    "prepare",
    "random_voice",
    "read_manifest",
    "read_table",
    "refill",
    "romanise",
    "scan_table",
    "shipped_lexicon",
    "simplify",
    "spoken",
    "spoken_for_evaluation",
]
