"""From a folder to a network of transformers: which classes there are, and what is refused.

Code that comes with a folder is never run, and pickled weights are never read.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from huggingface_hub.errors import StrictDataclassError
from jinja2 import TemplateError
from safetensors import SafetensorError

from streamtrans.core import BadModel, StreamtransError
from streamtrans.model.auto.asking import Attending, Prompted
from streamtrans.model.auto.model import AutoSpeechModel
from streamtrans.model.config import read_json, shown, tokens_of
from streamtrans.model.loading import weight_files
from streamtrans.model.scoring import Rules
from streamtrans.text import Pieces, articles
from streamtrans.text.sentencepieces import Backend, pieces, spelt

_log = logging.getLogger(__name__)

CLASSES = {
    "AutoModelForSpeechSeq2Seq": "MODEL_FOR_SPEECH_SEQ_2_SEQ_MAPPING_NAMES",
    "AutoModelForMultimodalLM": "MODEL_FOR_MULTIMODAL_LM_MAPPING_NAMES",
}
"""Classes of transformers that choose by ``model_type`` → their tables, where the installed version has them."""

MOST_TOKENS = 448
"""Positions of a text with its prompt, sound in it left out: twice half a minute of speech."""


def knows(kind: str) -> bool:
    """Say whether the installed transformers has a class for a ``model_type``; without it there is none."""
    return _class_for(kind) is not None


FOREIGN = (
    ImportError,
    OSError,
    ValueError,
    KeyError,
    IndexError,
    TypeError,
    AttributeError,
    RuntimeError,
    SafetensorError,
    StrictDataclassError,
    TemplateError,
)
"""What processors, configs and networks of transformers raise over a file that isn't as they want it."""

NO_TEXT_OF_SPEECH = frozenset({"dia", "pop2piano", "vibevoice", "kyutai_speech_to_text"})
"""In the tables of transformers, and not for this: they speak, play, or hear by another codec."""


def load(folder: Path, *, device: torch.device, dtype: torch.dtype, packed: str | None = None) -> AutoSpeechModel:
    """Load a folder whose ``model_type`` transformers :func:`knows`; nothing is laid out for speed.

    Raises:
        BadModel: a file is missing or of another model, or the model doesn't make text of speech.
    """
    del packed
    raw = read_json(folder / "config.json")
    if (settings := folder / "generation_config.json").exists():
        read_json(settings)  # transformers takes its own instead of one that is broken
    weight_files(folder)
    kind = str(raw["model_type"])
    if kind in NO_TEXT_OF_SPEECH:
        raise BadModel(f"{folder} is a {kind}, which doesn't make text of speech as others do; take another model")
    with _refusing(f"transformers can't load {folder}"):
        processor = _processor(folder)
        network = _network(folder, kind).to(device=device, dtype=dtype).eval().requires_grad_(False)
    with _refusing(f"{folder}: its files don't go together"):
        inner = Attending if network.config.is_encoder_decoder else Prompted
        ear = inner(folder, raw, network, processor)
        model = _model(folder, network, ear)
    _log.warning("%s is a %s: transformers runs it, one text after another, which is slow", folder.name, kind)
    return model


def _model(folder: Path, network: Any, ear: Attending | Prompted) -> AutoSpeechModel:
    settings = network.config.get_text_config(decoder=True)
    size = network.get_output_embeddings().weight.shape[0]
    vocabulary, rules = _words(folder, ear, network.generation_config, size)
    known = (getattr(settings, name, None) for name in ("max_target_positions", "max_position_embeddings"))
    most = min([MOST_TOKENS, *(each for each in known if each)])
    return AutoSpeechModel(folder.name, network, ear, vocabulary, rules, max_tokens=most)


@contextmanager
def _refusing(what: str) -> Iterator[None]:
    """Say in one line of ``BadModel`` what somebody else's code says of a folder."""
    try:
        yield
    except StreamtransError:
        raise
    except FOREIGN as error:
        lines = str(error).strip().splitlines()
        raise BadModel(f"{what}: {lines[0] if lines else type(error).__name__}") from None


def _class_for(kind: str) -> str | None:
    try:
        from transformers.models.auto import modeling_auto
    except ImportError:
        return None
    return next((name for name, table in CLASSES.items() if kind in getattr(modeling_auto, table, {})), None)


def _processor(folder: Path) -> Any:
    import transformers

    with _refusing(f"{folder} has no processor that transformers can read here"):
        found = transformers.AutoProcessor.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
    if not {"feature_extractor", "audio_processor"} & vars(found).keys() or "tokenizer" not in vars(found):
        raise BadModel(f"{folder} has no processor of sound and text, but a {type(found).__name__}")
    return found


def _network(folder: Path, kind: str) -> Any:
    import transformers

    chosen = getattr(transformers, str(_class_for(kind)))
    network, said = chosen.from_pretrained(
        folder,
        trust_remote_code=False,
        use_safetensors=True,
        local_files_only=True,
        ignore_mismatched_sizes=True,  # so that they are named below
        output_loading_info=True,
    )
    lacking = sorted({*said["missing_keys"], *(str(each[0]) for each in said["mismatched_keys"])})
    if lacking:
        raise BadModel(
            f"{folder}: the weights don't fit config.json: {len(lacking)} missing or of other sizes"
            f" ({', '.join(lacking[:3])}{', …' if len(lacking) > 3 else ''})"
        )
    if getattr(network.config, "has_lora_adapter", False) and not network._hf_peft_config_loaded:
        raise BadModel(
            f"{folder} was trained with an adapter, and none is loaded: it takes adapter_config.json,"
            " adapter_model.safetensors and the package peft (pip install peft)"
        )
    for name, each in network.named_parameters():
        if each.dim() == 1 and not each.isfinite().all():
            raise BadModel(f"{folder}: {name} holds infinite numbers or none at all; its training has failed")
    return network


def _words(folder: Path, ear: Attending | Prompted, settings: Any, size: int) -> tuple[Pieces, Rules]:
    """Return how the tokens are spelt, and which of ``size`` may be chosen.

    Raises:
        BadModel: the tokenizer is another model's, or spells as nobody here can.
    """
    tokenizer = ear.tokenizer
    numbers = tokens_of(tokenizer.get_vocab(), size, folder / "its tokenizer")

    def listed(name: str) -> list[int]:
        said = getattr(settings, name)
        tokens = said if isinstance(said, list) else [] if said is None else [said]
        if not all(type(token) is int and 0 <= token < size for token in tokens):
            raise BadModel(f"{folder}: {name} of generation_config.json is {shown(said)}; give tokens below {size}")
        return tokens

    ends = listed("eos_token_id")
    if not ends:
        raise BadModel(f"{folder} doesn't say how a text ends: eos_token_id of generation_config.json")
    added = tokenizer.added_tokens_decoder
    commands = {token for token, entry in added.items() if entry.special} | {*tokenizer.all_special_ids, *ends}
    commands |= set(range(size)) - set(numbers.values())
    file = folder / "tokenizer.json"
    spell = Backend(file).spelt if file.is_file() else spelt
    eot, *others = ends

    def cut(text: str) -> list[int]:
        return [token for token in tokenizer(text, add_special_tokens=False).input_ids if token not in commands]

    vocabulary = Pieces(pieces(numbers, size, commands, spell), eot, cut)
    sample = cut(articles()["en"])
    if "".join(vocabulary.decode(sample).split()) != "".join(tokenizer.decode(sample).split()):
        raise BadModel(f"{folder}: a {type(tokenizer).__name__} spells as nobody here can")
    never = frozenset(commands | {*listed("suppress_tokens")}) - {eot}
    starts = frozenset(listed("begin_suppress_tokens"))
    return vocabulary, Rules(size, eot, never, starts, ear.begin if starts else 0, ends=frozenset(others))
