"""Voxtral: four frames laid end to end, a decoder of the Llama kind, words and prompts by mistral-common.

```
<s>[INST][BEGIN_AUDIO] audio [/INST]lang:en[TRANSCRIBE]                 to write down what was said
<s>[INST][BEGIN_AUDIO] audio Translate this to German.[/INST]           to translate it
```
Audio is filled up with silence to whole chunks of 30 s, all of which encoder and decoder hear: so it was trained, and
that is what a second of speech costs.
"""

from __future__ import annotations

import base64
import io
import wave
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from streamtrans.core import SAMPLE_RATE, BadModel, Tokens, needs
from streamtrans.model.audio_lm.folder import build, part, usual_whisper
from streamtrans.model.audio_lm.model import AudioLanguageModel, Manner, around
from streamtrans.model.audio_lm.network import AudioNetwork, Stacking, TowerShape
from streamtrans.model.causal.kvspn import Speculation
from streamtrans.model.causal.network import Shape
from streamtrans.model.causal.words import read_ends
from streamtrans.model.config import read_json, shown, whole
from streamtrans.model.loading import languages_of
from streamtrans.model.scoring import Rules
from streamtrans.text import Pieces, display_name

if TYPE_CHECKING:
    from mistral_common.tokens.tokenizers.mistral import MistralTokenizer
    from mistral_common.tokens.tokenizers.tekken import Tekkenizer

LANGUAGES = ("en", "es", "fr", "pt", "hi", "de", "nl", "it")
"""What it was taught to hear and to write, where its ``config.json`` lists no others."""

CHUNKS = 2
"""Chunks of 30 s that a segment may have."""

_TEXT = {
    "model_type": "llama",
    "vocab_size": 131_072,
    "hidden_size": 3072,
    "intermediate_size": 8192,
    "num_hidden_layers": 30,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "max_position_embeddings": 131_072,
    "rms_norm_eps": 1e-5,
    "rope_theta": 1e8,
}
"""What folders leave out where it is as transformers has it."""
_AUDIO = {
    "num_mel_bins": 128,
    "num_hidden_layers": 32,
    "num_attention_heads": 20,
    "intermediate_size": 5120,
    "hidden_size": 1280,
    "max_source_positions": 1500,
}


def order(target: str) -> str:
    """Return what it is told to do with what somebody says in another language."""
    return f"Translate this to {display_name(target)}."


def shapes(raw: Mapping[str, Any]) -> tuple[TowerShape, int, Shape]:
    """Return the sizes that a ``config.json`` gives the encoder, how many frames are stacked, and the decoder's sizes.

    Raises:
        BadModel: one is wrong, or asks for arithmetic that isn't done here.
    """
    audio = part(raw, "audio_config", _AUDIO)
    usual_whisper(audio)
    size = whole(audio, _AUDIO)
    width, inner, positions = size["hidden_size"], size["intermediate_size"], size["max_source_positions"]
    if inner % width or positions % (inner // width):
        raise BadModel(
            f"audio_config: {positions} frames of width {width} can't be stacked to the intermediate_size {inner},"
            " which the projector reads"
        )
    if (act := raw.get("projector_hidden_act", "gelu")) != "gelu":
        raise BadModel(f"projector_hidden_act is {shown(act)}; every Voxtral has 'gelu'")
    heads, layers = size["num_attention_heads"], size["num_hidden_layers"]
    tower = TowerShape(size["num_mel_bins"], width, heads, inner, layers, positions)
    return tower, inner // width, Shape.of(part(raw, "text_config", _TEXT))


def load(folder: Path, *, device: torch.device, dtype: torch.dtype, packed: str | None = None) -> AudioLanguageModel:
    """Load a Voxtral folder."""
    raw = read_json(folder / "config.json")
    tower, each, language = shapes(raw)
    asking = Asking(folder)
    vocabulary, rules = _words(folder, raw, asking.words, language.vocab_size)
    with torch.device("meta"):
        network = AudioNetwork(
            tower, Stacking(tower.width, language.hidden_size, each), language, Speculation.of(raw, language)
        )
    languages = languages_of(folder, raw) if "languages" in raw else LANGUAGES
    manner = Manner(languages, asking.before, asking, padded=True, chunks=CHUNKS)
    return build(folder, network, vocabulary, rules, manner, device=device, dtype=dtype, packed=packed)


class Asking:
    """Makes prompts as mistral-common does, of a breath of silence whose places are left out again.

    Raises:
        BadModel: the folder's ``tekken.json`` can't be read, or the package that reads it is missing.
    """

    def __init__(self, folder: Path) -> None:
        self._tokenizer = _tokenizer(folder)
        encoder = self._tokenizer.instruct_tokenizer.audio_encoder
        audio = None if encoder is None else encoder.special_ids.audio
        if audio is None:
            raise BadModel(f"{folder / 'tekken.json'} says nothing of audio: it is another model's")
        self._audio: int = audio
        self.before = self._around(self._translation("en"))[0]

    @property
    def words(self) -> Tekkenizer:
        """The tokenizer of texts."""
        words: Tekkenizer = self._tokenizer.instruct_tokenizer.tokenizer  # type: ignore[assignment]
        return words

    def __call__(self, target: str, source: str | None) -> Tokens:
        """Return what stands behind the audio."""
        return self._around(self._transcription(target) if source == target else self._translation(target))[1]

    def _around(self, tokens: list[int]) -> tuple[Tokens, Tokens]:
        return around(tokens, self._audio)

    def _transcription(self, language: str) -> list[int]:
        from mistral_common.protocol.transcription.request import TranscriptionRequest

        said = {"model": "voxtral", "file": io.BytesIO(_silence()), "language": language}
        return self._tokenizer.encode_transcription(TranscriptionRequest.from_openai(said)).tokens

    def _translation(self, target: str) -> list[int]:
        from mistral_common.protocol.instruct.request import ChatCompletionRequest

        sound = {"data": base64.b64encode(_silence()).decode(), "format": "wav"}
        content = [{"type": "input_audio", "input_audio": sound}, {"type": "text", "text": order(target)}]
        said: Any = [{"role": "user", "content": content}]
        request: Any = ChatCompletionRequest.from_openai(said)
        return self._tokenizer.encode_chat_completion(request).tokens


def _silence() -> bytes:
    """Return a tenth of a second of silence, as a WAV file."""
    file = io.BytesIO()
    with wave.open(file, "wb") as wav:
        wav.setnchannels(1)
        wav.setsampwidth(2)
        wav.setframerate(SAMPLE_RATE)
        wav.writeframes(bytes(SAMPLE_RATE // 5))
    return file.getvalue()


def _tokenizer(folder: Path) -> MistralTokenizer[Any, Any, Any, Any, Any]:
    file = folder / "tekken.json"
    try:
        from mistral_common.tokens.tokenizers.mistral import MistralTokenizer
    except ImportError:
        raise BadModel(needs(f"the tokenizer of {folder}", "mistral-common", "voxtral")) from None
    read_json(file)
    try:
        return MistralTokenizer.from_file(file)
    except (
        AssertionError,
        AttributeError,
        KeyError,
        TypeError,
        ValueError,
    ) as error:  # whatever is wrong with the file
        raise BadModel(f"{file} is no tokenizer of Voxtral's: {type(error).__name__}: {error}") from error


def _words(folder: Path, raw: Mapping[str, Any], words: Tekkenizer, size: int) -> tuple[Pieces, Rules]:
    """Return how tokens are spelt, and what may be chosen of the ``size`` that the network knows.

    Raises:
        BadModel: the tokenizer is another model's.
    """
    if words.n_words > size:
        raise BadModel(
            f"{folder / 'tekken.json'} has {words.n_words} tokens, and the network of config.json knows {size}: one of"
            " the two is another model's"
        )
    from mistral_common.tokens.tokenizers.base import SpecialTokenPolicy

    special = words.num_special_tokens
    spelt = [words.id_to_byte_piece(token, SpecialTokenPolicy.IGNORE) for token in range(words.n_words)]
    spelt += [b""] * (size - words.n_words)
    eot = words.eos_id
    ends = read_ends(folder, size, part(raw, "text_config", {}).get("eos_token_id")) - {eot}
    suppressed = frozenset({*range(special), *range(words.n_words, size)} - {eot})
    pieces = Pieces(spelt, eot, lambda text: words.encode(text, bos=False, eos=False))
    return pieces, Rules(size, eot, suppressed, ends=frozenset(ends))
