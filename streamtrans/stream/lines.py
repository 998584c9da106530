"""What one segment says in one language: believed, promised, and shown.

Law: the promised tokens only grow; every reading that is shown starts with them.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

from streamtrans.core import Caption, Doubt, Hypothesis, Target, Tokens, samples
from streamtrans.stream.config import SessionConfig
from streamtrans.stream.guards import without_loop
from streamtrans.stream.policies import Policy, Span
from streamtrans.stream.words import words

_log = logging.getLogger(__name__)


class Speller(Protocol):
    """What a session needs of a tokenizer."""

    def decode(self, tokens: Sequence[int]) -> str:
        """Return the text; of more tokens it only gets longer."""
        ...

    def boundary(self, tokens: Sequence[int], n: int, *, final: bool = False) -> int:
        """Return the largest ``m <= n`` at which ``tokens[:m]`` ends with a whole word that can be promised."""
        ...

    def sentence_end(self, tokens: Sequence[int]) -> tuple[int, int] | None:
        """Return where the first sentence ends and where the next begins, if more than one has begun."""
        ...


@runtime_checkable
class Polyglot(Protocol):
    """A speller that knows what its languages call a word and a sentence."""

    def speaking(self, language: str) -> Speller:
        """Return the speller of one language."""
        ...


def speaking(speller: Speller, language: str) -> Speller:
    """Return how ``speller`` spells a language, if it tells them apart."""
    return speller.speaking(language) if isinstance(speller, Polyglot) else speller


_NEAR = 4
"""Tokens between where a translation's sentence ends and where what it rests on says so: then its own end is right."""


@dataclass(frozen=True, slots=True)
class Ending:
    """The end of the first sentence of a line that goes on: it is ``tokens[:stop]``, the next ``tokens[resume:]``."""

    stop: int
    resume: int


class Line:
    """The readings of one (segment, language).

    A ``translated`` one follows a transcript: it promises nothing of what the transcript hasn't promised, and its
    sentences end with those of the transcript. A ``hidden`` one is shown to nobody.
    """

    def __init__(
        self, language: str, speller: Speller, policy: Policy, config: SessionConfig, *, translated: bool = False
    ) -> None:
        self.language = language
        self.translated = translated
        self.hidden = self.parted = False
        self.committed: Tokens = ()
        self.promised_at: int | None = None  # end of the audio whose reading promised something last
        self.believed_at: int | None = None  # end of the audio whose reading is believed
        self.closed = False
        self._speller = speller
        self._policy = policy
        self._config = config
        self._hypothesis = Hypothesis((), ())
        self._readings: tuple[Hypothesis, ...] = ()
        self._shown = ("", "")
        self._revision = 0
        self._doubt: Doubt | None = None  # of the last reading
        self._sentence: Tokens | None = None  # the first sentence, as the reading before saw it end
        self._seen_at: int | None = None  # up to where was heard when the sentence was first seen to end
        self.ending: Ending | None = None  # where it ends, once two readings have said so

    def recall(self, promised: Tokens, *, closed: bool, hidden: bool = False) -> None:
        """Begin with what was promised, and told, of this line before; a hidden one that has been closed goes on."""
        self.committed, self.closed = promised, closed and not hidden
        self.hidden, self.parted = hidden, closed and hidden
        self._hypothesis = Hypothesis(promised, (0.0,) * len(promised))
        self._shown = (self._speller.decode(promised), "")

    def target(self, *, free: bool) -> Target:
        """Return what to ask the engine: go on after the promise, with the last reading as draft.

        A ``free`` reading is not biased towards the draft: somebody has paused, there is time to think again.
        """
        draft, bias = self._hypothesis.tokens, self._config.bias
        biases = () if free or not bias or not draft else self._biases(draft)
        return Target(self.language, prefix=self.committed, draft=draft, biases=biases)

    def read(self, hypothesis: Hypothesis, span: Span, *, certain: int, within: int | None = None) -> Caption | None:
        """Take a reading of the open segment; return a caption if it shows anything new.

        Of what is in doubt nothing is promised, and what is certainly wrong isn't shown, either. Audio from sample
        ``certain`` on may yet fall to the next segment, so nothing said there is promised. Of a translation, nothing is
        promised that rests on more than the first ``within`` tokens of the transcript.
        """
        if self._accepts(hypothesis):
            self._doubt = hypothesis.doubt
            if self._weigh(hypothesis):
                self._believe(hypothesis)
                self.believed_at = span.end
            if hypothesis.doubt is None:
                self._promise(span, certain, within)
        return self._show(span)

    def finish(
        self, hypothesis: Hypothesis | None, span: Span, *, credible: bool = True, within: int | None = None
    ) -> Caption:
        """Promise the last reading, or without one what was believed before, and close the line.

        Where it isn't ``credible`` that anybody spoke, nothing is added to what is promised; where the reading is
        certainly wrong, what was believed before it stands. A translation loses what rests on more than the first
        ``within`` tokens of the transcript.
        """
        if hypothesis is not None and self._accepts(hypothesis):
            self._doubt = hypothesis.doubt
            if self._weigh(hypothesis):
                self._believe(hypothesis)
        if within is not None and self._hypothesis.sources:
            self._hypothesis = _slice(self._hypothesis, 0, max(len(self.committed), self._resting(within)))
        if credible:
            self.committed = self._hypothesis.tokens
        else:
            self._hypothesis = _slice(self._hypothesis, 0, len(self.committed))
        return self._close(span)

    def finish_sentence(self, span: Span) -> tuple[Caption, Hypothesis]:
        """Promise the first sentence and close the line; return what was said after it besides."""
        assert self.ending is not None, "no sentence has ended"
        whole, stop, resume = self._hypothesis, self.ending.stop, self.ending.resume
        self._doubt = whole.doubt
        self._hypothesis = _slice(whole, 0, stop)
        self.committed = self._hypothesis.tokens
        self.promised_at = span.end
        return self._close(span), _slice(whole, resume, len(whole.tokens))

    def finish_with(self, ending: Ending, span: Span) -> tuple[Caption, Hypothesis]:
        """Promise what rests on the transcript's first sentence, and return the rest, as :meth:`finish_sentence`."""
        tokens, kept = self._hypothesis.tokens, len(self.committed)
        stop = resume = max(kept, self._resting(ending.stop))
        own = self._speller.sentence_end(tokens)
        if own is not None and own[0] >= kept and abs(own[0] - stop) <= _NEAR:
            stop, resume = own
        elif stop < len(tokens):
            stop = resume = max(kept, self._speller.boundary(tokens, stop))
        self.ending = Ending(stop, resume)
        caption, rest = self.finish_sentence(span)
        return caption, replace(rest, sources=tuple(max(0, source - ending.resume) for source in rest.sources))

    def keep_until(self, sample: int) -> None:
        """Believe nothing that isn't promised and listened after ``sample``: that is the next segment's."""
        ends, count = self._hypothesis.ends, len(self._hypothesis.tokens)

        def misplaced(stop: int) -> int:
            return sum(end > sample for end in ends[:stop]) + sum(end <= sample for end in ends[stop:])

        stop = min(range(len(self.committed), count + 1), key=misplaced)
        self._hypothesis = _slice(self._hypothesis, 0, stop)

    def part(self) -> Line:
        """Go on unseen, for those who follow it, and return a line to close in the place of this one."""
        closing = copy(self)
        self.hidden = self.parted = True
        return closing

    def reveal(self) -> None:
        """Show from now on what was hidden, unless it was shown and closed before."""
        if self.hidden and not self.parted:
            self.hidden, self._shown, self._revision = False, ("", ""), 0

    def carry(self, hypothesis: Hypothesis, span: Span) -> Caption | None:
        """Begin with what was said after the end of the sentence before."""
        self._doubt = hypothesis.doubt
        self._believe(hypothesis)
        return self._show(span)

    def promised_until(self) -> int | None:
        """Return until which sample the promised tokens listened; ``None`` if that isn't known."""
        kept = len(self.committed)
        if not kept:
            return 0
        return max(self._hypothesis.ends[:kept]) if len(self._hypothesis.ends) >= kept else None

    def misplaced(self, sample: int) -> int | None:
        """Count the tokens on the wrong side of ``sample`` if the sentence ended there; ``None`` if unknown."""
        if self.ending is None or not self._hypothesis.ends:
            return None
        ends = self._hypothesis.ends
        before, after = ends[: self.ending.stop], ends[self.ending.resume :]
        return sum(end > sample for end in before) + sum(end <= sample for end in after)

    @property
    def length(self) -> int:
        """Tokens believed."""
        return len(self._hypothesis.tokens)

    @property
    def joint(self) -> tuple[int, int] | None:
        """Between which samples the end of the sentence may lie: what its tokens and the next ones listened to."""
        if self.ending is None or not self._hypothesis.ends:
            return None
        ends = self._hypothesis.ends[max(0, self.ending.stop - 4) : self.ending.resume + 4]
        return (min(ends), max(ends)) if ends else None

    def _accepts(self, hypothesis: Hypothesis) -> bool:
        if hypothesis.tokens[: len(self.committed)] == self.committed:
            return True
        _log.error(
            "a reading in %s doesn't start with the %d tokens promised; it is dropped",
            self.language,
            len(self.committed),
        )
        return False

    def _weigh(self, hypothesis: Hypothesis) -> bool:
        """Say whether to believe a reading; where it is certainly wrong, what was believed in doubt is so, too."""
        certain = hypothesis.doubt is not None and hypothesis.doubt.certain
        if certain and self._hypothesis.doubt is not None:
            self._hypothesis = replace(_slice(self._hypothesis, 0, len(self.committed)), doubt=None)
            self.ending = self._sentence = None
        return not certain

    def _believe(self, hypothesis: Hypothesis) -> None:
        decode, complete = self._speller.decode, hypothesis.complete
        kept = without_loop(hypothesis.tokens, len(self.committed), decode, complete=complete)
        if kept < len(hypothesis.tokens):
            _log.info("a reading in %s repeats itself; kept are %d tokens", self.language, kept)
            hypothesis = _slice(hypothesis, 0, kept)  # what the limit ended was the loop
        self._hypothesis = hypothesis
        self._readings = (*self._readings, hypothesis)[-self._policy.memory :]
        divides = bool(hypothesis.ends) and not self.translated
        found = self._speller.sentence_end(hypothesis.tokens) if divides else None
        if found is not None and found[0] < len(self.committed):
            found = None  # it was promised as one with what follows
        sentence = None if found is None else hypothesis.tokens[: found[1]]
        confirmed = found is not None and sentence == self._sentence
        self.ending = Ending(*found) if found is not None and confirmed else None
        if not confirmed:
            self._seen_at = None
        self._sentence = sentence

    def _resting(self, within: int) -> int:
        """Count the tokens that rest on no more than the first ``within`` tokens of the transcript."""
        sources = self._hypothesis.sources
        return next((at for at, source in enumerate(sources) if source > within), len(sources))

    def _promise(self, span: Span, certain: int, within: int | None) -> None:
        tokens, ends, kept = self._hypothesis.tokens, self._hypothesis.ends, len(self.committed)
        # What is promised already may be looked at again, late in the audio; that is no reason to promise no more.
        newest = replace(self._hypothesis, ends=(span.start,) * len(ends[:kept]) + ends[kept:])
        wanted = min(self._policy.promise((*self._readings[:-1], newest), span), len(tokens))
        if span.end > certain:
            wanted = min(wanted, next((at for at, end in enumerate(newest.ends) if end > certain), len(ends)))
        if within is not None:
            wanted = min(wanted, self._resting(within))
        if self._sentence is not None and not self._gave_up(span):
            # The next sentence will be the next segment's, once it is sure that this one has ended.
            found = self._speller.sentence_end(tokens)
            wanted = min(wanted, found[0]) if found is not None else wanted
        if wanted > kept:
            granted = self._speller.boundary(tokens, wanted)
            if granted > kept:
                self.committed = tokens[:granted]
                self.promised_at = span.end

    def _gave_up(self, span: Span) -> bool:
        """Whether the sentence was seen to end so long ago that the segment won't be divided there any more."""
        if self._seen_at is None:
            self._seen_at = span.end
        wait = self._config.sentence_lag_ms + self._config.sentence_patience_ms
        return span.end - self._seen_at > samples(wait)

    def _biases(self, draft: Tokens) -> tuple[float, ...]:
        """Return β per token of the draft: none where a sentence ends, for what follows is another thought."""
        found = self._speller.sentence_end(draft)
        stop, resume = found or (len(draft), len(draft))
        bias = self._config.bias
        return tuple(0.0 if stop <= at <= resume else bias for at in range(len(draft)))

    def _show(self, span: Span) -> Caption | None:
        committed = self._speller.decode(self.committed)
        tentative = ""
        if self._config.mode == "live":
            tokens = self._hypothesis.tokens
            if self._config.masked and not self.closed:
                tokens = tokens[: self._unmasked(tokens)]
            tentative = self._speller.decode(tokens)[len(committed) :]
        if (committed, tentative) == self._shown:
            return None
        return self._caption(committed, tentative, span)

    def _unmasked(self, tokens: Tokens) -> int:
        """Return how many tokens to show: all but the newest, up to a whole word, but the first word at once."""
        kept, boundary = len(self.committed), self._speller.boundary
        shown = max(kept, boundary(tokens, max(kept, len(tokens) - self._config.masked)))
        if shown:
            return shown
        return next((m for n in range(1, len(tokens) + 1) if (m := boundary(tokens, n))), len(tokens))

    def _close(self, span: Span) -> Caption:
        self.closed = True
        caption = self._caption(self._speller.decode(self.committed), "", span)
        if not self._config.words:
            return caption
        said = _slice(self._hypothesis, 0, len(self.committed))
        return replace(caption, words=words(said, self._speller, span.start))

    def _caption(self, committed: str, tentative: str, span: Span) -> Caption:
        self._shown = (committed, tentative)
        self._revision += 1
        tail = self._hypothesis.logprobs[len(self.committed) :]
        return Caption(
            segment=span.segment,
            revision=self._revision,
            language=self.language,
            committed=committed,
            tentative=tentative,
            final=self.closed,
            start=span.start,
            end=span.end,
            heard=span.end,
            stability=min(1.0, math.exp(min(tail))) if tentative and tail else 1.0,
            complete=self._hypothesis.complete,
            doubt=self._doubt if self.closed and self._doubt and self._doubt.told else None,
        )


def _slice(hypothesis: Hypothesis, start: int, stop: int) -> Hypothesis:
    """Return tokens ``[start, stop)`` of a hypothesis as one; only what reaches to its end may lack something."""
    return replace(
        hypothesis,
        tokens=hypothesis.tokens[start:stop],
        complete=hypothesis.complete or stop < len(hypothesis.tokens),
        logprobs=hypothesis.logprobs[start:stop],
        ends=hypothesis.ends[start:stop],
        sources=hypothesis.sources[start:stop],
    )
