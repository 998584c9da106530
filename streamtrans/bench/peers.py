"""Our loop beside others' on the same weights: transformers' ``generate``, and CTranslate2.

Random weights of a Whisper shape, greedy, one thread, the same frames of audio and the same number of tokens. What a
token costs is the slope between two lengths, so encoding and starting are left out. Several streams write at once, each
about its own memory; beside ours stands what reading the weights once takes. A peer that isn't installed says so.
"""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Annotated, Any, Protocol, cast

import numpy as np
import torch

from streamtrans.bench.measurement import SHAPE, Progress, Report, Table, names, silent, some_of, use_threads
from streamtrans.bench.shapes import LAYERS, WIDTHS, random_model, random_network, whisper_shape
from streamtrans.core import BadConfig, Option, Tokens
from streamtrans.decode import greedy
from streamtrans.model.api import Forward
from streamtrans.model.config import NetworkConfig
from streamtrans.model.linear import PRECISIONS, Panels, usable
from streamtrans.model.native import read
from streamtrans.model.pages import settle

CONTENDERS = (
    "ours float32",
    "ours bfloat16",
    "ours int8",
    "transformers float32",
    "transformers bfloat16",
    "ctranslate2 float32",
    "ctranslate2 int8",
)
PROMPT = (1, 261)
"""Start of transcript and, last, no time stamps: else CTranslate2 makes some."""


@dataclass(frozen=True, slots=True)
class PeerConfig:
    """What is compared.

    Raises:
        BadConfig: a name is unknown or a number out of range.
    """

    shape: str = "tiny"
    layers: int = 0  # of the decoder; 0 takes those of the shape
    frames: int = 250  # of audio, of 20 ms each; nobody pads it
    short: int = 8  # tokens of the shorter text; the slope is taken from here …
    long: int = 40  # … to here
    rounds: int = 5  # each contender once a round; more are steadier
    streams: int = 1  # that write at once, each about a recording of its own
    contenders: tuple[str, ...] = CONTENDERS

    def __post_init__(self) -> None:
        if self.shape not in WIDTHS:
            raise BadConfig(f"shape is {self.shape!r}; use {', '.join(WIDTHS)}")
        if unknown := set(self.contenders) - set(CONTENDERS):
            raise BadConfig(f"no contender {', '.join(sorted(unknown))}; use {', '.join(CONTENDERS)}")
        if not 0 < self.short < self.long < 400 or min(self.frames, self.rounds, self.streams) < 1 or self.layers < 0:
            raise BadConfig("short must be below long, long below 400, frames, rounds and streams 1 or more")

    @property
    def network(self) -> NetworkConfig:
        """Return a stock Whisper's shape; the encoder, which isn't timed, has one layer."""
        shape = whisper_shape(self.shape, self.layers or LAYERS[self.shape], self.frames)
        return replace(shape, encoder_layers=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Peers:
    """Compare our loop with transformers' generate and with CTranslate2, on the same random weights of a Whisper.

    Greedy, the same frames and tokens for all; milliseconds per token without encoding. The extra `bench`
    brings the peers. At medium shape it takes 9 GB of memory; --contenders takes less.
    """

    shape: Annotated[str, SHAPE] = "tiny"
    layers: Annotated[int, Option("Decoder layers; 0 takes those of the shape.", least=0)] = 0
    frames: Annotated[int, Option("Frames of audio, 20 ms each; nobody pads it.", least=1)] = 250
    short: Annotated[int, Option("Tokens of the shorter text …", least=1)] = 8
    long: Annotated[int, Option("… and of the longer: what a token costs is the slope.", least=2)] = 40
    rounds: Annotated[int, Option("How often each writes both.", least=1)] = 5
    streams: Annotated[int, Option("Texts that are written at once, each about its own audio.", least=1)] = 1
    contenders: Annotated[
        tuple[str, ...], Option("Some of them, such as 'ours int8,ctranslate2 int8'. By default all.", read=names)
    ] = ()
    threads: Annotated[int | None, Option("CPU threads that compute.", least=1)] = 1

    def measure(self, progress: Progress = silent) -> Report:
        """Let all write in turn."""
        config = PeerConfig(
            shape=self.shape,
            layers=self.layers,
            frames=self.frames,
            short=self.short,
            long=self.long,
            rounds=self.rounds,
            streams=self.streams,
            contenders=some_of(self.contenders, CONTENDERS, "--contenders"),
        )
        use_threads(self.threads)
        found = compare_peers(config, progress=partial(progress, "rounds"))
        figures = {"network": config.network.asdict(), "streams": self.streams, "contenders": found}
        return Report(figures, [peer_table(found)], markdown=True)


class Contender(Protocol):
    """Somebody who writes texts."""

    def __call__(self, count: int) -> Tokens:
        """Write ``count`` tokens after the prompt, encoding the audio first."""
        ...


def compare_peers(
    config: PeerConfig, *, progress: Callable[[int, int], None] | None = None
) -> dict[str, dict[str, Any]]:
    """Let all write in turn; return milliseconds per token, and ratios to the first who is there.

    ``ms_per_token`` is a median of rounds in processor time of the process; ``ratio`` a median of ratios within a
    round; ``equal`` says whether the text is that of the first; ``floor_ms`` what reading our weights once takes.
    """
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory()))
        found: dict[str, dict[str, Any]] = {}
        there: dict[str, Contender] = {}
        for name in config.contenders:
            made = _make(name, config, folder)
            if isinstance(made, str):
                found[name] = {"missing": made}
            else:
                there[name] = made
        texts = {name: contender(config.long) for name, contender in there.items()}
        slopes: dict[str, list[float]] = {name: [] for name in there}
        floors: dict[str, list[float]] = {name: [] for name in there}
        for number in range(config.rounds):
            for name, contender in there.items():
                slopes[name].append(_slope(contender, config))
                if isinstance(contender, _Ours) and len(contender.weights):
                    floors[name].append(_ms(partial(read, contender.weights)))
            if progress is not None:
                progress(number + 1, config.rounds)
    first = next(iter(there), None)
    for name, taken in slopes.items():
        assert first is not None
        found[name] = {
            "ms_per_token": round(median(taken), 3),
            "ratio": round(median(mine / base for mine, base in zip(taken, slopes[first], strict=True)), 3),
            "tokens": len(texts[name]),
            "equal": texts[name] == texts[first],
        } | ({"floor_ms": round(median(floors[name]), 3)} if floors[name] else {})
    return {name: found[name] for name in config.contenders}


def peer_table(figures: dict[str, dict[str, Any]]) -> Table:
    """Lay out what :func:`compare_peers` returned."""
    rows = [
        (name, each["missing"], "–", "–", "–")
        if "missing" in each
        else (name, each["ms_per_token"], each["ratio"], each.get("floor_ms", "–"), each["equal"])
        for name, each in figures.items()
    ]
    return Table(
        "our loop and others'",
        ("", "ms per token", "against the first", "weights read once, ms", "same text"),
        tuple(rows),
    )


def _make(name: str, config: PeerConfig, folder: Path) -> Contender | str:
    """Return a contender, or why there is none."""
    who, precision = name.split()
    if who == "ours":
        other = usable(precision)
        return _Ours(config, precision) if other == precision else f"this processor would take {other} in its place"
    if importlib.util.find_spec(who) is None:
        return f"{who} isn't installed"
    if importlib.util.find_spec("transformers") is None:
        return "transformers, which converts the weights, isn't installed"
    return _transformers(config, precision) if who == "transformers" else _ctranslate2(config, precision, folder)


class _Ours:
    """Our loop; ``weights`` are as many bytes as a pass reads, where those of a pass lie."""

    def __init__(self, config: PeerConfig, precision: str) -> None:
        self.model = random_model(random_network(config.network), precision)
        self.model.pack(precision)
        self.slots = self.model.allocate(config.streams)
        self.audios = [_audio(config)] * config.streams
        panels = [each for each in self.model.network.model.decoder.modules() if isinstance(each, Panels)]
        self.weights = settle(torch.ones(sum(each.weights.nbytes for each in panels) // 8, dtype=torch.float64))

    def __call__(self, count: int) -> Tokens:
        """Write ``count`` tokens in each stream."""
        caches = [self.slots.open(memory) for memory in self.model.encode(self.audios)]
        limit = len(PROMPT) + count
        talks = [greedy(PROMPT, (), cache, eot=self.model.eot, limit=limit) for cache in caches]
        texts: list[Tokens] = []
        asked = [next(talk) for talk in talks]
        while not texts:
            answers = self.model.step(cast("list[Forward]", asked))
            try:
                asked = [talk.send(answer) for talk, answer in zip(talks, answers, strict=True)]
            except StopIteration as stop:  # all are as long
                texts.append(stop.value.tokens)
        for cache in caches:
            self.slots.release(cache)
        return texts[0]


def _transformers(config: PeerConfig, precision: str) -> Contender:
    theirs = _whisper(config).to(PRECISIONS[precision])
    mel = _mel(config).to(PRECISIONS[precision])
    prompt = torch.tensor([PROMPT] * config.streams)

    def write(count: int) -> Tokens:
        with torch.inference_mode():
            found = theirs.generate(
                mel,
                decoder_input_ids=prompt,
                attention_mask=torch.ones_like(mel[:, 0], dtype=torch.long),
                min_new_tokens=count,
                max_new_tokens=count,
                do_sample=False,
                num_beams=1,
            )
        return tuple(found[0].tolist()[-count:])

    return write


def _ctranslate2(config: PeerConfig, precision: str, folder: Path) -> Contender:
    import ctranslate2
    from ctranslate2.converters import TransformersConverter

    converted = folder / "ctranslate2"
    if not converted.exists():
        stock = folder / "transformers"
        _save(config, stock)
        TransformersConverter(str(stock)).convert(str(converted))
    whisper = ctranslate2.models.Whisper(
        str(converted), device="cpu", compute_type=precision, inter_threads=1, intra_threads=torch.get_num_threads()
    )
    mel = np.ascontiguousarray(_mel(config).numpy())

    def write(count: int) -> Tokens:
        heard = whisper.encode(ctranslate2.StorageView.from_array(mel))
        found, *_ = whisper.generate(
            heard,
            [list(PROMPT)] * config.streams,
            beam_size=1,
            max_length=2 * count,  # CTranslate2 writes at most half of it
            suppress_blank=False,
            suppress_tokens=[0],
        )
        return tuple(found.sequences_ids[0])

    return write


def _whisper(config: PeerConfig) -> Any:
    """Return transformers' model on our random weights."""
    from transformers import GenerationConfig, WhisperConfig, WhisperForConditionalGeneration
    from transformers.utils import logging

    logging.set_verbosity_error()  # every call warns that the length is said twice, which it must be
    logging.disable_progress_bar()
    shape = config.network
    names = WhisperConfig().to_dict().keys() & shape.asdict().keys()
    marks = {"pad_token_id": 0, "bos_token_id": 0, "eos_token_id": 0, "decoder_start_token_id": 1}
    nothing = {"suppress_tokens": None, "begin_suppress_tokens": None}
    settings = WhisperConfig(**{name: value for name, value in shape.asdict().items() if name in names}, **marks)
    with torch.device("meta"):
        whisper = WhisperForConditionalGeneration(settings)
    weights = random_network(shape).state_dict()
    whisper.load_state_dict({**weights, "proj_out.weight": weights["model.decoder.embed_tokens.weight"]}, assign=True)
    whisper.tie_weights()
    whisper.generation_config = GenerationConfig(**marks, **nothing)
    return whisper.eval().requires_grad_(False)


def _save(config: PeerConfig, folder: Path) -> None:
    """Write a Hugging Face folder for the converter."""
    from transformers import WhisperTokenizerFast

    from streamtrans.text import train_tokenizer

    tokenizer = train_tokenizer(["any text will do here"], 300, ["en"])
    tokenizer.add_special_tokens(["<|translate|>", "<|transcribe|>", "<|notimestamps|>"])
    assert tokenizer.token_to_id("<|notimestamps|>") == PROMPT[-1], "the prompt must end with it"
    _whisper(config).save_pretrained(folder)
    WhisperTokenizerFast(tokenizer_object=tokenizer).save_pretrained(folder)


def _audio(config: PeerConfig) -> np.ndarray[Any, np.dtype[np.float32]]:
    return np.random.default_rng(0).normal(0, 0.1, config.frames * 320).astype(np.float32)


def _mel(config: PeerConfig) -> torch.Tensor:
    """Return the features ``(streams, M, T)`` that our model reads."""
    from streamtrans.model.features import FeatureConfig, LogMel

    samples = torch.from_numpy(_audio(config)).expand(config.streams, -1)
    return LogMel(FeatureConfig(config.network.num_mel_bins))(samples)


def _slope(contender: Contender, config: PeerConfig) -> float:
    """Return the milliseconds of one more token, of as many as were really written."""
    taken: list[tuple[float, int]] = []
    for count in (config.short, config.long):
        began = time.process_time()
        written = len(contender(count))
        taken.append((1000 * (time.process_time() - began), written))
    (short_ms, short), (long_ms, long) = taken
    return (long_ms - short_ms) / max(1, long - short) / config.streams


def _ms(run: Callable[[], object]) -> float:
    began = time.process_time()
    run()
    return 1000 * (time.process_time() - began)
