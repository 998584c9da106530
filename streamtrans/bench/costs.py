"""What passes cost where the weights are many: a base step, passes that verify a draft, a guess; so what drafts gain.

Random weights of a Whisper shape, one text, audio as long as it is, the model's own code. Passes are timed in turn,
round by round, and compared within a round: what else runs on the machine then hits all of them. Times are processor
time of the one thread that computes, so that waiting for a busy processor doesn't count.
"""

from __future__ import annotations

import gc
import random
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from statistics import median
from typing import Annotated, Any, cast

import torch

from streamtrans.bench.measurement import SHAPE, Progress, Report, Table, names, silent, some_of, use_threads
from streamtrans.bench.shapes import WIDTHS, random_model, random_network, whisper_shape
from streamtrans.core import BadConfig, Hypothesis, Option, Tokens
from streamtrans.decode import Draft, Drafter, converse, decode, greedy
from streamtrans.decode.drafters import Drafting
from streamtrans.model.api import DecoderCache, Forward, Propose, SpeechModel
from streamtrans.model.cache import CrossingPair, EncodedSpeech
from streamtrans.model.config import NetworkConfig
from streamtrans.model.linear import JOINED, PRECISIONS, make_linear, make_panels, usable

PLAIN = "plain float32"
"""Beside the packed precisions: torch's own products, as they come."""

STEP, DRAFT, SHORT_DRAFT = "step", "draft, whole vocabulary", "draft, short vocabulary"
RATES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95)


@dataclass(frozen=True, slots=True)
class CostConfig:
    """What is measured.

    Raises:
        BadConfig: a name is unknown or a number out of range.
    """

    shape: str = "medium"
    layers: int = 12  # of the decoder, in three groups
    frames: int = 250  # that are attended to, of 20 ms each
    read: int = 24  # tokens that stand before a pass
    listed: int = 8192  # tokens of the short draft vocabulary
    longest: int = 8  # tokens of the longest draft
    rounds: int = 20  # of timing each pass once; more are steadier
    rates: tuple[float, ...] = (0.5, 0.7, 0.9)  # of guesses that are right, where whole texts are decoded
    tokens: int = 48  # of such a text
    texts: int = 3  # decoded in each way; more are steadier
    precisions: tuple[str, ...] = (PLAIN, *PRECISIONS)

    def __post_init__(self) -> None:
        if self.shape not in WIDTHS:
            raise BadConfig(f"shape is {self.shape!r}; use {', '.join(WIDTHS)}")
        if self.layers < 3 or self.layers % 3:
            raise BadConfig(f"layers is {self.layers}; KVSPN's three blocks need a multiple of 3")
        if unknown := set(self.precisions) - {PLAIN, *PRECISIONS}:
            raise BadConfig(f"no precision {', '.join(sorted(unknown))}; use {', '.join((PLAIN, *PRECISIONS))}")
        if not all(0 <= rate <= 1 for rate in self.rates):
            raise BadConfig(f"rates are {self.rates}; give probabilities between 0 and 1")
        least = min(self.frames, self.read, self.listed - 1, self.longest, self.rounds, self.tokens, self.texts)
        if least < 1 or not self.precisions:
            raise BadConfig("frames, read, longest, rounds, tokens and texts must be 1 or more, listed 2 or more")

    @property
    def network(self) -> NetworkConfig:
        """Return the decoder's shape, with KVSPN; nothing is encoded."""
        return replace(
            whisper_shape(self.shape, self.layers, self.frames),
            encoder_layers=1,  # the fewest there are; it is never run
            speculator_blocks=3,
            max_target_positions=max(448, self.read + self.longest + 1, self.tokens + 1),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Costs:
    """Time a step, passes that verify drafts and KVSPN's guesses; how much drafts gain by how many are right.

    Random weights, one text, audio of five seconds. At medium shape it takes 3 GB of memory and some minutes. Also
    decodes whole texts with drafts that are right at set rates, to check what the costs foretell.
    """

    shape: Annotated[str, SHAPE] = "medium"
    layers: Annotated[int, Option("Decoder layers, a multiple of three.", least=3)] = 12
    frames: Annotated[int, Option("Frames of audio, 20 ms each; nobody pads it.", least=1)] = 250
    rounds: Annotated[int, Option("How often each pass is timed.", least=1)] = 20
    tokens: Annotated[int, Option("Tokens of the texts that are decoded whole.", least=1)] = 48
    texts: Annotated[int, Option("Texts that are decoded in each way.", least=1)] = 3
    precisions: Annotated[
        tuple[str, ...],
        Option(
            "Some of 'plain float32', float32, bfloat16 and int8, joined by commas. By default all.",
            read=names,
        ),
    ] = ()
    threads: Annotated[int | None, Option("CPU threads that compute.", least=1)] = 1

    def measure(self, progress: Progress = silent) -> Report:
        """Time everything in every precision."""
        config = CostConfig(
            shape=self.shape,
            layers=self.layers,
            frames=self.frames,
            rounds=self.rounds,
            tokens=self.tokens,
            texts=self.texts,
            precisions=some_of(self.precisions, (PLAIN, *PRECISIONS), "--precisions"),
        )
        use_threads(self.threads)
        found = measure_costs(config, progress=partial(progress, "passes"))
        network = {name: value for name, value in config.network.asdict().items() if name != "encoder_layers"}
        figures = {"network": network, "frames": self.frames, "precisions": found}
        return Report(figures, cost_tables(found), markdown=True)


def measure_costs(config: CostConfig, *, progress: Callable[[int, int], None] | None = None) -> dict[str, Any]:
    """Time all passes in all precisions, one model in memory at a time; return figures per precision.

    ``passes`` has medians in milliseconds and as ratios to the step of the same round; ``speed_up`` what follows from
    them for rates of right guesses, per draft vocabulary and length of draft; ``texts`` what whole texts took;
    ``wall_over_cpu`` how much longer the clock ran than the processor: above 1, others were in the way.
    """
    found: dict[str, Any] = {}
    instead = {precision: precision if precision == PLAIN else usable(precision) for precision in config.precisions}
    done, total = 0, sum(name == other for name, other in instead.items()) * (config.rounds + config.texts)

    def advance() -> None:
        nonlocal done
        done += 1
        if progress is not None:
            progress(done, total)

    for precision, other in instead.items():
        if other != precision:
            found[precision] = {"missing": f"this processor would take {other} in its place"}
            continue
        bench = _Bench(config, precision)
        passes = bench.time_passes(advance)
        speeds = {draft: speed_ups(passes, draft, config.longest) for draft in (DRAFT, SHORT_DRAFT)}
        found[precision] = {
            "passes": passes,
            "wall_over_cpu": round(bench.waiting, 2),
            "speed_up": speeds,
            "texts": bench.time_texts(passes, advance),
        }
        del bench
        gc.collect()
    return found


def speed_up(passes: dict[str, dict[str, float]], draft: str, rate: float, count: int) -> float:
    """Return how much faster drafts of ``count`` tokens are than none, from the ratios of ``passes``.

    Each is right with probability ``rate`` if those before it are: a cycle writes ``(1 - a^(g+1)) / (1 - a)`` tokens
    (Leviathan et al. 2023, equation 1) and costs ``g`` guesses and a pass over ``g + 1`` tokens.
    """
    tokens = sum(rate**power for power in range(count + 1))
    return tokens / (count * passes[draft]["ratio"] + passes[verify(count + 1)]["ratio"])


def speed_ups(passes: dict[str, dict[str, float]], draft: str, longest: int) -> dict[str, list[float]]:
    """Return :func:`speed_up` per rate, for drafts of 1, 2, … tokens."""
    return {
        f"{rate:g}": [round(speed_up(passes, draft, rate, count), 3) for count in range(1, longest + 1)]
        for rate in RATES
    }


def verify(count: int) -> str:
    """Name the pass over ``count`` tokens that answers for all of them."""
    return f"verify {count} tokens"


class RatedDrafter:
    """Guess what is known to come, each token right with a set probability, and pay for KVSPN's guesses all the same.

    A drafter of decode.drafters; ``known`` is the text that would be written without drafts.
    """

    needs_speculator = True

    def __init__(self, known: Tokens, prompt_length: int, rate: float, count: int, seed: int) -> None:
        self.known, self.prompt_length, self.rate, self.count = known, prompt_length, rate, count
        self.random = random.Random(seed)

    def propose(self, tokens: Sequence[int], cache: DecoderCache, room: int) -> Drafting:
        """Return the next tokens of the known text, some of them spoilt."""
        count = min(self.count, room)
        if count < 1:
            return Draft(name="rated")
        yield Propose((tokens[-1],), cache, count)
        at = len(tokens) - self.prompt_length
        drafted = [token if self.random.random() < self.rate else token + 1 for token in self.known[at : at + count]]
        return Draft(tuple(drafted), "rated")

    def verified(self, draft: Draft, accepted: int) -> None:
        """Learn nothing."""


class _Bench:
    """One precision's models: one network, and KVSPN with the whole and with a short vocabulary."""

    def __init__(self, config: CostConfig, precision: str) -> None:
        self.config = config
        network = random_network(config.network)
        assert network.speculator is not None
        whole = random_model(network, precision)
        network.speculator.draft_tokens = torch.arange(min(config.listed, config.network.vocab_size))
        short = random_model(network, precision)
        if precision == PLAIN:
            whole.pack(JOINED)
        else:
            whole.pack(precision)
            assert short.guesser is not None
            short.guesser.pack(precision, make_linear if whole.stack is None else make_panels)
        self.models = {DRAFT: whole, SHORT_DRAFT: short}
        self.base = whole
        self.slots = whole.allocate(1)
        self.waiting = 1.0
        self.memory = self._hear()

    def _hear(self) -> EncodedSpeech:
        """Return random keys and values in the place of an encoder's."""
        shape = self.config.network

        def pair() -> CrossingPair:
            keys, values = torch.randn(2, shape.decoder_attention_heads, self.config.frames, shape.head_width)
            return CrossingPair(keys.transpose(1, 2), values)

        decoder = tuple(pair() for _ in range(shape.decoder_layers))
        return EncodedSpeech(self.config.frames, decoder, tuple(pair() for _ in range(shape.speculator_blocks)))

    def time_passes(self, advance: Callable[[], None]) -> dict[str, dict[str, float]]:
        """Time each pass once a round, the step at both ends of it; order changes from round to round."""
        cases = dict(self._passes())
        step = cases.pop(STEP)
        times: dict[str, list[float]] = {name: [] for name in (STEP, *cases)}
        began, cpu = time.perf_counter(), time.thread_time()
        for run in (step, *cases.values()):
            run()
        for number in range(self.config.rounds):
            names = random.Random(number).sample(list(cases), len(cases))
            before = _ms(step)
            for name in names:
                times[name].append(_ms(cases[name]))
            times[STEP].append((before + _ms(step)) / 2)
            advance()
        self.waiting = (time.perf_counter() - began) / (time.thread_time() - cpu)
        return {
            name: {
                "ms": round(median(taken), 3),
                "ratio": round(median(ms / base for ms, base in zip(taken, times[STEP], strict=True)), 3),
            }
            for name, taken in times.items()
        }

    def _passes(self) -> Iterator[tuple[str, Callable[[], object]]]:
        config = self.config
        line = (2,) * (config.read + config.longest + 1)  # what the network goes on writing: the draft is right
        cache = self.slots.open(self.memory)
        self.base.step([Forward(line[: config.read], cache, 1)])

        def read(count: int) -> Callable[[], object]:
            fresh = line[config.read : config.read + count]

            def run() -> None:
                self.base.step([Forward(fresh, cache, count, fresh[1:])])
                cache.truncate(config.read)

            return run

        yield STEP, read(1)
        for count in range(2, config.longest + 2):
            yield verify(count), read(count)
        for name, model in self.models.items():
            yield name, lambda model=model: model.propose([Propose((line[-1],), cache, 1)])  # type: ignore[misc]

    def time_texts(
        self, passes: dict[str, dict[str, float]], advance: Callable[[], None]
    ) -> list[dict[str, float | str | bool]]:
        """Decode a text without drafts and with the drafts that should be best, in turn; compare within a round."""
        self.slots = self.base.allocate(1)
        prompt = (1, 2)
        ways = [
            (draft, rate, max(range(1, self.config.longest + 1), key=lambda g: speed_up(passes, draft, rate, g)))
            for draft in self.models
            for rate in self.config.rates
        ]
        gains: list[list[float]] = [[] for _ in ways]
        tokens, cycles, equal = [0] * len(ways), [0] * len(ways), [True] * len(ways)
        for number in range(self.config.texts):
            plain_ms, plain = self._write(DRAFT, prompt, None)
            for index, (draft, rate, count) in enumerate(ways):
                drafter = RatedDrafter(plain.tokens, len(prompt), rate, count, seed=number)
                ms, found = self._write(draft, prompt, drafter)
                gains[index].append(plain_ms / ms)
                tokens[index] += found.stats.tokens
                cycles[index] += found.stats.passes
                equal[index] &= found.tokens == plain.tokens
            advance()
        return [
            {
                "draft": draft,
                "rate": rate,
                "count": count,
                "predicted": round(speed_up(passes, draft, rate, count), 3),
                "measured": round(median(gains[index]), 3),
                "tokens_per_pass": round(tokens[index] / cycles[index], 3),
                "tokens_per_pass_expected": round(sum(rate**power for power in range(count + 1)), 3),
                "equal": equal[index],
            }
            for index, (draft, rate, count) in enumerate(ways)
        ]

    def _write(self, draft: str, prompt: Tokens, drafter: Drafter | None) -> tuple[float, Hypothesis]:
        """Write one text; return milliseconds and the text."""
        model = cast("SpeechModel", self.models[draft])
        cache = self.slots.open(self.memory)
        limit = len(prompt) + self.config.tokens
        talk = (
            greedy(prompt, (), cache, eot=model.eot, limit=limit)
            if drafter is None
            else decode(prompt, (), cache, drafter, eot=model.eot, limit=limit)
        )
        began = time.thread_time()
        found = converse(model, talk)
        took = time.thread_time() - began
        self.slots.release(cache)
        return 1000 * took, found


def cost_tables(figures: dict[str, Any]) -> list[Table]:
    """Lay out what :func:`measure_costs` returned."""
    there = {name: each for name, each in figures.items() if "missing" not in each}
    if not there:
        return []
    first = next(iter(there.values()))
    costs = [
        (
            name,
            *(
                value
                for each in there.values()
                for value in (each["passes"][name]["ms"], each["passes"][name]["ratio"])
            ),
        )
        for name in first["passes"]
    ]
    columns = tuple(column for name in there for column in (f"{name}: ms", "in steps"))
    tables = [Table("cost of a pass", ("pass", *columns), tuple(costs))]
    for draft in (DRAFT, SHORT_DRAFT):
        rows = [
            (rate, *(_best(each["speed_up"][draft][rate]) for each in there.values()))
            for rate in first["speed_up"][draft]
        ]
        title = f"speed-up by right guesses, best length of draft ({draft})"
        tables.append(Table(title, ("right", *there), tuple(rows)))
    texts = [
        (name, *(text[key] for key in ("draft", "rate", "count", "predicted", "measured", "equal")))
        for name, each in there.items()
        for text in each["texts"]
    ]
    heads = ("precision", "draft", "right", "tokens", "predicted", "measured", "same text")
    return [*tables, Table("whole texts against no draft", heads, tuple(texts))]


def _best(speeds: Sequence[float]) -> str:
    best = max(range(len(speeds)), key=speeds.__getitem__)
    return f"{speeds[best]:.2f} ({best + 1})"


def _ms(run: Callable[[], object]) -> float:
    began = time.thread_time()
    run()
    return 1000 * (time.thread_time() - began)
