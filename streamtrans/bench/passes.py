"""What a pass through a decoder costs in one call, operator by operator, and as other tools would run it.

The model's own weights, in float32 or as asked; memories of random numbers; texts that stand in neighbouring slots, and
with a hole between. All ways are timed in turn, round by round, in processor time of the one thread that computes. What
other tools are given is less than a pass: layers and scores of fixed lengths, with nothing to write, to choose or to
forget, so their figures are the least that they could cost.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import partial
from statistics import median
from typing import Annotated, Any

import torch
from torch import Tensor, nn

from streamtrans.bench.measurement import Progress, Report, Table, names, silent, some_of, use_threads
from streamtrans.core import BadConfig, Group, Option
from streamtrans.model import native
from streamtrans.model.api import Forward
from streamtrans.model.cache import CrossingPair, EncodedSpeech, SlotCache
from streamtrans.model.layers import attend
from streamtrans.model.loading import load_model
from streamtrans.model.network import FullCrossing
from streamtrans.model.pages import settle
from streamtrans.model.speech import TorchSpeechModel
from streamtrans.runtime import ModelChoice

CASES: dict[str, tuple[tuple[int, ...], int]] = {
    "1 row": ((0,), 1),
    "2 rows": ((0,), 2),
    "8 rows": ((0,), 8),
    "2 texts": ((0, 1), 1),
    "2 texts, a hole between": ((0, 2), 1),
    "3 texts": ((0, 1, 2), 1),
}
"""Name → slots of the texts, and rows of each."""

ONE_CALL, OPERATORS = "one call", "operators"
TRACED, COMPILED, OPENVINO = "torch.jit.trace", "torch.compile", "OpenVINO"
FLOOR = "weights read once"
WAYS = (ONE_CALL, OPERATORS, TRACED, COMPILED, OPENVINO)

_READ = 24
"""Tokens that stand before a pass."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Passes:
    """Time a pass through a decoder in one call, operator by operator, and as other tools run it."""

    choice: Annotated[ModelChoice, Group("model", "dtype")] = field(default_factory=ModelChoice)
    frames: Annotated[int, Option("Frames of the memories.", least=1)] = 125
    rounds: Annotated[int, Option("How often each pass is timed.", least=1)] = 20
    ways: Annotated[
        tuple[str, ...], Option(f"Some of {', '.join(WAYS)}, joined by commas. By default all.", read=names)
    ] = ()
    threads: Annotated[int | None, Option("CPU threads that compute.", least=1)] = 1

    def measure(self, progress: Progress = silent) -> Report:
        """Load, build and time."""
        ways = some_of(self.ways, WAYS, "--ways")
        use_threads(self.threads)
        runs: dict[tuple[str, str], Callable[[], object]] = {}
        missing: dict[str, str] = {}
        for number, way in enumerate(ways):
            progress("build", number, len(ways))
            try:
                runs |= {(way, case): run for case, run in _prepare(way, self.choice, self.frames)}
            except (BadConfig, ImportError, RuntimeError) as error:  # what torch compiles with may be missing
                missing[way] = str(error).strip().splitlines()[0]
        runs[FLOOR, "1 row"] = _floor(self.choice)
        times: dict[tuple[str, str], list[float]] = {name: [] for name in runs}
        for number in range(self.rounds):
            progress("passes", number, self.rounds)
            for name, run in runs.items():
                times[name].append(_ms(run))
        found: dict[str, dict[str, float]] = {}
        for (way, case), taken in times.items():
            found.setdefault(way, {})[case] = round(median(taken), 3)
        rows = [(way, *(cases.get(case, "–") for case in CASES)) for way, cases in found.items()]
        notes = [f"{way}: left out, {reason}" for way, reason in missing.items()]
        figures = {"ms": found, "missing": missing, "frames": self.frames, "dtype": self.choice.dtype}
        return Report(figures, [Table("ms per pass", ("way", *CASES), rows)], notes, markdown=True)


def _prepare(way: str, choice: ModelChoice, frames: int) -> Iterator[tuple[str, Callable[[], object]]]:
    """Yield what runs each case in a way.

    Raises:
        BadConfig: it can't be had here.
    """
    if way in (ONE_CALL, OPERATORS):
        with nullcontext() if way == ONE_CALL else native.switched_off():
            model = load_model(choice.model, device="cpu", dtype=choice.dtype)
        if way == ONE_CALL and model.stack is None:
            raise BadConfig(native.why_not() or f"no pass of {model.name} is one call here")
        slots = model.allocate(3)
        caches = [slots.open(_memory(model, frames)) for _ in range(3)]
        for cache in caches:
            model.step([Forward(_line(_READ), cache, 1)])
        for case, (at, rows) in CASES.items():
            yield case, _step(model, [caches[slot] for slot in at], rows, way)
        return
    if choice.dtype not in ("auto", "float32"):
        raise BadConfig(f"it is measured in float32 only, and --dtype is {choice.dtype}")
    with native.switched_off():
        model = load_model(choice.model, device="cpu", dtype="float64")  # the one that isn't packed
    model.network.float()
    for case, (at, rows) in CASES.items():
        if len(at) == 1:
            graph = _Graph(model, _memory(model, frames), rows).eval().requires_grad_(False)
            yield case, BUILD[way](graph, torch.tensor([_line(rows)]))


def _step(model: TorchSpeechModel, caches: Sequence[SlotCache], rows: int, way: str) -> Callable[[], object]:
    fresh = _line(rows)

    def run() -> None:
        with nullcontext() if way == ONE_CALL else native.switched_off():
            model.step([Forward(fresh, cache, rows, fresh[1:]) for cache in caches])
        for cache in caches:
            cache.truncate(_READ)

    return run


class _Graph(nn.Module):
    """The layers and the scores of a decoder for so many rows of one text, with constants for all that was read."""

    past: Tensor
    keys: Tensor
    values: Tensor
    mask: Tensor
    positions: Tensor

    def __init__(self, model: TorchSpeechModel, memory: EncodedSpeech, rows: int) -> None:
        super().__init__()
        self.decoder, config = model.network.model.decoder, model.config
        shape = (config.decoder_layers, 2, 1, config.decoder_attention_heads, _READ, config.head_width)
        self.register_buffer("past", torch.randn(shape))
        self.register_buffer("keys", torch.stack([pair.keys.float() for pair in memory.decoder])[:, None])
        self.register_buffer("values", torch.stack([pair.values.float() for pair in memory.decoder])[:, None])
        steps = torch.arange(_READ + rows)
        self.register_buffer("mask", (steps <= steps[_READ:, None])[None, None])
        self.register_buffer("positions", steps[_READ:])

    def forward(self, tokens: Tensor) -> Tensor:
        """Return scores ``(1, T, V)`` for tokens ``(1, T)``."""
        x = self.decoder.embed(tokens, self.positions)
        for number, layer in enumerate(self.decoder.layers):
            past = _Past(self.past[number], self.mask)
            x = layer(x, past, FullCrossing(self.keys[number].transpose(-1, -2), self.values[number], None))
        return self.decoder.logits(self.decoder.layer_norm(x))


@dataclass(frozen=True, slots=True)
class _Past:
    past: Tensor
    mask: Tensor

    def attend(self, queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        """Attend to what was read and to what is new."""
        return attend(queries, torch.cat([self.past[0], keys], 2), torch.cat([self.past[1], values], 2), self.mask)


def _traced(graph: nn.Module, tokens: Tensor) -> Callable[[], object]:
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        traced: Any = torch.jit.trace(graph, (tokens,))  # type: ignore[no-untyped-call]
        found = torch.jit.optimize_for_inference(torch.jit.freeze(traced))
    return _many(lambda: found(tokens))


def _compiled(graph: nn.Module, tokens: Tensor) -> Callable[[], object]:
    found = torch.compile(graph)
    return _many(lambda: found(tokens))


def _openvino(graph: nn.Module, tokens: Tensor) -> Callable[[], object]:
    import openvino

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        converted = openvino.convert_model(graph, example_input=tokens)
    threads = {"INFERENCE_NUM_THREADS": torch.get_num_threads(), "INFERENCE_PRECISION_HINT": "f32"}
    found = openvino.compile_model(converted, "CPU", threads).create_infer_request()
    return _many(lambda: found.infer({0: tokens.numpy()}, share_inputs=True, share_outputs=True))


BUILD: dict[str, Callable[[nn.Module, Tensor], Callable[[], object]]] = {
    TRACED: _traced,
    COMPILED: _compiled,
    OPENVINO: _openvino,
}
"""Way → what turns a graph for some tokens into something to run."""


def _many(run: Callable[[], object]) -> Callable[[], object]:
    """Run it some times, for what is worked out at first."""
    with torch.inference_mode():
        for _ in range(3):
            run()
    return torch.inference_mode()(run)


def _floor(choice: ModelChoice) -> Callable[[], object]:
    model = load_model(choice.model, device="cpu", dtype="float64")
    precision = load_model(choice.model, device="cpu", dtype=choice.dtype).precision
    decoder = model.network.model.decoder
    count = sum(each.numel() for name, each in decoder.named_parameters() if "embed_positions" not in name)
    read_later = sum(layer.encoder_attn.kv_proj.weight.numel() for layer in decoder.layers)  # type: ignore[union-attr,operator,misc]
    size = {"int8": 1, "bfloat16": 2}.get(precision, 4)
    weights = settle(torch.ones((count - read_later) * size // 8, dtype=torch.float64))
    return partial(native.read, weights)


def _memory(model: TorchSpeechModel, frames: int) -> EncodedSpeech:
    config = model.config

    def pair() -> CrossingPair:
        keys, values = torch.randn(2, config.decoder_attention_heads, frames, config.head_width, dtype=model.dtype)
        return CrossingPair(keys.transpose(1, 2), values)

    decoder = tuple(pair() for _ in range(config.decoder_layers))
    return EncodedSpeech(frames, decoder, tuple(pair() for _ in range(config.speculator_blocks)))


def _line(count: int) -> tuple[int, ...]:
    return tuple(range(20, 20 + count))


def _ms(run: Callable[[], Any]) -> float:
    began = time.process_time()
    run()
    return 1000 * (time.process_time() - began)
