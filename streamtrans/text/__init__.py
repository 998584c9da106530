"""Law: tokens become text here and nowhere else.

Language codes, the tokenizer of a checkpoint, the incremental detokenizer, and the training of a
vocabulary.
"""

from streamtrans.text.density import articles, tokens_per_second
from streamtrans.text.detokenizer import Detokenizer
from streamtrans.text.languages import LANGUAGES, canonical, display_name, joins_without_spaces, region, written
from streamtrans.text.tokenizer import Tokenizer, segment_text
from streamtrans.text.training import train_tokenizer

__all__ = [
    "LANGUAGES",
    "Detokenizer",
    "Tokenizer",
    "articles",
    "canonical",
    "display_name",
    "joins_without_spaces",
    "region",
    "segment_text",
    "tokens_per_second",
    "train_tokenizer",
    "written",
]
