"""``streamtrans doctor``: what works here, what doesn't, and what to do about it."""

from __future__ import annotations

import platform
import socket
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Literal

import typer

from streamtrans.cli.options import MODEL
from streamtrans.core import SAMPLE_RATE, Group, StreamtransError
from streamtrans.runtime import Loaded, ModelChoice, load

Status = Literal["ok", "warn", "fail"]

_FROM = 12_800
"""Where speech begins in the demo's recording."""
_USUAL = ("de", "fr", "es", "zh")
"""One of these is what is translated into, where that can be."""
_GROWS_TO = 10 * SAMPLE_RATE
"""How long a segment is that grows."""

_REINSTALL = "pip install --force-reinstall streamtrans"

_STYLES: dict[Status, str] = {"ok": "green", "warn": "yellow", "fail": "bold red"}


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the report; ``remedy`` says what to do where the status isn't ok."""

    status: Status
    subject: str
    detail: str
    remedy: str = ""


def doctor(
    *,
    port: Annotated[int, typer.Option(min=1, max=65_535, help="The port that should be free.")] = 50_051,
    choice: Annotated[ModelChoice, Group("model", "translator", "device", "dtype", "threads", heading=MODEL)],
) -> None:
    """Check that everything works here, and say what to do where it doesn't: also whether a model can be served live.

    For example:

        streamtrans doctor

        streamtrans doctor --model openai/whisper-small --device cuda

        streamtrans doctor --model openai/whisper-small --translator Helsinki-NLP/opus-mt-en-de

    The exit status is 1 if something fails.
    """
    from rich.console import Console
    from rich.text import Text

    console = Console()
    failed = False
    for finding in examine(port, choice):
        failed |= finding.status == "fail"
        line = Text(f"{finding.status:<5}", style=_STYLES[finding.status])
        line.append(f"{finding.subject:<12}", style="default bold")
        line.append(finding.detail, style="default not bold")
        console.print(line, soft_wrap=True)
        if finding.remedy:
            console.print(Text(f"{'':17}→ {finding.remedy}", style="cyan"), soft_wrap=True)
    if failed:
        raise typer.Exit(1)


def examine(port: int, choice: ModelChoice) -> Iterator[Finding]:
    """Yield one finding after another, the quick ones first."""
    yield _python()
    yield from _torch()
    yield _processor()
    yield _guarded("passes", _passes)
    yield _free_port(port)
    yield from _microphones()
    for name in ("silero", "webrtc", "energy"):
        yield _guarded(f"vad {name}", partial(_detector, name))
    named = f"the folder {choice.model} lacks what is named, or holds it broken: get it again, or name another --model"
    try:
        yield from _served(choice)
    except (StreamtransError, ImportError) as error:
        yield _failed("model", error, _REINSTALL if choice.model is None else named)


def _guarded(subject: str, check: Callable[[], Finding], remedy: str = _REINSTALL) -> Finding:
    try:
        return check()
    except (StreamtransError, ImportError) as error:
        return _failed(subject, error, remedy)


def _failed(subject: str, error: Exception, remedy: str) -> Finding:
    if isinstance(error, ImportError):
        return Finding("fail", subject, f"a package is missing: {error}", "pip install . (in a clone of streamtrans)")
    return Finding("fail", subject, str(error), remedy)


def _python() -> Finding:
    where = f"{platform.system()} {platform.machine()}, {sys.executable}"
    return Finding("ok", "python", f"{platform.python_version()} on {where}")


def _torch() -> Iterator[Finding]:
    try:
        import torch
    except ImportError as error:
        yield Finding("fail", "torch", str(error), "pip install torch")
        return
    yield Finding("ok", "torch", f"{torch.__version__}, {torch.get_num_threads()} threads")
    if torch.cuda.is_available():
        memory = torch.cuda.get_device_properties(0).total_memory / 2**30
        yield Finding("ok", "gpu", f"{torch.cuda.get_device_name(0)}, {memory:.0f} GiB")
    else:
        yield Finding("ok", "gpu", "none that torch can use; the embedded model doesn't need one")


def _processor() -> Finding:
    """Say which fast instructions there are (Linux tells; elsewhere it isn't known)."""
    info = Path("/proc/cpuinfo")
    flags = set(info.read_text(encoding="utf-8").split()) if info.exists() else set()
    wanted = {"avx512f": "AVX-512", "avx512_bf16": "AVX512-BF16", "amx_bf16": "AMX", "avx2": "AVX2"}
    found = [name for flag, name in wanted.items() if flag in flags]
    if not flags:
        return Finding("ok", "cpu", f"{platform.processor() or 'unknown'}; its instructions aren't known")
    if "avx512_bf16" in flags or "amx_bf16" in flags:
        return Finding("ok", "cpu", ", ".join(found))
    remedy = "no bfloat16 instructions: keep --dtype float32; large models want a GPU or a newer processor"
    return Finding("warn", "cpu", ", ".join(found) or "no vector instructions", remedy)


def _passes() -> Finding:
    """Say whether a pass of a decoder is one call on a CPU."""
    from streamtrans.model import native

    reason = native.why_not()
    if not reason and not native.shares():
        remedy = (
            "texts are the same; for a model that keeps one core busy, CC=gcc shares passes between threads on Linux"
        )
        return Finding("warn", "passes", "one call, but in one thread: the compiler has no OpenMP", remedy)
    if not reason:
        return Finding("ok", "passes", "a pass through a decoder is one call, compiled for this processor")
    remedy = "install a C compiler (Debian: apt install gcc libc6-dev); texts are the same without, passes slower"
    return Finding("warn", "passes", f"layer by layer: {reason}", remedy)


def _free_port(port: int) -> Finding:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            remedy = f"a server may be running already; stop it, or use streamtrans serve --port {port + 1}"
            return Finding("warn", "port", f"{port} is taken ({error.strerror})", remedy)
    return Finding("ok", "port", f"{port} is free")


def _microphones() -> Iterator[Finding]:
    from streamtrans_clients import SourceError, microphones

    try:
        found = microphones()
    except SourceError as error:
        yield Finding("warn", "microphone", "not available", str(error))
        return
    if found:
        yield Finding("ok", "microphone", "; ".join(" ".join(name.split()) for name in found))
    else:
        remedy = "connect one to use streamtrans-mic; recordings work without"
        yield Finding("warn", "microphone", "none found", remedy)


def _detector(name: str) -> Finding:
    import numpy as np

    from streamtrans.vad import load_vad, vad_window

    began = time.perf_counter()
    windows = np.zeros((31, vad_window(name)), np.float32)
    [(probabilities, _)] = load_vad(name).detect([(windows, None)])
    took_ms = 1000 * (time.perf_counter() - began)
    return Finding("ok", f"vad {name}", f"loads and hears silence as {probabilities[-1]:.2f}, {took_ms:.0f} ms")


def _served(choice: ModelChoice) -> Iterator[Finding]:
    """Load the model, and the translator behind it; say what they are, and whether they keep up with a speaker."""
    began = time.perf_counter()
    loaded = load(choice)
    loading_s = time.perf_counter() - began
    try:
        model, translator = loaded.model, loaded.translator
        many = " ".join(model.languages)
        loads = f"loads in {loading_s:.1f} s"
        yield Finding("ok", "model", f"{model.name} on {model.device}, {model.precision}, {many}; {loads}")
        if translator is not None:
            what = f"{translator.name} on {translator.device}, {translator.precision}"
            yield Finding("ok", "translator", f"{what}, {' '.join(translator.targets(_spoken(loaded))) or 'nothing'}")
        yield _live(loaded)
    finally:
        loaded.engine.close()


def _spoken(loaded: Loaded) -> str:
    """Return what is taken to be spoken: English, as in the recording, where that is known."""
    known = loaded.model.languages
    return "en" if "en" in known else known[0]


def _live(loaded: Loaded) -> Finding:
    from streamtrans.audio import read_audio
    from streamtrans.cli.demo import RECORDING
    from streamtrans.cli.keeping_up import measure, now, taken_gb, verdict
    from streamtrans.evaluate import describe_machine

    source = _spoken(loaded)
    others = [code for code in dict(loaded.translations).get(source, loaded.languages) if code != source]
    target = next((code for code in _USUAL if code in others), others[0] if others else source)
    loaded.ask(target, source)
    heard = min(_GROWS_TO, loaded.model.max_samples)
    pace = measure(loaded, read_audio(RECORDING)[_FROM : _FROM + heard], (target,), source, now)
    live, why = verdict(pace, taken_gb(), describe_machine().memory_gb)
    subject, detail = "live", f"{source} to {target}: {why}"
    if live:
        return Finding("ok", subject, detail)
    remedy = "take a smaller model (docs/models.md), --dtype int8, or a GPU; recordings are translated all the same"
    return Finding("fail", subject, detail, remedy)
