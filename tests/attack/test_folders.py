"""Checkpoint folders made by somebody else: whatever is wrong is one line of BadModel, soon, and runs nothing."""

from __future__ import annotations

import json
import pickle
import shutil
import struct
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from streamtrans.core import BadModel
from streamtrans.model.loading import load_model
from tests.checkpoints import make_whisper_m2m

Change = Callable[[Path], object]

SOON_S = 5.0
"""Far more than it takes; what is refused late has built or read something first."""


class Evil:
    def __reduce__(self) -> tuple[object, ...]:
        return exec, ("open('ran', 'w').write('x')",)


def tensors(header: bytes, length: int | None = None, rest: bytes = b"") -> bytes:
    return struct.pack("<Q", len(header) if length is None else length) + header + rest


def file(name: str, data: bytes) -> Change:
    return lambda folder: (folder / name).write_bytes(data)


def said(name: str, **values: object) -> Change:
    def change(folder: Path) -> None:
        raw = json.loads((folder / name).read_text())
        (folder / name).write_text(json.dumps(raw | values))

    return change


def config(**values: object) -> Change:
    return said("config.json", **values)


def features(**values: object) -> Change:
    return said("preprocessor_config.json", **values)


def tokenizer(change: Callable[[dict], object]) -> Change:  # type: ignore[type-arg]
    def changed(folder: Path) -> None:
        layout = json.loads((folder / "tokenizer.json").read_text())
        change(layout)
        (folder / "tokenizer.json").write_text(json.dumps(layout))

    return changed


def index(value: object) -> Change:
    def change(folder: Path) -> None:
        (folder / "model.safetensors").unlink()
        (folder / "model.safetensors.index.json").write_text(json.dumps(value))

    return change


def only_pickle(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps(Evil()))


def instead(name: str, make: Change) -> Change:
    def change(folder: Path) -> None:
        (folder / name).unlink()
        make(folder / name)

    return change


WEIGHTS = {
    "pickle only": only_pickle,
    "pickle called safetensors": file("model.safetensors", pickle.dumps(Evil())),
    "header of 2**63 bytes": file("model.safetensors", tensors(b"{}", 2**63)),
    "header of 100 MB": file("model.safetensors", tensors(b"{}", 100_000_000)),
    "header no JSON": file("model.safetensors", tensors(b"[[[[")),
    "offsets outside": file("model.safetensors", tensors(b'{"a":{"dtype":"F32","shape":[4],"data_offsets":[0,16]}}')),
    "shape of 2**60": file(
        "model.safetensors",
        tensors(b'{"a":{"dtype":"F32","shape":[1152921504606846976],"data_offsets":[0,4]}}', rest=b"0000"),
    ),
    "deep header": file("model.safetensors", tensors(b'{"a":' * 20_000)),
    "empty": file("model.safetensors", b""),
    "no tensors": file("model.safetensors", tensors(b"{}")),
    "weights a folder": instead("model.safetensors", Path.mkdir),
    "weights endless": instead("model.safetensors", lambda path: path.symlink_to("/dev/zero")),
    "index outside": index({"weight_map": {"a": "../../../../../../etc/passwd"}}),
    "index absolute": index({"weight_map": {"a": "/etc/passwd.safetensors"}}),
    "index of numbers": index({"weight_map": {"a": 1}}),
    "index a list": index({"weight_map": [1, 2]}),
    "index empty": index({"weight_map": {}}),
    "index of nothing": index({}),
    "index of a file that isn't there": index({"weight_map": {"a": "b.safetensors"}}),
}  # fmt: skip
CONFIGS = {
    "no JSON": file("config.json", b"{"),
    "a list": file("config.json", b"[]"),
    "deep": file("config.json", b'{"a":' * 100_000),
    "not UTF-8": file("config.json", b"\xff\xfe{}"),
    "a number of a million digits": file("config.json", b'{"d_model": ' + b"9" * 1_000_000 + b"}"),
    "a folder": instead("config.json", Path.mkdir),
    "a device": instead("config.json", lambda path: path.symlink_to("/dev/zero")),
    "nothing in it": file("config.json", b"{}"),
    "type a list": config(model_type=["whisper"]),
    "type null": config(model_type=None),
    "languages a number": config(languages=5),
    "languages wrong": config(languages=["tlh"]),
    "languages nested": config(languages=[[1]]),
    "languages a text": config(languages="en"),
    "languages none": config(languages=[]),
    "languages twice": config(languages=["en", "en"]),
    "activation": config(activation_function="relu"),
    "scaled embedding": config(scale_embedding=True),
}
NUMBERS = (
    *("d_model", "encoder_layers", "decoder_layers", "encoder_attention_heads", "decoder_attention_heads"),
    *("encoder_ffn_dim", "decoder_ffn_dim", "vocab_size", "num_mel_bins", "max_source_positions"),
    *("max_target_positions", "text_encoder_layers", "speculator_blocks", "speculator_window", "draft_vocabulary"),
    *("encoder_block", "encoder_left"),
)
WRONG = ("192", None, -192, 0.5, 1.5, [1], {}, float("nan"), float("inf"), True, 10**7, 10**12)
SWITCHES = ("speculator_acceptance", "speculator_own_keys", "encoder_rotary", "speculator_input", "speculator_keys")
VALUES = {f"{name} {value}": config(**{name: value}) for name in NUMBERS for value in WRONG}
VALUES |= {f"{name} 0": config(**{name: 0}) for name in NUMBERS[:11]}
VALUES |= {
    f"{name} {value}": config(**{name: value}) for name in SWITCHES for value in ("x", None, [1], -1, 2, float("nan"))
}
OTHERS = {
    **{
        f"{name} {value}": features(**{name: value})
        for name in ("n_fft", "hop_length", "feature_size")
        for value in ("x", None, 0, -1, 10**10, 1.5, [1], True)
    },
    "features a list": file("preprocessor_config.json", b"[]"),
    "rate a text": features(sampling_rate="x"),
    "rate 8000": features(sampling_rate=8_000),
    "scaling a list": features(scaling=["clip"]),
    "features of another kind": features(feature_extractor_type="Wav2Vec2FeatureExtractor"),
    "frames farther apart than long": features(hop_length=401),
    "mel bins of another model": features(feature_size=80),
    "heads of alignment": file("generation_config.json", b'{"alignment_heads": [[0, 1000000000]]}'),
    "heads of nothing": file("generation_config.json", b'{"alignment_heads": [[[], {}]]}'),
    "heads a number": file("generation_config.json", b'{"alignment_heads": 5}'),
    "heads of a text": file("generation_config.json", b'{"alignment_heads": [["0", "1"]]}'),
    "generation a list": file("generation_config.json", b"[]"),
}
TOKENIZERS = {
    "{}": file("tokenizer.json", b"{}"),
    "garbage": file("tokenizer.json", b"\xff" * 100),
    "a list": file("tokenizer.json", b"[]"),
    "deep": file("tokenizer.json", b"[" * 100_000),
    "missing": lambda folder: (folder / "tokenizer.json").unlink(),
    "model a list": tokenizer(lambda layout: layout.update(model=[])),
    "merges of strangers": tokenizer(lambda layout: layout["model"].update(merges=[["qq", "zz"]])),
    "merges of numbers": tokenizer(lambda layout: layout["model"].update(merges=[1, 2])),
    "a token 10**9": tokenizer(lambda layout: layout["model"]["vocab"].update({"x": 10**9})),
    "a token -1": tokenizer(lambda layout: layout["model"]["vocab"].update({"x": -1})),
    "a token x": tokenizer(lambda layout: layout["model"]["vocab"].update({"x": "x"})),
    "a command 10**9": tokenizer(lambda layout: layout["added_tokens"][0].update(id=10**9)),
    "a command without a number": tokenizer(lambda layout: layout["added_tokens"][0].pop("id")),
    "a command without a name": tokenizer(lambda layout: layout["added_tokens"][0].pop("content")),
    "commands a number": tokenizer(lambda layout: layout.update(added_tokens=5)),
    "commands of numbers": tokenizer(lambda layout: layout.update(added_tokens=[5])),
    "no commands": tokenizer(lambda layout: layout.update(added_tokens=[])),
    "a splitter that nobody knows": tokenizer(lambda layout: layout.update(pre_tokenizer={"type": "Magic"})),
    "no decoder": tokenizer(lambda layout: layout.update(decoder=None)),
    "more tokens than the network": tokenizer(lambda layout: layout["model"]["vocab"].update({"x": 5_000})),
}
CASES = {
    f"{kind}: {name}": change
    for kind, group in (
        ("weights", WEIGHTS),
        ("config", CONFIGS),
        ("value", VALUES),
        ("other", OTHERS),
        ("tokenizer", TOKENIZERS),
    )
    for name, change in group.items()
}


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sound")
    make_whisper_m2m(folder, encoder_rotary=True, encoder_block=4, draft_vocabulary=210)
    load_model(folder, device="cpu")
    return folder


@pytest.mark.parametrize("name", CASES)
def test_a_broken_folder_is_refused_in_one_line(name: str, sound: Path, tmp_path: Path, monkeypatch) -> None:
    folder = tmp_path / "model"
    shutil.copytree(sound, folder)
    monkeypatch.chdir(tmp_path)
    CASES[name](folder)
    began = time.monotonic()
    with pytest.raises(BadModel) as caught:
        load_model(folder, device="cpu")
    said = str(caught.value)
    assert "\n" not in said
    assert len(said) < 600
    assert time.monotonic() - began < SOON_S
    assert not Path("ran").exists()
