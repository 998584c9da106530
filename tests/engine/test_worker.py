import gc
import threading
import weakref
from concurrent.futures import CancelledError, wait
from dataclasses import dataclass, field

import numpy as np
import pytest

from streamtrans.core import (
    AudioTooLong,
    BadAudio,
    BadConfig,
    Detect,
    EngineClosed,
    Job,
    Reading,
    Target,
    UnsupportedLanguage,
)
from streamtrans.engine import Engine, EngineConfig
from streamtrans.foreign import Chosen
from streamtrans.testing.toy import ToyConfig, ToyModel, toy_audio

PATIENCE_S = 10


class LoudVad:
    """Probability = mean magnitude; its state counts windows; a window of NaN breaks the whole batch."""

    window = 4

    def __init__(self):
        self.batches = []

    def detect(self, streams):
        if any(np.isnan(windows).any() for windows, _ in streams):
            raise BadAudio("NaN")
        self.batches.append(len(streams))
        return [(np.abs(windows).mean(axis=1), (state or 0) + len(windows)) for windows, state in streams]


@dataclass
class Gated:
    """A toy whose passes wait for the test, and which says when one has begun."""

    toy: ToyModel
    gate: threading.Event = field(default_factory=threading.Event)
    begun: threading.Event = field(default_factory=threading.Event)

    def __getattr__(self, name):
        return getattr(self.toy, name)

    def step(self, forwards):
        self.begun.set()
        assert self.gate.wait(PATIENCE_S)
        return self.toy.step(forwards)


@dataclass
class Picky:
    """A toy that can't stomach one token: any batch with it fails."""

    toy: ToyModel
    poison: int

    def __getattr__(self, name):
        return getattr(self.toy, name)

    def step(self, forwards):
        if any(self.poison in forward.tokens for forward in forwards):
            raise ZeroDivisionError("poison")
        return self.toy.step(forwards)


def job(*targets, seconds=2.0, seed=0, last=False, source=None):
    audio = toy_audio(seconds, seed)
    wanted = tuple(each if isinstance(each, Target) else Target(each) for each in targets)
    return Job(0, 0, len(audio), last, audio, wanted, source)


def expected(model, request, config=None):
    config = config or EngineConfig()
    texts = []
    for target in request.targets:
        prompt = model.prompt(target.language, None)
        limit = config.limit(model.max_tokens, prompt, len(request.audio))
        texts.append(target.prefix + model.greedy((*prompt, *target.prefix), request.audio, limit))
    return texts


def texts(reading):
    assert isinstance(reading, Reading)
    return [hypothesis.tokens for hypothesis in reading.hypotheses]


def detect(*levels, state=None, vad="loud"):
    return Detect(vad, np.repeat(np.array(levels, np.float32)[:, None], 4, axis=1), state)


def vads(name):
    if name != "loud":
        raise BadConfig(f"no vad {name!r}")
    return LoudVad()


@pytest.fixture
def engine():
    with Engine(ToyModel(), vads, EngineConfig(slots=4, max_batch=3)) as engine:
        yield engine
        engine.submit(job("en")).result(PATIENCE_S)
        assert engine.stats.free == engine.capacity == 4


def test_a_job_is_answered_in_every_language_from_one_encoding(engine):
    request = job("de", "fr", "zh")
    reading = engine.submit(request).result(PATIENCE_S)
    assert texts(reading) == expected(engine.model, request)
    assert len({hypothesis.tokens for hypothesis in reading.hypotheses}) == 3
    assert engine.model.encodes == [1]
    assert len(engine.model.threads) == 1
    assert threading.get_ident() not in engine.model.threads


def test_what_was_asked_is_let_go_once_it_is_answered(engine):
    gc.collect()
    gc.disable()
    try:
        kept = weakref.WeakValueDictionary()
        for number in range(12):
            request = job("de", "fr", seed=number)
            kept[number] = request.audio
            engine.submit(request).result(PATIENCE_S)
            del request
        assert len(kept) <= 2  # the thread may still name the newest
    finally:
        gc.enable()


def test_prefix_and_draft_are_used(engine):
    request = job("de")
    [text] = expected(engine.model, request)
    again = job(Target("de", prefix=text[:2], draft=text))
    reading = engine.submit(again).result(PATIENCE_S)
    assert texts(reading) == [text]
    assert reading.hypotheses[0].stats.passes == 1
    assert reading.hypotheses[0].stats.by_drafter["echo"] == (len(text) - 1, len(text) - 1)


def test_without_a_speculative_network_a_changed_word_is_stepped_over():
    """The rest of the last reading drafts on behind the word that changed, where nobody was asked to draft."""
    model = ToyModel(ToyConfig(speculator=False))
    request = job("de")
    [text] = expected(model, request)
    changed = tuple(token ^ (at == 1) for at, token in enumerate(text))
    with Engine(model, vads) as unaided:
        reading = unaided.submit(job(Target("de", draft=changed))).result(PATIENCE_S)
    assert texts(reading) == [text]
    assert reading.hypotheses[0].stats.by_drafter["ngram"][1] > 0


def test_a_bias_holds_the_last_reading_fast(engine):
    request = job("de")
    [text] = expected(engine.model, request)
    other = (text[0], text[1] + 1 if text[1] + 1 < engine.model.size else text[1] - 1, *text[2:3])
    held, free = (
        engine.submit(job(Target("de", draft=other, biases=biases))).result(PATIENCE_S)
        for biases in ((0.9,) * len(other), ())
    )
    assert texts(held)[0][: len(other)] == other
    assert texts(free) == [text]
    with pytest.raises(BadConfig, match="2 biases for 3 draft tokens"):
        engine.submit(job(Target("de", draft=other, biases=(0.1, 0.1)))).result(PATIENCE_S)


def test_every_token_ends_where_the_model_listened(engine):
    stretch, audio = engine.model.config.stretch, toy_audio(2)
    request = Job(0, 48_000, 48_000 + len(audio), False, audio, (Target("de"), Target("fr", prefix=(9, 10))))
    for hypothesis in engine.submit(request).result(PATIENCE_S).hypotheses:
        count = len(hypothesis.tokens)
        assert count > 2
        assert hypothesis.ends == tuple(48_000 + min((n + 1) * stretch, len(audio)) for n in range(count))


def test_many_jobs_share_few_slots_and_their_passes(engine):
    requests = [
        job(*languages, seconds=1 + n % 4, seed=n, last=n % 3 == 0)
        for n in range(12)
        for languages in (("de",), ("fr", "it"), ("en", "zh", "es", "it"))
    ]
    futures = [engine.submit(request) for request in requests]
    for request, future in zip(requests, futures, strict=True):
        assert texts(future.result(PATIENCE_S)) == expected(engine.model, request)
    stats = engine.stats
    assert stats.readings == 36
    assert stats.forwards > stats.passes
    assert max(engine.model.steps) == 3
    assert stats.decode.passes == stats.forwards
    assert stats.samples == sum(len(request.audio) for request in requests)


def test_a_job_of_no_languages_is_answered_with_nothing(engine):
    assert engine.submit(job()).result(PATIENCE_S) == Reading(())


def test_a_job_that_can_never_fit_is_refused(engine):
    with pytest.raises(BadConfig, match="5 languages needs as many slots, and this engine has 4"):
        engine.submit(job("de", "fr", "it", "es", "zh")).result(PATIENCE_S)


@pytest.mark.parametrize(
    ("bad", "error"),
    [
        (job("de", seconds=31), AudioTooLong),
        (Job(0, 0, 9, False, np.full(9, np.nan, np.float32), (Target("de"),)), BadAudio),
        (job("sv"), UnsupportedLanguage),
        (job("de", source="sv"), UnsupportedLanguage),
        (job("fr", Target("de", prefix=(0, 9))), ValueError),
        (None, AttributeError),
    ],
)
def test_a_broken_request_fails_alone(engine, bad, error):
    good = [job("de", "fr", seed=1), job("it", seed=2)]
    futures = [engine.submit(request) for request in (good[0], bad, good[1])]
    with pytest.raises(error):
        futures[1].result(PATIENCE_S)
    assert [texts(futures[n].result(PATIENCE_S)) for n in (0, 2)] == [
        expected(engine.model, request) for request in good
    ]


def test_a_pass_that_fails_is_repeated_one_by_one():
    toy = ToyModel()
    requests = [job("de", "fr", seed=seed) for seed in range(6)]
    wanted = [expected(toy, request) for request in requests]
    poison = wanted[2][1][1]
    spoiled = [any(poison in text for text in answer) for answer in wanted]
    assert 0 < sum(spoiled) < len(spoiled)
    with Engine(Picky(toy, poison), vads, EngineConfig(slots=6, drafter="none")) as engine:
        futures = [engine.submit(request) for request in requests]
        for future, answer, bad in zip(futures, wanted, spoiled, strict=True):
            if bad:
                with pytest.raises(ZeroDivisionError):
                    future.result(PATIENCE_S)
            else:
                assert texts(future.result(PATIENCE_S)) == answer
        assert engine.stats.failed == sum(spoiled)


class Broken:
    """A drafter with a bug."""

    needs_speculator = False

    def __init__(self, context):
        self.context = context

    def propose(self, tokens, cache, room):
        yield from ()
        return 1 // 0

    def verified(self, draft, accepted):
        raise AssertionError("it never drafted")


def test_a_broken_drafter_fails_its_job_and_not_the_engine():
    with Engine(ToyModel(), vads, EngineConfig(drafter=Chosen(f"{__name__}:Broken"))) as engine:
        for _ in range(2):
            with pytest.raises(ZeroDivisionError):
                engine.submit(job("de", "fr")).result(PATIENCE_S)
        detection = engine.submit(detect(0.5)).result(PATIENCE_S)
        assert detection.probabilities == (0.5,)
        assert engine.stats.free == engine.capacity


def test_a_speculator_is_asked_for_only_where_there_is_one():
    with Engine(ToyModel(ToyConfig(speculator=False)), vads) as engine:
        assert texts(engine.submit(job("de")).result(PATIENCE_S)) == expected(engine.model, job("de"))
    with pytest.raises(BadConfig, match="needs a speculative network, and toy has none"):
        Engine(ToyModel(ToyConfig(speculator=False)), vads, EngineConfig(drafter="echo,kvspn"))


def test_repetition_is_stopped_by_the_length_guard():
    config = EngineConfig(spare_tokens=3, tokens_per_s=0.5)
    with Engine(ToyModel(), vads, config) as engine:
        hypothesis = engine.submit(job("de", seconds=8)).result(PATIENCE_S).hypotheses[0]
    assert len(hypothesis.tokens) == 3 + 4
    assert not hypothesis.complete


def test_a_language_that_takes_more_tokens_may_have_them():
    class Dense(ToyModel):
        def tokens_per_second(self, language):
            return 3.0 if language == "zh" else 0.0

    config = EngineConfig(spare_tokens=3, tokens_per_s=0.5)
    with Engine(Dense(), vads, config) as engine:
        read = engine.submit(job("de", "zh", seconds=8)).result(PATIENCE_S).hypotheses
    assert len(read[0].tokens) == 3 + 4
    assert not read[0].complete
    assert len(read[1].tokens) > 3 + 4


def test_detectors_are_batched_and_keep_no_state(engine):
    first = [engine.submit(detect(0.25, 0.5)), engine.submit(detect(1.0, state=7))]
    answers = [future.result(PATIENCE_S) for future in first]
    assert [(answer.probabilities, answer.state) for answer in answers] == [((0.25, 0.5), 2), ((1.0,), 8)]


def test_a_broken_detect_fails_alone(engine):
    futures = [engine.submit(each) for each in (detect(0.5), detect(np.nan), detect(0.5, vad="lod"))]
    assert futures[0].result(PATIENCE_S).probabilities == (0.5,)
    with pytest.raises(BadAudio):
        futures[1].result(PATIENCE_S)
    with pytest.raises(BadConfig, match="lod"):
        futures[2].result(PATIENCE_S)


def test_a_detector_does_not_wait_for_a_long_text():
    model = Gated(ToyModel())
    with Engine(model, vads) as engine:
        long = engine.submit(job("de", seconds=8))
        assert model.begun.wait(PATIENCE_S)
        quick = [engine.submit(detect(0.5)) for _ in range(3)]
        model.toy.steps.clear()
        seen = []
        quick[-1].add_done_callback(lambda _: seen.append(len(model.toy.steps)))
        model.gate.set()
        assert not wait([long, *quick], PATIENCE_S).not_done
        assert seen == [1]  # the pass that was under way
        assert engine.stats.detect_batches == 1


def test_cancelling_frees_the_slots_of_what_runs_and_what_waits():
    model = Gated(ToyModel())
    with Engine(model, vads, EngineConfig(slots=2)) as engine:
        running = engine.submit(job("de", "fr", seconds=20))
        assert model.begun.wait(PATIENCE_S)
        waiting = engine.submit(job("de", "fr", seed=1))
        next_one = engine.submit(job("it", seed=2))
        assert running.cancel()
        assert waiting.cancel()
        model.gate.set()
        assert texts(next_one.result(PATIENCE_S)) == expected(model.toy, job("it", seed=2))
        with pytest.raises(CancelledError):
            running.result(PATIENCE_S)
        assert sum(model.toy.steps) < 4 + len(expected(model.toy, job("it", seed=2))[0])
        stats = engine.stats
        assert (stats.cancelled, stats.readings, stats.free) == (2, 1, 2)


def test_a_cancelled_detect_is_not_answered():
    model = Gated(ToyModel())
    with Engine(model, vads) as engine:
        engine.submit(job("de"))
        assert model.begun.wait(PATIENCE_S)
        unwanted = engine.submit(detect(0.5))
        assert unwanted.cancel()
        model.gate.set()
        assert engine.submit(detect(0.5)).result(PATIENCE_S).probabilities == (0.5,)
        assert unwanted.cancelled()


def test_closing_fails_what_waits_and_what_comes_later():
    model = Gated(ToyModel())
    engine = Engine(model, vads, EngineConfig(slots=1))
    futures = [engine.submit(job("de", seconds=5, seed=seed)) for seed in range(3)]
    assert model.begun.wait(PATIENCE_S)
    futures.append(engine.submit(detect(0.5)))
    closer = threading.Thread(target=engine.close)
    closer.start()
    while not (late := engine.submit(job("de"))).done():
        futures.append(late)
    model.gate.set()
    closer.join(PATIENCE_S)
    assert not closer.is_alive()
    assert all(isinstance(future.exception(PATIENCE_S), EngineClosed) for future in (*futures, late))
    assert model.toy.steps == [1]
    assert engine.stats.free == engine.capacity
    engine.close()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_leaked_slot_stops_the_engine_loudly():
    engine = Engine(ToyModel(), vads)
    memory = engine.model.encode([toy_audio(1)])[0]
    engine._ear.slots.open(memory)
    assert engine.submit(detect(0.5)).result(PATIENCE_S).probabilities == (0.5,)
    engine._thread.join(PATIENCE_S)
    assert isinstance(engine.submit(detect(0.5)).exception(PATIENCE_S), EngineClosed)


def test_closing_from_a_callback_does_not_hang():
    engine = Engine(ToyModel(), vads)
    future = engine.submit(job("de"))
    closed = threading.Event()
    future.add_done_callback(lambda _: (engine.close(), closed.set()))
    assert closed.wait(PATIENCE_S)
    engine.close()
    assert isinstance(engine.submit(job("de")).exception(PATIENCE_S), EngineClosed)


def test_requests_from_many_threads_are_all_answered(engine):
    requests = [job("de", seed=seed) for seed in range(24)]
    answers = {}

    def ask(n):
        answers[n] = engine.submit(requests[n]).result(PATIENCE_S)

    threads = [threading.Thread(target=ask, args=(n,)) for n in range(24)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE_S)
    assert [texts(answers[n]) for n in range(24)] == [expected(engine.model, each) for each in requests]
