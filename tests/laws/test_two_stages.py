"""What one model hears another translates: drafts change no text, and no promise outruns those of the transcript."""

import io
import json
import random
from dataclasses import asdict, replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamtrans.core import BadConfig, Caption, Doubt, Hypothesis, Job, SpeechEnded, Target, UnsupportedLanguage
from streamtrans.engine import Engine, EngineConfig
from streamtrans.engine.stages import resting
from streamtrans.foreign.values import typed
from streamtrans.model.api import Written
from streamtrans.segment import EndpointRules
from streamtrans.stream import (
    Memory,
    Origin,
    Recorder,
    Recording,
    Session,
    SessionConfig,
    Stages,
    layout,
    read_layout,
    rerun,
    settle,
)
from streamtrans.testing.engine import InstantEngine
from streamtrans.testing.toy import ToyConfig, ToyModel, toy_audio
from streamtrans.testing.vad import ScriptedVad
from streamtrans.text import Pieces
from tests.fakes import Words
from tests.stream.test_sentences import Talk

PATIENCE_S = 10
EAR = ToyConfig(words=5)
TRANSLATOR = ToyConfig(seed=7, words=8)
WORDS = st.integers(8, 12)


def no_vad(name):
    raise AssertionError(name)


def engine(drafter="echo,ngram,kvspn", **config):
    return Engine(ToyModel(EAR), no_vad, EngineConfig(drafter=drafter, **{"slots": 4} | config), ToyModel(TRANSLATOR))


def texts(reading):
    return [(each.tokens, each.logprobs, each.complete, each.sources, each.ends) for each in reading.hypotheses]


@st.composite
def jobs(draw, most=3):
    audio = toy_audio(draw(st.floats(0, 4)), draw(st.integers(0, 5)))
    languages = draw(st.lists(st.sampled_from(["en", "de", "zh", "fr"]), unique=True, min_size=1, max_size=most))
    targets = tuple(
        Target(language, tuple(draw(st.lists(WORDS, max_size=3))), tuple(draw(st.lists(WORDS, max_size=20))))
        for language in languages
    )
    return Job(draw(st.integers(0, 9)), 0, len(audio), draw(st.booleans()), audio, targets, "en")


@settings(max_examples=40, deadline=None)
@given(job=jobs())
def test_a_translation_is_what_its_model_makes_of_the_transcript_whoever_drafts(job):
    ear, translator = ToyModel(EAR), ToyModel(TRANSLATOR)
    prefixes = {target.language: target.prefix for target in job.targets}
    limit = EngineConfig().limit(ear.max_tokens, (0, 0), len(job.audio))
    said = ear.greedy((*ear.prompt("en", "en"), *prefixes.get("en", ())), job.audio, limit)
    transcript = prefixes.get("en", ()) + said
    wanted = []
    for target in job.targets:
        if target.language == "en":
            wanted.append(transcript)
        elif transcript:
            written = Written(ear.vocabulary.decode(transcript).strip(), "en", target.language)
            prompt = (*translator.prompt(target.language, "en"), *target.prefix)
            wanted.append(target.prefix + translator.greedy(prompt, written, limit))
        else:
            wanted.append(target.prefix)
    plain = []
    for drafter in ("none", "echo,ngram,kvspn"):
        with engine(drafter) as read:
            reading = read.submit(job).result(PATIENCE_S)
        assert [each.tokens for each in reading.hypotheses] == wanted
        plain.append(texts(reading))
    assert plain[0] == plain[1]


def test_the_previous_translation_is_read_in_one_pass():
    audio = toy_audio(4)
    job = Job(0, 0, len(audio), False, audio, (Target("en"), Target("de"), Target("fr")), "en")
    with engine("echo") as read:
        first = read.submit(job).result(PATIENCE_S)
        drafts = zip(job.targets, first.hypotheses, strict=True)
        again = replace(job, targets=tuple(replace(target, draft=each.tokens) for target, each in drafts))
        second = read.submit(again).result(PATIENCE_S)
    assert [each.tokens for each in second.hypotheses] == [each.tokens for each in first.hypotheses]
    assert all(len(each.tokens) > 5 and each.stats.passes == len(each.tokens) + 1 for each in first.hypotheses)
    assert [each.stats.passes for each in second.hypotheses] == [1, 1, 1]


@settings(max_examples=40, deadline=None)
@given(
    requests=st.lists(jobs(), min_size=1, max_size=8),
    slots=st.integers(3, 8),
    max_batch=st.integers(1, 8),
    cancelled=st.sets(st.integers(0, 7)),
    broken=st.booleans(),
)
def test_together_equals_alone(requests, slots, max_batch, cancelled, broken):
    with engine(slots=3) as read:
        alone = [read.submit(request).result(PATIENCE_S) for request in requests]
    with engine(slots=slots, max_batch=max_batch) as read:
        futures = [read.submit(request) for request in requests]
        nan = np.full(400, np.nan, np.float32)
        bad = read.submit(Job(0, 0, 400, True, nan, (Target("de"),), "en")) if broken else None
        gone = {n for n in cancelled if n < len(futures) and futures[n].cancel()}
        together = {n: future.result(PATIENCE_S) for n, future in enumerate(futures) if n not in gone}
        assert bad is None or bad.exception(PATIENCE_S) is not None
    assert together == {n: alone[n] for n in together}
    assert read.stats.free == slots


def test_texts_of_several_streams_and_languages_are_read_together():
    audio = toy_audio(2)
    read = engine("none", slots=8)
    targets = tuple(map(Target, ("de", "fr", "zh", "it")))
    with read:
        busy = [read.submit(Job(n, 0, len(audio), True, audio, targets, "en")) for n in range(2)]
        for future in busy:
            future.result(PATIENCE_S)
    assert max(read.translator.encodes) == max(read.translator.steps) == 8


def test_what_one_of_the_two_does_not_know_is_refused_and_nothing_else_is_written():
    audio = toy_audio(1)
    ear = ToyModel(replace(EAR, languages=("en", "zh")))
    with Engine(ear, no_vad, EngineConfig(), ToyModel(replace(TRANSLATOR, languages=("en", "de")))) as read:
        for target, source, told in (
            ("fr", "en", "no 'fr'"),  # the translator writes none
            ("en", "zh", "no 'zh'"),  # the translator reads none
            ("de", "de", "no 'de'"),  # the ear hears none
            ("de", None, "name one source language"),
        ):
            future = read.submit(Job(0, 0, len(audio), True, audio, (Target(target),), source))
            with pytest.raises(UnsupportedLanguage, match=told):
                future.result(PATIENCE_S)
        [found] = read.submit(Job(0, 0, len(audio), True, audio, (Target("de"),), "en")).result(PATIENCE_S).hypotheses
        assert found.tokens


@settings(max_examples=80, deadline=None)
@given(data=st.data())
def test_a_translated_token_rests_on_the_words_that_it_looked_at_and_on_all_before(data):
    vocabulary = Pieces([b"", *(f" w{n}".encode() for n in range(30))], 0)
    transcript = tuple(data.draw(st.lists(st.integers(1, 30), max_size=12)))
    ends = tuple(data.draw(st.lists(st.integers(100, 999), min_size=len(transcript), max_size=len(transcript))))
    text = vocabulary.decode(transcript).strip()
    reach = [0, *(len(vocabulary.decode(transcript[: n + 1]).strip()) for n in range(len(transcript))), 0]
    looked = tuple(data.draw(st.lists(st.integers(-1, len(reach) - 1), max_size=15)))
    translation = Hypothesis(tuple(range(len(looked))), (0.0,) * len(looked), ends=looked)
    heard = Hypothesis(transcript, (0.0,) * len(transcript), ends=ends)
    found = resting(translation, reach, heard, vocabulary, start=50)
    assert len(found.sources) == len(found.ends) == len(looked)
    assert all(before <= after for before, after in pairwise(found.sources))
    for at, source in enumerate(found.sources):
        words = [frame for frame in looked[: at + 1] if 1 <= frame <= len(transcript)]  # frame n is the n-th word
        assert source >= max(words, default=0)
        assert -1 in looked[: at + 1] or source == max(words, default=0)
        assert found.ends[at] == max([50, *ends[:source]])
    assert reach[-2] == len(text)


def test_without_alignment_a_translation_rests_on_all_of_its_transcript():
    vocabulary = Pieces([b"", b" a", b" b"], 0)
    heard = Hypothesis((1, 2), (0.0, 0.0), ends=(10, 20))
    found = resting(Hypothesis((5, 6), (0.0, 0.0)), [1, 3], heard, vocabulary, start=0)
    assert (found.sources, found.ends) == ((2, 2), (20, 20))


RULES = EndpointRules(
    min_speech_ms=64, min_silence_ms=320, pre_roll_ms=64, padding_ms=64, max_segment_ms=6_000, cut_search_ms=2_000
)
LENGTH = 8 * 16_000
AUDIO = np.random.default_rng(1).normal(0, 0.1, LENGTH).astype(np.float32)
STAGES = Stages(Words(), Words())
WRONG = Doubt("it", certain=True)
DOUBTS = (None, None, None, Doubt(), Doubt("it"), WRONG)


def adversary(seed):
    """Say of both stages anything at all, and doubt it at times; a translated token says itself on what it rests."""

    def model(job, target):
        rng = random.Random(f"{seed} {job.segment} {job.end} {job.last} {target.language}")
        keep = rng.randrange(len(target.prefix), max(len(target.draft), len(target.prefix)) + 1)
        kept = (target.draft if len(target.draft) >= len(target.prefix) else target.prefix)[:keep]
        new = rng.randrange(8)
        if target.language == job.source:
            tokens = (*kept, *(rng.randrange(1, 50) for _ in range(new)))
            return Hypothesis(tokens, (-0.5,) * len(tokens), doubt=rng.choice(DOUBTS))
        most = max([0, *(token // 50 for token in kept)])
        tokens = (*kept, *(50 * source + rng.randrange(50) for source in sorted(rng.choices(range(most, 12), k=new))))
        sources = tuple(max(token // 50 for token in tokens[: at + 1]) for at in range(len(tokens)))
        return Hypothesis(tokens, (-0.5,) * len(tokens), sources=sources, doubt=rng.choice(DOUBTS))

    return model


CONFIGS = st.builds(
    SessionConfig,
    targets=st.sampled_from([("en", "de"), ("de", "en", "zh"), ("de",)]),
    source=st.just("en"),
    endpoints=st.just(RULES),
    mode=st.sampled_from(["live", "stable", "final"]),
    policy=st.sampled_from([("hold"), ("agreement"), ("final")]),
    policy_n=st.integers(1, 3),
    reading_interval_ms=st.sampled_from([250, 480]),
)
SPANS = st.lists(st.tuples(st.integers(0, LENGTH), st.integers(0, LENGTH)), min_size=1, max_size=4)


def hear(session, engine, start=0, until=LENGTH):
    events = []
    for at in range(start, until, 1_600):
        session.hear(AUDIO[at : min(at + 1_600, until)])
        settle(session, engine)
        events += session.events()
    return events


def run(session, engine, start=0):
    events = hear(session, engine, start)
    session.end()
    settle(session, engine)
    assert session.finished
    return events + session.events()


def numbers(text):
    return [int(word[1:]) for word in text.split()]


@settings(max_examples=80, deadline=None)
@given(config=CONFIGS, spans=SPANS, seed=st.integers(0, 10_000))
def test_promises_of_a_translation_never_outrun_those_of_its_transcript(config, spans, seed):
    session = Session(config, STAGES, window=512)
    events = run(session, InstantEngine(adversary(seed), ScriptedVad(spans)))
    promised, said = {}, {}
    for event in events:
        if not isinstance(event, Caption):
            continue
        before = said.get((event.segment, event.language), "")
        assert event.committed.startswith(before)
        assert event.language in config.targets
        said[event.segment, event.language] = event.committed
        if event.language == "en":
            promised[event.segment] = len(event.committed.split())
        elif "en" in config.targets:
            rests = max([0, *(number // 50 for number in numbers(event.committed))])
            assert rests <= promised.get(event.segment, 0)


@settings(max_examples=30, deadline=None)
@given(config=CONFIGS, spans=SPANS, seed=st.integers(0, 10_000))
def test_a_transcript_that_nobody_sees_changes_nothing_for_who_reads_its_translation(config, spans, seed):
    shown = replace(config, targets=("en", "de"))
    unseen = replace(config, targets=("de",))
    told = []
    for each in (shown, unseen):
        session = Session(each, STAGES, window=512)
        events = run(session, InstantEngine(adversary(seed), ScriptedVad(spans)))
        told.append([event for event in events if not isinstance(event, Caption) or event.language == "de"])
    assert told[0] == told[1]


@settings(max_examples=30, deadline=None)
@given(config=CONFIGS, spans=SPANS, seed=st.integers(0, 10_000), cuts=st.lists(st.integers(0, 79), max_size=3))
def test_gone_on_with_elsewhere_promises_are_kept(config, spans, seed, cuts):
    engine = InstantEngine(adversary(seed), ScriptedVad(spans))
    session, events, at = Session(config, STAGES, window=512), [], 0
    for cut in sorted(cuts):
        events += hear(session, engine, at, cut * 1_600)
        memory = typed(Memory, json.loads(json.dumps(asdict(session.memory()))), "memory")
        at = memory.begins // 1_600 * 1_600
        session = Session(config, STAGES, window=512, memory=replace(memory, begins=at))
    events += run(session, engine, at)
    said, closed = {}, set()
    for event in events:
        if isinstance(event, Caption):
            key = event.segment, event.language
            assert key not in closed
            assert event.committed.startswith(said.get(key, ""))
            assert event.language in config.targets
            said[key] = event.committed
            closed |= {key} if event.final else set()
    assert closed == {
        (event.segment, target) for event in events if isinstance(event, SpeechEnded) for target in config.targets
    }


def test_a_recording_of_two_stages_comes_again_bit_for_bit():
    ear, translator = ToyModel(EAR).vocabulary, ToyModel(TRANSLATOR).vocabulary
    config = SessionConfig(("de", "zh"), "en", endpoints=RULES)

    class Sink(io.BytesIO):
        def close(self):
            pass

    sink = Sink()
    origin = Origin("toy", "abc", {}, {}, layout(ear, translator))
    with Engine(ToyModel(EAR), lambda _: ScriptedVad([(8_000, 90_000)]), EngineConfig(), ToyModel(TRANSLATOR)) as read:
        recorder = Recorder(Session(config, Stages(ear, translator), window=512), sink, origin, window=512)
        events = run_recorder(recorder, read)
        again = Recording(io.BytesIO(sink.getvalue()), "talk")
        assert any(isinstance(event, Caption) and event.final and event.text for event in events)
        spellers = read_layout(json.loads(again.origin.tokenizer), origin="talk")
        for engine_ in (None, read):
            recording = Recording(io.BytesIO(sink.getvalue()), "talk")
            told = [now for _, now in rerun(recording, Session(recording.config, spellers, window=512), engine_)]
            assert [event for turn in told for event in turn] == events


def run_recorder(recorder, engine):
    events = []
    for at in range(0, LENGTH, 1_600):
        recorder.hear(AUDIO[at : at + 1_600])
        settle(recorder, engine)
        events += recorder.events()
    recorder.end()
    settle(recorder, engine)
    events += recorder.events()
    recorder.close()
    return events


def test_two_stages_need_to_know_what_is_spoken():
    with pytest.raises(BadConfig, match="name the spoken language"):
        Session(SessionConfig(("de",)), STAGES)


def lines(events, language):
    return [event for event in events if isinstance(event, Caption) and event.language == language]


def test_a_transcript_that_goes_is_still_translated_and_does_not_come_back_in_its_segment():
    config = SessionConfig(("en", "de"), "en", endpoints=RULES, policy="hold", policy_n=2)
    engine = InstantEngine(adversary(3), ScriptedVad([(8_000, 60_000), (80_000, 110_000)]))
    session = Session(config, STAGES, window=512)
    before = hear(session, engine, 0, 32_000)
    assert lines(before, "en")
    session.retarget(("de",))
    [final] = session.events()
    assert (final.language, final.final) == ("en", True)
    memory = typed(Memory, json.loads(json.dumps(asdict(session.memory()))), "memory")
    at = memory.begins // 1_600 * 1_600
    for onward, start in ((session, 32_000), (Session(session.config, STAGES, memory=replace(memory, begins=at)), at)):
        rest = hear(onward, engine, start, 48_000)
        assert lines(rest, "de")
        onward.retarget(("de", "en"))
        rest += run(onward, engine, 48_000)
        assert {caption.segment for caption in lines(rest, "en")} == {1}
        assert {caption.segment for caption in lines(rest, "de")} == {0, 1}
        assert all({"en", "de"} == {target.language for target in job.targets} for job in engine.jobs)


def test_a_transcript_that_comes_is_shown_from_its_beginning():
    config = SessionConfig(("de",), "en", endpoints=RULES, policy="hold", policy_n=2)
    engine = InstantEngine(adversary(3), ScriptedVad([(8_000, 60_000)]))
    session = Session(config, STAGES, window=512)
    assert not lines(hear(session, engine, 0, 32_000), "en")
    session.retarget(("de", "en"))
    shown = lines(run(session, engine, 32_000), "en")
    assert [caption.revision for caption in shown] == list(range(1, len(shown) + 1))
    assert shown[-1].final
    assert len(shown) > 1


class Interpreted(Talk):
    """A talk whose words a second model says as they are, or ``swapped``, each with the one before it."""

    def read(self, job, target):
        heard = super().read(job, Target("en", () if target.language != "en" else target.prefix))
        if target.language == "en":
            return heard
        sources = list(range(1, len(heard.tokens) + 1))
        keep = len(target.prefix)
        tokens = (*target.prefix, *(500 + token if token else 0 for token in heard.tokens[keep:]))
        sources = (*sources[:keep], *(len(heard.tokens),) * (keep - len(sources)), *sources[keep:])
        ends = tuple(max([job.start, *heard.ends[:source]]) for source in sources)
        return Hypothesis(tokens, (-0.1,) * len(tokens), ends=ends, sources=sources)


@settings(max_examples=30, deadline=None)
@given(
    sentences=st.lists(st.integers(4, 12), min_size=1, max_size=8),
    chunk=st.sampled_from([480, 1_600, 7_000]),
    policy=st.sampled_from([("hold", 1), ("agreement", 2), ("final", 0)]),
    targets=st.sampled_from([("en", "de"), ("de",), ("de", "fr")]),
)
def test_sentences_of_a_translation_end_with_those_of_the_transcript(sentences, chunk, policy, targets):
    talk = Interpreted(sentences)
    config = SessionConfig(targets, "en", endpoints=RULES, policy=policy[0], policy_n=policy[1])
    session = Session(config, STAGES, window=512)
    engine = InstantEngine(talk.read, ScriptedVad([(talk.start, talk.end)]))
    audio = talk.audio()
    events = []
    for start in range(0, len(audio), chunk):
        session.hear(audio[start : start + chunk])
        settle(session, engine)
        events += session.events()
    session.end()
    settle(session, engine)
    events += session.events()
    for language in targets:
        finals = [caption for caption in lines(events, language) if caption.final]
        said = [number for caption in finals for number in numbers(caption.text) if number]
        assert said == [word + 500 * (language != "en") for word in talk.words]
    counts = [[len(caption.text.split()) for caption in lines(events, target) if caption.final] for target in targets]
    assert all(count == counts[0] for count in counts)
    if len(sentences) > 3:
        assert session.stats.divided > 0


SENTENCES = [6, 8, 7, 9]


def interpreted(config, read, before_answer=lambda session, job: None):
    """Return session and events of a talk that ``read`` reads; it is told of every job before that is answered."""
    talk = Interpreted(SENTENCES)
    session = Session(config, STAGES, window=512)
    engine = InstantEngine(lambda job, target: read(talk, job, target), ScriptedVad([(talk.start, talk.end)]))
    audio, events = talk.audio(), []
    for start in range(0, len(audio) + 1_600, 1_600):
        session.hear(audio[start : start + 1_600]) if start < len(audio) else session.end()
        while requests := session.requests():
            for request in requests:
                answer = engine.submit(request).result()
                if isinstance(request, Job):
                    before_answer(session, request)
                session.answer(request, answer)
        events += session.events()
    assert session.finished
    assert session.stats.divided > 0
    return talk, events


def said_in(events, language):
    return {caption.segment: numbers(caption.text) for caption in lines(events, language) if caption.final}


def words_in(events, language):
    return [word for said in said_in(events, language).values() for word in said if word]


@pytest.mark.parametrize("targets", [("en", "de"), ("de",), ("de", "fr")])
def test_a_translation_that_was_held_back_when_its_sentence_ended_is_read_again(targets):
    def read(talk, job, target):
        found = talk.read(job, target)
        return replace(found, doubt=WRONG) if target.language == "de" and not job.last else found

    talk, events = interpreted(SessionConfig(targets, "en", endpoints=RULES, policy="hold", policy_n=2), read)
    for language in targets:
        assert words_in(events, language) == [word + 500 * (language != "en") for word in talk.words]
    assert len(said_in(events, "de")) > 1


@pytest.mark.parametrize("targets", [("en", "de"), ("de",)])
def test_what_waits_for_its_last_reading_is_translated_from_what_was_promised_of_the_transcript(targets):
    asked = {}

    def read(talk, job, target):
        found = talk.read(job, target)
        return replace(found, doubt=WRONG) if target.language == "de" and not job.last else found

    def note(session, job):
        if job.last:
            asked[job.segment] = [(target.language, target.prefix) for target in job.targets]

    config = SessionConfig(targets, "en", endpoints=RULES, policy="hold", policy_n=2)
    talk, _ = interpreted(config, read, note)
    sentences, rest = [], list(talk.words)
    for count in SENTENCES:
        sentences.append(tuple(rest[:count]))
        rest = rest[count:]
    waiting = list(asked.values())[:-1]
    assert len(waiting) > 1
    for targets_asked, sentence in zip(waiting, sentences, strict=False):
        (language, prefix), (other, _) = targets_asked
        assert (language, tuple(token for token in prefix if token), other) == ("en", sentence, "de")


def test_what_stays_held_back_when_its_sentence_has_ended_is_told_in_each_sentence():
    def read(talk, job, target):
        found = talk.read(job, target)
        return replace(found, doubt=WRONG) if target.language == "de" else found

    _, events = interpreted(SessionConfig(("en", "de"), "en", endpoints=RULES, policy="hold", policy_n=2), read)
    finals = [caption for caption in lines(events, "de") if caption.final]
    assert len(finals) == len(said_in(events, "en")) > 1
    assert {(caption.text, caption.doubt) for caption in finals} == {("", WRONG)}


def test_what_was_believed_beyond_a_sentence_that_is_read_again_is_not_said_twice():
    def read(talk, job, target):
        found = talk.read(job, target)
        ended = 0 in (talk.read(job, Target("en")).tokens[:-3])
        return replace(found, doubt=WRONG) if target.language == "de" and (ended or job.last) else found

    config = SessionConfig(("en", "de"), "en", endpoints=RULES, policy="final")
    _, events = interpreted(config, read)
    said = [word for word in words_in(events, "de") if word < 900]
    assert said
    assert said == sorted(set(said))


def test_a_language_that_comes_while_the_reading_is_under_way_that_divides_has_the_sentence_too():
    config = SessionConfig(("en", "de"), "en", endpoints=RULES, policy="hold", policy_n=2)
    ends = []

    def note(session, job):
        ends.append((session.stats.divided, job.end))

    interpreted(config, Interpreted.read, note)
    divides = next(end for (divided, end), (after, _) in pairwise(ends) if after > divided)

    def add(session, job):
        if job.end == divides and not job.last:
            session.retarget(("en", "de", "fr"))

    talk, events = interpreted(config, Interpreted.read, add)
    heard = said_in(events, "en")
    assert list(heard) == sorted(said_in(events, "fr"))
    assert words_in(events, "fr") == [word + 500 for word in talk.words]
    for language in ("de", "fr"):
        assert {segment: len(said) for segment, said in said_in(events, language).items()} == {
            segment: len(said) for segment, said in heard.items()
        }


@pytest.mark.parametrize("targets", [("en", "de"), ("de",)])
@pytest.mark.parametrize("mode", ["live", "stable", "final"])
def test_the_translation_of_a_transcript_that_is_held_back_is_held_back_and_that_is_told(targets, mode):
    def read(job, target):
        found = Interpreted(SENTENCES).read(job, target)
        return replace(found, doubt=WRONG) if target.language == "en" else found

    config = SessionConfig(targets, "en", endpoints=RULES, policy="hold", policy_n=1, mode=mode)
    session = Session(config, STAGES, window=512)
    events = run(session, InstantEngine(read, ScriptedVad([(8_000, 60_000)])))
    for language in targets:
        [final] = [caption for caption in lines(events, language) if caption.final]
        assert (final.text, final.doubt) == ("", WRONG)
        assert all(not caption.text for caption in lines(events, language))


def test_a_transcript_that_is_certainly_wrong_is_not_translated():
    ear, translator = ToyModel(replace(EAR, words=16)), ToyModel(TRANSLATOR)
    words = ["the", "of", "and", "that", "was", "with", "which", "this"]
    words += ["from", "they", "would", "their", "there", "about", "could", "people"]
    ear.vocabulary = Pieces([b""] * ear.first_word + [f" {word}".encode() for word in words], 0)
    audio = toy_audio(3.5, 3)
    targets = (Target("de", prefix=(9, 10)), Target("zh"))
    with Engine(ear, no_vad, EngineConfig(), translator) as read:
        for asked in (targets, (Target("fr"), *targets)):  # whether somebody wants to see the transcript or not
            reading = read.submit(Job(0, 0, len(audio), True, audio, asked, "fr")).result(PATIENCE_S)
            for target, found in zip(targets, reading.hypotheses[-2:], strict=True):
                assert (found.tokens, found.doubt) == (target.prefix, Doubt("en", certain=True))
    assert read.translator.steps == []


@pytest.mark.parametrize("targets", [("en", "de"), ("de",)])
def test_a_sentence_that_waits_for_its_last_reading_is_read_elsewhere_too(targets):
    talk, config = Interpreted(SENTENCES), SessionConfig(targets, "en", endpoints=RULES, policy="hold", policy_n=2)

    def read(job, target):
        found = talk.read(job, target)
        return replace(found, doubt=WRONG) if target.language == "de" and not job.last else found

    engine, audio = InstantEngine(read, ScriptedVad([(talk.start, talk.end)])), talk.audio()
    session, events, at, moved = Session(config, STAGES, window=512), [], 0, 0
    while not session.finished:
        if requests := session.requests():
            divided = session.stats.divided
            for request in requests:
                session.answer(request, engine.submit(request).result())
            if session.stats.divided > divided:
                events += session.events()
                memory = typed(Memory, json.loads(json.dumps(asdict(session.memory()))), "memory")
                at, moved = memory.begins, moved + 1
                session = Session(config, STAGES, window=512, memory=memory)
        elif at < len(audio):
            session.hear(audio[at : at + 1_600])
            at += 1_600
        else:
            session.end()
    events += session.events()
    assert moved > 1
    for language in targets:
        assert words_in(events, language) == [word + 500 * (language != "en") for word in talk.words]


def test_a_translation_finds_back_into_the_last_one_behind_a_word_that_was_put_in():
    audio = toy_audio(3, 1)
    with engine(None) as ours, engine("none") as afresh:
        job = Job(0, 0, len(audio), True, audio, (Target("de"),), "en")
        [said] = afresh.submit(job).result(PATIENCE_S).hypotheses
        assert len(said.tokens) > 6
        last = replace(job, targets=(Target("de", draft=(said.tokens[0] + 1, *said.tokens[1:])),))
        [again] = ours.submit(last).result(PATIENCE_S).hypotheses
    assert again.tokens == said.tokens
    assert again.stats.by_drafter["ngram"][1] > 0
    assert again.stats.passes < said.stats.passes / 2
