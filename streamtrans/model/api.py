"""The boundary between decoding and a model: values and protocols, no tensors.

Logits never leave the model: the answer to a pass is a :class:`Choices`. Law: a model remembers nothing
between calls; what must be remembered is in the :class:`Memory` and the :class:`DecoderCache` handed in.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from streamtrans.core import Tokens

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from streamtrans.text import Vocabulary


class Memory(Protocol):
    """What encoding one stretch of audio left behind; opaque to everybody but its model."""

    @property
    def frames(self) -> int:
        """Encoder frames, one per 20 ms of audio in Whisper-shaped models."""
        ...


@dataclass(frozen=True, slots=True)
class Hearing:
    """Ask for what was said in the samples ``[start, start + len(audio))`` of one stream, start counted from its begin.

    ``state`` is what the last hearing of the same run of speech left, ``None`` where a run begins. ``whole`` asks to
    hear all of ``audio`` at once, both ways, even if the model could hear it in blocks: better, later and dearer.
    """

    audio: NDArray[np.float32]
    start: int = 0
    state: object | None = None
    whole: bool = False


@dataclass(frozen=True, slots=True)
class Heard:
    """The answer to a :class:`Hearing`: what texts attend to, and what to hand in next time.

    Frame ``i`` of ``memory`` spans the ``frame_samples`` samples of the stream from ``begin + i * frame_samples`` on.
    ``encoded`` counts the samples that the encoder ran over for it: new ones, and those of an unfinished block again.
    """

    memory: Memory
    state: object | None
    begin: int
    encoded: int = 0


class DecoderCache(Protocol):
    """Keys and values of the text positions ``[0, length)``, in one slot of preallocated tensors."""

    @property
    def length(self) -> int:
        """Positions the model has read."""
        ...

    @property
    def floor(self) -> int:
        """Positions below it can't be given back."""
        ...

    def truncate(self, length: int) -> None:
        """Forget every position from ``length`` on; this lowers a number and moves no data.

        Raises:
            ValueError: ``length`` exceeds what was read, or is below ``floor``.
        """
        ...

    def copy_from(self, source: DecoderCache, length: int) -> None:
        """Read on up to ``length`` by copying from ``source``, so that a text can branch without a pass.

        Only positions from this cache's own length on are copied: what it has read already must be what
        ``source`` has read, so :meth:`truncate` it first to what the two texts share.

        Raises:
            ValueError: the two aren't about one memory, or ``length`` is less than this cache has read, or more
                than ``source`` has.
        """
        ...


@dataclass(frozen=True, slots=True)
class Forward:
    """Ask for one pass over ``tokens`` at positions ``[cache.length, cache.length + len(tokens))``.

    The last ``rows`` positions are answered. ``draft`` repeats the last ``rows - 1`` tokens: row ``i`` says
    what the model would have written in place of ``draft[i]``, the last row what follows them all.
    ``width`` asks for so many best tokens of every row, for searches; 0 asks for none.
    """

    tokens: Tokens
    cache: DecoderCache
    rows: int
    draft: Tokens = ()
    width: int = 0


Candidates = tuple[tuple[int, float], ...]
"""What may come next, best first: (token, natural log of its probability)."""


@dataclass(frozen=True, slots=True)
class Choices:
    """What the model would have written, one entry per row.

    A model masks its special tokens except end-of-text before it chooses, so ``tokens`` holds text and
    end-of-text only. ``logprobs`` are natural logs of the chosen tokens' probabilities. ``ranks[i]`` counts
    the tokens that the model prefers to ``draft[i]`` at row ``i``: 0 says that it is the choice itself;
    between equal logits the lower token is preferred, as in ``tokens``. ``draft_logprobs[i]`` is what the model
    gives ``draft[i]`` at row ``i``. A masked token ranks behind all others, its log-probability is minus infinity.
    ``frames`` has an entry for every token of the pass, not for its rows only: the frame of the memory in the middle of
    what the model's alignment heads looked at when it chose what follows that token; empty where it has none.
    All numbers are Python's own, not tensors or numpy scalars.
    """

    tokens: Tokens
    logprobs: tuple[float, ...]
    ranks: tuple[int, ...] = ()
    candidates: tuple[Candidates, ...] = ()
    """Per row the ``width`` best tokens, never a masked one; fewer where the vocabulary has no more, none unasked."""
    draft_logprobs: tuple[float, ...] = ()
    frames: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Propose:
    """Ask the speculative network what follows ``tokens``, ``count`` tokens ahead.

    ``tokens`` are all that the target model has not read, newest last: they belong at the positions from
    ``cache.length`` on. The answer is a :class:`Guess`; the cache stays as it is. The network goes on from its own
    guesses, and stops early at end-of-text and after the guess that makes all of them together less probable than
    ``floor``: larger guesses less far, and is right more often. ``width`` asks besides for so many candidates for
    the first guess.
    """

    tokens: Tokens
    cache: DecoderCache
    count: int
    floor: float = 0.0
    width: int = 0


@dataclass(frozen=True, slots=True)
class Guess:
    """Tokens that may come next, never a special one except end-of-text.

    ``logprobs`` are natural logs of the probabilities that the speculative network itself gives them. Nothing is
    guessed by a network that needs what it has not got (Medusa's, before a first pass), or whose scores aren't finite.
    ``candidates`` are what it holds likeliest in place of the first token, that one first.
    """

    tokens: Tokens
    logprobs: tuple[float, ...]
    candidates: Candidates = ()


class CacheSlots(Protocol):
    """A fixed number of decoder caches, allocated once."""

    @property
    def capacity(self) -> int:
        """Slots altogether."""
        ...

    @property
    def free(self) -> int:
        """Slots that :meth:`open` can still hand out."""
        ...

    def open(self, memory: Memory, prompt: Tokens = ()) -> DecoderCache:
        """Take a free slot for text about ``memory``; several slots may share one memory.

        Whatever stands before the text is read by then, from ``memory`` or here: audio, for models that have it in
        their own text, and as much of ``prompt`` as depends on it. ``length`` counts what was read of ``prompt``, and
        never all of it.

        Raises:
            RuntimeError: no slot is free; the scheduler should have waited.
        """
        ...

    def wipe(self, cache: DecoderCache) -> None:
        """Clean a slot before it is given back: what a failed pass left there must not reach the next tenant."""
        ...

    def release(self, cache: DecoderCache) -> None:
        """Give the slot back; the cache must not be used afterwards."""
        ...


class WritingModel(Protocol):
    """Weights that go on with texts, whatever these are about.

    One thread calls all of it. Methods run without gradients and leave no trace in the model.
    """

    @property
    def name(self) -> str:
        """A name to show, e.g. the checkpoint folder's."""
        ...

    @property
    def vocabulary(self) -> Vocabulary:
        """How its tokens are spelt."""
        ...

    @property
    def device(self) -> object:
        """Where it computes, to show."""
        ...

    @property
    def precision(self) -> str:
        """In what it computes, to show."""
        ...

    @property
    def parameters(self) -> int:
        """How many numbers it holds."""
        ...

    @property
    def eot(self) -> int:
        """The end-of-text token: the one that it answers with, where it knows several."""
        ...

    @property
    def max_tokens(self) -> int:
        """Text positions including the prompt."""
        ...

    @property
    def asked_in_words(self) -> bool:
        """Whether its prompt is an instruction, which it may answer with words of its own."""
        ...

    @property
    def rolls_back(self) -> bool:
        """Whether a cache forgets for nothing; where that costs a reading of all that stays, nobody should draft."""
        ...

    def tokens_per_second(self, language: str) -> float:
        """Return how many tokens the fastest speech needs per second in ``language``; 0 where nobody knows."""
        ...

    def allocate(self, slots: int) -> CacheSlots:
        """Allocate decoder caches for ``slots`` texts at once."""
        ...

    def step(self, forwards: Sequence[Forward]) -> list[Choices]:
        """Run one pass of the target model over a ragged batch, and move each cache on by its tokens.

        Where it raises, the caches keep the lengths they had.

        Raises:
            BadAnswer: the scores of a text aren't finite.
        """
        ...


@dataclass(frozen=True, slots=True)
class Written:
    """A text in ``source`` that is wanted in ``target``."""

    text: str
    source: str
    target: str


class TextMemory(Memory, Protocol):
    """What reading a text left behind, and how to ask for its translation."""

    @property
    def prompt(self) -> Tokens:
        """What the translation is asked with; at least one token."""
        ...

    @property
    def reach(self) -> Sequence[int]:
        """Per frame, how many characters of the text there are up to its end; 0 for frames that are none of it."""
        ...


class TextModel(WritingModel, Protocol):
    """A translator of texts."""

    def targets(self, source: str) -> tuple[str, ...]:
        """Return the languages, ``source`` left out, that a text in it can become; none where it can't read it."""
        ...

    def check(self, target: str, source: str) -> None:
        """Refuse what it can't translate.

        Raises:
            UnsupportedLanguage: it doesn't write ``target``, or doesn't read ``source``.
        """
        ...

    def read(self, texts: Sequence[Written]) -> list[TextMemory]:
        """Read texts to be translated, all in one batch; targets of one text share what doesn't depend on them.

        Raises:
            BadAnswer: a text is longer than the model can hold.
        """
        ...


class SpeechModel(WritingModel, Protocol):
    """Weights behind three verbs: encode audio, step text, propose a draft."""

    @property
    def languages(self) -> tuple[str, ...]:
        """Codes the model can write."""
        ...

    @property
    def translations(self) -> tuple[tuple[str, tuple[str, ...]], ...]:
        """Spoken language and what the model makes of it; empty: any of its languages becomes any."""
        ...

    @property
    def max_samples(self) -> int:
        """Longest audio of one segment."""
        ...

    @property
    def frame_samples(self) -> int:
        """Samples per encoder frame."""
        ...

    @property
    def has_speculator(self) -> bool:
        """Whether :meth:`propose` may be called."""
        ...

    @property
    def draft_acceptance(self) -> float:
        """The share of the speculative network's guesses that are usually right; any number without one."""
        ...

    def taught(self, target: str, source: str | None) -> bool:
        """Say whether it was taught to write ``target`` of what is spoken, or is asked for it all the same."""
        ...

    def prompt(self, target: str, source: str | None) -> Tokens:
        """Return the tokens that ask for a text in ``target``; at least one.

        Raises:
            UnsupportedLanguage: the model was not trained for ``target``, or not from ``source`` to it.
        """
        ...

    def encode(self, audios: Sequence[NDArray[np.float32]]) -> list[Memory]:
        """Encode each stretch of audio ``(samples,)``, all in one batch.

        Raises:
            AudioTooLong: one of them exceeds ``max_samples``.
        """
        ...

    def listen(self, hearings: Sequence[Hearing]) -> list[Heard]:
        """Go on hearing several streams, all in one batch; what a stream's new audio costs doesn't grow with its age.

        Raises:
            AudioTooLong: the audio of one of them exceeds ``max_samples``.
            BadAnswer: what was made of it isn't finite.
        """
        ...

    def propose(self, proposals: Sequence[Propose]) -> list[Guess]:
        """Run the speculative network over a batch, as many passes as its longest guess has tokens."""
        ...


def anything(model: SpeechModel) -> tuple[str, str]:
    """Return a language that ``model`` can be asked for, and one that is spoken then: to try it."""
    spoken, targets = next(iter(model.translations), (model.languages[0], model.languages))
    return spoken if spoken in targets else targets[0], spoken
