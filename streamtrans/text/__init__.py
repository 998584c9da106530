"""Law: tokens become text here and nowhere else.

Language codes, the tokenizer of a checkpoint, the incremental detokenizer, and the training of a
vocabulary.
"""

from streamtrans.text.detokenizer import Detokenizer
from streamtrans.text.languages import LANGUAGES, canonical, display_name, joins_without_spaces, region, written
from streamtrans.text.tokenizer import Tokenizer, segment_text
from streamtrans.text.training import train_tokenizer

__all__ = [
    "LANGUAGES",
    "Detokenizer",
    "Tokenizer",
    "canonical",
    "display_name",
    "joins_without_spaces",
    "region",
    "segment_text",
    "train_tokenizer",
    "written",
]
