"""The vocabulary of a translator: learnt from its sentences, and laid out as M2M-100 has it.

```
0 … 3              <s> <pad> </s> <unk>
4 … n              the pieces, those of single bytes among them: nothing is unknown
n … n + 100        the languages of M2M-100
… + 8              nothing: M2M-100 made its vocabulary even
```
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from io import BytesIO
from itertools import islice
from pathlib import Path

from streamtrans.core import BadConfig, Tokens
from streamtrans.train.translator.recipe import TranslatorRecipe

COMMANDS = ("<s>", "<pad>", "</s>", "<unk>")
MODEL, NUMBERS = "sentencepiece.bpe.model", "vocab.json"
MADE_UP = 8
MOST_TEXTS = 400_000
"""Sentences that pieces are learnt from: more change little."""


class TextVocabulary:
    """What a text becomes for the network, and how the network is asked.

    Args:
        folder: of the files that :func:`learn_vocabulary` wrote.
    """

    def __init__(self, folder: Path) -> None:
        from transformers import M2M100Tokenizer

        self.tokenizer = M2M100Tokenizer(str(folder / NUMBERS), str(folder / MODEL))
        self.pad, self.eos = COMMANDS.index("<pad>"), COMMANDS.index("</s>")
        self.size = len(self.tokenizer.encoder) + len(self.tokenizer.lang_code_to_token) + MADE_UP
        self._numbers, self._spm = self.tokenizer.encoder, self.tokenizer.sp_model

    def question(self, target: str, text: str) -> Tokens:
        """Return what the encoder reads."""
        return (self.tokenizer.get_lang_id(target), *self.answer(text))

    def answer(self, text: str) -> Tokens:
        """Return what the decoder writes."""
        return (*(self._numbers[piece] for piece in self._spm.encode(text, out_type=str)), self.eos)


def learn_vocabulary(recipe: TranslatorRecipe, texts: Iterable[str], folder: Path) -> None:
    """Learn the pieces, unless they are there.

    Raises:
        BadConfig: the texts are too few for so many pieces, or M2M-100 doesn't know a language.
    """
    if (folder / NUMBERS).exists():
        return
    import sentencepiece
    from transformers import M2M100Tokenizer

    model = BytesIO()
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=islice(iter(texts), MOST_TEXTS),
            model_writer=model,
            model_type="bpe",
            vocab_size=recipe.pieces,
            character_coverage=0.9999,
            byte_fallback=True,
            num_threads=1,
            minloglevel=2,
        )
    except RuntimeError as error:
        raise BadConfig(f"pieces = {recipe.pieces}: {str(error).splitlines()[-1]}") from None
    processor = sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())
    learnt = (processor.id_to_piece(at) for at in range(processor.get_piece_size()))
    names = [*COMMANDS, *(name for name in learnt if name not in COMMANDS)]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / MODEL).write_bytes(model.getvalue())
    part = folder / f"{NUMBERS}.part"
    part.write_text(json.dumps({name: at for at, name in enumerate(names)}), encoding="utf-8")
    M2M100Tokenizer(str(part), str(folder / MODEL)).save_pretrained(folder)
    part.unlink()
