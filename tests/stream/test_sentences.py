"""Segments of continuous speech end where sentences do, and nothing is lost or said twice."""

from copy import copy
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamtrans.core import BadAnswer, Caption, Hypothesis, SpeechEnded, SpeechStarted
from streamtrans.segment import EndpointRules
from streamtrans.stream import Session, SessionConfig, settle
from streamtrans.testing.engine import InstantEngine
from streamtrans.testing.vad import ScriptedVad
from tests.fakes import Words

RULES = EndpointRules(
    min_speech_ms=64, min_silence_ms=320, pre_roll_ms=64, padding_ms=64, max_segment_ms=6_000, cut_search_ms=2_000
)
WORD = 4_800  # samples: a word lasts 300 ms
BREAK = 0  # the token that ends a sentence, as Words has it


class Talk:
    """Numbered words without a pause, in sentences: whoever hears them whole says them; ``rng`` errs in the newest."""

    def __init__(self, sentences, start=8_000):
        self.spoken, at, word = [], start, 1
        for count in sentences:
            for _ in range(count):
                self.spoken.append((word, at + WORD))
                at, word = at + WORD, word + 1
            self.spoken.append((BREAK, at))
        self.spoken.pop()
        self.start, self.end = start, at
        self.joints = [end for word, end in self.spoken if word == BREAK]
        self.words = [word for word, _ in self.spoken if word]

    def audio(self):
        samples = np.random.default_rng(0).normal(0, 0.1, self.end + 16_000).astype(np.float32)
        for joint in self.joints:
            samples[joint - 1_200 : joint + 1_200] *= 0.05  # 75 ms to either side
        return samples

    def read(self, job, target):
        """Say the words whose middle lies in the audio, and one word too many while somebody speaks."""
        heard = [(word, end) for word, end in self.spoken if job.start < end - WORD // 2 * (word > 0) < job.end]
        while heard and heard[0][0] == BREAK:
            heard.pop(0)
        while heard and heard[-1][0] == BREAK:
            heard.pop()
        if not job.last and heard:
            heard.append((900 + job.end % 97, job.end))
        tokens, ends = tuple(word for word, _ in heard), tuple(end for _, end in heard)
        keep = len(target.prefix)
        tokens = (*target.prefix, *tokens[keep:])
        ends = (*ends[:keep], *(job.start,) * (keep - len(ends)), *ends[keep:])
        return Hypothesis(tokens, (-0.1,) * len(tokens), ends=ends)


def run(talk, chunk=1_600, **settings_):
    config = SessionConfig(**{"targets": ("de", "fr"), "endpoints": RULES, "policy": "hold", "policy_n": 2} | settings_)
    session = Session(config, Words(), window=512)
    engine = InstantEngine(talk.read, ScriptedVad([(talk.start, talk.end)]))
    audio = talk.audio()
    for start in range(0, len(audio), chunk):
        session.hear(audio[start : start + chunk])
        settle(session, engine)
    session.end()
    settle(session, engine)
    return session, session.events(), engine


def finals(events, language):
    return [event for event in events if isinstance(event, Caption) and event.final and event.language == language]


def words_of(captions):
    return [int(word[1:]) for caption in captions for word in caption.text.split()]


@settings(max_examples=40, deadline=None)
@given(
    sentences=st.lists(st.integers(4, 12), min_size=1, max_size=8),
    chunk=st.sampled_from([480, 1_600, 7_000]),
    policy=st.sampled_from([("hold", 1), ("agreement", 2), ("alignatt", 300), ("final", 0)]),
    mode=st.sampled_from(["live", "stable"]),
)
def test_no_word_is_lost_or_doubled_at_any_cut(sentences, chunk, policy, mode):
    talk = Talk(sentences)
    session, events, _ = run(talk, chunk, policy=policy[0], policy_n=policy[1], mode=mode)
    assert session.finished
    for language in ("de", "fr"):
        said = [word for word in words_of(finals(events, language)) if word]
        assert said == talk.words


def test_segments_end_where_sentences_do():
    talk = Talk([6, 7, 5, 8, 6])
    session, events, engine = run(talk)
    ends = [event.end for event in events if isinstance(event, SpeechEnded)]
    assert session.stats.divided == 4
    assert all(abs(end - joint) <= 1_600 for end, joint in zip(ends, talk.joints, strict=False))
    for caption, count in zip(finals(events, "de"), (6, 7, 5, 8, 6), strict=True):
        assert len(caption.text.split()) == count
    # What ended with its sentence wasn't read once more, and the encoder's state lives on.
    assert [job.segment for job in engine.jobs if job.last] == [4]


def test_what_was_said_after_the_sentence_is_shown_at_once():
    _, events, _ = run(Talk([6, 8]))
    at = next(i for i, e in enumerate(events) if isinstance(e, SpeechStarted) and e.segment == 1)
    before = [e for e in events[:at] if isinstance(e, Caption)]
    assert all(e.segment == 0 for e in before)
    carried = events[at + 1]
    assert isinstance(carried, Caption)
    assert (carried.segment, carried.committed) == (1, "")
    shown = [e for e in before if e.language == carried.language and not e.final][-1]
    final = next(e for e in before if e.language == carried.language and e.final)
    assert shown.text.split() == [*final.text.split(), "w0", *carried.tentative.split()]


def test_a_sentence_that_one_reading_alone_saw_end_goes_on():
    class Fickle(Talk):
        def read(self, job, target):
            said = super().read(job, target)
            if job.end // 7_680 % 2:
                return said
            keep = [i for i, token in enumerate(said.tokens) if token != BREAK]
            return Hypothesis(
                tuple(said.tokens[i] for i in keep),
                tuple(said.logprobs[i] for i in keep),
                ends=tuple(said.ends[i] for i in keep),
            )

    session, _, _ = run(Fickle([6, 8]), targets=("de",), policy="final")
    assert session.stats.divided == 0


def test_where_sound_runs_on_nothing_is_divided():
    class Breathless(Talk):
        def audio(self):
            return np.random.default_rng(0).normal(0, 0.1, self.end + 16_000).astype(np.float32)

    talk = Breathless([6, 7, 9])
    session, _, _ = run(talk)
    assert session.stats.divided == 0
    session, _, _ = run(talk, endpoints=replace(RULES, sentence_dip_db=0))
    assert session.stats.divided == 2


@pytest.mark.parametrize("interval", [100, 240, 480])
@pytest.mark.parametrize("policy", [("agreement", 2), ("hold", 1), ("final", 0)])
def test_a_language_that_saw_no_end_says_nothing_twice(interval, policy):
    class Uneven(Talk):
        def read(self, job, target):
            if target.language == "de":
                return super().read(job, target)
            blind = copy(self)
            blind.spoken = [(word, end) for word, end in self.spoken if word != BREAK]
            return Talk.read(blind, job, target)

    talk = Uneven([9, 12, 10, 11])
    session, events, _ = run(talk, reading_interval_ms=interval, policy=policy[0], policy_n=policy[1])
    assert session.finished
    for language in ("de", "fr"):
        assert [word for word in words_of(finals(events, language)) if word] == talk.words


def test_where_a_sentence_only_seems_to_end_promises_go_on():
    class Breathless(Talk):
        def audio(self):
            return np.random.default_rng(0).normal(0, 0.1, self.end + 16_000).astype(np.float32)

    _, events, _ = run(Breathless([4, 14]), targets=("de",), policy="hold", policy_n=1)
    captions = [event for event in events if isinstance(event, Caption) and not event.final]
    assert max(len(caption.committed.split()) for caption in captions) > 8


def test_without_alignment_nothing_is_divided():
    class Deaf(Talk):
        def read(self, job, target):
            said = super().read(job, target)
            return Hypothesis(said.tokens, said.logprobs)

    session, _, _ = run(Deaf([6, 7, 5]))
    assert session.stats.divided == 0
    assert session.stats.segments > 0


def test_promises_stop_at_the_end_of_a_sentence():
    _, events, _ = run(Talk([6, 8]), policy="hold", policy_n=0)
    for before, after in pairwise(e for e in events if isinstance(e, Caption) and e.language == "de"):
        if before.segment == after.segment:
            assert after.committed.startswith(before.committed)
        assert "w0" not in after.committed.split()


@pytest.mark.parametrize("masked", [0, 1, 3])
def test_masked_words_are_not_shown_but_for_the_first(masked):
    _, events, _ = run(Talk([12]), targets=("de",), policy="final", masked=masked)
    shown = [event.tentative.split() for event in events if isinstance(event, Caption) and not event.final]
    assert shown[0][0] == "w1"
    for words in shown:
        assert len(words) == 1 or masked == 0 or int(words[-1][1:]) < 900


class Murmur(ScriptedVad):
    """Finds something in all that sounds, but is sure of it only in ``spoken``: music, a crowd."""

    def __init__(self, sounds, spoken=()):
        super().__init__(sounds)
        self.spoken = ScriptedVad(spoken)

    def detect(self, streams):
        sure = self.spoken.detect(streams)
        return [
            (np.where(loud > 0.5, np.where(voice > 0.5, 0.95, 0.7), 0.05), state)
            for (loud, state), (voice, _) in zip(super().detect(streams), sure, strict=True)
        ]


def murmur(talk, spoken, **changes):
    config = SessionConfig(targets=("de", "fr"), endpoints=RULES, policy="hold", policy_n=2, **changes)
    session = Session(config, Words(), window=512)
    engine = InstantEngine(talk.read, Murmur([(talk.start, talk.end)], spoken))
    audio = talk.audio()
    for start in range(0, len(audio), 1_600):
        session.hear(audio[start : start + 1_600])
        settle(session, engine)
    session.end()
    settle(session, engine)
    return session, session.events()


@pytest.mark.parametrize("sentences", [[6], [6, 7], [6, 7, 5, 8, 6]])
def test_words_for_sound_that_is_no_speech_are_never_final_however_many_sentences(sentences):
    session, events = murmur(Talk(sentences), [])
    assert session.stats.divided == 0
    assert {caption.text for language in ("de", "fr") for caption in finals(events, language)} == {""}


def test_music_after_speech_is_not_believed_for_the_speech_before_it():
    talk = Talk([6, 7, 5, 8, 6])
    session, events = murmur(talk, [(talk.start, talk.joints[0] - 2_000)])
    said = words_of(finals(events, "de"))
    assert said == talk.words[:6]
    assert session.stats.divided == 1


def test_music_after_speech_that_runs_on_is_not_believed_after_a_cut():
    class Endless(Talk):
        def read(self, job, target):
            said = super().read(job, target)
            keep = [i for i, token in enumerate(said.tokens) if token != BREAK]
            return Hypothesis(
                tuple(said.tokens[i] for i in keep),
                tuple(said.logprobs[i] for i in keep),
                ends=tuple(said.ends[i] for i in keep),
            )

    talk = Endless([60])
    _, events = murmur(talk, [(talk.start, talk.start + 4_800)])
    texts = [caption.text for caption in finals(events, "de")]
    assert len(texts) >= 3
    assert texts[0]
    assert set(texts[1:]) == {""}


def test_words_that_only_move_to_the_next_segment_are_not_withdrawn():
    _, events, _ = run(Talk([6, 7, 5, 8, 6]))
    moving = [event for event in events if isinstance(event, Caption) and event.moved]
    assert len(moving) == 8  # four joints, two languages
    for final in moving:
        at = events.index(final)
        onward = next(
            e
            for e in events[at:]
            if isinstance(e, Caption) and e.segment == final.segment + 1 and e.language == final.language
        )
        shown = [
            e
            for e in events[:at]
            if isinstance(e, Caption) and (e.segment, e.language) == (final.segment, final.language)
        ][-1]
        assert onward.text == final.moved
        assert shown.text.endswith(final.moved)


def test_what_a_line_without_an_end_believed_of_the_next_sentence_is_not_said_twice_where_its_last_reading_fails():
    talk = Talk([6, 8, 7, 9])

    def read(job, target):
        found = talk.read(job, target)
        if target.language == "de":
            return found
        if job.last and len(job.targets) == 1:
            raise BadAnswer("the engine can't")
        kept = [at for at, token in enumerate(found.tokens) if token != BREAK]  # sees no sentence end
        tokens, ends = tuple(found.tokens[at] for at in kept), tuple(found.ends[at] for at in kept)
        return Hypothesis(tokens, (-0.1,) * len(tokens), ends=ends)

    config = SessionConfig(("de", "fr"), endpoints=RULES, policy="final", sentence_patience_ms=900)
    session = Session(config, Words(), window=512)
    engine = InstantEngine(read, ScriptedVad([(talk.start, talk.end)]))
    audio = talk.audio()
    for start in range(0, len(audio), 1_600):
        session.hear(audio[start : start + 1_600])
        settle(session, engine)
    session.end()
    settle(session, engine)
    events = session.events()
    assert session.stats.divided > 0
    assert session.stats.failures > 0
    assert words_of(finals(events, "de")) == talk.words
    said = [word for word in words_of(finals(events, "fr")) if word < 900]
    assert said == sorted(set(said))
    assert len(said) > len(talk.words) / 2
