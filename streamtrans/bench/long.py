"""What long texts cost KVSPN, the question that arXiv 2508.11189 leaves open (section 2.2.1: beyond 500 tokens).

A guess attends to four layers' keys of every position, so its price grows four times as fast as a base layer's. Beside
that: reading only the top layer of each group, and only the newest positions, which bounds it.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from statistics import median
from typing import Annotated, Any

import torch

from streamtrans.bench.measurement import Progress, Report, Table, counts, silent, use_threads
from streamtrans.core import BadConfig, Option
from streamtrans.model.api import Forward, Propose
from streamtrans.model.cache import CrossingPair, EncodedSpeech, SlotCache
from streamtrans.model.config import NetworkConfig
from streamtrans.model.features import FeatureConfig
from streamtrans.model.loading import load_model
from streamtrans.model.network import Network
from streamtrans.model.speech import Manner, TorchSpeechModel


@dataclass(frozen=True, slots=True)
class LongConfig:
    """What is measured: texts of ``lengths`` tokens about ``frames`` encoder frames, each ``rounds`` times."""

    lengths: tuple[int, ...] = (100, 200, 300, 400, 500, 600, 700, 800, 900, 1000)
    frames: int = 250
    rounds: int = 15
    windows: tuple[int, ...] = (64, 128)
    width: int = 1024
    """Of the network: 1024 is Whisper Medium's, with 12 decoder layers and 16 heads."""

    def __post_init__(self) -> None:
        if not self.lengths or min(self.lengths) < 1 or self.rounds < 1 or self.width % 64:
            raise BadConfig("long texts need lengths and rounds of 1 or more, and a width that divides by 64")


@dataclass(frozen=True, slots=True, kw_only=True)
class LongTexts:
    """Time a guess of KVSPN in long texts: all keys, each group's top layer, the newest positions only.

    Random weights in float32; takes about 3 GB of memory at medium width.
    """

    lengths: Annotated[tuple[int, ...], Option("Tokens of the text, joined by commas.", read=counts)] = (
        100,
        200,
        300,
        400,
        500,
        600,
        700,
        800,
        900,
        1000,
    )
    rounds: Annotated[int, Option("How often each is timed.", least=1)] = 15
    width: Annotated[int, Option("Of the network; 1024 is Whisper Medium's.", least=64)] = 1024
    threads: Annotated[int | None, Option("CPU threads that compute.", least=1)] = 1

    def measure(self, progress: Progress = silent) -> Report:
        """Time each variant at each length."""
        use_threads(self.threads)
        config = LongConfig(self.lengths, rounds=self.rounds, width=self.width)
        found = measure_long(config, progress=partial(progress, "lengths"))
        ways = list(next(iter(found.values())))
        rows = [[n, *(f"{at[way]['ms']:g} ms ({at[way]['of_a_step']:.2f})" for way in ways)] for n, at in found.items()]
        table = Table("milliseconds (share of a base step of the same round)", ["tokens", *ways], rows)
        return Report({"width": self.width, "rounds": self.rounds, "lengths": found}, [table])


def measure_long(
    config: LongConfig, *, progress: Callable[[int, int], None] | None = None
) -> dict[str, dict[str, dict[str, Any]]]:
    """Time a base step and one guess of each variant at each length; random weights, float32, one text.

    Returns, per length and variant, the median milliseconds of a guess, the same relative to a base step of the same
    round, and how many MB of keys and values the guess reads.
    """
    shape = _shape(config)
    variants = {"group": shape, "top": replace(shape, speculator_keys="top")}
    variants |= {f"window {size}": replace(shape, speculator_window=size) for size in config.windows}
    torch.manual_seed(0)
    network = Network(shape)
    contenders = {name: _contender(network, variant, config.frames) for name, variant in variants.items()}
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for number, length in enumerate(config.lengths, 1):
        found[str(length)] = _measure_at(length, contenders, config.rounds)
        if progress is not None:
            progress(number, len(config.lengths))
    return found


def _shape(config: LongConfig) -> NetworkConfig:
    heads = config.width // 64
    return NetworkConfig(
        d_model=config.width,
        encoder_layers=1,
        encoder_attention_heads=heads,
        encoder_ffn_dim=config.width,
        decoder_layers=12,
        decoder_attention_heads=heads,
        decoder_ffn_dim=4 * config.width,
        vocab_size=51_865,
        max_source_positions=config.frames,
        max_target_positions=max(config.lengths) + 8,
        speculator_blocks=3,
        speculator_ffn_dim=4 * config.width,
    )


def _contender(network: Network, shape: NetworkConfig, frames: int) -> tuple[TorchSpeechModel, SlotCache]:
    """Return a model of one variant on shared weights, and a slot full of random keys."""
    network.config = shape
    manner = Manner(("en",), lambda _target, _source: (1, 2), padded=False, suppressed=frozenset())
    model = TorchSpeechModel("random", network, load_model(None).tokenizer, FeatureConfig(), manner)
    slots = model.allocate(1)
    for tensor in (*slots.keys, *slots.values):
        tensor.normal_()
    heads, width = shape.decoder_attention_heads, shape.head_width
    pairs = [
        CrossingPair(torch.randn(heads, width, frames), torch.randn(heads, frames, width))
        for _ in range(shape.decoder_layers + shape.speculator_blocks)
    ]
    cut = shape.decoder_layers
    return model, slots.open(EncodedSpeech(frames, tuple(pairs[:cut]), tuple(pairs[cut:])))


def _measure_at(
    length: int, contenders: dict[str, tuple[TorchSpeechModel, SlotCache]], rounds: int
) -> dict[str, dict[str, Any]]:
    steps: dict[str, list[float]] = {name: [] for name in contenders}
    guesses: dict[str, list[float]] = {name: [] for name in contenders}
    order = random.Random(length)
    for number in range(rounds + 1):
        for name, (model, cache) in order.sample([*contenders.items()], len(contenders)):
            # A step of the base before each guess, on the same keys, as in decoding: then both find them as warm.
            cache.length = length - 1
            step = _seconds(partial(model.step, [Forward((5,), cache, 1)]))
            guess = _seconds(partial(model.propose, [Propose((5,), cache, 1)]))
            if number:  # the first round warms up
                steps[name].append(step)
                guesses[name].append(guess)
    every = [second for seconds in steps.values() for second in seconds]
    found: dict[str, dict[str, Any]] = {
        "base step": {"ms": round(1000 * median(every), 2), "of_a_step": 1.0, "mb_read": None}
    }
    for name, (model, _) in contenders.items():
        pairs = zip(guesses[name], steps[name], strict=True)
        found[name] = {
            "ms": round(1000 * median(guesses[name]), 2),
            "of_a_step": round(median(guess / step for guess, step in pairs), 3),
            "mb_read": round(_bytes_read(model.config, length) / 1e6, 2),
        }
    return found


def _bytes_read(shape: NetworkConfig, length: int) -> int:
    positions = min(length, shape.speculator_window) if shape.speculator_window else length
    layers = sum(len(layers) for layers in shape.speculator_reads)
    return 2 * 4 * layers * positions * shape.d_model


def _seconds(call: Callable[[], Sequence[Any]]) -> float:
    began = time.perf_counter()
    call()
    return time.perf_counter() - began
