"""The models of an engine in a row: what hears, and behind it, where there is one, what translates texts.

```
 audio ─▶ ear ─▶ transcript  t0 t1 t2 t3 …           sources of a translated token: how many tokens of the transcript
                     │ text                          it rests on, by what the translator looked at; its end is theirs
                     ▼
                translator ─▶ one text per language
```
Law: a translated token rests on no less than the one before it, so what is promised of both goes on together.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import accumulate

from streamtrans.core import Hypothesis, Job, Target, UnsupportedLanguage
from streamtrans.decode import DraftContext, DrafterFactory, NoDraft, decode, guarded, judged
from streamtrans.engine import guard
from streamtrans.engine.config import EngineConfig
from streamtrans.engine.work import Asked, Plan, Talk, Work
from streamtrans.model.api import CacheSlots, Memory, SpeechModel, TextMemory, TextModel, WritingModel, Written
from streamtrans.text import Source, Vocabulary

UNAIDED = "echo,ngram"
"""Who drafts without a speculative network where nobody else is asked for. Words change in the midst of much that
stays, and translators put them in front of it: n-grams find the way back into it."""
FALLBACK = "en"
"""What models write besides the spoken language where they don't know what was asked for."""


@dataclass(frozen=True, slots=True, eq=False)
class Stage:
    """A model, its slots, and who drafts for it."""

    model: WritingModel
    slots: CacheSlots
    drafters: DrafterFactory
    acceptance: float = 0.0

    def begin(
        self,
        work: Work,
        asked: Asked,
        memory: Memory,
        config: EngineConfig,
        *,
        wanted: guard.Asked,
        finish: Callable[[Hypothesis], Hypothesis],
    ) -> Talk:
        """Begin a text about ``memory``; its ends are frames until ``finish`` makes something else of them."""
        target, job = asked.target, work.job
        context = DraftContext(
            len(asked.prompt),
            self.model.eot,
            target.draft,
            config.top_k,
            config.draft_tokens,
            acceptance=self.acceptance,
            costs=config.costs,
            biases=target.biases,
        )
        needed = self.model.tokens_per_second(target.language)
        limit = config.limit(self.model.max_tokens, asked.prompt, job.end - job.start, needed)
        cache = self.slots.open(memory, asked.prompt)
        drafter = self.drafters.make(context) if self.model.rolls_back else NoDraft(context)
        prompt, prefix, eot, vocabulary = asked.prompt, target.prefix, self.model.eot, self.model.vocabulary
        judge, sound = guard.judging(vocabulary, wanted), guard.sounding(vocabulary, wanted)
        if config.guard and job.last:
            talk = guarded(prompt, prefix, cache, drafter, eot=eot, limit=limit, judge=judge, sound=sound)
        else:
            talk = decode(prompt, prefix, cache, drafter, eot=eot, limit=limit)
            talk = judged(talk, judge, sound, len(prefix)) if config.guard else talk
        return Talk(work, self, asked.place, talk, cache, finish)


def plan(job: Job, ear: SpeechModel, translator: TextModel | None) -> Plan:
    """Return who writes what of a job.

    Raises:
        UnsupportedLanguage: somebody can't write what he is to write, or isn't told the spoken language.
    """
    if translator is None:
        return Plan(
            tuple(Asked(at, each, ear.prompt(each.language, job.source)) for at, each in enumerate(job.targets))
        )
    source = job.source
    heard, translated = list[Asked](), list[Asked]()
    for place, target in enumerate(job.targets):
        check_stages(ear, translator, target.language, source)
        if target.language == source:
            heard.append(Asked(place, target, ear.prompt(source, source)))
        else:
            translated.append(Asked(place, target))
    if translated and not heard and source is not None:
        heard.append(Asked(-1, Target(source), ear.prompt(source, source)))
    return Plan(tuple(heard), tuple(translated))


def check_stages(ear: SpeechModel, translator: TextModel, target: str, source: str | None) -> None:
    """Refuse what the two can't write together.

    Raises:
        UnsupportedLanguage: the spoken language isn't named, or one of the two doesn't know what it would have to.
    """
    if source is None:
        raise UnsupportedLanguage(
            f"{ear.name} writes what is said and {translator.name} translates that: name one source language"
        )
    ear.prompt(source, source)
    if target != source:
        translator.check(target, source)


def without_speculator(drafters: DrafterFactory) -> DrafterFactory:
    """Return who of ``drafters`` can draft for a model that has no speculative network."""
    return DrafterFactory(drafters.spec, tuple(each for each in drafters.classes if not each.needs_speculator))


def open_ear(work: Work, ear: Stage, model: SpeechModel, memory: Memory, config: EngineConfig) -> None:
    """Begin a conversation per text that the ear, which is ``model``, writes, all about one memory."""
    frame_samples, source = model.frame_samples, work.job.source
    instead = model.languages if source is None else (source, FALLBACK)

    def located(hypothesis: Hypothesis) -> Hypothesis:
        """Put in the place of frames the samples of the stream where they end: never after the job's audio."""
        begin, end = work.begin, work.job.end
        ends = tuple(min(begin + (frame + 1) * frame_samples, end) for frame in hypothesis.ends)
        return replace(hypothesis, ends=ends)

    for asked in work.plan.ear:
        language = asked.target.language
        taught, in_words = model.taught(language, source), model.asked_in_words
        wanted = guard.Asked(language, tuple(instead), taught, in_words=in_words)
        work.talks.append(ear.begin(work, asked, memory, config, wanted=wanted, finish=located))


def to_translate(work: Work, vocabulary: Vocabulary) -> list[Written]:
    """Return, per language, the text that the ear of ``vocabulary`` has written."""
    text, source = readable(vocabulary.decode(work.transcript.tokens).strip()), work.job.source or ""
    return [Written(text, source, asked.target.language) for asked in work.plan.translator]


def readable(text: str) -> str:
    """Return a text as translators know texts: what was called out, and so written in capitals, becomes a sentence.

    One word alone may be a name of letters, and stays.
    """
    shouted = text.isupper() and sum(len(word) > 1 for word in text.split()) > 1
    return text.capitalize() if shouted else text


def open_translations(
    work: Work,
    translator: Stage,
    memories: Sequence[TextMemory | Exception],
    config: EngineConfig,
    vocabulary: Vocabulary,
) -> None:
    """Begin a conversation per translation; where nothing was said, or certainly nothing right, there is none to write.

    Raises:
        Exception: what is among ``memories`` in the place of one.
    """
    transcript, start = work.transcript, work.job.start
    wrong = transcript.doubt is not None and transcript.doubt.certain
    work.translated = True
    for asked, memory in zip(work.plan.translator, memories, strict=True):
        if wrong or not vocabulary.decode(transcript.tokens).strip():
            prefix, count = asked.target.prefix, len(asked.target.prefix)
            work.found[asked.place] = Hypothesis(
                prefix, (0.0,) * count, sources=(0,) * count, doubt=transcript.doubt if wrong else None
            )
            continue
        if isinstance(memory, Exception):
            raise memory
        finish = partial(resting, reach=memory.reach, transcript=transcript, vocabulary=vocabulary, start=start)
        prompted = replace(asked, prompt=memory.prompt)
        spoken, in_words = work.job.source or FALLBACK, translator.model.asked_in_words
        text = Source(vocabulary.decode(transcript.tokens).strip(), spoken)
        wanted = guard.Asked(asked.target.language, (spoken, FALLBACK), taught=True, source=text, in_words=in_words)
        work.talks.append(translator.begin(work, prompted, memory, config, wanted=wanted, finish=finish))


def resting(
    translation: Hypothesis, reach: Sequence[int], transcript: Hypothesis, vocabulary: Vocabulary, start: int
) -> Hypothesis:
    """Say of a translation, whose ends are frames yet, on what of the transcript each of its tokens rests.

    Args:
        translation: as it was decoded.
        reach: per frame, how many characters of the text there are up to its end; 0 where it is none of the text.
        transcript: the text that was translated.
        vocabulary: of the transcript.
        start: the sample from which on it was heard.
    """
    spelt = [len(vocabulary.decode(transcript.tokens[: at + 1]).strip()) for at in range(len(transcript.tokens))]
    whole, read = max(spelt, default=0), max(reach, default=0)
    counts = []
    for characters in reach:
        wanted = characters * whole / read if read else 0  # normalised texts may be shorter or longer
        counts.append(sum(count < wanted for count in spelt) + 1 if wanted else 0)
    total = len(transcript.tokens)
    frames = translation.ends or (-2,) * len(translation.tokens)
    known = (counts[frame] if 0 <= frame < len(counts) else total for frame in frames)
    sources = tuple(min(count, total) for count in accumulate(known, max))
    latest = [start, *accumulate(transcript.ends, max)]
    ends = tuple(latest[count] for count in sources) if len(transcript.ends) == total else ()
    return replace(translation, sources=sources, ends=ends)
