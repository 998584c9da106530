"""How networks of transformers hear and are asked, by their own processors, tokenizers and generation configs.

An encoder-decoder is given features, and begins with a start token and a language's, or with what its processor makes
of a request. A decoder reads sound in its prompt; what asks for a language comes after the sound.
"""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from streamtrans.core import SAMPLE_RATE, BadModel, Tokens, UnsupportedLanguage
from streamtrans.model.auto.model import FRAME, LEAST, AutoMemory, Pairs, Samples
from streamtrans.model.config import shown
from streamtrans.model.loading import languages_of
from streamtrans.text import LANGUAGES, canonical, display_name, written
from streamtrans.text.languages import of_three_letters

THROUGH_ENGLISH = frozenset({"canary"})
"""Families that were taught transcripts, and translations into and out of English only."""

TRANSCRIBING = frozenset(
    {"cohere_asr", "fun_asr_nano", "glmasr", "moss_transcribe_diarize", "nemo_speechlm", "qwen3_asr", "vibevoice_asr"}
)
"""Families that were taught transcripts only."""

_SILENCE: Samples = np.zeros(LEAST, np.float32)


class Hearing(ABC):
    """What both kinds have in common.

    Args:
        folder: to name in errors.
        raw: its ``config.json``, which may name ``languages`` and ``translations`` (spoken → what it becomes).
        network: of transformers.
        processor: the folder's own.
    """

    def __init__(self, folder: Path, raw: Mapping[str, Any], network: Any, processor: Any) -> None:
        self.folder, self.raw, self.network, self.processor = folder, raw, network, processor
        self.tokenizer = processor.tokenizer
        self._asked: dict[tuple[str, str | None], Tokens] = {}
        self.languages, self.translations = self._known()

    def prompt(self, target: str, source: str | None) -> Tokens:
        """Return the tokens that ask for a text in ``target``."""
        target, source = written(target), None if source is None else canonical(source)
        for code in (target, source):
            if code is not None and code not in self.languages:
                raise UnsupportedLanguage(
                    f"{self.folder.name} knows no {code} ({LANGUAGES[code]}); it knows {', '.join(self.languages)}"
                )
        makers = [spoken for spoken, targets in self.translations if source in (None, spoken) and target in targets]
        if self.translations and not makers:
            raise UnsupportedLanguage(f"{self.folder.name} makes no {target} of {source or 'what is spoken'}")
        if len(makers) == 1:
            source = makers[0]  # so a transcript is asked for where nothing else is made of speech
        if (target, source) not in self._asked:
            self._asked[target, source] = self._ask(target, source)
        return self._asked[target, source]

    @abstractmethod
    def _known(self) -> tuple[tuple[str, ...], Pairs]:
        """Return the languages, and what becomes of each that may be spoken; nothing: any of the languages."""

    @abstractmethod
    def _ask(self, target: str, source: str | None) -> Tokens:
        """Return the tokens that ask for a text in a language it knows."""

    def _said(self) -> Pairs:
        """Read ``translations`` of ``config.json``.

        Raises:
            BadModel: they are no table of languages.
        """
        said = self.raw.get("translations") or {}
        listed = said.items() if isinstance(said, dict) else ()
        if not isinstance(said, dict) or not all(isinstance(targets, list) for _, targets in listed):
            raise BadModel(f'translations of {self.folder} are {shown(said)}; give {{"en": ["de", "fr"]}}')
        try:
            return tuple((canonical(spoken), tuple(canonical(str(each)) for each in made)) for spoken, made in listed)
        except UnsupportedLanguage as error:
            raise BadModel(f"translations of {self.folder}: {error}") from None

    @property
    def begin(self) -> int:
        """Positions of the prompt.

        Raises:
            BadModel: prompts are of several lengths.
        """
        said = self.translations or tuple((code, self.languages) for code in self.languages[:2])
        lengths = {len(self.prompt(target, spoken)) for spoken, made in said for target in made}
        if len(lengths) > 1:
            raise BadModel(f"{self.folder} has begin_suppress_tokens, which prompts of several lengths can't have here")
        return lengths.pop()

    def _given(self, made: Mapping[str, Any]) -> dict[str, Any]:
        """Return what a processor made, as the network wants it; of silence some make what is no number."""
        device, dtype = self.network.device, self.network.dtype
        return {
            name: each.nan_to_num(0, 0, 0).to(device, dtype) if each.is_floating_point() else each.to(device)
            for name, each in made.items()
        }


class Attending(Hearing):
    """A decoder that attends to an encoder."""

    tokens_name = "decoder_input_ids"
    in_words = False

    def hear(self, audio: Samples) -> AutoMemory:
        """Run the encoder over the features of one stretch of audio."""
        with np.errstate(all="ignore"):
            made = self.processor.feature_extractor(audio, sampling_rate=SAMPLE_RATE, return_tensors="pt")
        given = self._given(made)
        encoded = self.network.get_encoder()(**given, return_dict=True)
        mask = {"attention_mask": given["attention_mask"]} if "attention_mask" in given else {}
        return AutoMemory(-(-len(audio) // FRAME), {"encoder_outputs": encoded, **mask})

    def _known(self) -> tuple[tuple[str, ...], Pairs]:
        said, kind = self._said(), self.network.config.model_type
        codes = tuple(self._codes) if self._request is None else self._requested()
        if not said and kind in THROUGH_ENGLISH:
            said = tuple((code, codes if code == "en" else (code, "en")) for code in codes)
        elif not said and kind in TRANSCRIBING:
            said = tuple((code, (code,)) for code in codes)
        elif not said and getattr(self.tokenizer, "lang_codes", None) == "mustc":
            said = (("en", codes),)
        if codes and (strange := {each for _, targets in said for each in targets} - {*codes}):
            raise BadModel(
                f"{self.folder}: translations names {', '.join(sorted(strange))}, which it can't be asked for"
            )
        if not codes:
            said = said or self._alone()
            if any(len(targets) != 1 for _, targets in said):
                raise BadModel(f"{self.folder} has no token to ask for a language, so each that is spoken becomes one")
        return tuple(dict.fromkeys((*codes, *(each for spoken, made in said for each in (spoken, *made))))), said

    def _alone(self) -> Pairs:
        """Return the one language that it writes down where it is spoken."""
        codes = languages_of(self.folder, self.raw)
        if len(codes) > 1:
            raise BadModel(
                f"{self.folder} names {', '.join(codes)}, and its tokenizer has no token to ask for one of them:"
                ' write what it does into config.json, as in "translations": {"en": ["de"]}'
            )
        return ((codes[0], codes),)

    @cached_property
    def _request(self) -> Callable[[str, str], Sequence[int]] | None:
        """What makes a prompt of (target, source), where the processor does."""
        request = getattr(self.processor, "apply_transcription_request", None)
        if request is not None and "target_language" in inspect.signature(request).parameters:

            def ask(target: str, source: str) -> Sequence[int]:
                made = request(audio=_SILENCE, source_language=source, target_language=target)
                tokens: list[int] = made["decoder_input_ids"][0].tolist()
                return tokens

            return ask
        prompts = getattr(self.processor, "get_decoder_prompt_ids", None)
        if prompts is not None and "language" in inspect.signature(prompts).parameters:
            return lambda target, _: prompts(language=target)
        return None

    def _requested(self) -> tuple[str, ...]:
        """Return the languages that have a token, and that the processor takes."""
        assert self._request is not None, "the processor makes no prompts"
        found, known = list[str](), self.tokenizer.get_vocab()
        for code in LANGUAGES:
            if f"<|{code}|>" in known:
                try:
                    self._request(code, code)
                except ValueError:
                    continue  # it has the token, and wasn't taught the language
                found.append(code)
        return tuple(found)

    @cached_property
    def _codes(self) -> dict[str, int]:
        """Language → the token that asks for it, by the generation config or the tokenizer."""
        listed = getattr(self.network.generation_config, "text_decoder_lang_to_code_id", None)
        listed = listed or getattr(self.tokenizer, "lang_code_to_id", None) or {}
        found: dict[str, int] = {}
        for name, token in listed.items():
            base = name.strip("<|_>").partition("_")[0]
            code = of_three_letters(base)
            try:
                found.setdefault(code or canonical(base), token)
            except UnsupportedLanguage:
                continue  # a language that nobody can ask for here
        return found

    def _ask(self, target: str, source: str | None) -> Tokens:
        if self._request is not None:
            if source is None:
                raise UnsupportedLanguage(
                    f"{self.folder.name} must be told the spoken language: name one source language"
                )
            return tuple(self._request(target, source))
        settings = self.network.generation_config
        asked = self._codes.get(target, settings.forced_bos_token_id)
        start = settings.decoder_start_token_id
        return (start,) if asked is None else (start, asked)


class Prompted(Hearing):
    """A decoder that has the sound in its own text."""

    tokens_name = "input_ids"
    in_words = True

    def __init__(self, folder: Path, raw: Mapping[str, Any], network: Any, processor: Any) -> None:
        super().__init__(folder, raw, network, processor)
        token = getattr(processor, "audio_token", None)
        if not isinstance(token, str):
            raise BadModel(f"{folder}: its processor has no place for sound in a prompt (audio_token)")
        self._place = self.tokenizer.convert_tokens_to_ids(token)
        code = self.languages[0]
        self._before = self._cut(self._made(self._text(code, code), _SILENCE))[0]

    def hear(self, audio: Samples) -> AutoMemory:
        """Read what stands before the question, the sound at its end."""
        code = self.languages[0]
        made = self._made(self._text(code, code), audio)
        before, _ = self._cut(made)
        shape = made["input_ids"].shape
        cut = {name: each[:, : len(before)] if each.shape == shape else each for name, each in made.items()}
        found = self.network(**self._given(cut), use_cache=True)
        return AutoMemory(-(-len(audio) // FRAME), state=found.past_key_values)

    def _known(self) -> tuple[tuple[str, ...], Pairs]:
        said = self._said()
        codes = tuple(dict.fromkeys(code for spoken, targets in said for code in (spoken, *targets)))
        codes = codes or languages_of(self.folder, self.raw)
        if not said and self.network.config.model_type in TRANSCRIBING:
            said = tuple((code, (code,)) for code in codes)
        return codes, said

    def _ask(self, target: str, source: str | None) -> Tokens:
        before, after = self._cut(self._made(self._text(target, source), _SILENCE))
        if before != self._before:
            raise BadModel(
                f"{self.folder}: what stands before the sound depends on the language, which isn't read here"
            )
        return after

    def _text(self, target: str, source: str | None) -> str:
        """Return the whole prompt in the family's own form, with one place for sound."""
        wish = "Transcribe the speech." if target == source else f"Translate the speech into {display_name(target)}."
        place = self.processor.audio_token
        request = getattr(self.processor, "apply_transcription_request", None)
        wishes = inspect.signature(request).parameters if request is not None and target == source else {}
        if request is not None and "tokenize" in wishes:
            named = {"language": display_name(target)} if "language" in wishes else {}
            made = request(audio=_SILENCE, tokenize=False, **named)
            text = made[0] if isinstance(made, list) else made
            if isinstance(text, str) and text.count(place) == 1:
                return text
        parts = [{"type": "audio", "audio": "sound"}, {"type": "text", "text": wish}]
        for content in (parts, place + wish) if self.processor.chat_template else ():
            chat = [{"role": "user", "content": content}]
            text = self.processor.apply_chat_template(chat, add_generation_prompt=True, tokenize=False)
            if isinstance(text, str) and text.count(place) == 1:
                return text
        raise BadModel(f"{self.folder}: its chat template has no place for sound ({place}); none is known to ask it")

    def _made(self, text: str, audio: Samples) -> Mapping[str, Any]:
        rates = {"sampling_rate": SAMPLE_RATE}
        with np.errstate(all="ignore"):
            made = self.processor(text=[text], audio=[audio], return_tensors="pt", audio_kwargs=rates)
        names = set(inspect.signature(self.network.forward).parameters)
        return {name: each for name, each in made.items() if name in names and name != "attention_mask"}

    def _cut(self, made: Mapping[str, Any]) -> tuple[Tokens, Tokens]:
        """Return the tokens up to the last one of sound, and those that come after."""
        line = made["input_ids"][0].tolist()
        last = len(line) - line[::-1].index(self._place)
        return tuple(line[:last]), tuple(line[last:])
