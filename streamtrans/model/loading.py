"""Checkpoint folders: safetensors in the Hugging Face layout, never pickle."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import TypeVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from streamtrans.core import BadConfig, BadModel, UnsupportedLanguage, needs
from streamtrans.foreign import Table
from streamtrans.model.api import SpeechModel, TextModel
from streamtrans.model.cache import Heads
from streamtrans.model.config import NetworkConfig, read_json, shown
from streamtrans.model.linear import JOINED, PRECISIONS, has_bfloat16, usable
from streamtrans.model.network import Network
from streamtrans.model.speech import TorchSpeechModel
from streamtrans.model.stored import unpack
from streamtrans.text import Tokenizer, canonical

_log = logging.getLogger(__name__)

M = TypeVar("M")

FAMILIES: Table[Callable[..., SpeechModel]] = Table(
    "model_type",
    {
        "whisper": "streamtrans.model.whisper:load",
        "whisper_m2m": "streamtrans.model.whisper_m2m:load",
        "qwen2_audio": "streamtrans.model.audio_lm.qwen2_audio:load",
        "voxtral": "streamtrans.model.audio_lm.voxtral:load",
        "stacked_audio": "streamtrans.model.audio_lm.stacked:load",
    },
)
"""``model_type`` of ``config.json`` → ``module:function`` that loads a folder of that family."""

TRANSLATORS: Table[Callable[..., TextModel]] = Table(
    "model_type",
    {
        "m2m_100": "streamtrans.model.seq2seq.m2m:load",
        "marian": "streamtrans.model.seq2seq.marian:load",
        "llama": "streamtrans.model.causal.llama:load",
    },
)
"""The same for translators of texts."""

DTYPES = {"float64": torch.float64, "float16": torch.float16, **PRECISIONS}
"""What ``dtype`` may be → the dtype of what isn't packed."""

WIDE = 512
"""Width from which ``auto`` takes bfloat16 on processors that have it: narrower models wait for calls, not for weights
(``streamtrans bench costs``)."""

COMPANIONS = (
    "config.json",
    "generation_config.json",
    "preprocessor_config.json",
    "processor_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "added_tokens.json",
    "special_tokens_map.json",
    "chat_template.json",
    "chat_template.jinja",
    "vocab.json",
    "merges.txt",
    "sentencepiece.bpe.model",
    "source.spm",
    "target.spm",
    "tekken.json",
    "sentencepiece.model",
    "spiece.model",
    "spm_char.model",
    "tokenizer.model",
    "streaming.json",
    "adapter_config.json",
    "adapter_model.safetensors",
)
"""What a folder may hold besides weights, at its top."""
CARD = "README.md"
"""Tells some translators' languages."""
WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"

EMBEDDED = Path(__file__).parent.parent / "models" / "nano"
"""The model in the package, used where none is named."""


def load_speech(where: str | Path | None = None, *, device: str = "auto", dtype: str = "auto") -> SpeechModel:
    """Load a checkpoint folder, a hub name (``org/name``), or the embedded model where ``where`` is ``None``.

    Args:
        where: folder or hub name.
        device: ``auto`` takes a GPU if there is one; else as torch spells it (``cpu``, ``cuda:1``).
        dtype: ``auto`` is bfloat16 on GPU, and on CPU for wide models, else float32; or one of :data:`DTYPES`. On CPU
            what can't be had is replaced by the next best.

    Raises:
        BadModel: no such folder, a file is missing, unsafe or does not fit the others, or it is a translator of texts.
        BadConfig: the device or the dtype doesn't exist here.
    """
    elsewhere = dict.fromkeys(TRANSLATORS, "give it with --translator")
    return _load(FAMILIES, where, device, dtype, elsewhere=elsewhere, others=_others)


def load_translator(where: str | Path, *, device: str = "auto", dtype: str = "auto") -> TextModel:
    """Load a translator of texts as :func:`load_speech` loads what hears.

    Raises:
        BadModel: no such folder, a file is missing, unsafe or does not fit the others, or it hears speech.
        BadConfig: the device or the dtype doesn't exist here.
    """
    return _load(TRANSLATORS, where, device, dtype, elsewhere=dict.fromkeys(FAMILIES, "give it with --model"))


def load_model(where: str | Path | None = None, *, device: str = "auto", dtype: str = "auto") -> TorchSpeechModel:
    """Load as :func:`load_speech` does what is to be trained, compressed or measured layer by layer.

    Raises:
        BadModel: as there, or the model isn't shaped like a Whisper.
        BadConfig: the device or the dtype doesn't exist here.
    """
    model: object = load_speech(where, device=device, dtype=dtype)
    if not isinstance(model, TorchSpeechModel):
        raise BadModel(
            f"{find_folder(where)} isn't shaped like a Whisper, and this is for models that are; it can be served"
        )
    return model


def _others(kind: str) -> Callable[..., SpeechModel] | None:
    """Return what loads a ``model_type`` that no family here is for, if transformers makes text of speech with it.

    Raises:
        BadModel: transformers isn't here, which might know it.
    """
    if kind in TRANSLATORS:
        return None
    if find_spec("transformers") is None:
        what = f"model_type {shown(kind)}, which is none of {', '.join(FAMILIES)},"
        raise BadModel(needs(what, "transformers", "auto"))
    from streamtrans.model import auto  # what it imports takes seconds

    return auto.load if auto.knows(kind) else None


def _no_others(kind: str) -> None:
    del kind


def _load(
    families: Table[Callable[..., M]],
    where: str | Path | None,
    device: str,
    dtype: str,
    *,
    elsewhere: Mapping[str, str],
    others: Callable[[str], Callable[..., M] | None] = _no_others,
) -> M:
    folder = find_folder(where)
    chosen = choose_device(device)
    raw = read_json(folder / "config.json")
    kind = raw.get("model_type")
    try:
        load = (others(kind) if isinstance(kind, str) and kind not in families else None) or families.load(kind)
    except BadConfig as error:
        hint = f"; it is of another kind: {elsewhere[kind]}" if isinstance(kind, str) and kind in elsewhere else ""
        raise BadModel(f"{folder / 'config.json'}: {error}{hint}") from None
    precision = choose_precision(dtype, chosen, _width(raw))
    packed = precision if chosen.type == "cpu" and precision in PRECISIONS else JOINED
    return load(folder, device=chosen, dtype=DTYPES[precision], packed=packed)


def _width(raw: Mapping[str, object]) -> int:
    """Return the width of a network by its ``config.json``, 0 where that doesn't say it."""
    inner = [raw.get(name) for name in ("text_config", "audio_config")]
    for part in (raw, *(each for each in inner if isinstance(each, dict))):
        for name in ("d_model", "hidden_size"):
            if isinstance(width := part.get(name), int):
                return width
    return 0


def find_folder(where: str | Path | None) -> Path:
    """Return the local folder of a checkpoint, fetching a hub name if needed."""
    if where is None:
        return EMBEDDED
    folder = Path(where)
    if folder.is_dir():
        return folder
    name = str(where)
    if name.count("/") != 1 or name.startswith((".", "/", "~")):
        raise BadModel(
            f"there is no folder {name}; give a checkpoint folder or a hub name such as openai/whisper-small"
        )
    from huggingface_hub import snapshot_download

    try:
        fetched = Path(snapshot_download(name, allow_patterns=[*COMPANIONS, CARD, WEIGHTS, INDEX]))
        if not (fetched / WEIGHTS).exists() and (fetched / INDEX).exists():
            # Only the shards of this index: a hub folder may hold the same weights in other precisions beside them.
            snapshot_download(name, allow_patterns=shards(fetched))
    except (OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise BadModel(f"{name} is no folder here and could not be fetched from the hub: {reason}") from None
    return fetched


def choose_device(device: str) -> torch.device:
    """Resolve ``auto`` and check that the device exists."""
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        chosen = torch.device(device)
        torch.empty(0, device=chosen)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise BadConfig(f"device {device!r} can't be used here: {reason}") from None
    return chosen


def choose_precision(dtype: str, device: torch.device, width: int) -> str:
    """Resolve ``auto`` for a model of ``width``, check the name, and see what the processor can do."""
    if dtype == "auto":
        fast = device.type == "cuda" or (width >= WIDE and has_bfloat16())
        return "bfloat16" if fast else "float32"
    if dtype not in DTYPES:
        raise BadConfig(f"dtype {dtype!r} is unknown; use auto, {', '.join(DTYPES)}")
    if device.type == "cpu":
        return usable(dtype) if dtype in PRECISIONS else dtype
    if dtype == "int8":
        raise BadConfig(f"int8 is for CPUs, and the device is {device}; use bfloat16 or float16")
    return dtype


def read_alignment_heads(folder: Path, config: NetworkConfig, *, distilled: bool = False) -> Heads:
    """Read which (layer, head) of the decoder look at what is said, from ``generation_config.json``; none if unsaid.

    A ``distilled`` model often comes with the list of its teacher, whose layers it hasn't: then nobody knows, either.

    Raises:
        BadModel: the decoder has no such head.
    """
    file = folder / "generation_config.json"
    listed = (read_json(file) if file.exists() else {}).get("alignment_heads") or []
    layers, heads = config.decoder_layers, config.decoder_attention_heads
    deepest = config.encoder_layers if distilled else layers  # encoder and teacher have the same depth
    if not isinstance(listed, list) or not all(
        isinstance(pair, list) and len(pair) == 2 and pair[0] in range(deepest) and pair[1] in range(heads)
        for pair in listed
    ):
        raise BadModel(
            f"{file}: alignment_heads is {shown(listed)}; give a list of [layer, head], out of {layers} layers with"
            f" {heads} heads each"
        )
    if any(layer >= layers for layer, _ in listed):
        _log.warning("%s lists the alignment heads of a deeper teacher; they are left aside", file)
        return ()
    return tuple(dict.fromkeys((layer, head) for layer, head in listed))


def check_vocabulary(folder: Path, tokenizer: Tokenizer, config: NetworkConfig) -> None:
    """Refuse a tokenizer with more tokens than the network has: it is another model's.

    Raises:
        BadModel: it has.
    """
    if tokenizer.size > config.vocab_size:
        raise BadModel(
            f"{folder}: the tokenizer has {tokenizer.size} tokens, and the network of config.json knows"
            f" {config.vocab_size}: one of the two is another model's"
        )


def load_network(folder: Path, config: NetworkConfig) -> Network:
    """Build the network and fill it from ``model.safetensors`` (or its shards).

    A checkpoint without the text encoder is fine for inference: that part is left out.
    """
    tensors = dict(read_tensors(folder))
    head, embedding = tensors.pop("proj_out.weight", None), tensors.get("model.decoder.embed_tokens.weight")
    if head is not None and embedding is not None and not torch.equal(head, embedding):
        raise BadModel(f"{folder}: proj_out.weight differs from the token embedding, to which every Whisper ties it")
    if not config.text_encoder_layers:
        tensors = {name: tensor for name, tensor in tensors.items() if not name.startswith("text_encoder.")}
    with torch.device("meta"):
        network = Network(config)
    fill(network, tensors, folder)
    return network


def fill(network: nn.Module, tensors: Mapping[str, Tensor], folder: Path) -> None:
    """Give a network the tensors of a folder.

    Raises:
        BadModel: they aren't the ones that its ``config.json`` asks for, or hold no numbers.
    """
    wanted = network.state_dict()
    missing = sorted(set(wanted) - set(tensors))
    surplus = sorted(set(tensors) - set(wanted))
    if missing or surplus:
        raise BadModel(
            f"{folder}: the weights don't fit config.json: "
            f"{len(missing)} missing{_some(missing)}, {len(surplus)} unknown{_some(surplus)}"
        )
    for name, tensor in wanted.items():
        if tensor.shape != tensors[name].shape:
            raise BadModel(
                f"{folder}: {name} has shape {tuple(tensors[name].shape)}; config.json asks for {tuple(tensor.shape)}"
            )
        if tensor.is_floating_point() and tensors[name].dtype not in DTYPES.values():
            raise BadModel(f"{folder}: {name} is of {tensors[name].dtype}; only plain weights are read, no packed ones")
        if not tensor.is_floating_point() and tensors[name].dtype not in (torch.int32, torch.int64):
            raise BadModel(f"{folder}: {name} is of {tensors[name].dtype}; it must hold whole numbers")
        if tensor.dim() == 1 and not tensors[name].isfinite().all():  # where one is broken, norms and biases are
            raise BadModel(f"{folder}: {name} holds infinite numbers or none at all; its training has failed")
    network.load_state_dict(tensors, assign=True)


def languages_of(folder: Path, raw: Mapping[str, object]) -> tuple[str, ...]:
    """Read the languages from ``languages`` of ``config.json``, or else from the head of the folder's README.

    Raises:
        BadModel: neither names any that we know.
    """
    card = folder / CARD
    listed = raw.get("languages")
    if listed is None and card.is_file():
        head = re.match(r"---\n(.*?)\n---", card.read_text(encoding="utf-8", errors="replace"), re.DOTALL)
        found = re.search(r"^language:((?:\n\s*- +\S+)+)", head[1] if head else "", re.MULTILINE)
        listed = [tag.strip("\"'") for tag in re.findall(r"-\s+(\S+)", found[1])] if found else None
    codes = list[str]()
    for tag in listed if isinstance(listed, list) else ():
        try:
            codes.append(canonical(str(tag)))
        except UnsupportedLanguage:
            continue  # a language that nobody can ask for here
    if not codes:
        raise BadModel(
            f'{folder} doesn\'t say which languages it knows: write "languages": ["en", "de"] into config.json'
        )
    return tuple(dict.fromkeys(codes))


def weight_files(folder: Path) -> list[str]:
    """Return the names of the files that hold a folder's weights.

    Raises:
        BadModel: there are no safetensors.
    """
    if (folder / WEIGHTS).is_file():
        return [WEIGHTS]
    if (folder / INDEX).is_file():
        return shards(folder)
    if any(folder.glob("*.bin")) or any(folder.glob("*.pt")):
        raise BadModel(f"{folder} has pickled weights only, which can run code when read; convert them to safetensors")
    raise BadModel(f"{folder} has no {WEIGHTS}")


def read_tensors(folder: Path) -> Mapping[str, Tensor]:
    """Read all tensors of a checkpoint folder; matrices that are stored as whole numbers become what they are worth.

    Raises:
        BadModel: there are no safetensors, or they are damaged.
    """
    tensors: dict[str, Tensor] = {}
    for name in weight_files(folder):
        try:
            tensors |= load_file(folder / name)
        except (OSError, SafetensorError) as error:
            raise BadModel(f"{folder / name} is not a readable safetensors file: {error}") from None
    return unpack(folder, tensors)


def shards(folder: Path) -> list[str]:
    """Return the names of the files that the index of a folder's weights lists.

    Raises:
        BadModel: it lists none, or something that isn't a file beside it.
    """
    listed = read_json(folder / INDEX).get("weight_map")
    names = list(listed.values()) if isinstance(listed, dict) else []
    for name in names:
        if not isinstance(name, str) or Path(name).name != name or not name.endswith(".safetensors"):
            raise BadModel(f"{folder / INDEX} names {shown(name)}; it must name safetensors files beside it")
    if not names:
        raise BadModel(f"{folder / INDEX} lists no files: weight_map must map tensors to safetensors files")
    return sorted(set(names))


def _some(names: list[str]) -> str:
    return f" ({', '.join(names[:3])}{', …' if len(names) > 3 else ''})" if names else ""
