"""The weights in the form that each program reads: ``python -m streamtrans.bench.racing.convert WEIGHTS FOLDER FORM``.

It is a process of its own, so that what converting takes and warns of stays out of what is measured.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from safetensors import SafetensorError, safe_open

from streamtrans.core import BadModel

_MISSING = 3
"""The exit status that says that a package isn't installed; its name is all that is printed."""

_WEIGHTS = "model.safetensors"
_COMPANIONS = ("config.json", "generation_config.json", "preprocessor_config.json", "tokenizer.json")


def form(who: str, precision: str) -> str:
    """Return the name of the form that a program reads; ``""`` where that is the folder as it is."""
    if who == "faster-whisper":
        return who
    if who == "whisper.cpp":
        return f"{who}-{precision}"
    if who == "openvino":
        return f"{who}-{'int8' if precision == 'int8' else 'float32'}"
    return ""


def converted(weights: Path, folder: Path, name: str) -> Path | str:
    """Return the folder of a form, made below ``folder`` if need be; or, as text, why there is none.

    Raises:
        BadModel: the weights can't be converted.
    """
    made = folder / name
    if not made.exists():
        command = [sys.executable, "-m", "streamtrans.bench.racing.convert", str(weights), str(made), name]
        done = subprocess.run(command, check=False, capture_output=True, text=True)
        if done.returncode == _MISSING:
            return f"{done.stdout.strip()} isn't installed"
        if done.returncode:
            raise BadModel(f"{weights} can't be converted for {name}: {done.stderr.strip()[-400:]}")
    return made


def as_stock(model: Path, stock: Path, folder: Path) -> Path | str:
    """Return a folder below ``folder`` that others take for a stock Whisper, with the weights of ``model``.

    As text, why there is none: its tensors must have the shapes of those in ``stock``.

    Raises:
        BadModel: a folder has no readable file of weights, or several, or ``stock`` lacks what stands beside them.
    """
    made = folder / "stock"
    if not made.exists():
        if _shapes(model) != _shapes(stock):
            return f"{model.name} has other tensors than {stock.name}: programs of others can't read it"
        if missing := [file for file in _COMPANIONS if not (stock / file).is_file()]:
            raise BadModel(f"{stock} has no {', '.join(missing)}: it is no whole folder of a stock Whisper")
        made.mkdir(parents=True)
        for file in _COMPANIONS:
            shutil.copy(stock / file, made / file)
        shutil.copy(model / _WEIGHTS, made / _WEIGHTS)
    return made


def _shapes(folder: Path) -> dict[str, list[int]]:
    if not (folder / _WEIGHTS).is_file():
        raise BadModel(f"{folder} has no weights that programs of others read: these are one {_WEIGHTS}")
    try:
        with safe_open(folder / _WEIGHTS, "numpy") as tensors:
            return {name: tensors.get_slice(name).get_shape() for name in tensors.keys()}  # noqa: SIM118 -- no dict
    except SafetensorError as error:
        raise BadModel(f"{folder / _WEIGHTS} is not a readable safetensors file: {error}") from None


def convert(weights: Path, folder: Path, name: str) -> None:
    """Write the form ``name`` of a stock Whisper in the Hugging Face layout.

    Raises:
        ImportError: the package that reads it, or that converts it, isn't installed.
    """
    program, _, precision = name.partition("-")
    if program == "whisper.cpp":
        from streamtrans.bench.racing.ggml import write_ggml
        from streamtrans.bench.racing.theirs import GGML

        folder.mkdir(parents=True)
        write_ggml(weights, folder / GGML, precision)
    elif program == "openvino":
        import torch
        from transformers import WhisperForConditionalGeneration

        from streamtrans.bench.racing.graphs import write_graphs

        whisper = WhisperForConditionalGeneration.from_pretrained(weights, dtype=torch.float32)
        write_graphs(whisper.eval(), folder, precision)
        for file in _COMPANIONS:
            shutil.copy(weights / file, folder / file)
    else:
        from ctranslate2.converters import TransformersConverter

        files = ["tokenizer.json", "preprocessor_config.json"]
        TransformersConverter(str(weights), copy_files=files).convert(str(folder))


if __name__ == "__main__":
    try:
        convert(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3])
    except ImportError as error:
        print(error.name)
        sys.exit(_MISSING)
