"""Law: tokens become text here and nowhere else.

Language codes, the tokenizer of a checkpoint, the incremental detokenizer, and the training of a
vocabulary.
"""

from streamtrans.text.chatter import Source, copied, remark, talk
from streamtrans.text.counting import words_in
from streamtrans.text.density import articles, tokens_per_second
from streamtrans.text.detokenizer import Detokenizer
from streamtrans.text.identify import Other, close, other_language, warm
from streamtrans.text.languages import LANGUAGES, canonical, display_name, joins_without_spaces, region, written
from streamtrans.text.pieces import Pieces
from streamtrans.text.tokenizer import Tokenizer
from streamtrans.text.training import train_tokenizer
from streamtrans.text.vocabulary import Vocabulary, segment_text

__all__ = [
    "LANGUAGES",
    "Detokenizer",
    "Other",
    "Pieces",
    "Source",
    "Tokenizer",
    "Vocabulary",
    "articles",
    "canonical",
    "close",
    "copied",
    "display_name",
    "joins_without_spaces",
    "other_language",
    "region",
    "remark",
    "segment_text",
    "talk",
    "tokens_per_second",
    "train_tokenizer",
    "warm",
    "words_in",
    "written",
]
