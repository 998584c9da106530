"""Learn a byte-level BPE vocabulary from sentences, with Whisper's layout of special tokens.

Law: the same texts in the same order give the same vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import tokenizers
from tokenizers import AddedToken, Regex, decoders, models, pre_tokenizers, trainers

from streamtrans.core import BadConfig
from streamtrans.text.languages import canonical
from streamtrans.text.tokenizer import END_OF_TEXT, START_OF_TRANSCRIPT, byte_alphabet
from streamtrans.text.vocabulary import segment_text

# Tokens never cross these pieces: a run of Han; a word with its apostrophes and the space before it; up to
# three digits; a run of other signs; white space. (After GPT-2's pattern, with Han kept apart.)
WORDS = (
    r"\p{Han}+"
    r"| ?[\p{L}\p{M}&&[^\p{Han}]]+(?:['’][\p{L}\p{M}&&[^\p{Han}]]+)*['’]?"
    r"| ?\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{M}\p{N}]+"
    r"|\s+(?!\S)|\s+"
)

# Longer tokens would be whole phrases of Chinese: twelve bytes are four Han characters, or a word of
# eleven letters with its space. Larger shortens the output and starves rare tokens of training.
MAX_TOKEN_BYTES = 12


def train_tokenizer(texts: Iterable[str], vocab_size: int, languages: Sequence[str]) -> tokenizers.Tokenizer:
    """Learn a vocabulary of ``vocab_size`` tokens, special ones included.

    End-of-text is token 0 and pads as well, start-of-transcript is 1, then one token per language in
    the order given, the 256 bytes, and the merges, most frequent first. There are fewer tokens when
    the texts run out of pairs. Save it as ``tokenizer.json``.

    Raises:
        BadConfig: ``vocab_size`` has no room for the bytes and the special tokens, or a language is twice.
        UnsupportedLanguage: a language is unknown.
    """
    codes = [canonical(language) for language in languages]
    if len(set(codes)) != len(codes):
        raise BadConfig(f"languages {', '.join(languages)} name one language twice")
    specials = [END_OF_TEXT, START_OF_TRANSCRIPT, *(f"<|{code}|>" for code in codes)]
    least = len(specials) + 256
    if vocab_size < least:
        raise BadConfig(f"vocab_size {vocab_size} is too small: bytes and special tokens alone take {least}")
    learner = tokenizers.Tokenizer(models.BPE())
    learner.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(WORDS), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    learner.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        min_frequency=2,
        show_progress=False,
        special_tokens=[AddedToken(name, special=True, normalized=False) for name in specials],
        initial_alphabet=list(byte_alphabet().values()),
        max_token_length=MAX_TOKEN_BYTES,
    )
    learner.train_from_iterator(map(segment_text, texts), trainer)
    return learner
