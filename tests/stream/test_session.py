from itertools import pairwise

import numpy as np

from streamtrans.core import (
    Caption,
    Detect,
    Job,
    SpeechEnded,
    SpeechStarted,
)
from streamtrans.stream import drive, settle
from streamtrans.testing.engine import hypothesis

SECOND = 16_000


def captions(events, language=None):
    return [e for e in events if isinstance(e, Caption) and language in (None, e.language)]


def test_one_sentence_from_its_first_sample_to_its_final_caption(stage):
    session, engine = stage.make([(0.5, 2.5)])
    events = drive(session, engine, stage.say(4))
    assert session.finished
    started, *middle, ended, final = events
    assert isinstance(started, SpeechStarted)
    assert started.segment == 0
    assert abs(started.start - 0.5 * SECOND) < 0.1 * SECOND
    assert isinstance(ended, SpeechEnded)
    assert abs(ended.end - 2.5 * SECOND) < 0.1 * SECOND
    assert all(isinstance(event, Caption) and not event.final for event in middle)
    assert [caption.revision for caption in (*middle, final)] == list(range(1, len(middle) + 2))
    assert final.final
    assert final.text == final.committed == "w0 w1 w2 w3 w4 w5 w6 w7"
    assert (final.start, final.end, final.heard) == (started.start, ended.end, ended.end)
    assert final.stability == 1.0
    assert {caption.stability for caption in middle} == {0.5}


def test_readings_lie_on_a_grid_of_audio_time(stage):
    session, engine = stage.make([(0.5, 2.5)], min_first_reading_ms=900)
    drive(session, engine, stage.say(4))
    *partials, last = engine.jobs
    lengths = [len(job.audio) for job in partials]
    assert lengths == [7_680 * k for k in range(2, 2 + len(lengths))]
    assert len(lengths) >= 3
    assert last.last
    assert [job.last for job in partials] == [False] * len(partials)
    for job in engine.jobs:
        assert len(job.audio) == job.end - job.start


def test_jobs_carry_the_audio_of_their_segment(stage):
    audio = stage.say(6)
    session, engine = stage.make([(0.5, 1.5), (3, 4.5)])
    drive(session, engine, audio)
    assert {job.segment for job in engine.jobs} == {0, 1}
    for job in engine.jobs:
        np.testing.assert_array_equal(job.audio, audio[job.start : job.end])


def test_the_promise_is_the_prefix_and_the_last_reading_the_draft(stage):
    session, engine = stage.make([(0.5, 3)])
    drive(session, engine, stage.say(4))
    said = [stage.grow(job, None).tokens for job in engine.jobs]
    targets = [job.targets[0] for job in engine.jobs]
    assert [target.draft for target in targets] == [(), *said[:-1]]
    assert targets[0].prefix == targets[1].prefix == ()  # two readings must agree first
    assert targets[2].prefix == said[0][:-1]
    for job, said_now in zip(engine.jobs, said, strict=True):
        assert said_now[: len(job.targets[0].prefix)] == job.targets[0].prefix


def test_committed_and_tentative_text_join_without_a_seam(stage):
    session, engine = stage.make([(0.5, 3)], policy="hold", policy_n=2)
    shown = captions(drive(session, engine, stage.say(4)))
    for job, caption in zip(engine.jobs, shown, strict=True):
        assert caption.text == stage.words.decode(stage.grow(job, None).tokens)
    assert any(caption.committed and caption.tentative.startswith(" w") for caption in shown)


def test_every_target_has_lines_of_its_own(stage):
    def model(job, target):
        offset = 100 if target.language == "fr" else 0
        return hypothesis([offset + token for token in stage.grow(job, target).tokens])

    session, engine = stage.make([(0.5, 2)], model, targets=("de", "fr"), source="en")
    events = drive(session, engine, stage.say(3))
    assert {job.source for job in engine.jobs} == {"en"}
    for language, word in (("de", "w0"), ("fr", "w100")):
        mine = captions(events, language)
        assert [caption.revision for caption in mine] == list(range(1, len(mine) + 1))
        assert mine[-1].final
        assert mine[-1].text.startswith(word)
    assert [target.language for target in engine.jobs[0].targets] == ["de", "fr"]


def test_stable_mode_shows_only_promises(stage):
    session, engine = stage.make([(0.5, 3)], mode="stable")
    shown = captions(drive(session, engine, stage.say(4)))
    assert len(shown) > 2
    assert all(caption.tentative == "" and caption.stability == 1.0 for caption in shown)
    texts = [caption.committed for caption in shown]
    assert all(before < after for before, after in pairwise(texts[:-1]))


def test_final_mode_reads_once(stage):
    session, engine = stage.make([(0.5, 3), (4, 5)], mode="final")
    shown = captions(drive(session, engine, stage.say(6)))
    assert [job.last for job in engine.jobs] == [True, True]
    assert [caption.final for caption in shown] == [True, True]


def test_nothing_new_is_not_shown(stage):
    session, engine = stage.make([(0.5, 3)], lambda job, target: hypothesis((1, 2)), policy="final")
    shown = captions(drive(session, engine, stage.say(4)))
    assert len(engine.jobs) > 4
    assert [(c.committed, c.tentative, c.final) for c in shown] == [("", "w1 w2", False), ("w1 w2", "", True)]


def test_half_a_word_is_not_promised(stage):
    session, engine = stage.make([(0.5, 3)], lambda job, target: hypothesis((1, 2)))
    shown = captions(drive(session, engine, stage.say(4)))
    assert [(c.committed, c.tentative) for c in shown] == [("", "w1 w2"), ("w1", " w2"), ("w1 w2", "")]
    assert engine.jobs[-1].targets[0].prefix == (1,)


def test_a_segment_without_words_still_gets_its_final_caption(stage):
    session, engine = stage.make([(0.5, 1.5)], lambda job, target: hypothesis(()))
    [caption] = captions(drive(session, engine, stage.say(3)))
    assert (caption.text, caption.final, caption.revision) == ("", True, 1)


def test_silence_and_no_audio_at_all_say_nothing(stage):
    for seconds in (0, 0.01, 3):
        session, engine = stage.make([])
        assert drive(session, engine, stage.say(seconds)) == []
        assert session.finished
        assert session.cursors.final == session.cursors.received == round(seconds * SECOND)


def test_speech_up_to_the_last_sample_is_read_whole(stage):
    audio = stage.say(2.01)
    session, engine = stage.make([(0.5, 9)])
    events = drive(session, engine, audio)
    assert isinstance(events[-2], SpeechEnded)
    assert engine.jobs[-1].end == events[-2].end == len(audio)


def test_no_reading_reaches_into_the_silence_that_fills_the_last_window(stage):
    audio = stage.say(2 * 7_680 / SECOND)[:-100]
    session, engine = stage.make([(0, 9)])
    drive(session, engine, audio)
    assert [(job.start, job.end, job.last) for job in engine.jobs] == [
        (0, 7_680, False),
        (0, len(audio), True),
    ]


def test_an_utterance_ends_when_told(stage):
    session, engine = stage.make([(0.5, 9)])
    session.hear(stage.say(2))
    settle(session, engine)
    session.events()
    session.end_utterance()
    settle(session, engine)
    ended, final = session.events()
    assert isinstance(ended, SpeechEnded)
    assert 2 * SECOND - 512 < ended.end <= 2 * SECOND
    assert final.final
    session.hear(stage.say(1))
    settle(session, engine)
    started, *_ = session.events()
    assert started.segment == 1
    assert started.start >= ended.end


def test_a_busy_engine_gets_fewer_and_bigger_jobs(stage):
    session, engine = stage.make([(0.2, 9)])
    audio = stage.say(4)
    waiting = []
    for start in range(0, len(audio), 1_600):
        session.hear(audio[start : start + 1_600])
        for request in session.requests():
            if isinstance(request, Job):
                waiting.append(request)
            else:
                session.answer(request, engine.submit(request).result())
    [first] = waiting  # the engine is still busy with it
    assert len(first.audio) == 7_680
    session.answer(first, engine.submit(first).result())
    second = next(request for request in session.requests() if isinstance(request, Job))
    assert len(second.audio) >= 7_680 * 7
    assert session.stats.skipped >= 5
    session.answer(second, engine.submit(second).result())
    session.end()
    settle(session, engine)
    assert session.finished
    assert captions(session.events())[-1].final


def test_finals_go_first_and_none_is_skipped(stage):
    session, engine = stage.make([(0.2, 1), (1.6, 2.6), (3.4, 9)])
    session.hear(stage.say(5))
    session.end()
    order, held = [], None
    while not session.finished:
        requests = session.requests()
        held = next((request for request in requests if isinstance(request, Job)), held)
        detections = [request for request in requests if isinstance(request, Detect)]
        for request in detections:
            session.answer(request, engine.submit(request).result())
        if held is not None and not detections:  # the engine is slow to read: all is detected by now
            order.append((held.segment, held.last))
            session.answer(held, engine.submit(held).result())
            held = None
    assert [number for number, last in order if last] == [0, 1, 2]
    assert order == sorted(order)
    events = session.events()
    for number in range(3):
        mine = [event for event in events if event.segment == number]
        assert isinstance(mine[0], SpeechStarted)
        assert [type(event) for event in mine].count(SpeechEnded) == 1
        assert isinstance(mine[-1], Caption)
        assert [i for i, event in enumerate(mine) if isinstance(event, Caption) and event.final] == [len(mine) - 1]


def test_a_reading_that_was_due_when_speech_ended_is_dropped(stage):
    session, engine = stage.make([(0.2, 1.5), (2.2, 9)], min_first_reading_ms=960)
    session.hear(stage.say(2.6))
    held = None
    for _ in range(20):
        for request in session.requests():
            if isinstance(request, Job):
                held = request
            else:
                session.answer(request, engine.submit(request).result())
    assert (held.segment, held.last) == (0, False)
    session.answer(held, engine.submit(held).result())
    settle(session, engine)
    assert [(job.segment, job.last) for job in engine.jobs] == [(0, False), (0, True)]
    assert session.stats.skipped == 1
    session.end()
    settle(session, engine)
    assert session.finished


def test_a_reading_under_way_when_speech_ends_still_counts(stage):
    session, engine = stage.make([(0.2, 1)])
    session.hear(stage.say(3))
    held = None
    for _ in range(20):
        for request in session.requests():
            if isinstance(request, Job) and held is None:
                held = request
            else:
                session.answer(request, engine.submit(request).result())
    assert not held.last
    events = session.events()
    assert isinstance(events[-1], SpeechEnded)
    session.answer(held, engine.submit(held).result())
    settle(session, engine)
    partial, final = session.events()
    assert not partial.final
    assert final.final
    assert engine.jobs[-1].targets[0].draft == stage.grow(held, None).tokens


def test_what_may_fall_to_the_next_segment_is_not_promised(stage):
    session, engine = stage.make([(0.2, 30)], policy="hold", policy_n=0)
    events = drive(session, engine, stage.say(14))
    cuts = [event.end for event in events if isinstance(event, SpeechEnded)]
    assert len(cuts) >= 2
    for caption in captions(events):
        if not caption.final and caption.end - caption.start > 5 * SECOND:
            before = [c for c in captions(events) if c.segment == caption.segment and c.revision < caption.revision]
            assert caption.committed == before[-1].committed
            assert caption.tentative


def test_cursors_only_grow_and_meet_at_the_end(stage):
    session, engine = stage.make([(0.5, 2), (3, 4)])
    audio = stage.say(5)
    seen = []
    for start in range(0, len(audio), 700):
        session.hear(audio[start : start + 700])
        settle(session, engine)
        seen.append(session.cursors)
    session.end()
    settle(session, engine)
    seen.append(session.cursors)
    for before, after in pairwise(seen):
        for name in ("received", "decoded", "committed", "final"):
            assert getattr(before, name) <= getattr(after, name)
        assert after.final <= after.committed <= after.decoded <= after.received
    assert seen[-1].final == seen[-1].received == len(audio)
    assert any(cursors.final < cursors.committed for cursors in seen[:-1])


def test_only_audio_that_is_needed_is_kept(stage):
    session, engine = stage.make([(30, 32)])
    for _ in range(40):
        session.hear(stage.say(1))
        settle(session, engine)
    kept = session._listener._audio
    assert kept.end - kept.start < SECOND
    assert len(kept._data) < 5 * SECOND


def test_it_says_when_it_has_heard_enough(stage):
    session, engine = stage.make([(0, 99)], max_behind_ms=12_000)
    session.hear(stage.say(12))
    assert not session.full
    session.hear(stage.say(1))
    assert session.full
    settle(session, engine)
    assert not session.full


def test_costs_are_summed(stage):
    session, engine = stage.make([(0.5, 2.5)])
    drive(session, engine, stage.say(4))
    stats = session.stats
    assert stats.segments == 1
    assert stats.readings == stats.decode.passes == len(engine.jobs)
    assert stats.decode.tokens == sum(len(stage.grow(job, None).tokens) for job in engine.jobs)
