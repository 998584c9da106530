import logging
from itertools import pairwise

import numpy as np
import pytest

from streamtrans.core import (
    AudioTooLong,
    BadAudio,
    Caption,
    Detection,
    Reading,
    SpeechEnded,
)
from streamtrans.segment import EndpointRules
from streamtrans.stream import drive, settle
from streamtrans.testing.engine import InstantEngine, hypothesis
from streamtrans.testing.vad import ScriptedVad

SECOND = 16_000


def captions(events, language=None):
    return [e for e in events if isinstance(e, Caption) and language in (None, e.language)]


def test_a_failed_reading_is_left_out(stage):
    def model(job, target):
        if len(job.audio) == 2 * 7_680:
            raise AudioTooLong("no")
        return stage.grow(job, target)

    session, engine = stage.make([(0.5, 3)], model)
    events = drive(session, engine, stage.say(4))
    assert session.stats.failures == 1
    assert captions(events)[-1].final
    assert captions(events)[-1].text.startswith("w0 w1 w2 w3")
    assert 2 * 7_680 not in {caption.heard - caption.start for caption in captions(events)}


def test_a_failed_last_reading_keeps_what_was_shown(stage):
    def model(job, target):
        if job.last:
            raise AudioTooLong("no")
        return stage.grow(job, target)

    session, engine = stage.make([(0.5, 2), (3, 4)], model)
    events = drive(session, engine, stage.say(5))
    first = [caption for caption in captions(events) if caption.segment == 0]
    assert first[-1].final
    assert first[-1].committed == first[-2].text
    assert captions(events)[-1].segment == 1
    assert session.stats.failures == 2
    assert session.finished


def test_without_a_detector_whoever_speaks_goes_on(stage):
    class Failing(ScriptedVad):
        def detect(self, streams):
            if streams[0][1] == 31:
                raise AudioTooLong("no")
            return super().detect(streams)

    session, engine = stage.make([])
    engine = InstantEngine(stage.grow, Failing([(8_000, 999_999)]))
    events = drive(session, engine, stage.say(2), chunk=512)
    assert session.stats.failures >= 1
    assert session.finished
    assert captions(events)[-1].final
    assert captions(events)[-1].heard == 32_000


@pytest.mark.parametrize("odd", [np.nan, 2.0, None])
def test_a_detector_that_answers_nonsense_begins_anew_and_the_stream_goes_on(stage, odd):
    class Odd(ScriptedVad):
        def __init__(self, spans):
            super().__init__(spans)
            self.begun = 0

        def detect(self, streams):
            [(probabilities, state)] = super().detect(streams)
            self.begun += streams[0][1] is None
            if self.begun == 1 and (state or 0) > 20:
                probabilities = probabilities[:-1] if odd is None else probabilities * odd
            return [(probabilities, state)]

    vad = Odd([(8_000, 999_999)])
    session, _ = stage.make([])
    events = drive(session, InstantEngine(stage.grow, vad), stage.say(2), chunk=512)
    assert session.stats.failures == 1
    assert vad.begun == 2
    assert captions(events)[-1].final
    assert session.cursors.final == 32_000


@pytest.mark.parametrize("last", [False, True])
def test_an_engine_that_breaks_the_promise_is_not_believed(stage, caplog, last):
    def model(job, target):
        return hypothesis((7, 7)) if job.last or (not last and target.prefix) else stage.grow(job, target)

    session, engine = stage.make([(0.5, 3)], model)
    with caplog.at_level(logging.ERROR):
        shown = captions(drive(session, engine, stage.say(4)))
    assert "doesn't start with" in caplog.text
    assert shown[-1].final
    assert not any("w7 w7" in caption.text for caption in shown)
    for before, after in pairwise(shown):
        assert after.committed.startswith(before.committed)


def test_bad_audio_is_refused_at_the_door(stage):
    session, _ = stage.make([])
    for bad, problem in (
        (np.zeros((2, 4), np.float32), r"mono float32 of shape \(samples,\)"),
        (np.zeros(4), "float64"),
        (np.array([0, np.nan], np.float32), "NaN"),
    ):
        with pytest.raises(BadAudio, match=problem):
            session.hear(bad)
    session.end()
    with pytest.raises(BadAudio, match="after the end"):
        session.hear(np.zeros(4, np.float32))


def test_ending_twice_is_ending_once(stage):
    session, engine = stage.make([(0, 1)])
    session.hear(stage.say(1))
    session.end()
    session.end()
    session.end_utterance()
    settle(session, engine)
    assert session.finished
    assert len([event for event in session.events() if isinstance(event, SpeechEnded)]) == 1


def test_answers_must_fit_their_questions(stage):
    session, engine = stage.make([(0, 2)], endpoints=EndpointRules(), detect_limit_ms=5_000)
    session.hear(stage.say(1))
    [detect] = session.requests()
    assert session.requests() == []
    with pytest.raises(TypeError, match="Reading is no answer to a Detect"):
        session.answer(detect, Reading(()))
    detection = engine.submit(detect).result()
    session.answer(detect, detection)
    with pytest.raises(ValueError, match="answered already"):
        session.answer(detect, detection)
    [job] = session.requests()
    with pytest.raises(ValueError, match="0 hypotheses for 1 targets"):
        session.answer(job, Reading(()))
    session.hear(stage.say(1))
    [detect] = session.requests()
    with pytest.raises(ValueError, match="1 probabilities for 31 windows"):
        session.answer(detect, Detection((0.5,), None))
