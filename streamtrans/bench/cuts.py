"""Whether any word is lost or said twice where a segment is cut in continuous speech.

A real model errs anyway, so the session is driven with a reader that knows the truth: :class:`KnownReader` says the
words of the audio that it is given, no others. The audio, the detector and the session are real; whatever word is
missing or double in the final captions is the session's doing.
"""

from __future__ import annotations

import math
import re
import zlib
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any

from streamtrans.audio import Samples
from streamtrans.bench.measurement import Progress, Report, Table, languages, silent
from streamtrans.core import (
    SAMPLE_RATE,
    BadConfig,
    DecodeStats,
    Detect,
    Detection,
    Health,
    Hypothesis,
    Job,
    Option,
    Reading,
    Reply,
    Request,
    StateHandle,
    StreamtransError,
    Target,
    Tokens,
    milliseconds,
    samples,
)
from streamtrans.corpus.talks import Sentence
from streamtrans.evaluate.manifest import read_talks
from streamtrans.evaluate.replay import Replay, replay
from streamtrans.evaluate.settings import Setting, parse_values
from streamtrans.metrics import units
from streamtrans.stream import SessionConfig
from streamtrans.text import joins_without_spaces
from streamtrans.vad import Vad, load_vad

MARK = 0
"""The token that ends a sentence inside of a segment, as ``"\\n"`` does in the embedded model's texts."""

NEAR_MS = 1_500
"""A lost or double word so near to a cut is the cut's."""

_TAG = re.compile(r"\S+/(\d+)(~?)(?=\s|$)")


@dataclass(frozen=True, slots=True)
class Word:
    """One word, or character, of a talk in one language; said in the samples ``[start, end)``."""

    language: str
    text: str
    start: int
    end: int
    sentence: int

    @property
    def middle(self) -> int:
        """The sample that decides to which stretch of audio it belongs."""
        return (self.start + self.end) // 2


def spread_words(sentences: Sequence[Sentence], language: str) -> list[Word]:
    """Return a talk's words in ``language``, spread over their sentence's time in proportion to their letters."""
    words: list[Word] = []
    for number, sentence in enumerate(sentences):
        said = units(sentence.texts.get(language, ""), language)
        letters = [len(word) + (not joins_without_spaces(language)) for word in said]
        step, before = (sentence.end - sentence.start) / max(1, sum(letters)), 0
        for word, length in zip(said, letters, strict=True):
            start, end = (sentence.start + round(step * at) for at in (before, before + length))
            words.append(Word(language, word, start, end, number))
            before += length
    return words


class KnownSpeller:
    """Spells the tokens of a :class:`KnownReader`: each word of each language is a token, and so is each error.

    The text of a word is ``word/number``, that of an error ``word/number~``, so that no two look alike.
    """

    def __init__(self, words: Sequence[Word]) -> None:
        self.words = tuple(words)

    def token(self, number: int, variant: int = 0) -> int:
        """Return the token of a word; a ``variant`` of 1 or more is one of its errors."""
        return 1 + number + variant * len(self.words)

    def number(self, token: int) -> int:
        """Return which word a token stands for, rightly or wrongly."""
        return (token - 1) % len(self.words)

    def decode(self, tokens: Sequence[int]) -> str:
        """Return the text; of more tokens it only gets longer."""
        text = ""
        for token in tokens:
            if token == MARK:
                text += "\n"
                continue
            number = self.number(token)
            between = " " if text and not text.endswith("\n") else ""
            text += f"{between}{self.words[number].text}/{number}{'~' if token > len(self.words) else ''}"
        return text

    def boundary(self, tokens: Sequence[int], n: int, *, final: bool = False) -> int:  # noqa: ARG002
        """Return ``n``, at most all: every token is a whole word."""
        return min(n, len(tokens))

    def sentence_end(self, tokens: Sequence[int]) -> tuple[int, int] | None:
        """Return where the first sentence ends and where the next begins, if a next one has begun."""
        at = next((at for at, token in enumerate(tokens) if token == MARK), 0)
        return (at, at + 1) if 0 < at < len(tokens) - 1 else None


@dataclass(frozen=True, slots=True)
class Errors:
    """How a reader errs: each of the newest ``tail`` words of an open segment with probability ``rate``.

    An error is another word each time and improbable, as a real model's wild guesses at the end of the audio are. A
    last reading is right. Where a word was heard is told as the word's middle, up to ``drift_ms`` too early or late.
    """

    rate: float = 0.0
    tail: int = 2
    drift_ms: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.rate <= 1 or self.tail < 0 or self.drift_ms < 0:
            raise BadConfig(
                f"errors: a rate of {self.rate} in {self.tail} words and a drift of {self.drift_ms} ms; use a rate in "
                "0..1, and 0 words and milliseconds or more"
            )


class KnownReader:
    """An engine that knows what is said when: a word is heard with the audio in which its middle lies.

    Detections come from a real detector; a job is answered with the words of its audio behind the job's prefix.
    """

    def __init__(self, sentences: Sequence[Sentence], languages: Sequence[str], vad: Vad, errors: Errors) -> None:
        """Know the ``sentences`` in ``languages``.

        Raises:
            BadConfig: there is not a word in one of them.
        """
        said = {language: spread_words(sentences, language) for language in languages}
        for language, words in said.items():
            if not words:
                raise BadConfig(f"the talk's segments hold no word in {language!r}: there is nothing to compare")
        self.speller = KnownSpeller([word for words in said.values() for word in words])
        self._first = dict.fromkeys(languages, 0)
        count = 0
        for language, words in said.items():
            self._first[language], count = count, count + len(words)
        self._middles = {language: [word.middle for word in words] for language, words in said.items()}
        self._vad = vad
        self._errors = errors

    def numbers(self, language: str) -> range:
        """Return the numbers of the words of one language, in order."""
        return range(self._first[language], self._first[language] + len(self._middles[language]))

    @property
    def capacity(self) -> int:
        """As many languages as it knows."""
        return len(self._middles)

    @property
    def health(self) -> Health:
        """It is always well."""
        return Health.SERVING

    def release(self, state: StateHandle) -> None:
        """There is nothing to forget: it knows everything."""

    def close(self, timeout_s: float = 0.0) -> None:
        """There is nothing to close."""

    def submit(self, request: Request) -> Reply:
        """Answer at once."""
        future = Reply()
        try:
            future.set_result(self._answer(request))
        except StreamtransError as error:
            future.set_exception(error)
        return future

    def _answer(self, request: Request) -> Detection | Reading:
        if isinstance(request, Detect):
            [(probabilities, state)] = self._vad.detect([(request.windows, request.state)])
            return Detection(tuple(probabilities.tolist()), state)
        return Reading(tuple(self._read(request, target) for target in request.targets))

    def _read(self, job: Job, target: Target) -> Hypothesis:
        first, middles = self._first[target.language], self._middles[target.language]
        heard = range(first + bisect_left(middles, job.start), first + bisect_left(middles, job.end))
        known = [self.speller.number(token) for token in target.prefix if token != MARK]
        begin = max(heard.start, known[-1] + 1) if known else heard.start
        tokens = [*target.prefix]
        for number in range(begin, heard.stop):
            before = next((self.speller.number(token) for token in reversed(tokens) if token != MARK), None)
            if before is not None and tokens[-1] != MARK and self._sentence(before) != self._sentence(number):
                tokens.append(MARK)
            unsure = not job.last and number >= heard.stop - self._errors.tail
            tokens.append(self.speller.token(number, self._variant(number, job.end) if unsure else 0))
        return self._hypothesis(tuple(tokens), job)

    def _hypothesis(self, tokens: Tokens, job: Job) -> Hypothesis:
        right = len(self.speller.words)
        ends, newest = [], job.start
        for token in tokens:
            if token != MARK:
                number = self.speller.number(token)
                heard = self.speller.words[number].middle + self._drift(number)
                newest = max(job.start, min(heard, job.end))
            ends.append(newest)
        logprobs = tuple(math.log(0.98 if token <= right else 0.3) for token in tokens)
        return Hypothesis(tokens, logprobs, stats=DecodeStats(passes=1, tokens=len(tokens)), ends=tuple(ends))

    def _sentence(self, number: int) -> int:
        return self.speller.words[number].sentence

    def _drift(self, number: int) -> int:
        reach = samples(self._errors.drift_ms)
        return zlib.crc32(f"{self._errors.seed} drift {number}".encode()) % (2 * reach + 1) - reach

    def _variant(self, number: int, end: int) -> int:
        """Return 0 where the reading of a word is right, else which error it is; the same for the same audio."""
        luck = zlib.crc32(f"{self._errors.seed} {number} {end}".encode())
        return 1 + luck % 100_003 if luck / 2**32 < self._errors.rate else 0


@dataclass(frozen=True, slots=True)
class CutReport:
    """Final captions compared with the truth, word by word, over all languages of a talk.

    ``cuts`` are segments that begin where the one before ends. ``wrong`` words stand for the right ones in the right
    place: a promise made too early, no cut's doing.
    """

    segments: int
    cuts: int
    words: int
    lost_at_cuts: int
    doubled_at_cuts: int
    lost_elsewhere: int
    doubled_elsewhere: int
    disordered: int
    wrong: int
    examples: tuple[str, ...] = field(default=())

    @property
    def clean(self) -> bool:
        """Whether no word is lost or double at a cut."""
        return not (self.lost_at_cuts or self.doubled_at_cuts or self.disordered)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cuts:
    """Play talks to the session with a reader that knows the truth; words lost or double are the session's doing.

    Audio, detector and session are the real ones; only the model is replaced. An hour takes a few minutes:

        streamtrans talks runs/hour --languages en --hours 1

        streamtrans bench cuts runs/hour/MANIFEST.tsv
    """

    manifest: Annotated[
        Path, Option("Talks with known sentence times, as streamtrans talks makes them.", argument=True)
    ]
    to: Annotated[
        tuple[str, ...], Option("Languages to compare. By default what is spoken.", name="--to", read=languages)
    ] = ()
    values: Annotated[
        tuple[str, ...], Option("A setting of the session, such as policy=hold; may be repeated.", name="--set")
    ] = ()
    errors: Annotated[float, Option("Probability that one of the two newest words is read wrong.", least=0, most=1)] = (
        0.0
    )
    drift_ms: Annotated[int, Option("By how much the reader may misjudge when a word was said.", least=0)] = 0

    def measure(self, progress: Progress = silent) -> Report:
        """Play every talk."""
        talks = read_talks(self.manifest)
        if without := [talk.name for talk in talks if not talk.sentences]:
            raise BadConfig(f"{', '.join(without)}: the manifest names no segments, so nobody knows what is said when")
        setting, errors = Setting("cuts", parse_values(self.values)), Errors(self.errors, drift_ms=self.drift_ms)
        found: list[dict[str, Any]] = []
        for number, talk in enumerate(talks, 1):
            config = setting.session(self.to or (talk.language,), talk.language)
            audio = talk.load()
            report = check_cuts(config, talk.sentences, audio, load_vad, errors=errors)
            found.append({"talk": talk.name, "minutes": round(len(audio) / SAMPLE_RATE / 60, 1), **asdict(report)})
            progress("talks", number, len(talks))
        shown = [name for name in found[0] if name not in ("talk", "examples")]
        rows = [[name.replace("_", " "), *(each[name] for each in found)] for name in shown]
        return Report(
            {"values": dict(setting.values), "errors": self.errors, "drift_ms": self.drift_ms, "talks": found},
            [Table("words at cuts", ["", *(each["talk"] for each in found)], rows)],
            [f"{each['talk']}: {example}" for each in found for example in each["examples"]],
        )


def check_cuts(
    config: SessionConfig,
    sentences: Sequence[Sentence],
    audio: Samples,
    vad: Callable[[str], Vad],
    *,
    errors: Errors | None = None,
    chunk: int = 1_600,
) -> CutReport:
    """Play a talk to a session whose reader knows the truth, and compare what is final with it.

    Args:
        config: of the session; each of its targets is compared.
        sentences: what is said when.
        audio: ``(samples,)`` mono float32 at 16 kHz.
        vad: makes the detector.
        errors: how the reader errs while a segment is open; by default not at all.
        chunk: samples that arrive at a time.

    Raises:
        BadConfig: the sentences hold no word in a target.
    """
    reader = KnownReader(sentences, config.targets, vad(config.vad), errors or Errors())
    return compare(replay(config, reader.speller, reader, audio, chunk=chunk), reader)


def compare(played: Replay, reader: KnownReader) -> CutReport:
    """Count what the final captions of a replay lost and doubled."""
    segments = sorted(played.segments.values())
    ends = {end for _, end in segments}
    cuts = sorted(start for start, _ in segments if start in ends)
    counts: Counter[str] = Counter()
    examples: list[str] = []
    for language in dict.fromkeys(word.language for word in reader.speller.words):
        said, wrong = _said(played, language)
        counts["wrong"] += wrong
        counts["disordered"] += sum(later < earlier for earlier, later in pairwise(said))
        times = Counter(said)
        for number in reader.numbers(language):
            if times[number] == 1:
                continue
            word = reader.speller.words[number]
            kind = "doubled" if times[number] else "lost"
            place = "at_cuts" if _near(word, cuts) else "elsewhere"
            counts[f"{kind}_{place}"] += 1
            examples.append(f"{language}: {word.text!r} at {milliseconds(word.start)} ms is {kind}, {place}")
    return CutReport(
        segments=len(segments),
        cuts=len(cuts),
        words=len(reader.speller.words),
        lost_at_cuts=counts["lost_at_cuts"],
        doubled_at_cuts=counts["doubled_at_cuts"],
        lost_elsewhere=counts["lost_elsewhere"],
        doubled_elsewhere=counts["doubled_elsewhere"],
        disordered=counts["disordered"],
        wrong=counts["wrong"],
        examples=tuple(examples[:20]),
    )


def _said(played: Replay, language: str) -> tuple[list[int], int]:
    """Return the numbers of the words in the final captions, in order, and how many of them are errors."""
    finals = sorted((each for each in played.finals if each.language == language), key=lambda each: each.segment)
    found = [match for final in finals for match in _TAG.finditer(final.text)]
    return [int(match[1]) for match in found], sum(match[2] == "~" for match in found)


def _near(word: Word, cuts: Sequence[int]) -> bool:
    reach = samples(NEAR_MS)
    at = bisect_left(cuts, word.start - reach)
    return at < len(cuts) and cuts[at] <= word.end + reach
