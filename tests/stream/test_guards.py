"""Law: no valid text in any language is shortened by a guard or a budget; real loops are cut."""

from dataclasses import replace
from hashlib import sha1
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamtrans.core import SAMPLE_RATE, Caption, Hypothesis
from streamtrans.engine import EngineConfig
from streamtrans.segment import EndpointRules
from streamtrans.stream import Session, SessionConfig, settle
from streamtrans.stream.guards import without_loop, words_in
from streamtrans.testing.engine import InstantEngine
from streamtrans.testing.vad import ScriptedVad
from streamtrans.text import LANGUAGES, Tokenizer, articles, tokens_per_second, train_tokenizer

READ_ALOUD_S = 11.0
"""How long article 1 takes; languages differ by a fifth, and nobody is twice as fast."""
ANSWERS = {
    "ar": "لا، لا، لا، لا",
    "am": "አዎ፣ አዎ፣ አዎ",
    "bn": "না না না না না",
    "bo": "ལགས་སོ། ལགས་སོ། ལགས་སོ།",
    "de": "Ja, ja, ja, ja, ja.",
    "el": "όχι όχι όχι όχι",
    "en": "No, no, no, no, no, no.",
    "fa": "بله بله بله بله",
    "gu": "ના ના ના ના",
    "he": "לא, לא, לא, לא",
    "hi": "नहीं नहीं नहीं नहीं, हाँ हाँ हाँ",
    "hy": "ոչ, ոչ, ոչ, ոչ",
    "ja": "はいはいはいはい",
    "ka": "კი, კი, კი, კი",
    "km": "ទេ ទេ ទេ ទេ",
    "kn": "ಇಲ್ಲ ಇಲ್ಲ ಇಲ್ಲ ಇಲ್ಲ",
    "ko": "네 네 네 네 네",
    "lo": "ບໍ່ ບໍ່ ບໍ່ ບໍ່",
    "ml": "ഇല്ല ഇല്ല ഇല്ല ഇല്ല",
    "my": "ဟုတ်ကဲ့ ဟုတ်ကဲ့ ဟုတ်ကဲ့",
    "pa": "ਨਹੀਂ ਨਹੀਂ ਨਹੀਂ ਨਹੀਂ",
    "ru": "да, да, да, да, да",
    "si": "නැහැ නැහැ නැහැ නැහැ",
    "ta": "இல்லை இல்லை இல்லை இல்லை",
    "te": "లేదు లేదు లేదు లేదు",
    "th": "ไม่ ไม่ ไม่ ไม่ ไม่",
    "ur": "نہیں نہیں نہیں نہیں",
    "yue": "係係係係係",
    "zh": "对对对对对对",
}
HUNDREDS = ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
SEQUENCES = {
    "counting": ("en", ", ".join(f"one hundred and {word}" for word in HUNDREDS) + "."),
    "counting in German": (
        "de",
        ", ".join(f"hundert{word}" for word in ("eins", "zwei", "drei", "vier", "fünf", "sechs")),
    ),
    "digits": ("en", "zero zero zero zero zero zero zero zero seven"),
    "all zeros": ("en", "the number is 0 0 0 0 0 0 0 0"),
    "a trillion": ("en", "that is 1,000,000,000,000,000"),
    "a telephone number": ("en", "555 5555, 555 5555"),
    "pi": ("en", "3.14159265358979323846264338327950288"),
    "counting in Tamil": ("ta", "நூற்று ஒன்று, நூற்று இரண்டு, நூற்று மூன்று, நூற்று நான்கு, நூற்று ஐந்து, நூற்று ஆறு"),
    "counting in Hindi": ("hi", "एक सौ एक, एक सौ दो, एक सौ तीन, एक सौ चार, एक सौ पाँच, एक सौ छह"),
    "counting in Chinese": ("zh", "一百零一、一百零二、一百零三、一百零四、一百零五、一百零六、一百零七"),
    "let it be": ("en", "Let it be, let it be, let it be, let it be"),
    "hallelujah": ("en", "Hallelujah, hallelujah, hallelujah, hallelujah, hallelujah"),
    "love": ("en", "All you need is love, all you need is love, all you need is love"),
    "rock": ("en", "We will, we will rock you. We will, we will rock you. We will, we will rock you."),
    "happy birthday": ("en", "Happy birthday to you, happy birthday to you, happy birthday to you"),
    "olé": ("es", "olé, olé, olé, olé, olé, olé, olé, olé"),
    "laughing": ("en", "ha ha ha ha ha ha ha ha ha"),
    "mantra": ("hi", "हरे कृष्ण हरे कृष्ण कृष्ण कृष्ण हरे हरे, हरे राम हरे राम राम राम हरे हरे"),
    "a refrain in Georgian": ("ka", "გაუმარჯოს, გაუმარჯოს, გაუმარჯოს, გაუმარჯოს"),
    "a refrain in Japanese": ("ja", "がんばれ、がんばれ、がんばれ、がんばれ"),
    "names": ("en", "Anna, Annabel, Anna Maria, Anna Lena, Anna Sophie, Anna Katharina, Anna Laura"),
}
LOOPS = {
    "en": " Thank you for watching.",
    "de": " und dann noch einmal",
    "bn": " আমি ভাত খাই।",
    "hi": " धन्यवाद।",
    "ka": " მადლობა.",
    "ta": " நன்றி.",
    "th": "ขอบคุณครับ",
    "zh": "谢谢观看。",
    "ja": "ご視聴ありがとうございました。",
    "ar": " شكرا لكم",
    "my": " ကျေးဇူးတင်ပါတယ်။",
}
REAL = Path("../shared/data/whisper/multilingual.tiktoken")


@pytest.fixture(scope="module")
def letters(tmp_path_factory):
    """A vocabulary that spells nearly everything in bytes, as Whisper does most scripts."""
    folder = tmp_path_factory.mktemp("letters")
    train_tokenizer(["the of and to in is you that it he"] * 3, 300, ["en"]).save(str(folder / "tokenizer.json"))
    return Tokenizer.load(folder)


VALID = [*articles().items(), *ANSWERS.items(), *SEQUENCES.values()]


@pytest.mark.parametrize(("language", "text"), VALID)
def test_nothing_that_people_say_is_a_loop(letters, language, text):
    tokens = letters.encode(text)
    assert without_loop(tokens, 0, letters.decode) == len(tokens)


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("share", [1.0, 0.6])
def test_no_text_of_any_language_is_longer_than_its_budget(letters, language, share):
    tokens = letters.encode(articles()[language])
    heard = round(share * READ_ALOUD_S * SAMPLE_RATE)
    needed = tokens_per_second(letters, language)
    assert EngineConfig().limit(10_000, (1, 2), heard, needed) > len(tokens) + 2


@pytest.mark.parametrize(("language", "text"), [*ANSWERS.items(), *SEQUENCES.values()])
def test_short_answers_and_numbers_fit_into_their_budget(letters, language, text):
    digits, signs = sum(map(str.isdigit, text)), sum(map(str.isalpha, text))
    spelt = digits / 4 + signs / (6 if language in ("ja", "yue", "zh") else 20)
    heard = max(spelt, words_in(text) / 4)  # as fast as it is understood
    limit = EngineConfig().limit(10_000, (1, 2), round(heard * SAMPLE_RATE), tokens_per_second(letters, language))
    assert limit > len(letters.encode(text)) + 2


@pytest.mark.parametrize(("language", "unit"), LOOPS.items())
@pytest.mark.parametrize("complete", [True, False])
@pytest.mark.parametrize("rounds", [8, 30])
def test_real_loops_are_cut_to_their_first_round(letters, language, unit, complete, rounds):
    tokens = letters.encode("so" + unit * rounds)
    kept = without_loop(tokens, 0, letters.decode, complete=complete)
    if words_in(unit) == 1 and complete and rounds == 8:  # "thanks" may be said eight times
        assert kept == len(tokens)
    else:
        assert letters.decode(tokens[:kept]) == "so" + unit


def test_a_loop_that_the_limit_ended_is_cut_sooner(letters):
    tokens = letters.encode("so" + " he said it to me" * 3)
    assert without_loop(tokens, 0, letters.decode) == len(tokens)
    assert letters.decode(tokens[: without_loop(tokens, 0, letters.decode, complete=False)]) == "so he said it to me"


def test_a_loop_of_a_long_sentence_is_cut(letters):
    sentence = " the man who is in the house said that he is not going to be in the house to night"
    tokens = letters.encode("so" + sentence * 5)
    assert letters.decode(tokens[: without_loop(tokens, 0, letters.decode)]) == "so" + sentence


def spell(tokens):
    """Write words that have as little in common as those of a language."""
    return " ".join(sha1(bytes([token])).hexdigest()[:5] for token in tokens)


@pytest.mark.parametrize(
    ("tokens", "kept"),
    [
        ((1, 2, 3, 4), 4),
        ((5,) * 11, 11),
        ((1, *(5,) * 12), 2),
        ((1, *(2, 3) * 7), 3),
        ((1, *(7, 8, 9) * 6, 4), 20),  # it was meant: something follows
        ((1, *(7, 8, 9) * 6), 4),
        ((1, 2, 1, 2, 1, 2), 6),
        ((), 0),
    ],
)
def test_a_loop_is_left_after_its_first_round(tokens, kept):
    assert without_loop(tokens, 0, spell) == kept


@pytest.mark.parametrize(
    ("tokens", "kept"),
    [
        ((1, 5, 5, 5, 5, 5, 5, 5), 2),
        ((1, 2, 3, 2, 3, 2, 3, 2, 3), 3),
        ((1, 7, 8, 9, 7, 8, 9, 7, 8, 9), 4),
        ((6, 6, 6, 6, 6, 1, 2), 7),
    ],
)
def test_where_the_limit_ended_it_a_few_rounds_are_enough(tokens, kept):
    assert without_loop(tokens, 0, spell, complete=False) == kept


@settings(max_examples=80, deadline=None)
@given(tokens=st.lists(st.integers(0, 3), max_size=40), floor=st.integers(0, 40), complete=st.booleans())
def test_a_guard_only_takes_away_and_never_what_is_promised(tokens, floor, complete):
    floor = min(floor, len(tokens))
    kept = without_loop(tokens, floor, spell, complete=complete)
    assert floor <= kept <= len(tokens)
    assert without_loop(tokens[:kept], floor, spell, complete=complete) >= min(kept, floor)


RULES = EndpointRules(min_silence_ms=320, pre_roll_ms=64, padding_ms=64, max_segment_ms=6_000, cut_search_ms=1_000)


def said(letters, language, text, *, complete=True):
    """Return the final caption of a session whose model says ``text``."""

    def read(job, target):
        tokens = letters.encode(text)
        return Hypothesis(tokens, (-0.1,) * len(tokens), complete=complete)

    config = SessionConfig((language,), endpoints=RULES, mode="final")
    session = Session(config, letters, window=512)
    engine = InstantEngine(read, ScriptedVad([(8_000, 48_000)]))
    session.hear(np.random.default_rng(0).normal(0, 0.1, 64_000).astype(np.float32))
    session.end()
    settle(session, engine)
    return next(event for event in session.events() if isinstance(event, Caption) and event.final)


@pytest.mark.parametrize(("language", "text"), VALID)
def test_a_final_caption_says_all_of_it(letters, language, text):
    caption = said(letters, language, text)
    assert caption.text == text
    assert caption.complete


def test_a_text_that_the_limit_ended_says_so_and_a_loop_does_not(letters):
    assert not said(letters, "en", "and so my fellow Amer", complete=False).complete
    caption = said(letters, "en", "so" + " thank you" * 30, complete=False)
    assert caption == replace(caption, committed="so thank you", complete=True)


def test_whispers_own_vocabulary_says_it_all(tmp_path):
    import base64

    import tokenizers
    from tokenizers import AddedToken, decoders, models, pre_tokenizers

    from streamtrans.text.tokenizer import byte_alphabet

    if not REAL.exists():
        pytest.skip(f"{REAL} isn't here; the law is also tested on a vocabulary of bytes")
    alphabet = byte_alphabet()
    pairs = (line.split() for line in REAL.read_text().splitlines() if line)
    ranks = {base64.b64decode(token): int(rank) for token, rank in pairs}
    vocab = {"".join(alphabet[byte] for byte in token): rank for token, rank in ranks.items()}
    made = tokenizers.Tokenizer(models.BPE(vocab=vocab, merges=list(merges(ranks, alphabet))))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    made.add_special_tokens([AddedToken(name, special=True) for name in ("<|endoftext|>", "<|startoftranscript|>")])
    made.save(str(tmp_path / "tokenizer.json"))
    whisper = Tokenizer.load(tmp_path)
    assert len(whisper.encode(articles()["bn"])) > 8 * len(whisper.encode(articles()["en"]))
    for language, text in VALID:
        tokens = whisper.encode(text)
        assert without_loop(tokens, 0, whisper.decode) == len(tokens), text
        if text == articles()[language]:
            heard = round(0.6 * READ_ALOUD_S * SAMPLE_RATE)
            assert EngineConfig().limit(10_000, (1,) * 4, heard, tokens_per_second(whisper, language)) > len(tokens) + 4
    for unit in LOOPS.values():
        tokens = whisper.encode("so" + unit * 30)
        assert len(whisper.decode(tokens[: without_loop(tokens, 0, whisper.decode)])) < 3 * len("so" + unit)


def merges(ranks, alphabet):
    """Yield the merges of a vocabulary of ranks: the two parts that each token was last made of."""
    for token, rank in sorted(ranks.items(), key=lambda item: item[1]):
        parts = [bytes([byte]) for byte in token]
        while len(parts) > 2:
            found = [(ranks.get(a + b, rank), at) for at, (a, b) in enumerate(pairwise(parts))]
            lowest, at = min(found)
            if lowest >= rank:
                break
            parts[at : at + 2] = [parts[at] + parts[at + 1]]
        if len(parts) == 2:
            yield tuple("".join(alphabet[byte] for byte in part) for part in parts)
