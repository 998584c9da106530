"""Pseudo-labels: translations that are missing, made by any Hugging Face seq2seq model.

The paper trains on machine translations of transcripts (arXiv 2508.11189, section 3.1). Every translation is written
down as soon as it is made, so that an interrupted run goes on where it was.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from pathlib import Path
from typing import Any

import torch

from streamtrans.core import BadConfig, BadModel
from streamtrans.model.loading import choose_device
from streamtrans.text import canonical, display_name
from streamtrans.train.finetune.corpus import Example, with_texts
from streamtrans.train.finetune.recipe import PseudoRecipe

NLLB = {"en": "eng_Latn", "zh": "zho_Hans", "de": "deu_Latn", "es": "spa_Latn", "fr": "fra_Latn", "it": "ita_Latn"}
"""Codes of NLLB for the languages of the paper; others are given by ``codes``."""

Wanted = tuple[str, str, str]
"""(spoken language, language to write, text)"""


class Translator:
    """A seq2seq model with one way of being told the languages.

    Models of many languages have a token per language: the tokenizer is told the source, and the answer is made to
    begin with the target's. Others want a prefix before the text, or translate one pair and want nothing.
    """

    def __init__(self, recipe: PseudoRecipe, *, device: str = "auto") -> None:
        """Load model and tokenizer.

        Raises:
            BadModel: they can't be loaded.
        """
        from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

        self.recipe, self.device = recipe, choose_device(device)
        try:
            self.tokenizer: Any = AutoTokenizer.from_pretrained(recipe.model)
            model: Any = AutoModelForSeq2SeqLM.from_pretrained(recipe.model)
        except (OSError, ValueError, ImportError) as error:
            raise BadModel(f"{recipe.model} can't be loaded as a seq2seq model: {error}") from None
        self.model = model.to(self.device).eval()
        self.unknown = self.tokenizer.unk_token_id

    def code(self, language: str) -> str:
        """Return the model's code of a language."""
        mapped = {canonical(code): theirs for code, theirs in self.recipe.codes.items()}
        if language in mapped:
            return mapped[language]
        nllb = NLLB.get(language, "")
        return nllb if nllb and self._token(nllb) is not None else language

    def _token(self, name: str) -> int | None:
        token = self.tokenizer.convert_tokens_to_ids(name)
        return None if token is None or token == self.unknown else int(token)

    def language_token(self, language: str) -> int | None:
        """Return the token that makes an answer begin in a language; ``None`` where the model has none."""
        code = self.code(language)
        # A bare code such as "de" is an ordinary word of many vocabularies.
        names = (f"__{code}__",) if code == language else (code, f"__{code}__")
        return next((token for name in names if (token := self._token(name)) is not None), None)

    @torch.inference_mode()
    def __call__(self, source: str, target: str, texts: Sequence[str]) -> list[str]:
        """Translate texts of one language pair, in one batch."""
        prefix, first = self._manner(source, target)
        encoded = self.tokenizer(
            [prefix + text for text in texts], return_tensors="pt", padding=True, truncation=True, max_length=512
        )
        answered = self.model.generate(
            input_ids=encoded["input_ids"].to(self.device),
            attention_mask=encoded["attention_mask"].to(self.device),
            num_beams=self.recipe.beams,
            do_sample=False,
            max_new_tokens=self.recipe.max_tokens,
            **({} if first is None else {"forced_bos_token_id": first}),
        )
        return [text.strip() for text in self.tokenizer.batch_decode(answered, skip_special_tokens=True)]

    def check(self, pairs: Set[tuple[str, str]]) -> None:
        """Refuse a model that can't be told which of several pairs to translate.

        Raises:
            BadConfig: it has no tokens for the languages, and no prefix says them.
        """
        if len(pairs) > 1 and not self.recipe.prefix and any(self._manner(*pair)[1] is None for pair in pairs):
            wanted = ", ".join(f"{source} to {target}" for source, target in sorted(pairs))
            raise BadConfig(
                f"{self.recipe.model} can't be told what to translate into, and {wanted} are missing; say its language "
                "codes in codes, or what it wants to read in prefix, or ask for one pair only"
            )

    def _manner(self, source: str, target: str) -> tuple[str, int | None]:
        """Return what stands before each text, and the token that the answer must begin with."""
        if self.recipe.prefix:
            try:
                prefix = self.recipe.prefix.format(
                    source=self.code(source),
                    target=self.code(target),
                    source_name=display_name(source),
                    target_name=display_name(target),
                )
            except (KeyError, IndexError, ValueError):
                raise BadConfig(
                    f"prefix {self.recipe.prefix!r} may hold {{source}}, {{target}}, {{source_name}}, {{target_name}}"
                ) from None
            return prefix, None
        first = self.language_token(target)
        if first is None and self.recipe.codes:
            raise BadConfig(
                f"{self.recipe.model} has no token for {target} ({self.code(target)!r}); say its code in codes"
            )
        if first is not None:
            self.tokenizer.src_lang = self.code(source)
        return "", first


class Labels:
    """Translations made so far, kept in a JSON Lines file whose first line names the model."""

    def __init__(self, path: Path, recipe: PseudoRecipe) -> None:
        """Open the file, or begin it.

        Raises:
            BadConfig: another model, or other settings of it, made what stands there.
        """
        self.path, self.recipe = path, recipe
        self.made: dict[Wanted, str] = {}
        begun = {"model": recipe.model, "beams": recipe.beams, "prefix": recipe.prefix}
        if path.exists():
            self._read(begun)
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(begun) + "\n", encoding="utf-8")

    def _read(self, begun: Mapping[str, object]) -> None:
        content = self.path.read_bytes()
        whole = content[: content.rfind(b"\n") + 1]  # a torn last line is made anew
        lines = whole.decode().split("\n")[:-1]  # not splitlines, which also cuts at U+2028 within a text
        if not lines or json.loads(lines[0]) != begun:
            raise BadConfig(f"{self.path} holds translations of another model or setting; move it away to begin anew")
        for line in lines[1:]:
            source, target, text, translation = json.loads(line)
            self.made[source, target, text] = translation
        if len(whole) < len(content):
            self.path.write_bytes(whole)

    def complete(self, wanted: Iterable[Wanted], *, device: str, say: Callable[[str], None]) -> None:
        """Translate what isn't there yet; the model is loaded only if there is anything."""
        missing = sorted(set(wanted) - self.made.keys(), key=lambda item: (item[0], item[1], len(item[2]), item[2]))
        if not missing:
            return
        translator = Translator(self.recipe, device=device)
        translator.check({(source, target) for source, target, _ in missing})
        with self.path.open("a", encoding="utf-8") as file:
            for done, batch in _batches(missing, self.recipe.batch):
                source, target, _ = batch[0]
                for item, translation in zip(
                    batch, translator(source, target, [text for *_, text in batch]), strict=True
                ):
                    self.made[item] = translation
                    file.write(json.dumps([*item, translation], ensure_ascii=False) + "\n")
                file.flush()
                say(f"translated {done:,} of {len(missing):,} texts ({source} to {target})")


def _batches(items: Sequence[Wanted], size: int) -> Iterable[tuple[int, Sequence[Wanted]]]:
    """Cut sorted items into batches of one language pair; yields how many are done after each."""
    at = 0
    while at < len(items):
        end = at
        while end < min(at + size, len(items)) and items[end][:2] == items[at][:2]:
            end += 1
        yield end, items[at:end]
        at = end


def fill_in(
    examples: Sequence[Example],
    languages: tuple[str, ...],
    recipe: PseudoRecipe,
    cache: Path,
    *,
    device: str = "auto",
    say: Callable[[str], None] = print,
) -> list[Example]:
    """Add a translation into each of ``languages`` that an example lacks; an empty answer adds nothing."""
    targets = tuple(canonical(code) for code in recipe.to) or languages
    labels = Labels(cache, recipe)
    absent = [
        [(each.language, target, each.texts[each.language]) for target in targets if target not in each.texts]
        for each in examples
    ]
    labels.complete((item for items in absent for item in items), device=device, say=say)
    return [
        with_texts(example, {item[1]: text for item in items if (text := labels.made[item])}) if items else example
        for items, example in zip(absent, examples, strict=True)
    ]
